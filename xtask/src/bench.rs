//! `cargo xtask bench`: how fast it is, next to what people would use instead.

mod cells;
mod connections;
mod cores;
mod figure;
pub(crate) mod flood;
mod floods;
mod loss;
mod network;
pub(crate) mod node;
mod open_loop;
mod options;
mod ours;
mod pair;
mod reconnect;
mod rows;
mod rpc;
mod sizes;
mod streaming;
mod streams;
mod subjects;
mod table;
mod targets;

use clap::Subcommand;

use crate::project::Outcome;

/// What is measured.
#[derive(Debug, Subcommand)]
pub(crate) enum Bench {
    /// Calls: an echo of bytes between two processes, each pinned to one core, with TLS both ways. Those of peers
    /// beside ours with `--peers`.
    Rpc(options::Options),
}

/// Measures.
///
/// # Errors
///
/// When it could not be carried through, or a reply was wrong.
pub(crate) fn run(bench: &Bench) -> Outcome {
    match bench {
        Bench::Rpc(options) => rpc::run(options),
    }
}
