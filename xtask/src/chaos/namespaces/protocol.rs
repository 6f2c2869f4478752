//! Messages between the command and the node processes in its hosts.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf};

use serde::{Deserialize, Serialize};

/// Message from the command to a node process.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(tag = "order", rename_all = "snake_case")]
pub(crate) enum Order {
    /// The first order: start a node. Answered by [`Notice::Ready`].
    Start(Setup),
    /// Begins to make calls at this rate.
    Load {
        /// Calls begun per second.
        calls_per_s: u32,
    },
    /// Begins no more calls. Answered by [`Notice::LoadEnded`] when the last has ended.
    EndLoad,
}

/// The configuration of a node process.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Setup {
    /// The node's name, which its certificate bears.
    pub(crate) name: String,
    /// The folder with the certificates and the cluster key of the run.
    pub(crate) keys: PathBuf,
    /// The seeds, as an operator would write them.
    pub(crate) seeds: Vec<String>,
    /// Address to listen at.
    pub(crate) bind: SocketAddr,
    /// Tags beside the role.
    pub(crate) tags: Vec<(String, String)>,
    /// Makes calls instead of serving them.
    pub(crate) is_client: bool,
}

/// Message from a node process to the command.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(tag = "notice", rename_all = "snake_case")]
pub(crate) enum Notice {
    /// The node has started.
    Ready {
        /// Duration of `start()`.
        took_ms: u64,
        /// The process's wall clock, in milliseconds since the Unix epoch.
        clock_ms: u64,
    },
    /// An event of the membership.
    Event(SeenEvent),
    /// The node's view, several times a second.
    Status(Status),
    /// Calls that ended since the last notice of this kind.
    Calls(CallResults),
    /// The last call has ended.
    LoadEnded,
}

/// An event of the membership, as text: new kinds of events are shown without a change here.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct SeenEvent {
    /// The name of the event, such as `NodeFailed`.
    pub(crate) kind: String,
    /// The member that it is about, if it is about one.
    pub(crate) member: Option<String>,
    /// The whole event.
    pub(crate) text: String,
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
    /// The boot epoch.
    pub(crate) epoch: u64,
}

/// Ends of calls.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct CallResults {
    /// Answers by node.
    pub(crate) answered_by: BTreeMap<String, u64>,
    /// Calls that ended with an error.
    pub(crate) failed: u64,
    /// The first errors, as text.
    pub(crate) errors: Vec<String>,
}

impl CallResults {
    /// Calls that were answered.
    pub(crate) fn ok(&self) -> u64 {
        self.answered_by.values().sum()
    }

    /// Counts those of `other` too.
    pub(crate) fn add(&mut self, other: &Self) {
        for (node, answers) in &other.answered_by {
            *self.answered_by.entry(node.clone()).or_default() += answers;
        }
        self.failed += other.failed;
        let room = ERRORS_MAX.saturating_sub(self.errors.len());
        self.errors.extend(other.errors.iter().take(room).cloned());
    }
}

impl MemberView {
    /// Whether the member counts as part of the cluster: alive or suspect.
    pub(crate) fn is_live(&self) -> bool {
        matches!(&*self.state, "alive" | "suspect")
    }
}

/// Error texts kept of a set of calls.
pub(crate) const ERRORS_MAX: usize = 5;

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
            name: "h01".into(),
            keys: "k".into(),
            seeds: vec!["h02:7946".into()],
            bind: ([0, 0, 0, 0], 7946).into(),
            tags: vec![("zone".into(), "a".into())],
            is_client: true,
        };
        let line = encode(&Order::Start(setup)).unwrap();
        assert!(matches!(
            decode(line.trim_ascii_end()).unwrap(),
            Order::Start(setup) if setup.is_client && setup.tags.len() == 1
        ));
    }

    #[test]
    fn sums_of_calls_keep_few_errors() {
        let failed = CallResults {
            answered_by: [("h02".to_owned(), 3)].into(),
            failed: 4,
            errors: vec!["no connection".into(); 4],
        };
        let mut sum = CallResults::default();
        sum.add(&failed);
        sum.add(&failed);
        assert_eq!((sum.ok(), sum.failed, sum.errors.len()), (6, 8, ERRORS_MAX));
    }
}
