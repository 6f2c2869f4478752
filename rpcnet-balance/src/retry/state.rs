//! Retry state: the attempts of one call, excluded endpoints, backoff.

use std::time::Duration;

use super::{RetryBackoff, RetryKind, StopReason};
use crate::Time;

/// The attempts of one call: how many were started, which endpoints the next one must avoid, and
/// when these may be tried again.
///
/// Without a clock: the caller says what time it is, and waits as long as it is told.
#[derive(Debug, Default)]
pub struct RetryState {
    started: usize,
    excluded: Vec<u64>,
    /// From when on each excluded endpoint may be tried again; `None` if it will not serve soon.
    retry_at: Vec<Option<Time>>,
    planned: Option<RetryKind>,
    backoffs: usize,
    backed_off: Duration,
}

impl RetryState {
    /// No attempt was started.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            started: 0,
            excluded: Vec::new(),
            retry_at: Vec::new(),
            planned: None,
            backoffs: 0,
            backed_off: Duration::ZERO,
        }
    }

    /// Counts an attempt that starts now, and returns its number, from 0.
    pub fn start_attempt(&mut self) -> usize {
        self.started += 1;
        self.started - 1
    }

    /// The number of attempts that were started.
    #[must_use]
    pub const fn started(&self) -> usize {
        self.started
    }

    /// The ids of endpoints that were tried and must not be picked again yet.
    #[must_use]
    pub fn excluded(&self) -> &[u64] {
        &self.excluded
    }

    /// Excludes an endpoint that was tried: until it may be tried again, or for the whole call.
    pub fn exclude(&mut self, endpoint: u64, retry_at: Option<Time>) {
        self.excluded.push(endpoint);
        self.retry_at.push(retry_at);
    }

    /// Plans a retry after a failed attempt. Its token is taken out of the budget when it starts,
    /// which it may never do, for want of time or of an endpoint; here it is only looked for one.
    ///
    /// # Errors
    ///
    /// [`StopReason`] if there is no retry.
    pub fn plan_retry(
        &mut self,
        kind: RetryKind,
        attempts_max: usize,
        has_budget: impl FnOnce() -> bool,
    ) -> Result<(), StopReason> {
        if self.started >= attempts_max {
            return Err(StopReason::AttemptLimit);
        }
        if kind.uses_budget() && !has_budget() {
            return Err(StopReason::BudgetExhausted);
        }
        self.planned = Some(kind);
        Ok(())
    }

    /// The retry that starts now, if one was planned: its kind, and how long the call backed off
    /// before it.
    pub fn take_planned(&mut self) -> Option<(RetryKind, Duration)> {
        let kind = self.planned.take()?;
        Some((kind, std::mem::take(&mut self.backed_off)))
    }

    /// Backs off when every endpoint was tried: how long to wait. The endpoints that may be tried
    /// again by then are no longer excluded. `may_retry_any` says that no endpoint is to blame for
    /// the last failure.
    ///
    /// # Errors
    ///
    /// [`StopReason`] if no endpoint will serve the call soon, if the call has backed off as often
    /// as it may have attempts, or if the deadline would be exceeded.
    pub fn back_off(
        &mut self,
        now: Time,
        deadline: Option<Time>,
        attempts_max: usize,
        may_retry_any: bool,
        backoff: &RetryBackoff,
    ) -> Result<Duration, StopReason> {
        let may_serve = self.retry_at.iter().any(Option::is_some) || may_retry_any;
        if !may_serve || self.backoffs >= attempts_max {
            return Err(StopReason::NoEndpointLeft);
        }
        let backoffs_before = u32::try_from(self.backoffs).unwrap_or(u32::MAX);
        self.backoffs += 1;
        let first = self.retry_at.iter().flatten().min().copied();
        let end = (now + backoff.delay(backoffs_before)).max(first.unwrap_or(Time::ZERO));
        if end == NEVER || deadline.is_some_and(|deadline| deadline <= end) {
            return Err(StopReason::Deadline);
        }
        let wait = end.since(now);
        self.backed_off += wait;
        self.readmit(end);
        Ok(wait)
    }

    /// No longer excludes the endpoints that may be tried again by then.
    fn readmit(&mut self, now: Time) {
        let mut retry_at = self.retry_at.iter();
        let is_due = |at: &Option<Time>| at.is_some_and(|at| at <= now);
        self.excluded
            .retain(|_| !retry_at.next().is_some_and(is_due));
        self.retry_at.retain(|at| !is_due(at));
    }
}

/// The last moment that there is, which an overflow ends at.
const NEVER: Time = Time::from_nanos(u64::MAX);

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Time {
        Time::ZERO + Duration::from_millis(ms)
    }

    fn backoff() -> RetryBackoff {
        RetryBackoff::seeded(7, Duration::from_millis(10), Duration::from_secs(1))
    }

    #[test]
    fn a_retry_needs_an_attempt_and_budget() {
        use RetryKind::{Overloaded, Transparent};
        use StopReason::{AttemptLimit, BudgetExhausted};
        let table = [
            (Overloaded, 1, true, Err(AttemptLimit)),
            (Overloaded, 2, false, Err(BudgetExhausted)),
            (Transparent, 2, false, Ok(())),
            (Overloaded, 2, true, Ok(())),
        ];
        for (kind, attempts_max, has_budget, planned) in table {
            let mut state = RetryState::new();
            assert_eq!(state.start_attempt(), 0);
            let found = state.plan_retry(kind, attempts_max, || has_budget);
            assert_eq!(found, planned, "{kind:?} {attempts_max}");
            let taken = state.take_planned();
            assert_eq!(taken, planned.ok().map(|()| (kind, Duration::ZERO)));
        }
    }

    #[test]
    fn an_endpoint_is_excluded_until_it_may_be_tried_again() {
        let mut state = RetryState::new();
        state.exclude(1, Some(at(100)));
        state.exclude(2, None);
        state.exclude(3, Some(at(70_000)));
        let wait = state.back_off(at(0), None, 5, false, &backoff());
        assert_eq!(wait, Ok(Duration::from_millis(100)));
        assert_eq!(state.excluded(), [2, 3]);
        let kind = RetryKind::Overloaded;
        state.plan_retry(kind, 5, || true).unwrap();
        assert_eq!(
            state.take_planned(),
            Some((kind, Duration::from_millis(100)))
        );
        assert_eq!(state.take_planned(), None);
        // What was waited for before does not count again.
        let wait = Duration::from_millis(69_900);
        let waited = state.back_off(at(100), None, 5, false, &backoff());
        assert_eq!((waited, state.excluded()), (Ok(wait), &[2][..]));
        state.plan_retry(kind, 5, || true).unwrap();
        assert_eq!(state.take_planned(), Some((kind, wait)));
    }

    #[test]
    fn a_call_backs_off_only_if_an_endpoint_may_serve_it_in_time() {
        let mut state = RetryState::new();
        state.exclude(1, None);
        let none_left = Err(StopReason::NoEndpointLeft);
        assert_eq!(state.back_off(at(0), None, 5, false, &backoff()), none_left);
        assert!(state.back_off(at(0), None, 1, true, &backoff()).is_ok());
        assert_eq!(state.back_off(at(0), None, 1, true, &backoff()), none_left);

        let late = Err(StopReason::Deadline);
        let mut state = RetryState::new();
        state.exclude(1, Some(at(50)));
        let deadline = Some(at(50));
        assert_eq!(state.back_off(at(0), deadline, 5, false, &backoff()), late);
        let mut state = RetryState::new();
        state.exclude(1, Some(NEVER));
        assert_eq!(state.back_off(at(0), None, 5, false, &backoff()), late);
    }
}
