//! Figures of a run, and of the runs of a cell together.

use std::time::Duration;

use rpcnet_balance::sim::{Report, Span};

use super::scenarios::BalanceScenario;
use crate::measure::{Aggregate, Measure, Sample};

/// Figures of the calls that began in the measured time, unless said otherwise.
pub(super) static MEASURES: [Measure; 11] = [
    Measure::new("calls", Aggregate::Sum, "calls"),
    Measure::new("failed", Aggregate::Sum, "failed"),
    Measure::median("p50_ms"),
    Measure::median("p99_ms"),
    Measure::median("p999_ms"),
    // The 99th percentile of the calls that were answered; in the others a failed call counts as
    // the deadline.
    Measure::median("answered_p99_ms"),
    // Answered calls in relation to what all workers can serve, or to the calls made if those are
    // fewer.
    Measure::median("goodput_ratio"),
    // Attempts for each call beside the first.
    Measure::median("extra_ratio"),
    // Attempts that went to the one that is bad.
    Measure::median("bad_share"),
    // The p99 in relation to that before.
    Measure::median("p99_to_healthy"),
    // Null also if never.
    Measure::median("recovery_s"),
];

/// Figures of one run.
pub(super) fn sample(scenario: &BalanceScenario, report: &Report) -> Sample {
    let of_method = scenario.method.map(|method| report.of_method(method));
    let report = of_method.as_ref().unwrap_or(report);
    let between = |(from, until)| report.between(duration(from), duration(until));
    let span = between(scenario.measured_s);
    let healthy_p99 = scenario.baseline_s.map(|it| between(it).latency(0.99));
    let ended = scenario.recovery_from_s.zip(healthy_p99);
    let recovery_s = ended.map(|(at, healthy)| {
        let end = duration(at + RECOVERY_WATCHED_S);
        let recovery = report.recovery(duration(at), end, 0.99, healthy * 2);
        recovery.map_or(f64::INFINITY, |it| it.as_secs_f64())
    });
    let bad_share = scenario.faulty_worker.map(|(worker, from)| {
        let since = report.between(duration(from), Duration::MAX);
        since.share_of(worker)
    });
    let p99_ms = ms(span.latency(0.99));
    Sample::default()
        .with("calls", span.calls().len() as f64)
        .with("failed", span.failed() as f64)
        .with("p50_ms", ms(span.latency(0.5)))
        .with("p99_ms", p99_ms)
        .with("p999_ms", ms(span.latency(0.999)))
        .with("answered_p99_ms", ms(span.answered_latency(0.99)))
        .with("goodput_ratio", goodput_ratio(scenario, &span))
        .with("extra_ratio", span.extra_attempts())
        .with_all("bad_share", bad_share)
        .with_all("p99_to_healthy", healthy_p99.map(|it| p99_ms / ms(it)))
        .with_all("recovery_s", recovery_s)
}

fn goodput_ratio(scenario: &BalanceScenario, span: &Span<'_>) -> f64 {
    let calls = span.calls().len() as f64;
    // Closed loads and changing fleets have no one capacity: what was asked for.
    if scenario.load.or(scenario.recovery_from_s).is_some() {
        let (from, until) = scenario.measured_s;
        if scenario.capacity_per_s * (until - from) / calls < 1.0 {
            return span.goodput_per_s() / scenario.capacity_per_s;
        }
    }
    1.0 - span.failed() as f64 / calls.max(1.0)
}

fn duration(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Longest recovery that is watched, in seconds.
const RECOVERY_WATCHED_S: f64 = 10.0;
