//! Hedging: when a second attempt starts before the first has failed.
//!
//! Here is the delay. The state machine of a call starts the hedge:
//! [`CallState::step`](crate::retry::CallState::step).

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use crate::{LatencyQuantiles, Time};

/// Hedging policy (Dean and Barroso, The Tail at Scale): when calls of a method are sent to another
/// endpoint as well, while the first has not replied yet. The first good reply counts, the other
/// attempt is cancelled.
///
/// A cure for the slowest few calls, at the price of a few more: with
/// [`at_quantile(0.95)`](Self::at_quantile) one of twenty is made twice. A hedge should take a
/// token of the [`RetryBudget`](crate::RetryBudget), so that hedging ends when it is needed too
/// often.
///
/// ```
/// use std::time::Duration;
/// use rpcnet_balance::{HedgeLatencies, Hedging, Time};
///
/// let (hedging, latencies) = (Hedging::at_quantile(0.95), HedgeLatencies::new());
/// let now = Time::from_nanos(1);
/// assert_eq!(hedging.delay(Some(&latencies), now), None);
/// for _ in 0..100 {
///     latencies.record(now, Duration::from_millis(10));
/// }
/// let later = now + Duration::from_secs(1);
/// assert!(hedging.delay(Some(&latencies), later) >= Some(Duration::from_millis(10)));
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Hedging {
    delay: HedgeDelay,
    delay_min: Duration,
    hedges_max: usize,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum HedgeDelay {
    Quantile(f64),
    Fixed(Duration),
}

impl Hedging {
    /// Hedges a call that takes longer than this part of the calls of the last ten to fifteen
    /// seconds; 0.95 is a good choice. Until there are enough calls to tell, at least twenty, there
    /// are no hedges.
    ///
    /// A quantile and not a percentage: values are clamped to 0 to 1, and NaN counts as 1. No call
    /// takes longer than all, so there are no hedges at 1, nor at 95.0.
    #[must_use]
    pub fn at_quantile(quantile: f64) -> Self {
        let quantile = if quantile.is_nan() { 1.0 } else { quantile };
        Self::new(HedgeDelay::Quantile(quantile.clamp(0.0, 1.0)))
    }

    /// Hedges a call that takes longer than this.
    #[must_use]
    pub fn after(delay: Duration) -> Self {
        Self::new(HedgeDelay::Fixed(delay))
    }

    fn new(delay: HedgeDelay) -> Self {
        Self {
            delay,
            delay_min: Duration::from_millis(1),
            hedges_max: 1,
        }
    }

    /// The shortest delay, whatever the recent calls took; default 1 ms. Below the time that a
    /// reply takes on its way, hedges cost more than they gain.
    #[must_use]
    pub fn with_delay_min(mut self, delay: Duration) -> Self {
        self.delay_min = delay;
        self
    }

    /// Limit of hedges of one call, one after the other with the delay in between, each on another
    /// endpoint; default 1. With 0 there are no hedges.
    #[must_use]
    pub fn with_hedges_max(mut self, hedges: usize) -> Self {
        self.hedges_max = hedges;
        self
    }

    /// Whether the delay is a [quantile](Self::at_quantile), so that it needs recent latencies.
    #[must_use]
    pub const fn is_at_quantile(&self) -> bool {
        matches!(self.delay, HedgeDelay::Quantile(_))
    }

    /// Limit of hedges of one call.
    #[must_use]
    pub const fn hedges_max(&self) -> usize {
        self.hedges_max
    }

    /// Time from an attempt that starts now to the next hedge; `None` if there is no hedge.
    #[must_use]
    pub fn delay(&self, latencies: Option<&HedgeLatencies>, now: Time) -> Option<Duration> {
        if self.hedges_max == 0 {
            return None;
        }
        let delay = match (self.delay, latencies) {
            (HedgeDelay::Fixed(delay), _) => Some(delay),
            (HedgeDelay::Quantile(quantile), Some(latencies)) => latencies.delay(now, quantile),
            (HedgeDelay::Quantile(_), None) => None,
        };
        delay.map(|delay| delay.max(self.delay_min))
    }
}

/// Recent latencies of the calls of one method, for [`Hedging::at_quantile`].
#[derive(Debug, Default)]
pub struct HedgeLatencies {
    latencies: LatencyQuantiles,
    /// Quantile that was looked up last, as bits, and its latency in nanoseconds; 0 if unknown.
    quantile: AtomicU64,
    delay: AtomicU64,
    /// Until when that result is used.
    valid_until: AtomicU64,
}

impl HedgeLatencies {
    /// A record without latencies.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Records how long a first attempt took, or how long one ran that was cancelled because a
    /// hedge replied first: without the latter the slow ones would be missing, and the quantile
    /// would sink with every hedge.
    pub fn record(&self, now: Time, latency: Duration) {
        self.latencies.record(now, latency);
    }

    fn delay(&self, now: Time, quantile: f64) -> Option<Duration> {
        let valid_until = self.valid_until.load(Relaxed);
        let is_same = self.quantile.load(Relaxed) == quantile.to_bits();
        if now.as_nanos() < valid_until && is_same {
            let known = self.delay.load(Relaxed);
            return (known > 0).then(|| Duration::from_nanos(known));
        }
        let until = (now + QUANTILE_LIFETIME).as_nanos();
        let claimed = self
            .valid_until
            .compare_exchange(valid_until, until, Relaxed, Relaxed);
        let delay = self.compute_delay(now, quantile);
        // Other threads use the old result meanwhile.
        if claimed.is_ok() {
            let nanos = delay.map_or(0, |delay| Time::from(delay).as_nanos());
            self.delay.store(nanos, Relaxed);
            self.quantile.store(quantile.to_bits(), Relaxed);
        }
        delay
    }

    fn compute_delay(&self, now: Time, quantile: f64) -> Option<Duration> {
        // Of fewer samples, none lies beyond the quantile.
        let needed = (1.0 / (1.0 - quantile)).max(SAMPLES_MIN);
        if (self.latencies.len(now) as f64) < needed {
            return None;
        }
        self.latencies.quantile(now, quantile)
    }
}

/// Time for which a quantile is used before it is looked up again.
const QUANTILE_LIFETIME: Duration = Duration::from_millis(100);

/// Fewest samples that a quantile is taken of.
const SAMPLES_MIN: f64 = 20.0;

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Time {
        Time::ZERO + Duration::from_millis(ms)
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_fixed_delay_needs_no_samples() {
        assert_eq!(Hedging::after(ms(7)).delay(None, at(0)), Some(ms(7)));
        assert_eq!(Hedging::after(ms(0)).delay(None, at(0)), Some(ms(1)));
        let eager = Hedging::after(ms(0)).with_delay_min(Duration::ZERO);
        assert_eq!(eager.delay(None, at(0)), Some(Duration::ZERO));
        let without = eager.with_hedges_max(0);
        assert_eq!(without.delay(None, at(0)), None);
        assert!(!eager.is_at_quantile() && Hedging::at_quantile(0.95).is_at_quantile());
    }

    #[test]
    fn no_call_is_hedged_at_a_quantile_of_one_or_none() {
        let latencies = HedgeLatencies::default();
        for _ in 0..10_000 {
            latencies.record(at(0), ms(10));
        }
        for quantile in [1.0, 95.0, f64::INFINITY, f64::NAN] {
            let delay = Hedging::at_quantile(quantile).delay(Some(&latencies), at(0));
            assert_eq!(delay, None, "{quantile}");
        }
        for quantile in [0.0, -1.0, 0.95] {
            let delay = Hedging::at_quantile(quantile).delay(Some(&latencies), at(0));
            assert!(delay.is_some(), "{quantile}");
        }
    }

    #[test]
    fn a_quantile_is_that_of_recent_calls_once_there_are_enough() {
        let hedging = Hedging::at_quantile(0.95);
        let latencies = HedgeLatencies::default();
        assert_eq!(hedging.delay(None, at(0)), None);
        for _ in 0..19 {
            latencies.record(at(0), ms(10));
        }
        assert_eq!(hedging.delay(Some(&latencies), at(0)), None);
        latencies.record(at(0), ms(500));
        // It is not looked up for each call.
        assert_eq!(hedging.delay(Some(&latencies), at(99)), None);
        let delay = hedging.delay(Some(&latencies), at(101)).expect("twenty");
        assert!(delay >= ms(10) && delay < ms(11), "{delay:?}");
        // Another quantile is looked up anew, and a rarer one needs more calls.
        let slowest = Hedging::at_quantile(0.99).delay(Some(&latencies), at(101));
        assert_eq!(slowest, None);
        // A quick call is not worth a hedge.
        let quick = HedgeLatencies::default();
        for _ in 0..100 {
            quick.record(at(0), Duration::from_micros(50));
        }
        assert_eq!(hedging.delay(Some(&quick), at(0)), Some(ms(1)));
        // Old samples do not count.
        assert_eq!(hedging.delay(Some(&quick), at(60_000)), None);
    }
}
