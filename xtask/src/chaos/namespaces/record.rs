//! Record of a run: the notices of all nodes, in the order in which they came.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use super::{
    node::unix_ms,
    protocol::{CallResults, Notice, SeenEvent, Status},
};

/// Record of all notices of the nodes.
#[derive(Debug)]
pub(crate) struct ClusterRecord {
    begin: Instant,
    /// Events, calls, and changes of the decision of `keep_majority`, in order.
    pub(crate) log: Vec<RecordEntry>,
    /// The last status of each host, and when it came.
    pub(crate) latest: BTreeMap<String, (Duration, Status)>,
    /// Duration of the start of each host's node.
    pub(crate) starts_ms: BTreeMap<String, u64>,
    /// Delay of each host's wall clock.
    pub(crate) clock_behind: BTreeMap<String, Duration>,
    /// Hosts whose calls have ended.
    pub(crate) load_ended: bool,
    /// Processes that ended by themselves, and why.
    pub(crate) ended: Vec<String>,
}

/// Entry of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RecordEntry {
    /// Time since the record began.
    pub(crate) at: Duration,
    /// Host of the node that sent it.
    pub(crate) host: String,
    /// Content of the entry.
    pub(crate) kind: RecordKind,
}

/// Content of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RecordKind {
    /// An event of the membership.
    Event(SeenEvent),
    /// Calls that have ended.
    Calls(CallResults),
    /// Changed decision of `keep_majority`: the reason of a refusal, or nothing if the node serves.
    ServeDecision(Option<String>),
}

impl ClusterRecord {
    /// An empty record that begins now.
    pub(crate) fn new() -> Self {
        Self {
            begin: Instant::now(),
            log: Vec::new(),
            latest: BTreeMap::new(),
            starts_ms: BTreeMap::new(),
            clock_behind: BTreeMap::new(),
            load_ended: false,
            ended: Vec::new(),
        }
    }

    /// Time since the record began.
    pub(crate) fn now(&self) -> Duration {
        self.begin.elapsed()
    }

    /// Notes what a host's node told.
    pub(crate) fn add(&mut self, host: &str, notice: Notice) {
        let at = self.now();
        let what = match notice {
            Notice::Ready { took_ms, clock_ms } => {
                let behind = Duration::from_millis(unix_ms().saturating_sub(clock_ms));
                self.clock_behind.insert(host.to_owned(), behind);
                self.starts_ms.insert(host.to_owned(), took_ms);
                return;
            }
            Notice::LoadEnded => {
                self.load_ended = true;
                return;
            }
            Notice::Status(status) => {
                let refuses = status.refuses.clone();
                let before = self.latest.insert(host.to_owned(), (at, status));
                let served = before.as_ref().is_none_or(|(_, it)| it.refuses.is_none());
                // The counts in the reason change; what matters is whether it serves.
                if served == refuses.is_none() {
                    return;
                }
                RecordKind::ServeDecision(refuses)
            }
            Notice::Event(seen) => RecordKind::Event(seen),
            Notice::Calls(calls) => RecordKind::Calls(calls),
        };
        self.log.push(RecordEntry {
            at,
            host: host.to_owned(),
            kind: what,
        });
    }

    /// Forgets a host's last life.
    pub(crate) fn forget_host(&mut self, host: &str) {
        self.latest.remove(host);
        self.starts_ms.remove(host);
    }
}
