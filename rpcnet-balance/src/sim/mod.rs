//! Simulator of fleets of clients and workers in virtual time, to compare balancers under faults.
//!
//! The balancers are the real ones, and so are the endpoints, the outlier detector, the retry
//! budget, the attempts of a call ([`CallState`](crate::retry::CallState)), the normalisation of
//! latencies, and the quantiles of hedge delays. The rest is a model: workers serve a number of
//! requests at a time, keep some in a queue and reject more than that; they become slow, fail,
//! reject, hang, move, crash and come back cold, as a [`FleetScenario`] says. Each client has a
//! balancer of its own and sees what clients see: its own calls, and the reported load.
//!
//! Everything is drawn from one seed: equal runs have equal reports. What a call costs depends on
//! the call alone, so all balancers are given the same calls at the same moments.
//!
//! ```
//! use std::{sync::Arc, time::Duration};
//! use rpcnet_balance::{
//!     LeastConnections, RoundRobin,
//!     sim::{self, FleetScenario, Load, ServiceTime, SimWorker, WorkerChange},
//! };
//!
//! // Ten workers; one becomes a hundred times slower.
//! let mean = Duration::from_millis(10);
//! let worker = SimWorker::new(ServiceTime::Exponential { mean }).with_concurrency(8);
//! let slow = Duration::from_secs(2);
//! let scenario = FleetScenario::new(vec![worker; 10], Load::open(2_000.0))
//!     .with_duration(Duration::from_secs(6))
//!     .with_change(slow, 3, WorkerChange::Slowdown(100.0));
//!
//! let after = |report: &sim::Report| report.between(slow, Duration::MAX).latency(0.99);
//! let blind = sim::run(&scenario, 7, |seed| Arc::new(RoundRobin::seeded(seed)));
//! let counting = sim::run(&scenario, 7, |seed| Arc::new(LeastConnections::seeded(seed)));
//! assert!(after(&counting) < after(&blind));
//! ```
//!
//! Your own balancer runs in the same way: any function from a seed to an `Arc<dyn Balancer>`.
//! `examples/shortest_queue.rs` has one.
//!
//! # What it leaves out
//!
//! The network neither loses nor reorders, and takes the same time everywhere. Requests are all of
//! one method unless the scenario [says otherwise](FleetScenario::with_method); a change of speed
//! holds for requests whose service begins from then on. Clients take no time for anything.
//!
//! Not covered by semantic versioning: this module serves tests and experiments.

mod client;
mod client_policy;
mod event_queue;
mod fleet;
mod in_flight;
mod method;
mod rejecting_workers;
mod report;
mod retries;
mod scenario;
mod server;
mod service_time;
mod sim_rng;
mod sim_worker;
mod worker_change;

#[cfg(test)]
mod tests;

pub use client_policy::ClientPolicy;
pub use fleet::run;
pub use method::SimMethod;
pub use report::{Attempt, AttemptKind, Call, CallOutcome, Report, Span};
pub use scenario::{FleetScenario, Load};
pub use service_time::ServiceTime;
pub use sim_worker::SimWorker;
pub use worker_change::WorkerChange;
