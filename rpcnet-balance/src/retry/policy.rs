//! Retry policy of a method: timeouts, limit of attempts, idempotency, hedging.

use std::time::Duration;

use crate::Hedging;

/// Retry policy of a method (`MethodConfig` of gRPC's service config): timeouts, limit of attempts,
/// idempotency, hedging. What it does not say is said by the policy that it is
/// [combined with](Self::or), or else has the default.
///
/// ```
/// use std::time::Duration;
/// use rpcnet_balance::retry::MethodPolicy;
///
/// let all = MethodPolicy::new().with_attempt_timeout(Duration::from_secs(2));
/// let lookup = MethodPolicy::new().with_idempotent(true).with_attempts_max(3).or(&all);
/// let call = lookup.resolve(None, false);
/// assert!(call.is_repeatable && call.attempts_max == 3);
/// assert_eq!(call.attempt_timeout, Some(Duration::from_secs(2)));
/// // A call that may not be repeated has no timeout of its attempts.
/// assert_eq!(all.resolve(None, false).attempt_timeout, None);
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct MethodPolicy {
    is_idempotent: bool,
    generates_idempotency_keys: bool,
    timeout: Option<Duration>,
    attempts_max: Option<usize>,
    attempt_timeout: Option<Duration>,
    /// `Some(None)` for no hedging, whatever other policies say.
    hedging: Option<Option<Hedging>>,
    application_errors_fail: Option<bool>,
}

/// Retry policy of one call: what the policies that apply to it come to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CallPolicy {
    /// Whether running the call twice does no harm, anywhere.
    pub is_idempotent: bool,
    /// Whether an attempt that may have been processed may be followed by another one.
    pub is_repeatable: bool,
    /// Limit of attempts, the first one and hedges included.
    pub attempts_max: usize,
    /// Timeout of each attempt; none if the call is not repeatable.
    pub attempt_timeout: Option<Duration>,
    /// Hedging; none if the call is not repeatable.
    pub hedging: Option<Hedging>,
    /// Whether an error that a handler answered with is a failure of its endpoint.
    pub application_errors_fail: bool,
}

impl MethodPolicy {
    /// A policy that says nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            is_idempotent: false,
            generates_idempotency_keys: false,
            timeout: None,
            attempts_max: None,
            attempt_timeout: None,
            hedging: None,
            application_errors_fail: None,
        }
    }

    /// Whether the method is idempotent: running it twice does no harm. Default `false`, unless it
    /// [hedges](Self::with_hedging). A call is retried also when it is not known whether it ran.
    #[must_use]
    pub fn with_idempotent(mut self, idempotent: bool) -> Self {
        self.is_idempotent = idempotent;
        self
    }

    /// Whether each call without an idempotency key gets one of its own; default `false`. It is
    /// then retried as if it were idempotent, so only for methods whose servers have an idempotency
    /// cache. The key is the same for all attempts.
    #[must_use]
    pub fn with_generated_keys(mut self, generated: bool) -> Self {
        self.generates_idempotency_keys = generated;
        self
    }

    /// Timeout of a call with all its attempts and backoff; of streams to their end.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Limit of attempts of a call, the first one and hedges included; default 5, at least 1. More
    /// attempts survive more failures at a time and put more load on servers that are in trouble.
    #[must_use]
    pub fn with_attempts_max(mut self, attempts: usize) -> Self {
        self.attempts_max = Some(attempts.max(1));
        self
    }

    /// Timeout of each attempt of a call that may be repeated: one that is idempotent or has an
    /// idempotency key. Default: as long as the call has. A shorter one leaves time for another
    /// endpoint when one hangs; one below what calls take under load adds to the load. Other calls
    /// and streams have no timeout of their attempts.
    #[must_use]
    pub fn with_attempt_timeout(mut self, timeout: Duration) -> Self {
        self.attempt_timeout = Some(timeout);
        self
    }

    /// Whether an error that the handler answered with counts as a failure of the endpoint. Default
    /// `false`: it has served the call, however the call ended, and how long that took counts. With
    /// `true`, an endpoint that answers with errors is [ejected](crate::health) as one that breaks
    /// down, and is not preferred for how quickly it does so: for methods whose errors mean that
    /// the server is broken. The call is not tried again either way.
    ///
    /// A rejection before the handler runs counts neither as served nor as a failure. A handler
    /// that panicked, or says that its server is broken, is a failure in any case.
    #[must_use]
    pub fn with_application_errors_as_failures(mut self, fail: bool) -> Self {
        self.application_errors_fail = Some(fail);
        self
    }

    /// Hedging: calls that take long are sent to another endpoint as well. The method counts as
    /// idempotent, since it runs twice now and then.
    #[must_use]
    pub fn with_hedging(mut self, hedging: Hedging) -> Self {
        self.hedging = Some(Some(hedging));
        self
    }

    /// No hedging: a call goes to another endpoint only when one has failed. This is the default,
    /// unless another policy says otherwise.
    #[must_use]
    pub fn without_hedging(mut self) -> Self {
        self.hedging = Some(None);
        self
    }

    /// This policy, and another one for what this one does not say.
    #[must_use]
    #[inline]
    pub fn or(&self, other: &Self) -> Self {
        Self {
            is_idempotent: self.is_idempotent || other.is_idempotent,
            generates_idempotency_keys: self.generates_idempotency_keys
                || other.generates_idempotency_keys,
            timeout: self.timeout.or(other.timeout),
            attempts_max: self.attempts_max.or(other.attempts_max),
            attempt_timeout: self.attempt_timeout.or(other.attempt_timeout),
            hedging: self.hedging.or(other.hedging),
            application_errors_fail: (self.application_errors_fail)
                .or(other.application_errors_fail),
        }
    }

    /// The policy of one call. `idempotent` is what its caller says about it, if anything: a call
    /// that is said not to be idempotent is not repeated, not even with an idempotency key.
    #[must_use]
    #[inline]
    pub fn resolve(&self, idempotent: Option<bool>, has_idempotency_key: bool) -> CallPolicy {
        let hedging = self.hedging();
        let is_idempotent = match idempotent {
            Some(idempotent) => idempotent,
            None => hedging.is_some() || self.is_idempotent,
        };
        let is_repeatable = is_idempotent || (has_idempotency_key && idempotent.is_none());
        CallPolicy {
            is_idempotent,
            is_repeatable,
            attempts_max: self.attempts_max.unwrap_or(ATTEMPTS_MAX),
            attempt_timeout: self.attempt_timeout.filter(|_| is_repeatable),
            hedging: hedging.filter(|_| is_repeatable),
            application_errors_fail: self.application_errors_fail.unwrap_or_default(),
        }
    }

    /// The timeout of a call with all its attempts, if one was set.
    #[must_use]
    #[inline]
    pub fn timeout(&self) -> Option<Duration> {
        self.timeout
    }

    /// The hedging of the method, if any.
    #[must_use]
    #[inline]
    pub fn hedging(&self) -> Option<Hedging> {
        self.hedging.flatten()
    }

    /// Whether each call without an idempotency key gets one.
    #[must_use]
    #[inline]
    pub fn generates_keys(&self) -> bool {
        self.generates_idempotency_keys
    }
}

/// Limit of attempts of a call if no policy sets one.
const ATTEMPTS_MAX: usize = 5;

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn what_a_policy_does_not_say_is_said_by_the_other() {
        let other = MethodPolicy::new()
            .with_timeout(ms(20))
            .with_attempts_max(0)
            .with_attempt_timeout(ms(2))
            .with_hedging(Hedging::after(ms(1)))
            .with_application_errors_as_failures(true);
        assert_eq!(MethodPolicy::new().or(&other), other);
        let own = MethodPolicy::new()
            .with_timeout(ms(10))
            .with_attempts_max(9)
            .with_attempt_timeout(ms(1))
            .without_hedging()
            .with_application_errors_as_failures(false);
        assert_eq!(own.or(&other), own);
        let call = other.resolve(None, false);
        assert_eq!((call.attempts_max, call.application_errors_fail), (1, true));
        let default = MethodPolicy::new().resolve(None, false);
        assert_eq!(
            (default.attempts_max, default.application_errors_fail),
            (5, false)
        );
    }

    #[test]
    fn a_call_is_repeatable_unless_its_caller_says_that_it_is_not_idempotent() {
        let plain = MethodPolicy::new();
        let idempotent = plain.with_idempotent(true);
        let hedged = plain.with_hedging(Hedging::after(ms(1)));
        // The policy, what the caller says, and a key; then whether the call is idempotent, and
        // whether it may be repeated.
        for (policy, said, has_key, is_idempotent, is_repeatable) in [
            (plain, None, false, false, false),
            (plain, None, true, false, true),
            (plain, Some(true), false, true, true),
            (plain, Some(false), true, false, false),
            (idempotent, None, false, true, true),
            (idempotent, Some(false), false, false, false),
            (hedged, None, false, true, true),
            (hedged, Some(false), false, false, false),
        ] {
            let policy = policy.with_attempt_timeout(ms(1));
            let call = policy.resolve(said, has_key);
            assert_eq!(call.is_idempotent, is_idempotent, "{policy:?} {said:?}");
            assert_eq!(call.is_repeatable, is_repeatable, "{policy:?} {said:?}");
            assert_eq!(call.attempt_timeout.is_some(), is_repeatable);
            let may_hedge = is_repeatable && policy.hedging().is_some();
            assert_eq!(call.hedging.is_some(), may_hedge);
        }
    }
}
