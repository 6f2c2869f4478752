//! Tests of the state machine of a call: tables, and a property of all calls.

use proptest::prelude::*;

use super::*;
use crate::BackoffRange;

fn at(ms: u64) -> Time {
    Time::ZERO + Duration::from_millis(ms)
}

fn backoff() -> RetryBackoff {
    RetryBackoff::seeded(7, BackoffRange::default())
}

fn limits(attempts_max: usize, backoff: &RetryBackoff) -> AttemptLimits<'_> {
    AttemptLimits::new(attempts_max, backoff)
}

/// A failure that says nothing but this.
fn failure(decision: RetryDecision) -> Failure {
    Failure::new(decision)
}

/// An overloaded endpoint, which may be tried again after a while.
fn overloaded(retry_after_ms: u64) -> Failure {
    Failure {
        retry_after: Duration::from_millis(retry_after_ms),
        ..failure(RetryDecision::AnyEndpoint(RetryKind::Overloaded))
    }
}

const GONE: RetryDecision = RetryDecision::OtherEndpoint(RetryKind::Transparent);

impl CallState<'_> {
    /// Makes an attempt that fails.
    fn fail(&mut self, now: Time, endpoint: u64, failure: Failure) -> AttemptReason {
        let (_, reason) = self.begin(now, endpoint, |_| true).expect("an attempt");
        self.on_failure(now, endpoint, &failure, || true);
        reason
    }

    /// Finds no endpoint, and returns the end of the backoff.
    fn wait(&mut self, now: Time) -> Result<Time, StopReason> {
        self.on_no_endpoint(now);
        match self.step(now) {
            Step::Wait(until) => Ok(until.expect("an end")),
            Step::Begin(_) => Ok(now),
            Step::Stop(reason) => Err(reason),
        }
    }
}

#[test]
fn a_retry_needs_an_attempt_and_budget() {
    use RetryKind::{Overloaded, Transparent};
    let backoff = backoff();
    let retry = Step::Begin(Choice::Any);
    for (kind, attempts_max, has_budget, step) in [
        (Overloaded, 1, true, Step::Stop(StopReason::AttemptLimit)),
        (
            Overloaded,
            2,
            false,
            Step::Stop(StopReason::BudgetExhausted),
        ),
        (Transparent, 2, false, retry),
        (Overloaded, 2, true, retry),
    ] {
        let mut call = CallState::new(limits(attempts_max, &backoff));
        assert_eq!(call.step(at(0)), Step::Begin(Choice::Any));
        let first = call.begin(at(0), 1, |kind| kind == AdmissionKind::First);
        assert_eq!(first, Some((0, AttemptReason::First)));
        assert_eq!(call.step(at(0)), Step::Wait(None));
        let failed = failure(RetryDecision::AnyEndpoint(kind));
        call.on_failure(at(0), 1, &failed, || has_budget);
        assert_eq!(call.step(at(0)), step, "{kind:?} {attempts_max}");
    }
    // Others have taken the token meanwhile.
    let mut call = CallState::new(limits(2, &backoff));
    call.fail(at(0), 1, overloaded(0));
    let retry = AdmissionKind::Retry(Overloaded);
    assert_eq!(call.begin(at(0), 2, |kind| kind != retry), None);
    assert_eq!(call.step(at(0)), Step::Stop(StopReason::BudgetExhausted));
}

#[test]
fn an_endpoint_is_excluded_until_it_may_be_tried_again() {
    let backoff = backoff();
    let mut call = CallState::new(limits(9, &backoff));
    call.fail(at(0), 1, overloaded(100));
    call.fail(at(0), 2, failure(GONE));
    let at_once = AttemptReason::Retry {
        after: Duration::ZERO,
    };
    assert_eq!(call.fail(at(0), 3, overloaded(70_000)), at_once);
    assert_eq!(call.excluded(), [1, 2, 3]);
    assert_eq!(call.wait(at(0)), Ok(at(100)));
    assert_eq!(call.step(at(99)), Step::Wait(Some(at(100))));
    assert_eq!(call.step(at(100)), Step::Begin(Choice::Any));
    assert_eq!(call.excluded(), [2, 3]);
    // What was waited for before does not count again.
    for (after, excluded) in [(100, &[2, 3, 1][..]), (69_900, &[2, 1])] {
        let after = Duration::from_millis(after);
        let reason = call.fail(at(100), 1, overloaded(69_900));
        assert_eq!(reason, AttemptReason::Retry { after });
        assert_eq!(call.excluded(), excluded);
        assert_eq!(call.wait(at(100)), Ok(at(70_000)));
        assert_eq!(call.excluded(), [2]);
    }
}

#[test]
fn a_call_backs_off_only_if_an_endpoint_may_serve_it_in_time() {
    let backoff = backoff();
    let none_left = Err(StopReason::NoEndpointLeft);
    let unknown = Failure {
        keeps_endpoint: true,
        ..overloaded(0)
    };
    for (failure, deadline, expected) in [
        (failure(GONE), None, none_left),
        (overloaded(50), Some(at(50)), Err(StopReason::Deadline)),
        (overloaded(u64::MAX), None, Err(StopReason::Deadline)),
        (overloaded(50), Some(at(51)), Ok(at(50))),
    ] {
        let deadline = AttemptLimits {
            deadline,
            ..limits(5, &backoff)
        };
        let mut call = CallState::new(deadline);
        call.fail(at(0), 1, failure);
        assert_eq!(call.wait(at(0)), expected, "{failure:?}");
    }
    // As often as it may have attempts.
    let mut call = CallState::new(limits(2, &backoff));
    call.fail(at(0), 1, unknown);
    assert!(call.excluded().is_empty());
    assert!(call.wait(at(0)).is_ok() && call.wait(at(0)).is_ok());
    assert_eq!(call.wait(at(0)), none_left);
    // Without a timer, it does not wait.
    let mut call = CallState::new(limits(2, &backoff));
    call.fail(at(0), 1, overloaded(50));
    assert_eq!(call.wait(at(0)), Ok(at(50)));
    call.on_no_timer();
    assert_eq!(call.step(at(0)), Step::Begin(Choice::Any));
}

#[test]
fn no_call_waits_for_an_unreachable_endpoint_when_another_does_not_serve_it() {
    let backoff = backoff();
    let unreachable = Failure {
        is_unreachable: true,
        ..failure(RetryDecision::AnyEndpoint(RetryKind::Transparent))
    };
    let none_left = Err(StopReason::NoEndpointLeft);
    for (failures, expected) in [
        ([unreachable, failure(GONE)], none_left),
        ([failure(GONE), unreachable], none_left),
        // One that is overloaded may serve it soon.
        ([overloaded(50), failure(GONE)], Ok(at(50))),
    ] {
        let mut call = CallState::new(limits(9, &backoff));
        call.fail(at(0), 1, failures[0]);
        call.fail(at(0), 2, failures[1]);
        assert_eq!(call.wait(at(0)), expected, "{failures:?}");
    }
}

#[test]
fn an_endpoint_that_may_remember_is_tried_again_once() {
    let backoff = backoff();
    let mut call = CallState::new(limits(9, &backoff));
    let lost = Failure {
        prefers_endpoint: true,
        ..failure(RetryDecision::AnyEndpoint(RetryKind::MaybeProcessed))
    };
    call.fail(at(0), 1, lost);
    assert_eq!(call.step(at(0)), Step::Begin(Choice::Same));
    call.fail(at(0), 1, lost);
    assert_eq!(call.step(at(0)), Step::Begin(Choice::Any));
    // If it cannot be picked, another one is.
    let mut call = CallState::new(limits(9, &backoff));
    call.fail(at(0), 1, lost);
    call.on_no_endpoint(at(0));
    assert_eq!(call.step(at(0)), Step::Begin(Choice::Any));
    assert_eq!(call.excluded(), [1]);
}

#[test]
fn attempts_that_take_long_are_hedged() {
    let backoff = backoff();
    let hedging = Hedging::after(Duration::from_millis(20)).with_hedges_max(2);
    let hedged = |attempts_max| {
        let mut call = CallState::new(AttemptLimits {
            hedging: Some(hedging),
            ..limits(attempts_max, &backoff)
        });
        call.begin(at(0), 1, |_| true).expect("the first");
        assert_eq!(call.step(at(19)), Step::Wait(Some(at(20))));
        call
    };
    let hedge_is_due = |call: &CallState<'_>, now| {
        call.step(at(now)) == Step::Begin(Choice::Hedge)
            && call.step(at(now - 1)) != call.step(at(now))
    };
    let mut call = hedged(9);
    assert!(hedge_is_due(&call, 20));
    assert_eq!(call.excluded(), [1]);
    let hedge = call.begin(at(20), 2, |kind| kind == AdmissionKind::Hedge);
    assert_eq!(hedge, Some((1, AttemptReason::Hedge)));
    assert!(hedge_is_due(&call, 40));
    call.begin(at(40), 3, |_| true).expect("a hedge");
    assert_eq!(call.step(at(99)), Step::Wait(None), "two are the limit");
    // While others are in flight, a failure is not retried, and one that is final ends them all.
    call.on_failure(at(99), 2, &overloaded(0), || true);
    assert_eq!(call.step(at(99)), Step::Wait(None));
    let rejected = failure(RetryDecision::Stop(StopReason::NotRetryable));
    call.on_failure(at(99), 1, &rejected, || true);
    assert_eq!(call.step(at(99)), Step::Stop(StopReason::NotRetryable));

    // No hedge without an attempt, an endpoint, budget or a timer, nor when all are overloaded.
    let mut call = hedged(2);
    call.begin(at(20), 2, |_| true).expect("a hedge");
    assert_eq!(call.step(at(99)), Step::Wait(None));
    let mut call = hedged(9);
    call.on_no_endpoint(at(20));
    assert_eq!(call.step(at(99)), Step::Wait(None));
    let mut call = hedged(9);
    assert_eq!(call.begin(at(20), 2, |_| false), None);
    assert_eq!(call.step(at(99)), Step::Wait(None));
    let mut call = hedged(9);
    call.on_no_timer();
    assert_eq!(call.step(at(99)), Step::Wait(None));
    let mut call = hedged(9);
    call.begin(at(20), 2, |_| true).expect("a hedge");
    let overloaded = Failure {
        stops_hedging: true,
        ..overloaded(0)
    };
    call.on_failure(at(20), 2, &overloaded, || true);
    assert_eq!(call.step(at(99)), Step::Wait(None));
    // The next attempt is hedged as the first one was.
    call.on_failure(at(99), 1, &overloaded, || true);
    assert_eq!(call.step(at(99)), Step::Begin(Choice::Any));
    call.begin(at(100), 3, |_| true).expect("a retry");
    assert!(hedge_is_due(&call, 120));
}

#[test]
fn a_rejected_hedge_leaves_the_call_to_the_attempts_in_flight() {
    let backoff = backoff();
    let hedging = Hedging::after(Duration::from_millis(20)).with_hedges_max(2);
    let rejected = Failure {
        is_rejection: true,
        ..failure(RetryDecision::Stop(StopReason::DoNotRetry))
    };
    let mut call = CallState::new(AttemptLimits {
        hedging: Some(hedging),
        ..limits(9, &backoff)
    });
    call.begin(at(0), 1, |_| true).expect("the first");
    call.begin(at(20), 2, |_| true).expect("a hedge");
    call.on_failure(at(21), 2, &rejected, || true);
    assert_eq!(call.step(at(99)), Step::Wait(None), "no other hedge");
    // Nor a retry, when the other one has failed too.
    call.on_failure(at(99), 1, &overloaded(0), || true);
    assert_eq!(call.step(at(99)), Step::Stop(StopReason::DoNotRetry));
    // Alone it ends the call.
    let mut call = CallState::new(limits(9, &backoff));
    call.fail(at(0), 1, rejected);
    assert_eq!(call.step(at(0)), Step::Stop(StopReason::DoNotRetry));
}

#[test]
fn no_attempt_begins_after_the_deadline() {
    let backoff = backoff();
    let hedging = Hedging::after(Duration::from_millis(20)).with_hedges_max(2);
    let call = || {
        CallState::new(AttemptLimits {
            deadline: Some(at(50)),
            hedging: Some(hedging),
            ..limits(9, &backoff)
        })
    };
    let end = Step::Stop(StopReason::Deadline);
    // Neither when the failure comes at the deadline, nor when the caller comes back late.
    for (failed_at, asked_at) in [(50, 50), (49, 50)] {
        let mut call = call();
        call.fail(at(failed_at), 1, failure(GONE));
        assert_eq!(call.step(at(asked_at)), end);
        assert_eq!(call.begin(at(asked_at), 2, |_| panic!("a token")), None);
        assert_eq!(call.step(at(asked_at)), end);
    }
    // No token is looked for.
    let mut late = call();
    late.begin(at(0), 1, |_| true).expect("the first");
    late.on_failure(at(50), 1, &overloaded(0), || panic!("a token"));
    assert_eq!(late.step(at(50)), end);
    // Nor a hedge.
    let mut late = call();
    late.begin(at(30), 1, |_| true).expect("the first");
    assert_eq!(late.step(at(50)), Step::Wait(None));
    // A backoff whose timer is late.
    let mut late = call();
    late.fail(at(0), 1, overloaded(49));
    assert_eq!(late.wait(at(0)), Ok(at(49)));
    assert_eq!(late.step(at(50)), end);
}

#[test]
fn a_retry_after_several_failures_uses_budget_if_one_of_them_asks_for_it() {
    let backoff = backoff();
    let unclear = failure(RetryDecision::AnyEndpoint(RetryKind::MaybeProcessed));
    for failures in [[unclear, failure(GONE)], [failure(GONE), unclear]] {
        let mut call = CallState::new(AttemptLimits {
            hedging: Some(Hedging::after(Duration::from_millis(20))),
            ..limits(9, &backoff)
        });
        call.begin(at(0), 1, |_| true).expect("the first");
        call.begin(at(20), 2, |_| true).expect("a hedge");
        call.on_failure(at(30), 1, &failures[0], || panic!("one is in flight"));
        call.on_failure(at(30), 2, &failures[1], || true);
        let retry = AdmissionKind::Retry(RetryKind::MaybeProcessed);
        let begun = call.begin(at(30), 3, |kind| kind == retry);
        assert!(begun.is_some());
        // The next retry is judged by its own failure.
        call.on_failure(at(31), 3, &failure(GONE), || panic!("needs none"));
        assert_eq!(call.step(at(31)), Step::Begin(Choice::Any));
    }
}

#[test]
fn a_failure_without_an_attempt_changes_nothing() {
    let backoff = backoff();
    let mut call = CallState::new(limits(9, &backoff));
    call.on_failure(at(0), 1, &overloaded(0), || true);
    assert_eq!(call.step(at(0)), Step::Begin(Choice::Any));
    call.fail(
        at(0),
        1,
        failure(RetryDecision::Stop(StopReason::NotRetryable)),
    );
    call.on_failure(at(0), 1, &overloaded(0), || true);
    assert_eq!(call.step(at(0)), Step::Stop(StopReason::NotRetryable));
}

#[test]
fn an_endpoint_that_is_tried_again_is_excluded_once() {
    let backoff = backoff();
    let mut call = CallState::new(limits(9, &backoff));
    let lost = Failure {
        prefers_endpoint: true,
        ..overloaded(100)
    };
    call.fail(at(0), 1, lost);
    assert_eq!(call.step(at(0)), Step::Begin(Choice::Same));
    call.fail(at(0), 1, overloaded(200));
    assert_eq!(call.excluded(), [1]);
    assert_eq!(call.wait(at(0)), Ok(at(200)));
    assert!(call.excluded().is_empty());
}

/// What happens next to a call.
#[derive(Debug, Clone, Copy)]
enum Event {
    /// There is an endpoint, and budget or none.
    Picked(u64, bool),
    NoEndpoint,
    Failed(usize, Failure),
    Passed(u64),
}

fn event() -> impl Strategy<Value = Event> {
    use RetryKind::{MaybeProcessed, Overloaded, Transparent};
    let kind = || prop::sample::select(vec![Transparent, Overloaded, MaybeProcessed]);
    let decision = prop_oneof![
        1 => Just(RetryDecision::Stop(StopReason::NotRetryable)),
        9 => kind().prop_map(RetryDecision::OtherEndpoint),
        9 => kind().prop_map(RetryDecision::AnyEndpoint),
    ];
    let failure =
        (decision, 0_u64..100, any::<[bool; 5]>()).prop_map(|(decision, ms, flags)| Failure {
            decision,
            retry_after: Duration::from_millis(ms),
            keeps_endpoint: flags[0],
            prefers_endpoint: flags[1],
            stops_hedging: flags[2],
            is_rejection: flags[3],
            is_unreachable: flags[4],
        });
    prop_oneof![
        4 => (0_u64..9, prop::bool::weighted(0.9)).prop_map(|(id, budget)| Event::Picked(id, budget)),
        1 => Just(Event::NoEndpoint),
        3 => (any::<usize>(), failure).prop_map(|(which, failure)| Event::Failed(which, failure)),
        2 => (0_u64..50).prop_map(Event::Passed),
    ]
}

proptest! {
    #[test]
    fn a_call_keeps_its_limits_and_ends_once(
        attempts_max in 1_usize..6,
        hedges_max in 0_usize..4,
        deadline_ms in 1_u64..300,
        events in prop::collection::vec(event(), 0..200),
    ) {
        let backoff = backoff();
        let hedging = Hedging::after(Duration::from_millis(10)).with_hedges_max(hedges_max);
        let mut call = CallState::new(AttemptLimits {
            deadline: Some(at(deadline_ms)),
            hedging: Some(hedging),
            ..limits(attempts_max, &backoff)
        });
        let (mut now, mut in_flight) = (at(1), Vec::new());
        let (mut started, mut hedges) = (0, 0);
        for event in events {
            let step = call.step(now);
            match (event, step) {
                (Event::Picked(id, has_budget), Step::Begin(choice)) => {
                    if choice != Choice::Same && call.excluded().contains(&id) {
                        continue;
                    }
                    let admit = |kind: AdmissionKind| has_budget || !kind.uses_budget();
                    if let Some((number, reason)) = call.begin(now, id, admit) {
                        prop_assert_eq!(number, started);
                        prop_assert!(started == 0 || now < at(deadline_ms));
                        started += 1;
                        let is_hedge = reason == AttemptReason::Hedge;
                        hedges += usize::from(is_hedge);
                        // Only a hedge joins attempts in flight, each on another endpoint.
                        prop_assert_eq!(is_hedge, !in_flight.is_empty());
                        prop_assert!(!in_flight.contains(&id));
                        in_flight.push(id);
                    } else {
                        prop_assert!(!has_budget);
                    }
                }
                (Event::NoEndpoint, Step::Begin(_)) => call.on_no_endpoint(now),
                (Event::Failed(which, failure), _) if !in_flight.is_empty() => {
                    let id = in_flight.swap_remove(which % in_flight.len());
                    call.on_failure(now, id, &failure, || true);
                    let goes_on = failure.is_rejection && !in_flight.is_empty();
                    if let (RetryDecision::Stop(reason), false) = (failure.decision, goes_on) {
                        prop_assert_eq!(call.step(now), Step::Stop(reason));
                        return Ok(());
                    }
                }
                (Event::Passed(ms), _) => now = now + Duration::from_millis(ms),
                _ => {}
            }
            prop_assert!(started <= attempts_max && hedges <= hedges_max);
            match call.step(now) {
                Step::Wait(until) => {
                    prop_assert!(until.is_none_or(|until| until > now));
                    prop_assert!(until.is_some() || !in_flight.is_empty(), "it would never end");
                }
                Step::Stop(_) => {
                    prop_assert!(in_flight.is_empty());
                    prop_assert_eq!(call.begin(now, 99, |_| true), None);
                    return Ok(());
                }
                Step::Begin(_) => {}
            }
        }
    }
}
