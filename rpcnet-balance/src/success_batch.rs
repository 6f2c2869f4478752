//! Batch of successes: replies of one endpoint that are reported together.

use std::time::Duration;

use crate::{LatencyScale, Outcome, OutcomeKind, ReportedLoad, Time};

/// Batch of successes: replies to attempts at one endpoint, recorded together for the price of
/// about one [`Outcome`].
///
/// To record a batch means the same as to record an outcome of [`OutcomeKind::Success`] for each of
/// its replies, in the order in which they were added and all at the [time](Self::with_now) of the
/// batch. Attempts that ended in another way are recorded one by one. One thing differs: if some of
/// the attempts began before the endpoint's backoff ended, none of the batch shortens the next one.
///
/// ```
/// use std::{sync::Arc, time::Duration};
/// use rpcnet_balance::{Balancer, Endpoint, PeakEwma, SuccessBatch, Time, View};
///
/// let view = View::new([Arc::new(Endpoint::new(1))], 1);
/// let mut batch = SuccessBatch::new();
/// for us in [700, 900, 800] {
///     batch.add(Duration::from_micros(us));
/// }
/// let now = Time::ZERO + Duration::from_secs(1);
/// PeakEwma::seeded(42).on_successes(&view, 0, &batch.with_now(now));
/// let latency = view[0].latency(now, Duration::from_secs(10));
/// assert_eq!(latency, Some(Duration::from_micros(900)));
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SuccessBatch {
    count: u32,
    /// Latencies in nanoseconds; zero for those that are not there.
    first: u64,
    max_after_first: u64,
    sum: u64,
    scale: LatencyScale,
    reported_load: Option<ReportedLoad>,
    now: Option<Time>,
}

impl SuccessBatch {
    /// A batch without replies. To record it changes nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            count: 0,
            first: 0,
            max_after_first: 0,
            sum: 0,
            scale: LatencyScale::ONE,
            reported_load: None,
            now: None,
        }
    }

    /// Adds a reply to an attempt that took `latency`.
    #[inline]
    pub fn add(&mut self, latency: Duration) {
        let nanos = Time::from(latency).as_nanos();
        if self.count == 0 {
            self.first = nanos;
        } else {
            self.max_after_first = self.max_after_first.max(nanos);
        }
        self.count = self.count.saturating_add(1);
        self.sum = self.sum.saturating_add(nanos);
    }

    /// Adds replies of which only their number and the sum of their latencies are known: each
    /// counts as one that took their mean.
    pub fn add_all(&mut self, count: u32, total: Duration) {
        let Some(rest) = count.checked_sub(1) else {
            return;
        };
        let total = Time::from(total).as_nanos();
        let mean = total / u64::from(count);
        self.add(Duration::from_nanos(mean));
        if rest > 0 {
            self.max_after_first = self.max_after_first.max(mean);
            self.count = self.count.saturating_add(rest);
            self.sum = self.sum.saturating_add(total - mean);
        }
    }

    /// Sets the time of the end of the attempts. Default none: what is known of the endpoint does
    /// not age then.
    #[must_use]
    pub const fn with_now(mut self, now: Time) -> Self {
        self.now = Some(now);
        self
    }

    /// Sets the load that the endpoint reported last. Default none. By the time the batch is
    /// recorded [`Endpoint::reported_load`](crate::Endpoint::reported_load) is the same or newer.
    #[must_use]
    pub const fn with_reported_load(mut self, load: Option<ReportedLoad>) -> Self {
        self.reported_load = load;
        self
    }

    /// Sets how the latencies compare with those of typical calls. Default [`LatencyScale::ONE`];
    /// [`LatencyScale::UNKNOWN`] if they say nothing about the endpoint. A
    /// [`LatencyNormalizer`](crate::LatencyNormalizer) computes it.
    #[must_use]
    pub const fn with_scale(mut self, scale: LatencyScale) -> Self {
        self.scale = scale;
        self
    }

    /// The number of replies.
    #[must_use]
    pub const fn count(&self) -> u32 {
        self.count
    }

    /// Whether there are no replies.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The latency of the first reply that was added; zero without replies.
    #[must_use]
    pub const fn first_latency(&self) -> Duration {
        Duration::from_nanos(self.first)
    }

    /// The greatest latency of the replies after the first; zero without any.
    pub(crate) const fn max_latency_after_first(&self) -> Duration {
        Duration::from_nanos(self.max_after_first)
    }

    /// The greatest latency; zero without replies.
    #[must_use]
    pub fn max_latency(&self) -> Duration {
        Duration::from_nanos(self.first.max(self.max_after_first))
    }

    /// The mean of the latencies; zero without replies.
    #[must_use]
    pub fn mean_latency(&self) -> Duration {
        Duration::from_nanos(self.sum / u64::from(self.count.max(1)))
    }

    /// How the latencies compare with those of typical calls.
    #[must_use]
    pub const fn scale(&self) -> LatencyScale {
        self.scale
    }

    /// The load that the endpoint reported last.
    #[must_use]
    pub const fn reported_load(&self) -> Option<ReportedLoad> {
        self.reported_load
    }

    /// The time of the end of the attempts, if it is known.
    #[must_use]
    pub const fn now(&self) -> Option<Time> {
        self.now
    }

    /// Outcomes that amount to the batch: the first reply, one of the greatest latency of the
    /// others, and the remaining ones with their mean, so that number, mean and greatest latency
    /// are those of the batch.
    pub fn outcomes(&self) -> impl Iterator<Item = Outcome> + use<> {
        let batch = *self;
        let remaining = u64::from(batch.count.saturating_sub(2));
        let known = batch.first.saturating_add(batch.max_after_first);
        let mean = batch.sum.saturating_sub(known) / remaining.max(1);
        (0..batch.count).map(move |number| {
            let nanos = match number {
                0 => batch.first,
                1 => batch.max_after_first,
                _ => mean,
            };
            let outcome = Outcome {
                now: batch.now,
                reported_load: batch.reported_load,
                ..Outcome::new(OutcomeKind::Success, Duration::from_nanos(nanos))
            };
            batch.scale.apply(outcome)
        })
    }
}

impl Default for SuccessBatch {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(latencies_us: &[u64]) -> SuccessBatch {
        let mut batch = SuccessBatch::new();
        for us in latencies_us {
            batch.add(Duration::from_micros(*us));
        }
        batch
    }

    #[test]
    fn a_batch_has_the_figures_of_its_replies() {
        let us = Duration::from_micros;
        for (latencies, count, first, max, mean) in [
            (&[][..], 0, 0, 0, 0),
            (&[5], 1, 5, 5, 5),
            (&[9, 1, 2], 3, 9, 9, 4),
            (&[1, 9, 2], 3, 1, 9, 4),
        ] {
            let batch = batch(latencies);
            assert_eq!((batch.count(), batch.is_empty()), (count, count == 0));
            assert_eq!(batch.first_latency(), us(first));
            assert_eq!(
                (batch.max_latency(), batch.mean_latency()),
                (us(max), us(mean))
            );
        }
    }

    #[test]
    fn its_outcomes_amount_to_it() {
        let load = Some(ReportedLoad::new().with_in_flight(3));
        for latencies in [&[][..], &[5], &[9, 1], &[1, 2, 9, 4], &[3, 3, 3, 3, 3]] {
            let batch = batch(latencies)
                .with_now(Time::from_nanos(7))
                .with_reported_load(load);
            let mut again = SuccessBatch::new();
            for outcome in batch.outcomes() {
                let known = (outcome.kind, outcome.now, outcome.reported_load);
                assert_eq!(known, (OutcomeKind::Success, batch.now(), load));
                assert_eq!(outcome.normalized_latency, Some(outcome.latency));
                again.add(outcome.latency);
            }
            let (now, load) = (Time::from_nanos(7), batch.reported_load());
            assert_eq!(again.with_now(now).with_reported_load(load), batch);
        }
    }

    #[test]
    fn replies_that_are_added_together_count_with_their_mean() {
        let us = Duration::from_micros;
        let mut all = batch(&[]);
        all.add_all(0, us(7));
        assert_eq!(all, batch(&[]));
        all.add_all(1, us(7));
        assert_eq!(all, batch(&[7]));
        all.add_all(3, us(12));
        assert_eq!(all, batch(&[7, 4, 4, 4]));
        let mut uneven = SuccessBatch::new();
        uneven.add_all(3, Duration::from_nanos(11));
        let outcomes = uneven.outcomes().map(|outcome| outcome.latency);
        assert_eq!(outcomes.sum::<Duration>(), Duration::from_nanos(11));
    }

    #[test]
    fn an_unknown_scale_leaves_no_latency_to_compare() {
        let batch = batch(&[5, 6]).with_scale(LatencyScale::UNKNOWN);
        let mut outcomes = batch.outcomes();
        assert!(outcomes.all(|outcome| outcome.normalized_latency.is_none()));
    }

    #[test]
    fn sums_do_not_overflow() {
        let mut batch = SuccessBatch::new();
        (0..3).for_each(|_| batch.add(Duration::MAX));
        assert_eq!(batch.max_latency(), Duration::from_nanos(u64::MAX));
        assert_eq!(batch.outcomes().count(), 3);
    }
}
