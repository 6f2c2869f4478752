//! Simulated worker: capacity, queue, cold start.

use std::time::Duration;

use super::ServiceTime;

/// Capacity of a simulated worker, and when it rejects calls.
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
    /// A worker that serves 16 requests at a time with this service time, and queues more: at most
    /// 1,000, and none for longer than 50 ms.
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

    /// Sets the number of requests that it serves at a time, at least 1. With more than four fifths
    /// of this, queued ones included, it reports that it is busy.
    #[must_use]
    pub const fn with_concurrency(mut self, requests: usize) -> Self {
        self.concurrency = if requests == 0 { 1 } else { requests };
        self
    }

    /// Sets the length of its queue and the longest time in it: requests beyond either are
    /// rejected, with a retry-after time.
    #[must_use]
    pub const fn with_queue(mut self, len: usize, wait: Duration) -> Self {
        self.queue_len = len;
        self.queue_timeout = wait;
        self
    }

    /// Sets the weight that clients give it. Default 1. It does not change its capacity.
    #[must_use]
    pub const fn with_weight(mut self, weight: f32) -> Self {
        self.weight = weight;
        self
    }

    /// Sets a cold start: after a start requests take `slowdown` times as long, less and less until
    /// the worker is warm after this time. Default warm at once; workers that run from the
    /// beginning are warm.
    #[must_use]
    pub const fn with_cold_start(mut self, time: Duration, slowdown: f64) -> Self {
        self.warm_up_time = time;
        self.cold_slowdown = slowdown;
        self
    }

    /// Makes it absent at the beginning: a [`WorkerChange::Start`](super::WorkerChange::Start)
    /// starts it.
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
