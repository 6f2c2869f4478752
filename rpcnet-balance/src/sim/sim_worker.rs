//! What a worker can do.

use std::time::Duration;

use super::ServiceTime;

/// What a worker can do, and when it refuses.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SimWorker {
    pub(super) service_time: ServiceTime,
    pub(super) concurrency: usize,
    pub(super) queue_len: usize,
    pub(super) queue_timeout: Duration,
    pub(super) weight: f32,
    pub(super) warm_up_time: Duration,
    pub(super) cold_slowdown: f64,
    pub(super) absent: bool,
}

impl SimWorker {
    /// One that serves 16 requests at a time, each as long as `latency` says, and keeps more in its queue: at most 1,000, and
    /// none for longer than 50 ms.
    #[must_use]
    pub const fn new(latency: ServiceTime) -> Self {
        Self {
            service_time: latency,
            concurrency: 16,
            queue_len: 1_000,
            queue_timeout: Duration::from_millis(50),
            weight: 1.0,
            warm_up_time: Duration::ZERO,
            cold_slowdown: 1.0,
            absent: false,
        }
    }

    /// Requests that it serves at a time, at least 1. With more of them, so many that wait included, than four fifths of this
    /// it says that it is busy.
    #[must_use]
    pub const fn with_concurrency(mut self, requests: usize) -> Self {
        self.concurrency = if requests == 0 { 1 } else { requests };
        self
    }

    /// Requests that it keeps in its queue, and for how long: what is beyond the one or the other is refused, with a word
    /// about when it is worth to try again.
    #[must_use]
    pub const fn with_queue(mut self, len: usize, wait: Duration) -> Self {
        self.queue_len = len;
        self.queue_timeout = wait;
        self
    }

    /// The weight that clients give it. Default 1. That it can do more is for the other settings to say.
    #[must_use]
    pub const fn with_weight(mut self, weight: f32) -> Self {
        self.weight = weight;
        self
    }

    /// After a start it takes `pace` times as long for a request, and gets faster until it is warm after this time. Default
    /// warm at once; those that run from the beginning are warm.
    #[must_use]
    pub const fn with_cold_start(mut self, time: Duration, pace: f64) -> Self {
        self.warm_up_time = time;
        self.cold_slowdown = pace;
        self
    }

    /// Not there from the beginning: a [`WorkerChange::Start`](super::WorkerChange::Start) brings it.
    #[must_use]
    pub const fn absent(mut self) -> Self {
        self.absent = true;
        self
    }

    /// Requests a second that it can serve.
    #[must_use]
    pub fn capacity_per_s(&self) -> f64 {
        self.concurrency as f64 / self.service_time.mean().as_secs_f64()
    }
}
