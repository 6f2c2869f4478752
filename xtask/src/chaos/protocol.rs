//! Messages between the command and its child processes.

use std::{net::SocketAddr, path::PathBuf};

use serde::{Deserialize, Serialize};
use xtask_harness::NodeSetup;

use super::call_report::DirectorReport;

/// Message from the parent to a child.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(tag = "order", rename_all = "snake_case")]
pub(crate) enum Order {
    /// The first order: become a node. Answered by [`Notice::Ready`].
    Start(Setup),
    /// To the director: see as many workers. Answered by [`Notice::Seen`].
    See {
        /// Number of workers.
        workers: usize,
    },
    /// To the director: begin to make calls.
    Load {
        /// Calls begun per second.
        calls_per_s: u32,
    },
    /// To the director: begin no more calls, await the rest, answer [`Notice::Finished`] and end.
    /// To an attacker: answer [`Notice::Attacked`] and end.
    Finish,
    /// To an attacker: attack these workers until told to finish. Answered by
    /// [`Notice::Attacking`] when all of it has begun.
    Attack {
        /// Workers to attack.
        targets: Vec<Target>,
    },
    /// To a worker: take no more calls. Answered by [`Notice::Drained`].
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
    pub(crate) kind: WorkerBehaviour,
    /// Its limits of permits, calls and connections are low.
    pub(crate) limited: bool,
}

/// Behaviour of a worker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum WorkerBehaviour {
    #[default]
    Good,
    /// The handlers panic.
    Panics,
    /// The worker is of an older version, and rejects every call before running it.
    Old,
    /// The worker takes a hundred times as long.
    Slow,
}

/// A worker that is attacked.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Target {
    pub(crate) name: String,
    pub(crate) addr: SocketAddr,
}

/// Message from a child to the parent.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(tag = "notice", rename_all = "snake_case")]
pub(crate) enum Notice {
    /// The node runs.
    Ready {
        /// Address of the node.
        addr: SocketAddr,
    },
    /// The director sees all workers.
    Seen,
    /// The worker has drained.
    Drained {
        /// Calls that are still being served, as the time was over.
        remaining: usize,
    },
    /// The attacks have begun.
    Attacking,
    /// Last notice of an attacker.
    Attacked {
        /// Number of connections and streams that it has opened.
        actions: u64,
    },
    /// Last notice of the director.
    Finished(DirectorReport),
}
