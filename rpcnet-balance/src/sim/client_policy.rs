//! Client policy: deadline, retries, hedging, passive health.

use std::time::Duration;

use crate::{RetryBudget, health::HealthConfig};

/// Client policy: what clients do about calls that do not succeed at once.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ClientPolicy {
    pub(super) deadline: Duration,
    pub(super) attempts_max: u8,
    pub(super) retry_ratio: f64,
    pub(super) retry_cap: f64,
    pub(super) hedge_quantile: Option<f64>,
    pub(super) health: HealthConfig,
    pub(super) avoids_rejecting_workers: bool,
    pub(super) normalizes_latency: bool,
}

impl ClientPolicy {
    /// A policy of up to five attempts within a deadline of 1 s and the default [`RetryBudget`]; no
    /// hedging; all of passive health.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            deadline: Duration::from_secs(1),
            attempts_max: 5,
            retry_ratio: 0.1,
            retry_cap: 100.0,
            hedge_quantile: None,
            health: HealthConfig::new(),
            avoids_rejecting_workers: true,
            normalizes_latency: true,
        }
    }

    /// Sets the time after which a call without a reply has failed. Default 1 s.
    #[must_use]
    pub const fn with_deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Sets the maximum number of attempts of a call, hedges included; 1 is no retries. Default 5.
    #[must_use]
    pub const fn with_attempts_max(mut self, attempts: u8) -> Self {
        self.attempts_max = if attempts == 0 { 1 } else { attempts };
        self
    }

    /// Sets the tokens that a success adds to the budget for retries and hedges, default 0.1, and
    /// its capacity, default 100. See [`RetryBudget`].
    #[must_use]
    pub const fn with_budget(mut self, ratio: f64, cap: f64) -> Self {
        self.retry_ratio = ratio;
        self.retry_cap = cap;
        self
    }

    /// Sends a hedge when an attempt takes longer than this quantile of the calls of the last
    /// seconds, such as 0.95. Default never.
    #[must_use]
    pub const fn with_hedging(mut self, quantile: f64) -> Self {
        self.hedge_quantile = Some(quantile);
        self
    }

    /// Sets outlier detection. Default everything on; what a balancer does by itself shows with
    /// [`HealthConfig::none`].
    #[must_use]
    pub const fn with_health(mut self, config: HealthConfig) -> Self {
        self.health = config;
        self
    }

    /// Sets whether a worker that rejected a request before running it is avoided, except for a
    /// probe after 5 s, and twice as late each time. Default `true`; what a balancer does by itself
    /// shows with `false`.
    #[must_use]
    pub const fn with_rejection_avoidance(mut self, passes_over: bool) -> Self {
        self.avoids_rejecting_workers = passes_over;
        self
    }

    /// Sets whether latencies are normalised by method with a
    /// [`LatencyNormalizer`](crate::LatencyNormalizer). Default `true`; with `false` a balancer
    /// sees them as measured, whatever was called.
    #[must_use]
    pub const fn with_normalized_latencies(mut self, normalizes: bool) -> Self {
        self.normalizes_latency = normalizes;
        self
    }

    pub(super) fn budget(&self) -> RetryBudget {
        RetryBudget::new()
            .with_ratio(self.retry_ratio)
            .with_cap(self.retry_cap)
    }
}

impl Default for ClientPolicy {
    fn default() -> Self {
        Self::new()
    }
}
