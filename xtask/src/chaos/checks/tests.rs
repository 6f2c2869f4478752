//! Tests of the checks: runs that pass and runs that fail.

use super::*;
use crate::chaos::{
    call_report::{CallCounts, VersionCounts},
    execution_log::ExecutionCounts,
    named::Named,
    report::table,
};

fn named(scenario: &str) -> &'static Scenario {
    Scenario::named(scenario)
}

const FAULTY_NODE: &str = "worker-1";

fn failure(idempotent: bool, node: &str, code: &str, processed: Ran) -> FailureCount {
    FailureCount {
        failure: Failure {
            idempotent,
            node: Some(node.to_owned()),
            code: code.to_owned(),
            processed,
            second: 7,
        },
        count: 3,
        example: "it is gone".to_owned(),
    }
}

fn row_with_failures(scenario: &Scenario, failures: Vec<FailureCount>) -> ScenarioRow {
    let report = CallReport {
        idempotent: CallCounts { ok: 100, failed: 0 },
        others: CallCounts { ok: 97, failed: 3 },
        due: 200,
        answered_in_time: 190,
        failures,
        ..CallReport::default()
    };
    row(scenario, report, Duration::from_secs(30))
}

/// The row of a run with this report; its attacker did something, if there was one, and its
/// upgrade went well.
fn row(scenario: &Scenario, report: CallReport, length: Duration) -> ScenarioRow {
    ScenarioRow::new(scenario, FAULTY_NODE, result(scenario, report), length)
}

fn result(scenario: &Scenario, report: CallReport) -> RunResult {
    let answers = |first, second| VersionCounts { first, second };
    let answers_by_version = match scenario.upgrade {
        None => [].into(),
        Some(Upgrade::Compatible) => [(1, answers(40, 40)), (2, answers(40, 40))].into(),
        Some(Upgrade::Incompatible) => [(1, answers(80, 0)), (2, answers(0, 80))].into(),
    };
    RunResult {
        report,
        attacker_actions: scenario.attacker.map(|_| 1),
        rejected_incompatible: scenario.upgrade.map_or(0, |_| 3),
        answers_by_version,
        ..RunResult::default()
    }
}

fn passes(scenario: &Scenario, it: FailureCount) -> bool {
    row_with_failures(scenario, vec![it])
        .failed_checks
        .is_empty()
}

#[test]
fn a_run_without_failures_passes() {
    for scenario in Scenario::ALL {
        let row = row_with_failures(scenario, vec![]);
        assert_eq!(row.failed_checks, [""; 0]);
    }
}

#[test]
fn calls_in_flight_at_the_victim_may_fail() {
    let lost = || failure(false, FAULTY_NODE, "unavailable", Ran::Maybe);
    assert!(passes(named("kill"), lost()) && passes(named("stop"), lost()));
    assert!(!passes(named("rolling"), lost()) && !passes(named("drain"), lost()));
    for wrong in [
        failure(true, FAULTY_NODE, "unavailable", Ran::Maybe),
        failure(false, "worker-2", "unavailable", Ran::Maybe),
        failure(false, FAULTY_NODE, "unavailable", Ran::No),
        failure(false, FAULTY_NODE, "app", Ran::Yes),
    ] {
        assert!(!passes(named("kill"), wrong.clone()), "{wrong:?}");
    }
}

#[test]
fn failures_of_one_kind_are_one_failed_check() {
    let early = failure(true, FAULTY_NODE, "unavailable", Ran::Maybe);
    let mut late = early.clone();
    late.failure.second = 8;
    let row = row_with_failures(named("kill"), vec![early, late]);
    assert_eq!(
        row.failed_checks,
        [
            "6 idempotent calls failed (unavailable, processed: maybe, worker-1), such as \"it is gone\""
        ]
    );
}

#[test]
fn panics_are_allowed_and_must_become_few() {
    let met = |count, second| {
        let mut met = failure(false, FAULTY_NODE, &Code::Internal.to_string(), Ran::Maybe);
        met.failure.second = second;
        FailureCount { count, ..met }
    };
    assert!(passes(named("panic"), met(2, 7)));
    assert!(!passes(named("panic"), met(3, 7)));
    assert!(passes(named("panic"), met(3, 0)));
    let other = failure(false, FAULTY_NODE, "unavailable", Ran::Maybe);
    assert!(!passes(named("panic"), FailureCount { count: 1, ..other }));
}

#[test]
fn executions_are_compared_with_reported_outcomes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("worker-1.runs");
    let log = crate::chaos::execution_log::ExecutionLog::open(&path).unwrap();
    // Numbers of calls that are idempotent are even.
    for call in [2, 2, 3, 3, 5] {
        log.record(call).unwrap();
    }
    let runs = ExecutionCounts::read(folder.path()).unwrap();
    let report = CallReport {
        idempotent: CallCounts { ok: 1, failed: 0 },
        others: CallCounts { ok: 1, failed: 1 },
        unprocessed: vec![5, 7],
        extra_attempts: 2,
        ..CallReport::default()
    };
    let run = RunResult {
        report,
        runs,
        ..RunResult::default()
    };
    let row = ScenarioRow::new(named("kill"), FAULTY_NODE, run, Duration::ZERO);
    assert_eq!((row.ran_twice, row.extra_attempts), (1, 2));
    assert_eq!(
        row.failed_checks,
        [
            "1 calls ran twice that must not",
            "1 calls ran of which the error says that they did not"
        ]
    );
}

#[test]
fn calls_must_flow() {
    let report = CallReport {
        not_begun: 4,
        wrong: 1,
        ..CallReport::default()
    };
    let row = row(named("kill"), report, Duration::ZERO);
    assert_eq!(row.failed_checks.len(), 4, "{:?}", row.failed_checks);
}

#[test]
fn extra_attempts_are_as_many_as_the_budget_has() {
    let with = |granted| {
        let report = CallReport {
            idempotent: CallCounts { ok: 500, failed: 0 },
            others: CallCounts { ok: 500, failed: 0 },
            // Those that were certainly not processed cost nothing.
            extra_attempts: granted + 50,
            granted,
            seconds: 3,
            ..CallReport::default()
        };
        row(named("stop"), report, Duration::from_secs(3)).failed_checks
    };
    assert_eq!(with(230), [""; 0]);
    assert_eq!(with(231), ["1 attempts more than the budget has"]);
}

#[test]
fn faulty_members_lower_neither_answers_nor_rate() {
    let rejected = failure(false, "worker-2", "overloaded", Ran::No);
    for scenario in [named("old"), named("slow"), named("greedy"), named("liar")] {
        assert!(!passes(scenario, rejected.clone()), "{scenario:?}");
        let with = |answered_in_time| {
            let report = CallReport {
                idempotent: CallCounts { ok: 500, failed: 0 },
                others: CallCounts { ok: 500, failed: 0 },
                due: 1_000,
                answered_in_time,
                ..CallReport::default()
            };
            row(scenario, report, Duration::ZERO).failed_checks
        };
        assert_eq!(with(900), [""; 0]);
        assert_eq!(
            with(899),
            ["the rate fell to 89.9 %: 899 of 1000 calls were answered in time"]
        );
    }
    // Where calls may be lost, the rate is not checked.
    let half = CallReport {
        due: 1_000,
        answered_in_time: 500,
        idempotent: CallCounts { ok: 250, failed: 0 },
        others: CallCounts { ok: 250, failed: 0 },
        ..CallReport::default()
    };
    assert_eq!(
        row(named("kill"), half, Duration::ZERO).failed_checks,
        [""; 0]
    );
}

#[test]
fn an_upgrade_takes_nothing_from_the_budget_and_leaves_no_caller_to_the_wrong_version() {
    let failed_checks = |name, change: fn(&mut RunResult)| {
        let report = CallReport {
            others: CallCounts { ok: 160, failed: 0 },
            extra_attempts: 7,
            ..CallReport::default()
        };
        let mut run = result(named(name), report);
        change(&mut run);
        ScenarioRow::new(named(name), FAULTY_NODE, run, Duration::ZERO).failed_checks
    };
    for name in ["mixed-compatible", "mixed-incompatible"] {
        assert_eq!(failed_checks(name, |_| {}), [""; 0]);
        let granted = failed_checks(name, |run| run.report.granted = 2);
        assert_eq!(granted, ["2 attempts were taken from the retry budget"]);
        let unanswered = failed_checks(name, |run| run.answers_by_version.clear());
        let last = "no call of version 2 was answered by a worker of version 2".to_owned();
        assert_eq!(unanswered.last(), Some(&last));
        let twice = failed_checks(name, |run| run.report.wrong = 1);
        assert_eq!(twice, ["1 answers were to another call"]);
    }
    let abroad = |run: &mut RunResult| {
        run.answers_by_version.get_mut(&1).unwrap().second = 5;
    };
    assert_eq!(
        failed_checks("mixed-incompatible", abroad),
        ["5 calls of version 1 were answered by workers of version 2"]
    );
    assert_eq!(failed_checks("mixed-compatible", abroad), [""; 0]);
}

#[test]
fn an_attacker_without_actions_fails_the_run() {
    let report = CallReport {
        idempotent: CallCounts { ok: 1, failed: 0 },
        others: CallCounts { ok: 1, failed: 0 },
        due: 2,
        answered_in_time: 2,
        ..CallReport::default()
    };
    for actions in [None, Some(0)] {
        let run = RunResult {
            report: report.clone(),
            attacker_actions: actions,
            ..RunResult::default()
        };
        let row = ScenarioRow::new(named("greedy"), FAULTY_NODE, run, Duration::ZERO);
        assert_eq!(row.failed_checks, ["the attacker did nothing"]);
    }
}

#[test]
fn the_row_has_the_agreed_fields() {
    let lost = failure(false, FAULTY_NODE, "unavailable", Ran::Maybe);
    let row = row_with_failures(named("kill"), vec![lost]);
    let json = serde_json::to_value(&row).unwrap();
    for field in [
        "calls_ok",
        "calls_failed",
        "p99_us",
        "extra_attempts",
        "calls_maybe",
    ] {
        assert!(json[field].is_u64(), "{json}");
    }
    assert_eq!(json["rate_kept"], 0.95);
    assert_eq!(json["attacker_acts"], serde_json::Value::Null);
    assert_eq!(
        (&json["scenario"], &json["calls_maybe"]),
        (&"kill".into(), &3.into())
    );
    let text = table(&[
        row,
        row_with_failures(named("drain"), vec![failure(false, "", "", Ran::No)]),
    ]);
    let lines: Vec<_> = text.lines().collect();
    assert!(
        lines[1].ends_with("passed") && lines[2].ends_with("FAILED"),
        "{text}"
    );
    assert_eq!(lines[3], "chaos: FAILED, 1 of 2 scenarios");
}
