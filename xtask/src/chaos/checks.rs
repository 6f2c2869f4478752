//! Figures of a run, and the checks that they must pass.

use std::time::Duration;

use rpcnet_client::Code;
use serde::Serialize;
use xtask_report::number;

use super::{
    call_report::{CallReport, Failure, FailureCount, LatencyFigures, Ran, is_idempotent},
    loopback::RunResult,
    report::{Column, Row},
    scenario::{AllowedFailures, Scenario, Upgrade},
};

/// A row of the results.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct ScenarioRow {
    pub(crate) scenario: &'static str,
    pub(crate) calls_ok: u64,
    pub(crate) calls_failed: u64,
    /// Failed calls that may have run.
    pub(crate) calls_maybe: u64,
    /// Failed calls that are idempotent.
    pub(crate) idempotent_failed: u64,
    /// Calls that were answered while others were begun, in relation to those that were due.
    pub(crate) rate_kept: f64,
    /// Connections and streams that the attacker opened, if there was one; of two the smaller
    /// number.
    pub(crate) attacker_acts: Option<u64>,
    /// Calls that may not run twice, and did.
    pub(crate) ran_twice: u64,
    /// Attempts beside the first of each call.
    pub(crate) extra_attempts: u64,
    /// Calls that workers rejected for the types of their callers, before any handler ran. After
    /// that the caller has the schema of the worker: it calls it with names if the types are
    /// compatible, and another worker otherwise.
    pub(crate) rejected_incompatible: u64,
    #[serde(flatten)]
    pub(crate) latencies: LatencyFigures,
    pub(crate) failed_checks: Vec<String>,
}

impl ScenarioRow {
    /// Checks a run of this length, in which `faulty` is the faulty node.
    pub(crate) fn new(scenario: &Scenario, faulty: &str, run: RunResult, length: Duration) -> Self {
        let report = &run.report;
        let failures = report.failures.iter();
        let maybe = failures.filter(|it| it.failure.processed == Ran::Maybe);
        Self {
            scenario: scenario.name,
            calls_ok: report.ok(),
            calls_failed: report.failed(),
            calls_maybe: maybe.map(|it| it.count).sum(),
            idempotent_failed: report.idempotent.failed,
            rate_kept: rate_kept(report),
            attacker_acts: run.attacker_actions,
            ran_twice: ran_twice(&run),
            extra_attempts: report.extra_attempts,
            rejected_incompatible: run.rejected_incompatible,
            latencies: report.latencies,
            failed_checks: failed_checks(scenario, faulty, &run, length),
        }
    }
}

impl Row for ScenarioRow {
    const COMMAND: &'static str = "chaos";
    const KIND: &'static str = "scenarios";
    const COLUMNS: &'static [Column<Self>] = &[
        ("", |row| row.scenario.to_owned()),
        ("ok", |row| count(row.calls_ok)),
        ("failed", |row| count(row.calls_failed)),
        ("maybe", |row| count(row.calls_maybe)),
        ("idempotent", |row| count(row.idempotent_failed)),
        ("rate %", |row| format!("{:.1}", 100.0 * row.rate_kept)),
        ("twice", |row| count(row.ran_twice)),
        ("extra", |row| count(row.extra_attempts)),
        ("incomp.", |row| count(row.rejected_incompatible)),
        ("p50 µs", |row| count(row.latencies.p50_us)),
        ("p99 µs", |row| count(row.latencies.p99_us)),
        ("max µs", |row| count(row.latencies.max_us)),
        ("p99 idem.", |row| count(row.latencies.idempotent_p99_us)),
        ("max idem.", |row| count(row.latencies.idempotent_max_us)),
    ];

    fn failed_checks(&self) -> &[String] {
        &self.failed_checks
    }
}

fn failed_checks(
    scenario: &Scenario,
    faulty: &str,
    run: &RunResult,
    length: Duration,
) -> Vec<String> {
    let report = &run.report;
    let excess_attempts = report.granted.saturating_sub(retry_budget_max(report));
    let unprocessed = report.unprocessed.iter();
    let unprocessed_that_ran = unprocessed
        .filter(|call| run.runs.count(**call) > 0)
        .count();
    let counts = [
        (report.not_begun, "calls were due and not begun"),
        (report.wrong, "answers were to another call"),
        (ran_twice(run), "calls ran twice that must not"),
        (excess_attempts, "attempts more than the budget has"),
        (
            unprocessed_that_ran as u64,
            "calls ran of which the error says that they did not",
        ),
    ];
    let mut faults = counts
        .map(|(count, what)| (count, what.to_owned()))
        .to_vec();
    let may_fail = scenario.allowed_failures;
    let not_allowed =
        |it: &&FailureCount| it.failure.idempotent || !is_allowed(may_fail, faulty, it);
    faults.extend(group_failures(report.failures.iter().filter(not_allowed)));
    if may_fail == AllowedFailures::PanicAtFaultyNode && length >= LONG_RUN {
        let failures = report.failures.iter().filter(|it| !it.failure.idempotent);
        let late = failures.filter(|it| it.failure.second >= EJECTED_AFTER_S);
        let late: u64 = late.map(|it| it.count).sum();
        let all = (report.others.ok + report.others.failed) as f64;
        let share = late as f64 / all.max(1.0);
        if share > PANICS_SHARE_MAX {
            let percent = 100.0 * share;
            let what = format!("calls, {percent:.1} %, met a panic after {EJECTED_AFTER_S} s");
            faults.push((late, what));
        }
    }
    let mut failed_checks = Vec::new();
    let groups = [(report.idempotent, "idempotent"), (report.others, "other")];
    for (counts, kind) in groups {
        // Gateways make no idempotent calls: none of theirs may run twice.
        let is_made = scenario.upgrade.is_none() || kind == "other";
        if is_made && counts.ok == 0 {
            failed_checks.push(format!("no {kind} call was answered"));
        }
    }
    let faults = faults.into_iter().filter(|(count, _)| *count > 0);
    failed_checks.extend(faults.map(|(count, what)| format!("{count} {what}")));
    if scenario.attacker.is_some() && run.attacker_actions.unwrap_or_default() == 0 {
        failed_checks.push("the attacker did nothing".to_owned());
    }
    if let Some(upgrade) = scenario.upgrade {
        failed_checks.extend(failed_upgrade_checks(upgrade, run));
    }
    // Faults of others do not make the director's calls fewer.
    let kept = rate_kept(report);
    if scenario.keeps_rate && kept < RATE_KEPT_MIN {
        let (percent, answered, due) = (100.0 * kept, report.answered_in_time, report.due);
        failed_checks.push(format!(
            "the rate fell to {percent:.1} %: {answered} of {due} calls were answered in time"
        ));
    }
    failed_checks
}

/// Failed checks of an upgrade.
fn failed_upgrade_checks(upgrade: Upgrade, run: &RunResult) -> Vec<String> {
    let mut failed_checks = Vec::new();
    if run.report.granted > 0 {
        let granted = run.report.granted;
        failed_checks.push(format!(
            "{granted} attempts were taken from the retry budget"
        ));
    }
    for caller in [1, 2] {
        let answers = run.answers_by_version.get(&caller);
        let answers = answers.copied().unwrap_or_default();
        for (worker, answers) in [(1, answers.first), (2, answers.second)] {
            let understands = upgrade == Upgrade::Compatible || caller == worker;
            if understands && answers == 0 {
                failed_checks.push(format!(
                    "no call of version {caller} was answered by a worker of version {worker}"
                ));
            } else if !understands && answers > 0 {
                failed_checks.push(format!(
                    "{answers} calls of version {caller} were answered by workers of version \
                     {worker}"
                ));
            }
        }
    }
    failed_checks
}

/// Number of calls that may not run twice, and did.
fn ran_twice(run: &RunResult) -> u64 {
    let repeated = run.runs.repeated();
    repeated.filter(|call| !is_idempotent(*call)).count() as u64
}

fn rate_kept(report: &CallReport) -> f64 {
    report.answered_in_time as f64 / report.due.max(1) as f64
}

/// Most attempts beside the first of each call that the budget grants, as it is by
/// default. Every call that ends well adds to it, and each second.
fn retry_budget_max(report: &CallReport) -> u64 {
    BUDGET_CAP + report.ok().div_ceil(BUDGET_CALLS) + BUDGET_PER_S * report.seconds
}

/// Whether a call that is not idempotent may fail so.
fn is_allowed(may_fail: AllowedFailures, faulty: &str, it: &FailureCount) -> bool {
    let with_faulty =
        it.failure.processed == Ran::Maybe && it.failure.node.as_deref() == Some(faulty);
    match may_fail {
        AllowedFailures::None => false,
        AllowedFailures::AtFaultyNode => with_faulty,
        AllowedFailures::PanicAtFaultyNode => {
            with_faulty && it.failure.code == Code::Internal.to_string()
        }
    }
}

/// Counts failures by kind, whenever they were.
fn group_failures<'a>(failures: impl Iterator<Item = &'a FailureCount>) -> Vec<(u64, String)> {
    let mut groups: Vec<FailureCount> = Vec::new();
    for it in failures {
        let mut group = it.clone();
        group.failure.second = 0;
        match groups
            .iter_mut()
            .find(|known| known.failure == group.failure)
        {
            Some(known) => known.count += it.count,
            None => groups.push(group),
        }
    }
    let describe = |it: FailureCount| {
        let Failure {
            idempotent,
            node,
            code,
            processed,
            ..
        } = it.failure;
        let kind = if idempotent { "idempotent " } else { "" };
        let node = node.as_deref().unwrap_or("no node");
        let processed = format!("{processed:?}").to_lowercase();
        let example = it.example;
        let what = format!(
            "{kind}calls failed ({code}, processed: {processed}, {node}), such as {example:?}"
        );
        (it.count, what)
    };
    groups.into_iter().map(describe).collect()
}

fn count(value: u64) -> String {
    match value {
        0..100 => value.to_string(),
        many => number(many as f64),
    }
}

/// The defaults of `RetryBudget`: what is saved up, how many calls that end well earn one, what is
/// added in a second.
const BUDGET_CAP: u64 = 100;
const BUDGET_CALLS: u64 = 10;
const BUDGET_PER_S: u64 = 10;
/// Shortest run in which a worker that panics is ejected.
const LONG_RUN: Duration = Duration::from_secs(10);
/// Time by which it is ejected.
const EJECTED_AFTER_S: u64 = 1;
/// Least share of the calls due that must be answered in time beside members that misbehave.
const RATE_KEPT_MIN: f64 = 0.9;
/// Share of the calls that may still meet a panic: probes of an ejected worker are calls.
const PANICS_SHARE_MAX: f64 = 0.02;

#[cfg(test)]
mod tests;
