//! Simulation of whole clusters in virtual time: real engines, a faulty network, and checkers.
//!
//! The engines exchange their real datagrams, and the checkers look at every step. Everything is
//! drawn from one seed, so a failed run can be replayed.
//!
//! - [`Cluster`]: nodes to start, stop, slow down and cut off by hand. [`Cluster::bootstrap`]
//!   starts them together; [`Cluster::formed`] has them know each other already, which makes
//!   thousands affordable.
//! - [`run`]: faults drawn from a seed, then a quiet phase in which all views must become equal.
//!
//! ```
//! use std::time::Duration;
//! use rpcnet_swim::ClusterConfig;
//! use rpcnet_swim_sim::Cluster;
//!
//! let mut cluster = Cluster::bootstrap(7, 5, ClusterConfig::lan());
//! cluster.run_until(Duration::from_secs(5), Cluster::is_converged).expect("all know all");
//! cluster.crash(3);
//! let took = cluster.run_until(Duration::from_secs(10), Cluster::is_converged);
//! assert!(took.expect("all know of the crash") < Duration::from_secs(5));
//! cluster.expect_safe();
//! ```
//!
//! For tests and experiments of this workspace; it is not published.

mod address;
mod check;
mod check_split_brain;
mod check_traffic;
mod cluster;
mod config;
mod convergence;
mod event_queue;
mod fault_injection;
mod formed;
pub mod fuzzing;
mod join_handshake;
mod link;
mod network;
mod node;
mod process_fault;
mod report;
mod run;
mod split_brain;
mod steps;
mod traffic;
mod transition;
mod transition_log;

#[cfg(test)]
mod tests;

pub use check::{SimFailure, Violation};
pub use cluster::Cluster;
pub use config::{FaultKind, SimConfig};
pub use join_handshake::join_directly;
pub use link::Link;
pub use network::{Network, OneWayPartition};
pub use process_fault::OpenDirection;
pub use report::SimReport;
pub use run::{run, run_with_detector};
pub use traffic::Traffic;
pub use transition::{Transition, TransitionLog};
