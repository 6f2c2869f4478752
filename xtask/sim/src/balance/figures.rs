//! Figures of a run, and of the runs of a cell together.

use std::time::Duration;

use rpcnet_balance::sim::Report;
use serde::Serialize;
use xtask_report::median;

use super::scenarios::BalanceScenario;

/// Figures of one run: of the calls that began in the measured time, unless said otherwise.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sample {
    calls: f64,
    failed: f64,
    p50_ms: f64,
    p99_ms: f64,
    p999_ms: f64,
    /// The 99th percentile of the calls that were answered.
    answered_p99_ms: f64,
    /// Answered calls in relation to what all workers can serve, or to the calls made if those are
    /// fewer.
    goodput_ratio: f64,
    extra_ratio: f64,
    bad_share: Option<f64>,
    /// The p99 in relation to that before.
    slowdown: Option<f64>,
    /// Infinite if never.
    recovery_s: Option<f64>,
}

/// A row of the results: medians over the seeds unless said otherwise.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Row {
    pub(super) strategy: String,
    pub(super) scenario: String,
    pub(super) load: Option<f64>,
    pub(super) seeds: usize,
    /// Over all seeds, as the next.
    pub(super) calls: f64,
    pub(super) failed: f64,
    pub(super) p50_ms: f64,
    pub(super) p99_ms: f64,
    pub(super) p999_ms: f64,
    /// The 99th percentile of the calls that were answered; in the others a failed call counts as
    /// the deadline.
    pub(super) answered_p99_ms: f64,
    pub(super) goodput_ratio: f64,
    /// Attempts for each call beside the first.
    pub(super) extra_ratio: f64,
    /// Attempts that went to the one that is bad.
    pub(super) bad_share: Option<f64>,
    pub(super) p99_to_healthy: Option<f64>,
    /// `None` also if never.
    pub(super) recovery_s: Option<f64>,
}

impl Sample {
    pub(super) fn of(scenario: &BalanceScenario, report: &Report) -> Self {
        let of_method = scenario.method.map(|method| report.of_method(method));
        let report = of_method.as_ref().unwrap_or(report);
        let between = |(from, until)| report.between(duration(from), duration(until));
        let span = between(scenario.measured_s);
        let p99 = span.latency(0.99);
        let healthy = scenario.baseline_s.map(between);
        let possible = match scenario.load.or(scenario.recovery_from_s) {
            // Closed loads and changing fleets have no one capacity: what was asked for.
            None => 1.0,
            Some(_) => {
                let seconds = scenario.measured_s.1 - scenario.measured_s.0;
                let capacity = scenario.capacity_per_s * seconds;
                (capacity / span.calls().len() as f64).min(1.0)
            }
        };
        let answered = if possible < 1.0 {
            span.goodput_per_s() / scenario.capacity_per_s
        } else {
            1.0 - span.failed() as f64 / span.calls().len().max(1) as f64
        };
        let recovery = scenario.recovery_from_s.zip(healthy).map(|(at, healthy)| {
            let bound = healthy.latency(0.99) * 2;
            let end = duration(at + RECOVERY_WATCHED_S);
            report.recovery(duration(at), end, 0.99, bound)
        });
        Self {
            calls: span.calls().len() as f64,
            failed: span.failed() as f64,
            p50_ms: ms(span.latency(0.5)),
            p99_ms: ms(p99),
            p999_ms: ms(span.latency(0.999)),
            answered_p99_ms: ms(span.answered_latency(0.99)),
            goodput_ratio: answered,
            extra_ratio: span.extra_attempts(),
            bad_share: scenario.faulty_worker.map(|(worker, from)| {
                report
                    .between(duration(from), Duration::MAX)
                    .share_of(worker)
            }),
            slowdown: healthy.map(|healthy| ms(p99) / ms(healthy.latency(0.99))),
            recovery_s: recovery.map(|it| it.map_or(f64::INFINITY, |it| it.as_secs_f64())),
        }
    }
}

impl Row {
    /// `None` without samples.
    pub(super) fn of(
        scenario: &BalanceScenario,
        strategy: &str,
        samples: &[Sample],
    ) -> Option<Self> {
        let all = |figure: fn(&Sample) -> f64| median(samples.iter().map(figure).collect());
        let some = |figure: fn(&Sample) -> Option<f64>| {
            median(samples.iter().filter_map(figure).collect()).filter(|it| it.is_finite())
        };
        Some(Self {
            strategy: strategy.to_owned(),
            scenario: scenario.name.clone(),
            load: scenario.load,
            seeds: samples.len(),
            calls: samples.iter().map(|it| it.calls).sum(),
            failed: samples.iter().map(|it| it.failed).sum(),
            p50_ms: all(|it| it.p50_ms)?,
            p99_ms: all(|it| it.p99_ms)?,
            p999_ms: all(|it| it.p999_ms)?,
            answered_p99_ms: all(|it| it.answered_p99_ms)?,
            goodput_ratio: all(|it| it.goodput_ratio)?,
            extra_ratio: all(|it| it.extra_ratio)?,
            bad_share: some(|it| it.bad_share),
            p99_to_healthy: some(|it| it.slowdown),
            recovery_s: some(|it| it.recovery_s),
        })
    }
}

fn duration(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Longest recovery that is watched, in seconds.
const RECOVERY_WATCHED_S: f64 = 10.0;

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// One with this p99, and all well.
    pub(in crate::balance) fn row(
        scenario: &str,
        strategy: &str,
        p99_ms: f64,
        load: Option<f64>,
    ) -> Row {
        Row {
            strategy: strategy.to_owned(),
            scenario: scenario.to_owned(),
            load,
            seeds: 1,
            calls: 1_000.0,
            failed: 0.0,
            p50_ms: p99_ms / 4.0,
            p99_ms,
            p999_ms: 2.0 * p99_ms,
            answered_p99_ms: p99_ms,
            goodput_ratio: 1.0,
            extra_ratio: 0.0,
            bad_share: None,
            p99_to_healthy: None,
            recovery_s: None,
        }
    }

    #[test]
    fn what_never_recovers_has_no_recovery() {
        let scenarios = crate::balance::scenarios::select(
            crate::options::Extent::Quick,
            None,
            &["overload".to_owned()],
        );
        let sample = |recovery_s| Sample {
            calls: 1.0,
            failed: 2.0,
            p50_ms: 1.0,
            p99_ms: 1.0,
            p999_ms: 1.0,
            answered_p99_ms: 1.0,
            goodput_ratio: 1.0,
            extra_ratio: 0.0,
            bad_share: None,
            slowdown: Some(2.0),
            recovery_s: Some(recovery_s),
        };
        let scenario = &scenarios.unwrap()[0];
        let of = |samples: &[Sample]| Row::of(scenario, "it", samples).unwrap();
        let row = of(&[sample(1.0), sample(f64::INFINITY), sample(3.0)]);
        assert_eq!(
            (row.recovery_s, row.failed, row.calls),
            (Some(3.0), 6.0, 3.0)
        );
        let row = of(&[sample(1.0), sample(f64::INFINITY), sample(f64::INFINITY)]);
        assert_eq!(row.recovery_s, None);
        assert!(Row::of(scenario, "it", &[]).is_none());
    }
}
