//! A second attempt before the first has failed, because it takes long.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use rpcnet_balance::{LatencyQuantiles, Time};

/// When calls of a method are sent to another worker as well, while the first has not answered yet: hedged. The first good
/// reply counts, the other attempt is cancelled.
///
/// A cure for the slowest few calls, at the price of a few more: with [`at_quantile(0.95)`](Self::at_quantile) one of
/// twenty is made twice. It takes out of the [budget](super::ClusterClientConfig::with_retry_budget), so it ends when it
/// is needed too often, and never adds to the load of workers that say that they are busy.
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
    /// When it takes longer than this part of the calls of the last ten to fifteen seconds, from 0 to 1; 0.95 is a good choice.
    /// Until there are enough of them to tell, at least twenty, there are no hedges.
    #[must_use]
    pub fn at_quantile(quantile: f64) -> Self {
        Self::new(HedgeDelay::Quantile(quantile.clamp(0.0, 1.0)))
    }

    /// When it takes longer than that.
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

    /// How many hedges a call may have, one after the other with the delay in between, each on another worker; default 1.
    #[must_use]
    pub fn with_hedges_max(mut self, hedges: usize) -> Self {
        self.hedges_max = hedges;
        self
    }

    pub(super) fn hedges_max(&self) -> usize {
        self.hedges_max
    }

    /// How long a call is left alone that is made now; `None`: as long as it takes.
    pub(super) fn delay(&self, observed: Option<&LatencyTracker>, now: Time) -> Option<Duration> {
        let delay = match (self.delay, observed) {
            (HedgeDelay::Fixed(delay), _) => Some(delay),
            (HedgeDelay::Quantile(quantile), Some(observed)) => observed.delay(now, quantile),
            (HedgeDelay::Quantile(_), None) => None,
        };
        delay.map(|delay| delay.max(self.delay_min))
    }
}

/// Recent latencies of the calls of a method.
#[derive(Debug, Default)]
pub(super) struct LatencyTracker {
    latencies: LatencyQuantiles,
    /// The quantile asked for last, as bits, and what it was, in nanoseconds; 0 if it was not known.
    quantile: AtomicU64,
    delay: AtomicU64,
    /// Until when that is good enough.
    valid_until: AtomicU64,
}

impl LatencyTracker {
    /// A first attempt has taken that long, or would have taken longer: those that were outrun count too, or the
    /// slow ones would be missing and the quantile would sink and sink.
    pub(super) fn record(&self, now: Time, latency: Duration) {
        self.latencies.record(now, latency);
    }

    fn delay(&self, now: Time, quantile: f64) -> Option<Duration> {
        let fresh_until = self.valid_until.load(Relaxed);
        let is_same = self.quantile.load(Relaxed) == quantile.to_bits();
        if now.as_nanos() < fresh_until && is_same {
            let known = self.delay.load(Relaxed);
            return (known > 0).then(|| Duration::from_nanos(known));
        }
        let until = (now + QUANTILE_LIFETIME).as_nanos();
        let claimed = self
            .valid_until
            .compare_exchange(fresh_until, until, Relaxed, Relaxed);
        let found = self.compute_delay(now, quantile);
        // Others read the old one meanwhile.
        if claimed.is_ok() {
            let nanos = found.map_or(0, |delay| Time::from(delay).as_nanos());
            self.delay.store(nanos, Relaxed);
            self.quantile.store(quantile.to_bits(), Relaxed);
        }
        found
    }

    fn compute_delay(&self, now: Time, quantile: f64) -> Option<Duration> {
        // Of fewer, none is past the quantile.
        let needed = (1.0 / (1.0 - quantile)).max(SAMPLES_MIN);
        if (self.latencies.len(now) as f64) < needed {
            return None;
        }
        self.latencies.quantile(now, quantile)
    }
}

/// For how long a quantile is used before it is looked up again.
const QUANTILE_LIFETIME: Duration = Duration::from_millis(100);

/// How many calls it takes to know anything about them.
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
    fn a_fixed_delay_needs_nothing_to_go_by() {
        assert_eq!(Hedging::after(ms(7)).delay(None, at(0)), Some(ms(7)));
        assert_eq!(Hedging::after(ms(0)).delay(None, at(0)), Some(ms(1)));
        let eager = Hedging::after(ms(0)).with_delay_min(Duration::ZERO);
        assert_eq!(eager.delay(None, at(0)), Some(Duration::ZERO));
    }

    #[test]
    fn a_quantile_is_that_of_the_calls_once_there_are_enough() {
        let hedging = Hedging::at_quantile(0.95);
        let observed = LatencyTracker::default();
        assert_eq!(hedging.delay(None, at(0)), None);
        for _ in 0..19 {
            observed.record(at(0), ms(10));
        }
        assert_eq!(hedging.delay(Some(&observed), at(0)), None);
        observed.record(at(0), ms(500));
        // It is not looked up for each call.
        assert_eq!(hedging.delay(Some(&observed), at(99)), None);
        let delay = hedging.delay(Some(&observed), at(101)).expect("twenty");
        assert!(delay >= ms(10) && delay < ms(11), "{delay:?}");
        // Another one is another question, and rarer ones need more calls.
        let slowest = Hedging::at_quantile(0.99).delay(Some(&observed), at(101));
        assert_eq!(slowest, None);
        // What is quick is not worth a hedge.
        let quick = LatencyTracker::default();
        for _ in 0..100 {
            quick.record(at(0), Duration::from_micros(50));
        }
        assert_eq!(hedging.delay(Some(&quick), at(0)), Some(ms(1)));
        // What is old says nothing.
        assert_eq!(hedging.delay(Some(&quick), at(60_000)), None);
    }
}
