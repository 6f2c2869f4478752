//! Messages between the processes of a measurement, a line of JSON each.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Measurement to make. The answer is a [`Reading`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PickOrder {
    /// Name of the strategy.
    pub strategy: String,
    /// Number of workers.
    pub workers: usize,
    /// Threads that choose at the same time, of the same state.
    pub threads: usize,
    /// Work to measure.
    pub work: Work,
    /// Duration of the measurement.
    pub window: Duration,
}

/// Work that is repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Work {
    /// A worker is chosen.
    Pick,
    /// All that a call pays for being balanced: the choice, the count of calls in flight, two looks
    /// at the clock, what is learnt from its end.
    Call,
}

/// Result of a measurement.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Reading {
    /// Time of a thread for each.
    pub ns: f64,
    /// Requests for memory for each.
    pub allocations: f64,
}
