//! When a call is tried again, and how soon.

use std::{
    hash::{BuildHasher, RandomState},
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use rpcnet_transport::{Code, Processed, RpcError};

/// What to do about a failed attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The error is the call's outcome.
    GiveUp,
    /// Another worker may do it, but this one will not do it soon.
    OtherWorkerOnly,
    /// Another worker may do it, and this one after a pause.
    AnyWorker,
}

/// Goes by what is certain: a request that no handler has seen may go anywhere; one that a handler may have seen only if
/// running it twice does no harm.
pub(super) fn verdict(error: &RpcError, idempotent: bool) -> Verdict {
    if error.is_retryable() {
        return match error.code() {
            // A rollout: other workers may be of the newer version already.
            Code::Unimplemented => Verdict::OtherWorkerOnly,
            _ => Verdict::AnyWorker,
        };
    }
    let again = error.is_retryable_if_idempotent()
        // Nobody here gave it up: a server that stops cut it.
        || (error.code() == Code::Cancelled && error.processed() != Processed::Yes);
    if idempotent && again {
        Verdict::AnyWorker
    } else {
        Verdict::GiveUp
    }
}

/// Random numbers for pauses: any will do that differ between callers.
#[derive(Debug)]
pub(super) struct Jitter(AtomicU64);

impl Jitter {
    pub(super) fn new() -> Self {
        // The standard library's keys for hashing come from the system's random numbers.
        Self(AtomicU64::new(RandomState::new().hash_one(0_u64)))
    }

    /// `initial` doubled `times` times, at most `max`; of that a random part, half of it at least.
    pub(super) fn pause(&self, (initial, max): (Duration, Duration), times: u32) -> Duration {
        let doubled = 1_u32.checked_shl(times).unwrap_or(u32::MAX);
        let full = initial.saturating_mul(doubled).min(max);
        full.mul_f64(0.5 + self.fraction() / 2.0)
    }

    /// Uniform in 0..1: splitmix64, whose counter needs no lock.
    fn fraction(&self) -> f64 {
        let mut z = self
            .0
            .fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed)
            .wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_cannot_do_harm_is_tried_again() {
        use Verdict::{AnyWorker, GiveUp, OtherWorkerOnly};
        // Code and fate of the request; then what follows, for an ordinary and for an idempotent call.
        let table = [
            (Code::Unavailable, Processed::No, AnyWorker, AnyWorker),
            (Code::Draining, Processed::No, AnyWorker, AnyWorker),
            (Code::Overloaded, Processed::No, AnyWorker, AnyWorker),
            (
                Code::Unimplemented,
                Processed::No,
                OtherWorkerOnly,
                OtherWorkerOnly,
            ),
            (Code::Unavailable, Processed::Maybe, GiveUp, AnyWorker),
            (Code::Cancelled, Processed::Maybe, GiveUp, AnyWorker),
            (Code::Cancelled, Processed::Yes, GiveUp, GiveUp),
            (Code::Internal, Processed::Yes, GiveUp, GiveUp),
            (Code::App, Processed::Yes, GiveUp, GiveUp),
            (Code::InvalidRequest, Processed::No, GiveUp, GiveUp),
            (Code::DeadlineExceeded, Processed::Maybe, GiveUp, GiveUp),
        ];
        for (code, processed, ordinary, idempotent) in table {
            let error = RpcError::new(code, processed, "");
            assert_eq!(verdict(&error, false), ordinary, "{error:?}");
            assert_eq!(verdict(&error, true), idempotent, "{error:?}, idempotent");
        }
    }

    #[test]
    fn pauses_double_up_to_their_maximum_and_differ() {
        let jitter = Jitter::new();
        let range = (Duration::from_millis(10), Duration::from_millis(1_000));
        for (times, full) in [(0, 10), (1, 20), (6, 640), (7, 1_000), (99, 1_000)] {
            let full = Duration::from_millis(full);
            for _ in 0..100 {
                let pause = jitter.pause(range, times);
                assert!(pause >= full / 2 && pause <= full, "{pause:?} of {full:?}");
            }
        }
        assert_ne!(jitter.pause(range, 9), jitter.pause(range, 9));
    }
}
