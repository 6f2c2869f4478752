//! Process of a measurement of rpcnet.

use std::process::ExitCode;

use xtask_load::execute;

use super::{
    cluster::{
        client::{CLUSTER, ClusterSubject},
        service::workers,
    },
    floor::{Floor, is_floor},
    rpcnet_subject::Rpcnet,
};

/// Runs it: it takes its order from standard input, and tells errors on standard output.
pub(crate) fn run() -> ExitCode {
    xtask_load::run(|subject| {
        Some(match subject {
            floor if is_floor(floor) => execute::<Floor>,
            CLUSTER => execute::<ClusterSubject>,
            fleet if workers(fleet).is_some() => execute::<ClusterSubject>,
            _ => execute::<Rpcnet>,
        })
    })
}

pub(crate) const COMMAND: &str = "bench-node";
