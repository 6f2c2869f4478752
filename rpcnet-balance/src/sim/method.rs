//! A method that a part of the calls is of.

use std::time::Duration;

use super::ServiceTime;

/// A method that a part of the calls is of, and that takes the same time at every worker that is
/// alike.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Method {
    pub(super) fraction: f64,
    pub(super) service_time: ServiceTime,
    pub(super) deadline: Duration,
}

impl Method {
    /// A method that this part of the calls is of, from 0 to 1, and that a worker serves for as
    /// long as `latency` says. The deadline of its calls is 30 s.
    #[must_use]
    pub const fn new(share: f64, latency: ServiceTime) -> Self {
        Self {
            fraction: share,
            service_time: latency,
            deadline: Duration::from_secs(30),
        }
    }

    /// After how long a call without an answer has failed. Default 30 s.
    #[must_use]
    pub const fn with_deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }
}
