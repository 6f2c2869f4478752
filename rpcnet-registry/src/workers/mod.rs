//! Worker selection: tag filter, health tiers, balancer.

mod group;
mod health;
mod health_event;
mod health_probe;
mod health_tier;
mod health_tracker;
mod invalid_tag_log;
mod last_reply;
mod registry;
mod select;
mod selection_state;
mod shared_tier;
mod strategy;
mod weight;
mod worker;
mod worker_entry;
mod worker_table;

pub use health_event::{HealthEvent, HealthEvents};
pub use registry::WorkerRegistry;
pub use select::WorkerGroup;
pub use strategy::{LoadBalancingStrategy, UnknownStrategy};
pub use weight::InvalidTag;
pub use worker::{Candidate, Worker};
pub use worker_entry::{WorkerAddress, WorkerStatus};

#[cfg(test)]
mod tests;
