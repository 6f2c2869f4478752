//! `cargo xtask bench`: benchmarks, beside peers.

mod bulk;
mod client_process;
mod cluster;
mod cores;
mod disturbance;
pub(crate) mod flood_process;
mod floor;
pub(crate) mod gossip;
mod grid;
mod instructions;
mod loss;
mod mode;
mod modes;
mod network;
pub(crate) mod node;
mod open_loop;
mod options;
mod pick;
mod profile;
mod rounds;
mod rows;
mod rpc;
mod rpc_targets;
mod rpcnet_subject;
mod streams;
mod subjects;
mod targets;
#[cfg(test)]
mod tests;

use std::process::ExitCode;

use clap::Subcommand;

use crate::project::Outcome;

/// Benchmark to run.
#[derive(Debug, Subcommand)]
pub(crate) enum Bench {
    /// Cluster client: time that it adds to a call, and rate by number of workers.
    Cluster(cluster::Options),
    /// Membership: a cluster on loopback sockets in a few processes, sealed, with the defaults of a
    /// LAN. Time until all views are full, cost of the steady state, time until all members know of
    /// those that were killed.
    Gossip(gossip::Options),
    /// Instructions of a call, counted by valgrind, beside the accepted counts; fails where one is
    /// more than 2 % above its own.
    Instructions(instructions::Options),
    /// Balancers: time and allocations of a pick. Peers beside ours with `--peers`.
    Pick(pick::Options),
    /// Calls: an echo of bytes between two processes, each pinned to one core, with TLS both ways.
    /// Those of peers beside ours with `--peers`.
    Rpc(options::Options),
}

/// Runs a benchmark.
pub(crate) fn run(bench: &Bench) -> Outcome {
    match bench {
        Bench::Cluster(options) => cluster::run(options),
        Bench::Gossip(options) => gossip::run(options),
        Bench::Instructions(options) => instructions::run(options),
        Bench::Pick(options) => pick::run(options),
        Bench::Rpc(options) => rpc::run(options),
    }
}

/// Exit code of a benchmark whose checks passed, or not.
fn exit_code(passed: bool) -> ExitCode {
    ExitCode::from(u8::from(!passed))
}
