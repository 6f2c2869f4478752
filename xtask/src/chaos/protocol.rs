//! Messages between the command and its child processes.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf};

use serde::{Deserialize, Serialize};
use xtask_harness::NodeSetup;

use super::call_report::CallReport;

/// Message from the command to a child.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(tag = "order", rename_all = "snake_case")]
pub(crate) enum Order {
    /// The first order: become a node. Answered by [`Notice::Ready`].
    Start(Setup),
    /// To the director: begin to make calls.
    Load {
        /// Calls begun per second.
        calls_per_s: u32,
    },
    /// To the director: begin no more calls, await the rest, send [`Notice::Calls`] and
    /// [`Notice::Done`], and end. To an attacker: answer [`Notice::Done`] and end.
    Finish,
    /// To an attacker: attack these workers until told to finish. Answered by
    /// [`Notice::Done`] when all of it has begun.
    Attack {
        /// Workers to attack.
        targets: Vec<Target>,
    },
    /// To a worker: take no more calls. Answered by [`Notice::Done`].
    Drain,
    /// To a worker: take calls again.
    Resume,
}

/// Setup of a child.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Setup {
    pub(crate) node: NodeSetup,
    /// File of the log of executed calls.
    pub(crate) execution_log: PathBuf,
    pub(crate) behaviour: WorkerBehaviour,
    /// Version of the typed service that a worker serves or a gateway calls; `None` for methods
    /// without types.
    pub(crate) version: Option<ServiceVersion>,
    /// Its limits of permits, calls and connections are low.
    pub(crate) limited: bool,
    /// Sends its events and its view of the cluster.
    pub(crate) reports_view: bool,
    /// Settings of a node that has a host of its own.
    pub(crate) host: Option<HostSetup>,
}

/// Settings of a node that has a host of its own: it has the timing of a LAN, makes idempotent
/// calls alone, to one worker after the other, and tells their outcomes while it makes them.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct HostSetup {
    /// Address to listen at.
    pub(crate) bind: SocketAddr,
    /// Tags beside the role.
    pub(crate) tags: Vec<(String, String)>,
}

/// Behaviour of a worker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum WorkerBehaviour {
    #[default]
    Good,
    Panics,
    /// The worker is of an older version, and rejects every call before running it.
    Old,
    /// The worker takes a hundred times as long.
    Slow,
}

/// Version of the typed service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ServiceVersion {
    First,
    /// A second version that understands the first one, and is understood by it.
    Compatible,
    /// A second version that does not.
    Incompatible,
}

impl ServiceVersion {
    /// Number of the version, which workers have as a tag.
    pub(crate) fn number(self) -> u32 {
        match self {
            Self::First => 1,
            Self::Compatible | Self::Incompatible => 2,
        }
    }
}

/// A worker that is attacked.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Target {
    pub(crate) name: String,
    pub(crate) addr: SocketAddr,
}

/// Message from a child to the command.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(tag = "notice", rename_all = "snake_case")]
pub(crate) enum Notice {
    /// The node runs.
    Ready {
        /// Address of the node.
        addr: SocketAddr,
        /// Duration of `start()`.
        took_ms: u64,
        /// The process's wall clock, in milliseconds since the Unix epoch.
        clock_ms: u64,
    },
    /// A member is suspect or failed.
    Event(SeenEvent),
    /// The node's view, several times a second.
    Status(Status),
    /// Calls that ended since the last notice of this kind.
    Calls(CallReport),
    /// Calls that a worker has rejected for the types of their callers; sent before it ends.
    Rejections {
        /// Number of rejected calls.
        incompatible: u64,
    },
    /// The last order has been carried out. With a number: of a drain the calls that are still
    /// being served, of an attacker that finished the connections and streams that it has opened.
    Done {
        /// Number of calls, or of connections and streams.
        count: u64,
    },
}

/// Evidence of a failure, as a node's membership tells it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct SeenEvent {
    pub(crate) kind: EventKind,
    pub(crate) member: String,
}

/// Kind of event of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum EventKind {
    Suspect,
    Failed,
}

/// A node's view at one time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct Status {
    /// Members by name, the node itself included.
    pub(crate) members: BTreeMap<String, MemberView>,
    /// Why the node may not serve under `keep_majority`, if it may not.
    pub(crate) refuses: Option<String>,
    /// Datagrams sent since the node started.
    pub(crate) sent: u64,
}

/// A member in a node's view.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct MemberView {
    /// The state in lower case, such as `alive`.
    pub(crate) state: String,
    /// The advertised address.
    pub(crate) addr: SocketAddr,
    pub(crate) epoch: u64,
}

impl MemberView {
    /// Whether the member counts as part of the cluster: alive or suspect.
    pub(crate) fn is_live(&self) -> bool {
        matches!(&*self.state, "alive" | "suspect")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use xtask_harness::{decode, encode};

    #[test]
    fn messages_round_trip() {
        let member = MemberView {
            state: "alive".into(),
            addr: ([10, 77, 0, 1], 7946).into(),
            epoch: u64::MAX,
        };
        let status = Status {
            members: [("h01".to_owned(), member)].into(),
            refuses: Some("reaches 2 of 12 members".into()),
            sent: 7,
        };
        let line = encode(&Notice::Status(status.clone())).unwrap();
        match decode(line.trim_ascii_end()).unwrap() {
            Notice::Status(read) => assert_eq!(read, status),
            other => panic!("{other:?}"),
        }
        let setup = Setup {
            node: NodeSetup {
                name: "h01".into(),
                keys: "k".into(),
                seeds: vec!["h02:7946".into()],
            },
            execution_log: "h01.runs".into(),
            behaviour: WorkerBehaviour::Good,
            version: Some(ServiceVersion::Compatible),
            limited: false,
            reports_view: true,
            host: Some(HostSetup {
                bind: ([0, 0, 0, 0], 7946).into(),
                tags: vec![("zone".into(), "a".into())],
            }),
        };
        let line = encode(&Order::Start(setup)).unwrap();
        assert!(matches!(
            decode(line.trim_ascii_end()).unwrap(),
            Order::Start(setup) if setup.host.as_ref().is_some_and(|host| host.tags.len() == 1)
        ));
    }
}
