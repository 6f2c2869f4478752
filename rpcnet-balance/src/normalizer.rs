//! Latency normaliser: the latency of a call relative to what calls of its kind usually take.

use std::{
    fmt,
    sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use crate::{
    LatencyScale, Outcome, OutcomeKind, SuccessBatch, Time,
    latency::{Decay, LATENCY_DECAY},
    rng::GOLDEN,
    time,
};

/// Normaliser of the latencies of calls of different kinds, such as methods, so that a balancer can
/// compare endpoints by any of them.
///
/// It learns from the replies how long calls of each kind usually take, over all endpoints, and how
/// long a typical call takes: moving geometric means of the replies of the last 10 s, or of the
/// last 16 if those are older. Calls that are rare, however long they take, hardly change what is
/// typical. The first replies of a kind define what is usual for it. As long as all calls are of
/// one kind, latencies are used as measured.
///
/// A kind is a number of the caller's choice, such as a hash of the method's name. Some 500 kinds
/// are remembered at most; where there is no room, a kind without a reply for a minute is replaced,
/// and otherwise the remaining kinds count as one.
///
/// Shared by threads without a lock and without allocation. A reply costs a few atomic reads;
/// writes are a millisecond apart for each kind, except for its first 16 replies.
///
/// ```
/// use std::time::Duration;
/// use rpcnet_balance::{LatencyNormalizer, Outcome, OutcomeKind, Time};
///
/// const LOOKUP: u64 = 1;
/// const REPORT: u64 = 2;
/// let normalizer = LatencyNormalizer::new();
/// let took = |kind, ms| {
///     let outcome = Outcome::new(OutcomeKind::Success, Duration::from_millis(ms));
///     normalizer.record(kind, outcome).normalized_latency.expect("a reply")
/// };
/// for _ in 0..1000 {
///     took(LOOKUP, 20);
/// }
/// // A report takes three seconds, which is usual: it looks like a lookup.
/// assert!(took(REPORT, 3_000) < Duration::from_millis(22));
/// // A report that takes twice as long looks like a lookup that does.
/// assert!(took(REPORT, 6_000) > Duration::from_millis(26));
/// ```
pub struct LatencyNormalizer {
    /// Number of kinds with a reply; those without room count as one.
    kinds: AtomicU32,
    typical: GeometricMean,
    /// Mean of the kinds for which there is no room.
    others: GeometricMean,
    /// Sets of [`WAYS`] kinds; a kind is in the set that its id is hashed to.
    table: Box<[KindStats]>,
    decay: Decay,
}

/// Usual latency of a kind.
#[derive(Default)]
struct KindStats {
    /// 0 while the entry is free.
    id: AtomicU64,
    usual: GeometricMean,
}

impl LatencyNormalizer {
    /// A normaliser that has seen no calls.
    #[must_use]
    pub fn new() -> Self {
        Self {
            kinds: AtomicU32::new(0),
            typical: GeometricMean::default(),
            others: GeometricMean::default(),
            table: (0..KINDS_MAX).map(|_| KindStats::default()).collect(),
            decay: Decay::over(LATENCY_DECAY),
        }
    }

    /// The scale of a kind of calls, by what is known now: [`LatencyScale::ONE`] as long as there
    /// is one kind of calls, [`LatencyScale::UNKNOWN`] before the first reply of another kind. For
    /// [`InFlight::set_scale`](crate::InFlight::set_scale).
    #[must_use]
    pub fn scale(&self, kind: u64) -> LatencyScale {
        match self.kinds.load(Relaxed) {
            0 => LatencyScale::ONE,
            kinds => self.scale_of(self.find(kind).unwrap_or(&self.others), kinds),
        }
    }

    /// Records the outcome of an attempt of this kind, and returns it with its [normalised
    /// latency](Outcome::normalized_latency), for
    /// [`Balancer::on_outcome`](crate::Balancer::on_outcome). Only replies
    /// ([`OutcomeKind::Success`]) define how long a kind usually takes.
    #[must_use]
    pub fn record(&self, kind: u64, outcome: Outcome) -> Outcome {
        if outcome.kind != OutcomeKind::Success {
            return self.scale(kind).apply(outcome);
        }
        self.record_reply(kind, outcome.now, outcome.latency)
            .apply(outcome)
    }

    /// Records a batch of successes of this kind, and returns it with its
    /// [scale](SuccessBatch::scale), for
    /// [`Balancer::on_successes`](crate::Balancer::on_successes).
    ///
    /// Of replies at the same time only the first defines how long a kind usually takes, except for
    /// its first 16: of those a batch has but one.
    #[must_use]
    pub fn record_successes(&self, kind: u64, batch: SuccessBatch) -> SuccessBatch {
        if batch.is_empty() {
            return batch;
        }
        batch.with_scale(self.record_reply(kind, batch.now(), batch.first_latency()))
    }

    /// Records a reply, and returns the scale of its kind.
    #[inline]
    fn record_reply(&self, kind: u64, now: Option<Time>, latency: Duration) -> LatencyScale {
        let now = time::age_reference(now);
        let usual = self.find(kind).unwrap_or_else(|| self.insert(kind, now));
        usual.record(now, latency, self.decay, f32::INFINITY);
        self.typical.record(now, latency, self.decay, FACTOR_MAX);
        let kinds = self.kinds.load(Relaxed);
        self.scale_of(usual, kinds)
    }

    #[inline]
    fn scale_of(&self, usual: &GeometricMean, kinds: u32) -> LatencyScale {
        let usual = usual.nanos();
        if usual == 0.0 {
            LatencyScale::UNKNOWN
        } else if kinds == 1 {
            LatencyScale::ONE
        } else {
            LatencyScale::from_nanos(usual, self.typical.nanos())
        }
    }

    #[inline]
    fn find(&self, kind: u64) -> Option<&GeometricMean> {
        let id = non_zero_id(kind);
        let mut kinds = self.set(id).iter();
        let found = kinds.find(|one| one.id.load(Relaxed) == id);
        found.map(|one| &one.usual)
    }

    fn set(&self, id: u64) -> &[KindStats] {
        let set = (id.wrapping_mul(GOLDEN) >> (u64::BITS - SET_BITS)) as usize;
        &self.table[set * WAYS..][..WAYS]
    }

    /// Finds an entry for a kind that has none: a free one, that of an idle kind, or the one that
    /// all others share.
    #[cold]
    fn insert(&self, kind: u64, now: Time) -> &GeometricMean {
        let (id, set) = (non_zero_id(kind), self.set(non_zero_id(kind)));
        for one in set.iter().filter(|one| one.id.load(Relaxed) == 0) {
            match one.id.compare_exchange(0, id, Relaxed, Relaxed) {
                Ok(_) => {
                    self.kinds.fetch_add(1, Relaxed);
                    return &one.usual;
                }
                Err(other) if other == id => return &one.usual,
                Err(_) => {}
            }
        }
        let oldest = set.iter().min_by_key(|one| one.usual.at.load(Relaxed));
        let oldest = oldest.expect("a set has entries");
        let (before, at) = (oldest.id.load(Relaxed), oldest.usual.at.load(Relaxed));
        let is_idle = now.since(Time::from_nanos(at)) > IDLE_TIMEOUT;
        // Another thread may still record a reply of the replaced kind: one among many.
        if is_idle && (oldest.id.compare_exchange(before, id, Relaxed, Relaxed)).is_ok() {
            oldest.usual.clear();
            return &oldest.usual;
        }
        if self.others.nanos() == 0.0 {
            self.kinds.fetch_add(1, Relaxed);
        }
        &self.others
    }
}

impl Default for LatencyNormalizer {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for LatencyNormalizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LatencyNormalizer")
            .field("kinds", &self.kinds)
            .finish_non_exhaustive()
    }
}

/// Moving geometric mean of latencies: of those of the last [`LATENCY_DECAY`], and of the last
/// [`SAMPLES_MIN`] at least. Geometric, so that one reply that took a hundred times as long moves
/// it little.
#[derive(Default)]
struct GeometricMean {
    /// The bits of an `f32`; 0 before the first reply.
    nanos: AtomicU32,
    /// The bits of the number of replies in the mean, older ones counted as less.
    weight: AtomicU32,
    /// Time of the last reply that was included, in nanoseconds.
    at: AtomicU64,
}

impl GeometricMean {
    #[inline]
    fn nanos(&self) -> f32 {
        f32::from_bits(self.nanos.load(Relaxed))
    }

    /// Records a reply, which counts as at most `factor_max` times as long or as short as the mean.
    #[inline]
    fn record(&self, now: Time, latency: Duration, decay: Decay, factor_max: f32) {
        let weight = f32::from_bits(self.weight.load(Relaxed));
        let at = self.at.load(Relaxed);
        let age = now.as_nanos().saturating_sub(at);
        // One of several threads: a reply more or less makes no difference.
        if (weight < SAMPLES_MIN || age >= STEP_NANOS) && self.claim(at, now) {
            let weight = (weight * decay.remaining(age)).max(weight.min(SAMPLES_MIN - 1.0)) + 1.0;
            self.update(latency, weight, factor_max);
        }
    }

    fn claim(&self, at: u64, now: Time) -> bool {
        let next = now.as_nanos().max(at);
        let claimed = self.at.compare_exchange(at, next, Relaxed, Relaxed);
        claimed.is_ok()
    }

    fn update(&self, latency: Duration, weight: f32, factor_max: f32) {
        let sample = (latency.as_nanos() as f32).max(1.0);
        let before = self.nanos();
        let after = if before == 0.0 {
            sample
        } else {
            let factor = (sample / before).clamp(1.0 / factor_max, factor_max);
            before * factor.powf(1.0 / weight)
        };
        self.nanos.store(after.to_bits(), Relaxed);
        self.weight.store(weight.to_bits(), Relaxed);
    }

    fn clear(&self) {
        self.weight.store(0, Relaxed);
        self.nanos.store(0, Relaxed);
    }
}

/// Zero means a free entry.
const fn non_zero_id(kind: u64) -> u64 {
    if kind == 0 { GOLDEN } else { kind }
}

/// The smallest number of replies in a mean, if there are as many.
const SAMPLES_MIN: f32 = 16.0;

/// A reply counts as at most this many times as long or as short as a typical call, so that what is
/// typical is what most calls take, from the first ones on.
const FACTOR_MAX: f32 = 2.0;

/// After the first replies of a kind, updates are at least this far apart: several threads that
/// call it at the same time leave the cache line alone.
const STEP_NANOS: u64 = 1_000_000;

/// A kind without a reply for so long is replaced when another needs room.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

const SET_BITS: u32 = 6;

/// Kinds of a set.
const WAYS: usize = 8;

/// 12 KiB.
const KINDS_MAX: usize = WAYS << SET_BITS;

#[cfg(test)]
mod tests;
