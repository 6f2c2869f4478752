//! Retry budget: an upper bound on retries and hedges.

use std::sync::atomic::{
    AtomicU64,
    Ordering::{AcqRel, Acquire, Relaxed},
};

use crate::{Time, stripes::Stripes};

/// Retry budget: an upper bound on retries and hedges. Without one, servers that are slow or reject
/// calls get more calls the worse they are.
///
/// A token bucket. Each extra attempt takes one token, and is not made if there is none. A call
/// that succeeds adds a fraction of a token, default 0.1; time adds some more, default 10 a second,
/// so that a client with few calls can retry as well; tokens above the capacity, default 100, are
/// lost. The bucket starts full. Over any interval there are at most `ratio` · calls + `reserve` ·
/// seconds + `cap` extra attempts. (The ratio is that of gRPC's throttling, the reserve that of
/// Finagle's budget.)
///
/// Shared by threads, without a lock. A deposit is one addition to a counter that threads on other
/// cores rarely touch; all other work is done in [`withdraw`](Self::withdraw).
///
/// ```
/// use rpcnet_balance::{RetryBudget, Time};
///
/// let budget = RetryBudget::new().with_cap(1.0).with_reserve_per_s(0.0).with_ratio(0.25);
/// let now = Time::ZERO;
/// assert!(budget.withdraw(now), "it begins full");
/// assert!(!budget.withdraw(now), "and is empty now");
/// for _ in 0..4 {
///     budget.deposit();
/// }
/// assert!(budget.withdraw(now));
/// ```
#[derive(Debug)]
pub struct RetryBudget {
    /// Tokens for each success. This and all amounts below are in units of 1 / [`TOKEN`].
    tokens_per_success: u64,
    tokens_per_s: u64,
    cap: u64,
    level: AtomicU64,
    /// Successes that the level includes.
    credited_successes: AtomicU64,
    /// Time up to which the level includes the reserve.
    credited_until: AtomicU64,
    successes: Stripes<AtomicU64>,
}

impl RetryBudget {
    /// A full budget with the defaults.
    #[must_use]
    pub fn new() -> Self {
        let cap = nanotokens(100.0);
        Self {
            tokens_per_success: nanotokens(0.1),
            tokens_per_s: nanotokens(10.0),
            cap,
            level: AtomicU64::new(cap),
            credited_successes: AtomicU64::new(0),
            credited_until: AtomicU64::new(0),
            successes: Stripes::new(|| AtomicU64::new(0)),
        }
    }

    /// Sets the extra attempts for each success; default 0.1, from 0 to 1000. NaN counts as 0. A
    /// larger value gets more calls through while a few servers fail, and puts more load on all
    /// servers when most fail.
    #[must_use]
    pub fn with_ratio(mut self, ratio: f64) -> Self {
        self.tokens_per_success = nanotokens(ratio);
        self
    }

    /// Sets the extra attempts for each second, whether there are calls or not; default 10, from 0
    /// to 10^6. NaN counts as 0.
    #[must_use]
    pub fn with_reserve_per_s(mut self, attempts: f64) -> Self {
        self.tokens_per_s = nanotokens(attempts);
        self
    }

    /// Sets how many extra attempts can be saved up, and are available at the start; default 100,
    /// from 0 to 10^6. NaN counts as 0; below 1 no extra attempt is ever allowed. A larger value
    /// covers a longer burst of failures.
    #[must_use]
    pub fn with_cap(mut self, attempts: f64) -> Self {
        self.cap = nanotokens(attempts);
        self.level = AtomicU64::new(self.cap);
        self
    }

    /// Records the success of a call.
    #[inline]
    pub fn deposit(&self) {
        self.successes.local().fetch_add(1, Relaxed);
    }

    /// Takes one extra attempt out of the budget. `false` if the budget is exhausted: the attempt
    /// must not be made.
    ///
    /// Concurrent calls may get `false` for an attempt that has become possible at the same moment;
    /// they never get `true` for one too many.
    #[must_use]
    pub fn withdraw(&self, now: Time) -> bool {
        self.credit(now);
        let take = |level: u64| level.checked_sub(TOKEN);
        self.level.fetch_update(AcqRel, Acquire, take).is_ok()
    }

    /// The number of extra attempts that are available now.
    pub fn level(&self, now: Time) -> f64 {
        self.credit(now);
        self.level.load(Acquire) as f64 / TOKEN as f64
    }

    /// Adds the income since the last time to the level. Each success and each nanosecond is added
    /// by the one thread that has moved a mark past it. Nothing is withdrawn in between, so it does
    /// not matter that the capacity is applied only now.
    fn credit(&self, now: Time) {
        let successes = self.successes.iter().map(|count| count.load(Relaxed)).sum();
        let before = self.credited_successes.fetch_max(successes, AcqRel);
        let earned = successes
            .saturating_sub(before)
            .saturating_mul(self.tokens_per_success);
        let before = Time::from_nanos(self.credited_until.fetch_max(now.as_nanos(), AcqRel));
        let passed = now.since(before).as_nanos();
        let granted = passed.saturating_mul(self.tokens_per_s.into()) / u128::from(TOKEN);
        let granted = u64::try_from(granted).unwrap_or(u64::MAX);
        let income = earned.saturating_add(granted);
        if income > 0 {
            let add = |level: u64| Some(level.saturating_add(income).min(self.cap));
            let _ = self.level.fetch_update(AcqRel, Acquire, add);
        }
    }
}

impl Default for RetryBudget {
    fn default() -> Self {
        Self::new()
    }
}

fn nanotokens(tokens: f64) -> u64 {
    // The cast turns NaN into 0.
    (tokens.clamp(0.0, 1e6) * TOKEN as f64) as u64
}

/// Units of one extra attempt. Fine enough that nothing is lost to rounding from nanosecond to
/// nanosecond, with whole tokens a second.
const TOKEN: u64 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const AT: Time = Time::from_nanos(5_000_000_000);

    fn withdraw_all(budget: &RetryBudget, now: Time) -> usize {
        (0..10_000).take_while(|_| budget.withdraw(now)).count()
    }

    fn without_reserve() -> RetryBudget {
        RetryBudget::new().with_reserve_per_s(0.0)
    }

    #[test]
    fn the_budget_starts_full_and_does_not_exceed_its_capacity() {
        let budget = RetryBudget::new().with_cap(7.0);
        assert_eq!(budget.level(AT + Duration::from_secs(1_000)), 7.0);
        assert_eq!(withdraw_all(&budget, AT + Duration::from_secs(1_000)), 7);
    }

    #[test]
    fn ten_successes_add_one_attempt() {
        let budget = without_reserve().with_cap(3.0);
        assert_eq!(withdraw_all(&budget, AT), 3);
        for _ in 0..9 {
            budget.deposit();
        }
        assert_eq!(withdraw_all(&budget, AT), 0);
        budget.deposit();
        assert_eq!(withdraw_all(&budget, AT), 1);
        for _ in 0..1_000 {
            budget.deposit();
        }
        assert_eq!(withdraw_all(&budget, AT), 3, "the rest is lost");
    }

    #[test]
    fn the_reserve_adds_up_in_small_steps() {
        let budget = RetryBudget::new().with_cap(1.0).with_reserve_per_s(2.0);
        assert_eq!(withdraw_all(&budget, AT), 1);
        // Half a second in steps of 100 ns.
        let end = AT + Duration::from_millis(500);
        let mut now = AT;
        while now + Duration::from_nanos(99_991) < end {
            now = now + Duration::from_nanos(99_991);
            assert!(!budget.withdraw(now));
        }
        assert!(budget.withdraw(end));
        // A clock that goes back adds nothing.
        assert!(!budget.withdraw(AT));
        assert!(!budget.withdraw(end));
    }

    #[test]
    fn invalid_settings_count_as_zero() {
        for nonsense in [f64::NAN, -1.0, f64::NEG_INFINITY, 0.0] {
            let budget = RetryBudget::new().with_cap(nonsense);
            assert_eq!(withdraw_all(&budget, AT), 0, "{nonsense}");
            let budget = RetryBudget::new()
                .with_cap(1.0)
                .with_ratio(nonsense)
                .with_reserve_per_s(nonsense);
            assert_eq!(withdraw_all(&budget, AT), 1);
            budget.deposit();
            assert_eq!(
                withdraw_all(&budget, AT + Duration::from_secs(9)),
                0,
                "{nonsense}"
            );
        }
        let endless = RetryBudget::new().with_cap(f64::INFINITY);
        assert_eq!(endless.level(Time::from(Duration::MAX)), 1e6);
    }

    #[test]
    fn concurrent_withdrawals_do_not_exceed_the_budget() {
        let budget = without_reserve().with_cap(50.0);
        let won: usize = std::thread::scope(|scope| {
            let worker = || {
                let attempt = |_| {
                    budget.deposit();
                    usize::from(budget.withdraw(AT))
                };
                (0..1_000).map(attempt).sum::<usize>()
            };
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(worker)).collect();
            threads.into_iter().map(|t| t.join().unwrap()).sum()
        });
        let won = won + withdraw_all(&budget, AT);
        assert!(won <= 50 + 400, "{won}");
        // The level was over the capacity only briefly, so little was lost.
        assert!(won >= 400, "{won}");
    }
}
