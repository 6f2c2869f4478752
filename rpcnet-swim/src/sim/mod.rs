//! Whole clusters in virtual time: the real engine with its real datagrams, a network that
//! misbehaves, and checkers that watch every step.
//!
//! Everything is drawn from one seed, so a run that fails can be run again.
//!
//! - [`Cluster`]: nodes to start, stop, slow down and cut off by hand. [`Cluster::of`] starts
//!   them, [`Cluster::formed`] has them know each other already, which is what makes thousands
//!   cheap.
//! - [`run`]: a seed's worth of trouble, then calm in which all views must become equal.
//!
//! ```
//! use std::time::Duration;
//! use rpcnet_swim::ClusterConfig;
//! use rpcnet_swim::sim::Cluster;
//!
//! let mut cluster = Cluster::of(7, 5, ClusterConfig::lan());
//! cluster.run_until(Duration::from_secs(5), Cluster::is_converged).expect("all know all");
//! cluster.crash(3);
//! let took = cluster.run_until(Duration::from_secs(10), Cluster::is_converged);
//! assert!(took.expect("all know of the crash") < Duration::from_secs(5));
//! cluster.expect_safe();
//! ```
//!
//! Not covered by semantic versioning: what is here serves tests and experiments.

mod address;
mod calm;
pub(crate) mod check;
mod check_pace;
mod cluster;
mod form;
mod link;
mod network;
mod node;
mod plan;
mod plight;
mod report;
mod serve;
mod sides;
mod steps;
mod transition;
mod trouble;

#[cfg(test)]
mod tests;

pub use check::{Failure, Violation};
pub use cluster::Cluster;
pub use link::Link;
pub use network::{Division, Network};
pub use node::Traffic;
pub use plan::{Kind, Plan};
pub use plight::Half;
pub use report::Report;
pub use transition::{Log, Transition};
pub use trouble::run;

pub use crate::engine::detector::{Detector, Rule};
