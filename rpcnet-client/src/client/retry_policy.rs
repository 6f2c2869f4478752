//! When a call is tried again, and how soon.

use std::{
    hash::{BuildHasher, RandomState},
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use rpcnet_balance::{RetryBudget, Time};
use rpcnet_transport::{Code, Processed, RpcError};
use tokio::time::Instant;

/// What to do about a failed attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RetryDecision {
    /// The error is the call's outcome.
    Stop,
    /// Another worker may do it, but this one will not do it soon.
    OtherWorker,
    /// Another worker may do it, and this one after a pause.
    AnyWorker,
}

/// Goes by what is certain: a request that no handler has seen may go anywhere; one that a handler may have seen only if
/// repeating it does no harm.
pub(super) fn retry_decision(error: &RpcError, repeatable: bool) -> RetryDecision {
    // That of the call: no further attempt has time. The deadline of an attempt is another failure.
    if error.code() == Code::DeadlineExceeded {
        return RetryDecision::Stop;
    }
    if error.is_retryable() {
        return match error.code() {
            // A rollout: other workers may be of the newer version already.
            Code::Unimplemented => RetryDecision::OtherWorker,
            _ => RetryDecision::AnyWorker,
        };
    }
    if is_unreadable(error) {
        return RetryDecision::OtherWorker;
    }
    let again = error.is_retryable_if_idempotent()
        || match error.code() {
            // Nobody here gave it up: a server that stops cut it. Or its handler panicked: that is no answer.
            Code::Cancelled | Code::Internal => error.processed() != Processed::Yes,
            _ => false,
        };
    if repeatable && again && !error.forbids_retry() {
        RetryDecision::AnyWorker
    } else {
        RetryDecision::Stop
    }
}

/// Whether the worker has the method and could not read the request, which another version of it may.
pub(super) fn is_unreadable(error: &RpcError) -> bool {
    error.code() == Code::InvalidRequest
        && error.processed() == Processed::No
        && !error.forbids_retry()
}

/// What an attempt after a failed one means to the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RetryKind {
    /// Nobody has done anything for the failed one, so nothing is done twice.
    Transparent,
    /// There is too much to do already.
    Overloaded,
    /// It may be done twice.
    MaybeProcessed,
    /// Nothing was done, and it is not known whether the worker is to blame or the request.
    Unreadable,
}

impl RetryKind {
    /// Of an attempt after one that ended like this.
    pub(super) fn after(error: &RpcError) -> Self {
        match (error.processed(), error.code()) {
            (Processed::No, Code::Overloaded) => Self::Overloaded,
            (Processed::No, Code::InvalidRequest) => Self::Unreadable,
            (Processed::No, _) => Self::Transparent,
            _ => Self::MaybeProcessed,
        }
    }

    /// Whether it takes out of the budget: it adds to the load that may be the reason for the failure, or may fail everywhere.
    /// One after a worker that does not know the method takes nothing: there are few, since calls pass it over then.
    pub(super) fn uses_budget(self) -> bool {
        self != Self::Transparent
    }
}

/// A budget with a clock, for all clients that share it.
#[derive(Debug)]
pub(super) struct SharedRetryBudget {
    tokens: RetryBudget,
    started_at: Instant,
}

impl SharedRetryBudget {
    pub(super) fn new(tokens: RetryBudget) -> Self {
        Self {
            tokens,
            started_at: Instant::now(),
        }
    }

    pub(super) fn deposit(&self) {
        self.tokens.deposit();
    }

    pub(super) fn withdraw(&self) -> bool {
        self.tokens.withdraw(self.now())
    }

    /// Whether there is an extra attempt in it.
    pub(super) fn has_token(&self) -> bool {
        self.tokens.level(self.now()) >= 1.0
    }

    fn now(&self) -> Time {
        Time::from(self.started_at.elapsed())
    }
}

/// Random numbers for pauses: any will do that differ between callers.
#[derive(Debug)]
pub(super) struct Jitter(AtomicU64);

impl Jitter {
    pub(super) fn new() -> Self {
        Self::seeded(random())
    }

    pub(super) const fn seeded(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }

    /// A random part, any part, of `initial` doubled `times` times, at most `max`: those who failed at the same moment come back
    /// as spread out as can be.
    pub(super) fn backoff(&self, (initial, max): (Duration, Duration), times: u32) -> Duration {
        let factor = 1_u32.checked_shl(times).unwrap_or(u32::MAX);
        let full = initial.saturating_mul(factor).min(max);
        full.mul_f64(self.fraction())
    }

    /// Uniform in 0..1.
    fn fraction(&self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// SplitMix64, whose counter needs no lock.
    fn next(&self) -> u64 {
        let mut z = self
            .0
            .fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed)
            .wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// Idempotency keys that nobody else makes.
#[derive(Debug)]
pub(super) struct IdempotencyKeys {
    /// Tells this client from all others.
    client: u64,
    /// All different: the sequence goes through every number before it repeats one.
    calls: Jitter,
}

impl IdempotencyKeys {
    pub(super) fn new() -> Self {
        Self {
            client: random(),
            calls: Jitter::new(),
        }
    }

    pub(super) fn next(&self) -> u128 {
        u128::from(self.client) << 64 | u128::from(self.calls.next())
    }
}

/// From the system's random numbers, of which the standard library makes its keys for hashing.
fn random() -> u64 {
    RandomState::new().hash_one(0_u64)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn only_what_cannot_do_harm_is_tried_again() {
        use RetryDecision::{AnyWorker, OtherWorker, Stop};
        // Code and fate of the request; then what follows, for an ordinary and for a repeatable call.
        let table = [
            (Code::Unavailable, Processed::No, AnyWorker, AnyWorker),
            (Code::Draining, Processed::No, AnyWorker, AnyWorker),
            (Code::Overloaded, Processed::No, AnyWorker, AnyWorker),
            (Code::Unimplemented, Processed::No, OtherWorker, OtherWorker),
            (Code::Unavailable, Processed::Maybe, Stop, AnyWorker),
            (Code::Cancelled, Processed::Maybe, Stop, AnyWorker),
            (Code::Cancelled, Processed::Yes, Stop, Stop),
            // A handler that panicked, and one that said so.
            (Code::Internal, Processed::Maybe, Stop, AnyWorker),
            (Code::Internal, Processed::Yes, Stop, Stop),
            (Code::App, Processed::Yes, Stop, Stop),
            (
                Code::InvalidRequest,
                Processed::No,
                OtherWorker,
                OtherWorker,
            ),
            (Code::InvalidRequest, Processed::Yes, Stop, Stop),
            (Code::DeadlineExceeded, Processed::Maybe, Stop, Stop),
        ];
        for (code, processed, ordinary, repeatable) in table {
            let error = RpcError::new(code, processed, "");
            assert_eq!(retry_decision(&error, false), ordinary, "{error:?}");
            assert_eq!(
                retry_decision(&error, true),
                repeatable,
                "{error:?}, repeatable"
            );
            // Nothing is, if the server says so.
            let error = error.with_retry_after(Duration::MAX);
            assert!(error.forbids_retry());
            assert_eq!(retry_decision(&error, true), Stop, "{error:?}");
        }
    }

    #[test]
    fn what_adds_to_the_load_costs() {
        let table = [
            (Code::Unavailable, Processed::No, RetryKind::Transparent),
            (Code::Draining, Processed::No, RetryKind::Transparent),
            (Code::Unimplemented, Processed::No, RetryKind::Transparent),
            (Code::InvalidRequest, Processed::No, RetryKind::Unreadable),
            (Code::Overloaded, Processed::No, RetryKind::Overloaded),
            (
                Code::Unavailable,
                Processed::Maybe,
                RetryKind::MaybeProcessed,
            ),
            (
                Code::DeadlineExceeded,
                Processed::Maybe,
                RetryKind::MaybeProcessed,
            ),
        ];
        for (code, processed, kind) in table {
            let found = RetryKind::after(&RpcError::new(code, processed, ""));
            assert_eq!(found, kind, "{code}");
            assert_eq!(found.uses_budget(), kind != RetryKind::Transparent);
        }
    }

    #[test]
    fn pauses_double_up_to_their_maximum_and_differ() {
        let jitter = Jitter::seeded(7);
        let range = (Duration::from_millis(10), Duration::from_millis(1_000));
        for (times, full) in [(0, 10), (1, 20), (6, 640), (7, 1_000), (99, 1_000)] {
            let full = Duration::from_millis(full);
            let mut sum = Duration::ZERO;
            for _ in 0..100 {
                let pause = jitter.backoff(range, times);
                assert!(pause <= full, "{pause:?} of {full:?}");
                sum += pause;
            }
            // Any part is as likely as any other.
            let mean = sum / 100;
            assert!(
                mean > full * 35 / 100 && mean < full * 65 / 100,
                "{mean:?} of {full:?}"
            );
        }
        assert_ne!(jitter.backoff(range, 9), jitter.backoff(range, 9));
        // And of one seed they are the same.
        let [one, other] = [Jitter::seeded(1), Jitter::seeded(1)];
        assert_eq!(one.backoff(range, 9), other.backoff(range, 9));
    }

    #[test]
    fn no_key_comes_twice() {
        let [one, other] = [IdempotencyKeys::new(), IdempotencyKeys::new()];
        let keys = (0..1_000).flat_map(|_| [one.next(), other.next()]);
        assert_eq!(keys.collect::<HashSet<_>>().len(), 2_000);
    }
}
