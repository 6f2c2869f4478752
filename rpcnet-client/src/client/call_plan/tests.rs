//! Tests of call plans: which of config, policies and options goes first.

use rpcnet_balance::Hedging;
use rpcnet_transport::{Method, Priority};

use super::*;
use crate::client::tests::config;

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Time that the plan leaves for the call.
fn timeout(plan: &CallPlan<'_>) -> Option<Duration> {
    plan.deadline.map(|end| end - plan.started_at)
}

#[tokio::test(start_paused = true)]
async fn options_win_over_the_method_and_the_method_over_the_config() {
    let policy = MethodPolicy::new()
        .with_timeout(seconds(20))
        .with_attempt_timeout(seconds(2))
        .with_application_errors_as_failures(true)
        .with_idempotent(true);
    let config = config()
        .with_timeout(seconds(30))
        .with_attempt_timeout(seconds(3))
        .with_method("charge", policy);
    let settings = CallSettings::new(config);
    let (none, own) = (
        WorkerCallOptions::new(),
        WorkerCallOptions::new()
            .with_timeout(seconds(10))
            .with_attempt_timeout(seconds(1))
            .with_application_errors_as_failures(false),
    );
    for (method, options, call, attempt, errors_fail) in [
        ("other", none.with_idempotent(true), 30, 3, false),
        ("charge", none, 20, 2, true),
        ("charge", own, 10, 1, false),
    ] {
        let plan = settings.unary_plan(method, &options);
        assert_eq!(timeout(&plan), Some(seconds(call)), "{method}");
        assert_eq!(
            plan.policy.attempt_timeout,
            Some(seconds(attempt)),
            "{method}"
        );
        assert_eq!(plan.policy.application_errors_fail, errors_fail, "{method}");
    }
    // A call that may not be repeated has no timeout of its attempts.
    let plan = settings.unary_plan("other", &none);
    assert!(!plan.policy.is_repeatable && plan.policy.attempt_timeout.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_method_that_hedges_is_idempotent_in_a_call_without_hedging_too() {
    let config = config()
        .with_hedging("find", Hedging::after(seconds(1)))
        .with_attempt_timeout(seconds(2));
    let settings = CallSettings::new(config);
    let options = WorkerCallOptions::new().without_hedging();
    let policy = settings.unary_plan("find", &options).policy;
    assert_eq!(policy.hedging, None);
    assert!(policy.is_idempotent && policy.is_repeatable);
    assert_eq!(policy.attempt_timeout, Some(seconds(2)));
    let once = options.with_idempotent(false);
    assert!(!settings.unary_plan("find", &once).policy.is_repeatable);
}

#[tokio::test(start_paused = true)]
async fn a_stream_has_no_deadline_of_the_client_and_no_hedges() {
    let hedging = Hedging::after(seconds(1));
    let config = config().with_hedging("feed", hedging);
    let settings = CallSettings::new(config);
    let unary = settings.unary_plan("feed", &WorkerCallOptions::new());
    assert!(unary.deadline.is_some() && unary.policy.hedging.is_some());
    let stream = settings.stream_plan("feed", &WorkerCallOptions::new());
    assert!(stream.deadline.is_none() && stream.policy.hedging.is_none() && stream.is_stream);
    let within = WorkerCallOptions::new().with_timeout(seconds(5));
    let stream = settings.stream_plan("feed", &within);
    assert_eq!(timeout(&stream), Some(seconds(5)));
}

#[tokio::test(start_paused = true)]
async fn only_a_stream_without_a_word_on_its_deadline_has_that_of_the_transport() {
    let settings = CallSettings::new(config());
    let options = WorkerCallOptions::new();
    let stream = |options| {
        let plan = settings.stream_plan("feed", &options);
        plan.attempt_options(0, plan.deadline)
    };
    let without = stream(options.without_deadline());
    assert_eq!(without, stream(options).without_deadline());
    assert_ne!(without, stream(options));
}

#[tokio::test(start_paused = true)]
async fn a_call_that_says_that_it_is_not_idempotent_is_not_repeated() {
    let settings = CallSettings::new(config());
    let keyed = WorkerCallOptions::new().with_idempotency_key(7);
    let repeatable = |options| settings.unary_plan("any", &options).policy.is_repeatable;
    assert!(repeatable(keyed) && !repeatable(keyed.with_idempotent(false)));
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_tried_once_probes_only_when_that_is_overdue() {
    let settings = CallSettings::new(config());
    let options = WorkerCallOptions::new();
    let once = options.with_attempts_max(1);
    for (plan, mode) in [
        (
            settings.unary_plan("any", &options),
            RejectionProbe::WhenDue,
        ),
        (
            settings.unary_plan("any", &once),
            RejectionProbe::WhenOverdue,
        ),
        // A stream ends with the rejection.
        (
            settings.stream_plan("any", &options),
            RejectionProbe::WhenOverdue,
        ),
    ] {
        assert_eq!(plan.rejection_probe(), mode);
    }
}

#[tokio::test(start_paused = true)]
async fn only_plain_calls_that_are_in_time_fit_the_fast_path() {
    let settings = CallSettings::new(config());
    let options = WorkerCallOptions::new();
    let fits = |options| settings.unary_plan("any", &options).fits_fast_path();
    assert!(fits(options) && fits(options.with_idempotent(true)));
    assert!(!fits(options.with_idempotency_key(7)));
    assert!(!fits(options.with_hedging(Hedging::after(seconds(1)))));
    assert!(!fits(options.with_timeout(Duration::ZERO)));
    let attempt_timeout = options.with_attempt_timeout(seconds(1));
    assert!(fits(attempt_timeout), "it may not be repeated");
    assert!(!fits(attempt_timeout.with_idempotent(true)));
}

#[tokio::test(start_paused = true)]
async fn an_attempt_ends_with_its_timeout_or_the_deadline_of_the_call() {
    let settings = CallSettings::new(config());
    let options = WorkerCallOptions::new()
        .with_idempotent(true)
        .with_timeout(seconds(10))
        .with_attempt_timeout(seconds(4));
    let plan = settings.unary_plan("any", &options);
    for (after, end, is_attempt_timeout) in [(0, 4, true), (5, 9, true), (7, 10, false)] {
        let deadline = AttemptDeadline::for_attempt(&plan, plan.started_at + seconds(after));
        assert_eq!(deadline.at, Some(plan.started_at + seconds(end)));
        assert_eq!(deadline.is_attempt_timeout, is_attempt_timeout);
    }
}

/// A call of a typed method `find`.
fn typed<'a>(
    of_method: MethodOptions,
    of_call: MethodOptions,
    of_channel: &'a WorkerCallOptions,
) -> TypedClusterCall<'a> {
    TypedClusterCall {
        method: Method::<u64, u64>::new("find").untyped(),
        options_of_method: of_method,
        options: of_call,
        options_of_channel: of_channel,
    }
}

#[tokio::test(start_paused = true)]
async fn a_typed_call_goes_by_call_then_channel_then_config_then_method_then_defaults() {
    let timeouts = |call: u64, attempt: u64| {
        MethodOptions::new()
            .with_timeout(seconds(call))
            .with_attempt_timeout(seconds(attempt))
    };
    let none = MethodOptions::new();
    let defaults = config()
        .with_timeout(seconds(50))
        .with_attempt_timeout(seconds(5))
        .with_idempotent(["find"]);
    let named = MethodPolicy::new()
        .with_idempotent(true)
        .with_timeout(seconds(30))
        .with_attempt_timeout(seconds(3));
    let named = defaults.clone().with_method("find", named);
    let channel = WorkerCallOptions::new();
    let set_channel = channel
        .with_timeout(seconds(20))
        .with_attempt_timeout(seconds(2));
    for (config, of_method, channel, of_call, timeouts) in [
        (&defaults, none, channel, none, (50, 5)),
        (&defaults, timeouts(40, 4), channel, none, (40, 4)),
        (&named, timeouts(40, 4), channel, none, (30, 3)),
        (&named, timeouts(40, 4), set_channel, none, (20, 2)),
        (
            &named,
            timeouts(40, 4),
            set_channel,
            timeouts(10, 1),
            (10, 1),
        ),
    ] {
        let settings = CallSettings::new(config.clone());
        let plan = settings.typed_plan(&typed(of_method, of_call, &channel));
        let attempt = plan.policy.attempt_timeout.expect("it is idempotent");
        let call = timeout(&plan).expect("a deadline");
        assert_eq!((call, attempt), (seconds(timeouts.0), seconds(timeouts.1)));
    }
    let settings = CallSettings::new(defaults);
    let stream = settings.typed_stream_plan(&typed(none, none, &channel));
    assert!(timeout(&stream).is_none() && stream.is_stream);
}

#[tokio::test(start_paused = true)]
async fn options_of_a_typed_method_reach_its_attempts_unless_its_call_says_otherwise() {
    let settings = CallSettings::new(config());
    let channel = WorkerCallOptions::new();
    let own = MethodOptions::new()
        .with_idempotent(true)
        .with_isolated(true)
        .with_replay_safe(true)
        .with_priority(Priority::Sheddable)
        .with_sticky_key(7);
    let attempt = |plan: &CallPlan<'_>| plan.attempt.without_deadline();
    let plan = settings.typed_plan(&typed(own, MethodOptions::new(), &channel));
    let plain = settings.unary_plan("any", &channel);
    let expected = attempt(&plain)
        .with_idempotent(true)
        .with_isolated(true)
        .with_replay_safe(true)
        .with_priority(Priority::Sheddable);
    assert_eq!((attempt(&plan), plan.key), (expected, Some(7)));
    let of_call = MethodOptions::new()
        .with_idempotent(false)
        .with_isolated(false)
        .with_replay_safe(false)
        .with_priority(Priority::Critical)
        .with_sticky_key(8);
    let plan = settings.typed_plan(&typed(own, of_call, &channel));
    let expected = attempt(&plain).with_priority(Priority::Critical);
    assert_eq!((attempt(&plan), plan.key), (expected, Some(8)));
    // What the channel says lies between the two.
    let set_channel = channel.with_priority(Priority::CriticalPlus).with_key(9);
    let plan = settings.typed_plan(&typed(own, MethodOptions::new(), &set_channel));
    let expected = attempt(&plain)
        .with_idempotent(true)
        .with_isolated(true)
        .with_replay_safe(true)
        .with_priority(Priority::CriticalPlus);
    assert_eq!((attempt(&plan), plan.key), (expected, Some(9)));
}

#[tokio::test(start_paused = true)]
async fn a_typed_call_has_a_generated_key_if_its_method_or_itself_says_so() {
    let settings = CallSettings::new(config());
    let channel = WorkerCallOptions::new();
    let (none, keyed) = (
        MethodOptions::new(),
        MethodOptions::new().with_generated_keys(true),
    );
    let has_key = |own, call| {
        let plan = settings.typed_plan(&typed(own, call, &channel));
        assert_eq!(
            plan.policy.is_repeatable,
            plan.attempt.has_idempotency_key()
        );
        plan.attempt.has_idempotency_key()
    };
    assert!(has_key(keyed, none) && has_key(none, keyed) && !has_key(none, none));
    assert!(!has_key(keyed, none.with_generated_keys(false)));
}

#[tokio::test(start_paused = true)]
async fn calls_that_hedge_by_a_quantile_share_the_latencies_of_their_method() {
    let settings = CallSettings::new(config());
    let channel = WorkerCallOptions::new();
    let (none, hedged) = (
        MethodOptions::new(),
        MethodOptions::new().with_hedge_quantile(0.9),
    );
    let plan = |own, call| settings.typed_plan(&typed(own, call, &channel));
    assert!(plan(none, none).hedge_latencies.is_none());
    let first = plan(hedged, none);
    assert_eq!(first.policy.hedging, Some(Hedging::at_quantile(0.9)));
    assert!(first.policy.is_idempotent && first.hedge_latencies.is_some());
    let second = plan(none, hedged.with_hedge_quantile(0.5));
    assert_eq!(second.policy.hedging, Some(Hedging::at_quantile(0.5)));
    assert!(std::ptr::eq(
        first.hedge_latencies.unwrap(),
        second.hedge_latencies.unwrap()
    ));
    // Calls that do not hedge pay for no record.
    let once = plan(hedged.with_idempotent(false), none);
    assert!(once.policy.hedging.is_none() && once.hedge_latencies.is_none());
    let after = WorkerCallOptions::new().with_hedging(Hedging::after(seconds(1)));
    let fixed = settings.typed_plan(&typed(hedged, none, &after));
    assert!(fixed.policy.hedging.is_some() && fixed.hedge_latencies.is_none());
}
