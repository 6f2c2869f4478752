//! Methods of simulated calls.

use std::time::Duration;

use super::ServiceTime;

/// Method of a fraction of the calls, which takes the same time at every worker that is alike.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SimMethod {
    pub(super) fraction: f64,
    pub(super) service_time: ServiceTime,
    pub(super) deadline: Duration,
}

impl SimMethod {
    /// A method of this fraction of the calls, from 0 to 1, with this service time. The deadline of
    /// its calls is 30 s.
    #[must_use]
    pub const fn new(share: f64, latency: ServiceTime) -> Self {
        Self {
            fraction: share,
            service_time: latency,
            deadline: Duration::from_secs(30),
        }
    }

    /// Sets the time after which a call without a reply has failed. Default 30 s.
    #[must_use]
    pub const fn with_deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }
}
