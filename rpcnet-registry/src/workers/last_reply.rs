//! Last reply of a worker that was recorded: what later ones of the same moment are compared with.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use rpcnet_balance::{SuccessBatch, Time};

/// Last reply that was recorded in full, and the replies since that it covers. Threads that record
/// at once may mix up the times and methods of their replies; none is lost.
#[derive(Debug)]
pub(super) struct LastReply {
    at: AtomicU64,
    /// Hash of the method.
    kind: AtomicU64,
    latency: AtomicU64,
    /// Replies that it covers and that were not recorded: their number in the upper 16 bits, and
    /// below it the sum of their latencies in nanoseconds.
    covered: AtomicU64,
}

impl LastReply {
    pub(super) const fn none() -> Self {
        Self {
            at: AtomicU64::new(u64::MAX),
            kind: AtomicU64::new(0),
            latency: AtomicU64::new(0),
            covered: AtomicU64::new(0),
        }
    }

    /// Adds a reply, if one of the same method and time that took as long or longer was recorded,
    /// and there is room. `false` if it is to be recorded in full.
    #[inline]
    pub(super) fn cover(&self, now: Time, kind: u64, latency: Duration) -> bool {
        let nanos = nanos(latency);
        let is_covered = self.at.load(Relaxed) == now.as_nanos()
            && self.kind.load(Relaxed) == kind
            && nanos <= self.latency.load(Relaxed).min(COVERED_NANOS_MAX);
        if is_covered && self.covered.load(Relaxed) < COVERED_MAX {
            self.covered.fetch_add(COVERED | nanos, Relaxed);
            return true;
        }
        false
    }

    /// Whether there are replies that were not recorded.
    #[inline]
    pub(super) fn has_covered(&self) -> bool {
        self.covered.load(Relaxed) != 0
    }

    /// Takes the replies that were not recorded, and the hash of their method; `None` if there are
    /// none.
    pub(super) fn take_covered(&self) -> Option<(u64, SuccessBatch)> {
        // Read before, as what comes next may be set when they are taken.
        let (at, kind) = (self.at.load(Relaxed), self.kind.load(Relaxed));
        let covered = self.covered.swap(0, Relaxed);
        let mut batch = SuccessBatch::new().with_now(Time::from_nanos(at));
        let total = Duration::from_nanos(covered & (COVERED - 1));
        batch.add_all((covered / COVERED) as u32, total);
        (covered != 0).then_some((kind, batch))
    }

    /// Makes the next reply be recorded in full, whatever it is.
    pub(super) fn cover_no_more(&self) {
        self.latency.store(0, Relaxed);
    }

    pub(super) fn set(&self, now: Time, kind: u64, latency: Duration) {
        self.latency.store(nanos(latency), Relaxed);
        self.kind.store(kind, Relaxed);
        self.at.store(now.as_nanos(), Relaxed);
    }
}

/// In a `u64`, since a comparison of these is one instruction.
#[inline]
fn nanos(latency: Duration) -> u64 {
    u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX)
}

/// One covered reply.
const COVERED: u64 = 1 << 48;
/// Longest latency of a covered reply.
const COVERED_NANOS_MAX: u64 = (1 << 32) - 1;
/// Covered replies from which on the next one is recorded in full. As many threads may have looked
/// before, and add one more each, without a carry of the number or of the sum.
const COVERED_MAX: u64 = COVERED << 15;

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_reply_is_covered_by_a_slower_one_of_the_same_method_and_time() {
        let last = LastReply::none();
        let at = Time::from_nanos(7);
        assert!(!last.cover(at, 1, MS));
        last.set(at, 1, 5 * MS);
        for (covered, now, kind, latency) in [
            (true, at, 1, 5 * MS),
            (true, at, 1, MS),
            (false, at, 1, 6 * MS),
            (false, at, 2, 5 * MS),
            (false, Time::from_nanos(8), 1, 5 * MS),
        ] {
            assert_eq!(
                last.cover(now, kind, latency),
                covered,
                "{now:?} {kind} {latency:?}"
            );
        }
        let (kind, batch) = last.take_covered().expect("two were covered");
        assert_eq!((kind, batch.count(), batch.now()), (1, 2, Some(at)));
        assert_eq!(batch.mean_latency(), 3 * MS);
        assert_eq!(last.take_covered(), None);
    }

    #[test]
    fn there_is_a_limit_to_what_is_covered() {
        let (last, at) = (LastReply::none(), Time::from_nanos(7));
        last.set(at, 1, 10_000 * MS);
        assert!(!last.cover(at, 1, 5_000 * MS), "too long to be added");
        let longest = Duration::from_nanos(COVERED_NANOS_MAX);
        let covered = (0..).take_while(|_| last.cover(at, 1, longest)).count();
        let (_, batch) = last.take_covered().expect("many");
        assert_eq!(batch.count(), covered as u32);
        assert_eq!(batch.mean_latency(), longest);
    }
}
