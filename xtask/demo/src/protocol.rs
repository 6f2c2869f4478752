//! Messages between the demo and its child processes.

use std::{net::SocketAddr, path::PathBuf};

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use xtask_harness::NodeSetup;

use crate::live_view::Snapshot;

/// Role of a child process in the cluster.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum Role {
    /// Reads files and has the workers digest them.
    Director,
    /// Digests what it is sent.
    Worker,
}

/// Message from the parent to a child.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(tag = "order", rename_all = "snake_case")]
pub(crate) enum Order {
    /// The first order: become a node. Answered by [`Notice::Ready`].
    Start(NodeSetup),
    /// To the director: have every file under `path` digested, round after round.
    Digest {
        /// A folder or a file.
        path: PathBuf,
    },
    /// To the director: await the calls in flight, then answer [`Notice::Finished`] and end.
    Finish,
    /// To a worker: leave the cluster gracefully, then end with exit code 0.
    Drain,
}

/// Message from a child to the parent.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(tag = "notice", rename_all = "snake_case")]
pub(crate) enum Notice {
    /// The node runs.
    Ready {
        /// Address of the node.
        addr: SocketAddr,
    },
    /// State of cluster and calls, several times a second.
    Stats(Snapshot),
    /// Something happened to a node of the cluster.
    Event {
        node: String,
        /// The event, such as `joined`.
        text: String,
    },
    /// A worker is no longer selected for calls.
    Unselectable { node: String },
    Corpus {
        /// Files that are digested, round after round.
        files: u64,
        /// Files that are left out.
        skipped: u64,
    },
    /// A line for the user.
    Note { text: String },
    /// Last notice of the director: the final figures.
    Finished(Snapshot),
}

#[cfg(test)]
mod tests {
    use super::*;
    use xtask_harness::{decode, encode};

    #[test]
    fn messages_round_trip() {
        let setup = NodeSetup {
            name: "worker\n1".into(),
            keys: "k".into(),
            seeds: vec!["127.0.0.1:9".into()],
        };
        let digest = Order::Digest {
            path: "some where".into(),
        };
        for order in [Order::Start(setup), digest, Order::Finish, Order::Drain] {
            let line = encode(&order).unwrap();
            assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
            assert_eq!(decode::<Order>(line.trim_ascii_end()).unwrap(), order);
        }
        let snapshot = Snapshot::default();
        for notice in [
            Notice::Ready {
                addr: ([127, 0, 0, 1], 9).into(),
            },
            Notice::Stats(snapshot.clone()),
            Notice::Event {
                node: "worker-1".into(),
                text: "joined".into(),
            },
            Notice::Unselectable {
                node: "worker-1".into(),
            },
            Notice::Corpus {
                files: 7,
                skipped: 1,
            },
            Notice::Note {
                text: "skipped".into(),
            },
            Notice::Finished(snapshot),
        ] {
            assert_eq!(decode::<Notice>(&encode(&notice).unwrap()).unwrap(), notice);
        }
    }

    #[test]
    fn malformed_messages_are_errors() {
        for line in [
            "",
            "{",
            "{}",
            r#"{"order":"dance"}"#,
            r#"{"order":"drain"} x"#,
        ] {
            assert!(decode::<Order>(line.as_bytes()).is_err(), "{line}");
        }
    }
}
