//! Last reply of a worker that was recorded: what later ones of the same moment are compared with.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use rpcnet_balance::Time;

/// Last reply that was recorded in full. Threads that record at once may mix up their replies: then
/// one is recorded more or less, among many.
#[derive(Debug)]
pub(super) struct LastReply {
    at: AtomicU64,
    /// Hash of the method.
    kind: AtomicU64,
    latency: AtomicU64,
}

impl LastReply {
    pub(super) const fn none() -> Self {
        Self {
            at: AtomicU64::new(u64::MAX),
            kind: AtomicU64::new(0),
            latency: AtomicU64::new(0),
        }
    }

    /// Whether a reply of the same method and time that took as long or longer was recorded.
    #[inline]
    pub(super) fn covers(&self, now: Time, kind: u64, latency: Duration) -> bool {
        self.at.load(Relaxed) == now.as_nanos()
            && self.kind.load(Relaxed) == kind
            && nanos(latency) <= self.latency.load(Relaxed)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_is_covered_by_a_slower_one_of_the_same_method_and_time() {
        let (last, ms) = (LastReply::none(), Duration::from_millis);
        let at = Time::from_nanos(7);
        assert!(!last.covers(at, 1, ms(1)));
        last.set(at, 1, ms(5));
        for (covered, now, kind, latency) in [
            (true, at, 1, ms(5)),
            (true, at, 1, ms(0)),
            (false, at, 1, ms(6)),
            (false, at, 2, ms(5)),
            (false, Time::from_nanos(8), 1, ms(5)),
        ] {
            assert_eq!(
                last.covers(now, kind, latency),
                covered,
                "{now:?} {kind} {latency:?}"
            );
        }
    }
}
