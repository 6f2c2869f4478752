//! `cargo xtask bench`: benchmarks, beside peers.

mod bulk;
mod client_process;
mod cluster;
mod connections;
mod cores;
mod figure;
pub(crate) mod flood_process;
mod floods;
pub(crate) mod gossip;
mod grid;
mod loss;
mod network;
pub(crate) mod node;
mod open_loop;
mod options;
mod pick;
mod reconnect;
mod rows;
mod rpc;
mod rpcnet_subject;
mod sizes;
mod streaming;
mod streams;
mod subjects;
mod table;
mod targets;

use clap::Subcommand;

use crate::project::Outcome;

/// Benchmark to run.
#[derive(Debug, Subcommand)]
pub(crate) enum Bench {
    /// A cluster client: what it adds to a call, and how workers add up.
    Cluster(cluster::Options),
    /// Membership: a cluster on loopback sockets in a few processes, sealed, with the defaults of a
    /// LAN. How long until all see all, what it costs a node to stay, how long until all know of
    /// members that were killed.
    Gossip(gossip::Options),
    /// Balancers: what a choice costs, in time and in memory. Peers beside ours with `--peers`.
    Pick(pick::Options),
    /// Calls: an echo of bytes between two processes, each pinned to one core, with TLS both ways.
    /// Those of peers beside ours with `--peers`.
    Rpc(options::Options),
}

/// Measures.
///
/// # Errors
///
/// When it could not be carried through, or a reply was wrong.
pub(crate) fn run(bench: &Bench) -> Outcome {
    match bench {
        Bench::Cluster(options) => cluster::run(options),
        Bench::Gossip(options) => gossip::run(options),
        Bench::Pick(options) => pick::run(options),
        Bench::Rpc(options) => rpc::run(options),
    }
}
