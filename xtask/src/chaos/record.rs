//! Record of a run: what all processes tell, in the order in which it came.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    process::ExitStatus,
    time::{Duration, Instant},
};

use super::{
    call_report::CallReport,
    node::unix_ms,
    protocol::{Notice, SeenEvent, Status},
};

/// Record of all notices of the processes.
#[derive(Debug)]
pub(crate) struct Record {
    begin: Instant,
    /// Suspicions and failures, calls, and changes of the decision of `keep_majority`, in order.
    pub(crate) log: Vec<RecordEntry>,
    /// The last status of each node, and when it came.
    pub(crate) latest: BTreeMap<String, (Duration, Status)>,
    /// Begin of the fault, from which on notices are checked.
    pub(crate) fault_began: Duration,
    /// The last status of each node when the fault began.
    pub(crate) before_fault: BTreeMap<String, (Duration, Status)>,
    /// The start of each node.
    pub(crate) starts: BTreeMap<String, Start>,
    /// Processes that have carried out their last order, and the number that they told.
    pub(crate) done: BTreeMap<String, u64>,
    /// Processes that ended, and how, or why they could not go on.
    pub(crate) ended: BTreeMap<String, Result<ExitStatus, String>>,
}

/// Start of a node.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Start {
    pub(crate) addr: SocketAddr,
    pub(crate) took_ms: u64,
    /// Delay of the wall clock of its process.
    pub(crate) clock_behind: Duration,
}

/// Entry of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RecordEntry {
    /// Time since the record began.
    pub(crate) at: Duration,
    pub(crate) node: String,
    pub(crate) kind: RecordKind,
}

/// Content of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RecordKind {
    /// A member is suspect or failed.
    Event(SeenEvent),
    /// Calls that have ended.
    Calls(CallReport),
    /// Calls that a worker has rejected for the types of their callers.
    IncompatibleCalls(u64),
    /// Changed decision of `keep_majority`: the reason of a refusal, or nothing if the node serves.
    ServeDecision(Option<String>),
}

impl Record {
    /// An empty record that begins now.
    pub(crate) fn new() -> Self {
        Self {
            begin: Instant::now(),
            log: Vec::new(),
            latest: BTreeMap::new(),
            fault_began: Duration::ZERO,
            before_fault: BTreeMap::new(),
            starts: BTreeMap::new(),
            done: BTreeMap::new(),
            ended: BTreeMap::new(),
        }
    }

    /// Time since the record began.
    pub(crate) fn now(&self) -> Duration {
        self.begin.elapsed()
    }

    /// Marks the begin of the fault.
    pub(crate) fn begin_fault(&mut self) {
        self.fault_began = self.now();
        self.before_fault.clone_from(&self.latest);
    }

    /// Records what a process told.
    pub(crate) fn add(&mut self, name: &str, notice: Notice) {
        let at = self.now();
        let node = name.to_owned();
        let kind = match notice {
            Notice::Event(seen) => RecordKind::Event(seen),
            Notice::Calls(calls) => RecordKind::Calls(calls),
            Notice::Rejections { incompatible } => RecordKind::IncompatibleCalls(incompatible),
            Notice::Status(status) => {
                let refuses = status.refuses.clone();
                let before = self.latest.insert(node.clone(), (at, status));
                let served = before.as_ref().is_none_or(|(_, it)| it.refuses.is_none());
                // The counts in the reason change; what matters is whether it serves.
                if served == refuses.is_none() {
                    return;
                }
                RecordKind::ServeDecision(refuses)
            }
            Notice::Ready {
                addr,
                took_ms,
                clock_ms,
            } => {
                let behind = unix_ms().saturating_sub(clock_ms);
                let start = Start {
                    addr,
                    took_ms,
                    clock_behind: Duration::from_millis(behind),
                };
                self.starts.insert(node.clone(), start);
                self.done.insert(node, 0);
                return;
            }
            Notice::Done { count } => {
                self.done.insert(node, count);
                return;
            }
        };
        self.log.push(RecordEntry { at, node, kind });
    }

    /// Forgets a node's last life.
    pub(crate) fn forget(&mut self, name: &str) {
        self.latest.remove(name);
        self.starts.remove(name);
        self.done.remove(name);
        self.ended.remove(name);
    }
}
