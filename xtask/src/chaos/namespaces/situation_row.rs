//! Results of situations, and the checks that each of them must pass.

use serde::Serialize;
use xtask_report::number;

use super::views::{self, Hosts};
use crate::chaos::{
    record::Record,
    report::{Column, Row},
};

/// The result of a situation.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct SituationRow {
    pub(crate) situation: &'static str,
    pub(crate) hosts: usize,
    /// Whether all checks passed.
    pub(crate) ok: bool,
    /// Time from the fault until the last node had detected it, where there is something to detect.
    pub(crate) detect_s: Option<f64>,
    /// Time from the end of the fault until all views were whole.
    pub(crate) recovered_s: Option<f64>,
    pub(crate) calls_ok: u64,
    pub(crate) calls_failed: u64,
    /// Members held failed that were not, by nodes that could have known.
    pub(crate) false_failures: u64,
    /// Suspicions, by all nodes.
    pub(crate) suspicions: u64,
    /// Datagrams of gossip a second of the host that sent most.
    pub(crate) datagrams_s: Option<f64>,
    /// Duration of the situation.
    pub(crate) seconds: f64,
    pub(crate) failed_checks: Vec<String>,
}

impl SituationRow {
    /// Checks what nodes told since the fault began; the failed checks. `may_fail`: members that
    /// may be held failed.
    pub(crate) fn check(
        &mut self,
        record: &Record,
        observers: &Hosts,
        may_fail: &Hosts,
    ) -> Vec<String> {
        let since = record.fault_began;
        let busiest = views::most_datagrams(&record.before_fault, &record.latest);
        let calls = views::calls(record, since);
        let failures = views::false_failures(record, observers, may_fail, since);
        let (most, suspicions) = views::suspicions(record, observers, since);
        self.calls_ok = calls.ok();
        self.calls_failed = calls.failed();
        self.false_failures = failures.len() as u64;
        self.suspicions = suspicions;
        self.datagrams_s = busiest.as_ref().map(|(_, rate)| *rate);
        let mut failed_checks = Vec::new();
        if let Some(first) = failures.first() {
            let count = failures.len();
            failed_checks.push(format!("{count} false failures, such as: {first}"));
        }
        if let Some((pair, count)) = most.filter(|(_, count)| *count > SUSPICIONS_MAX) {
            failed_checks.push(format!(
                "{pair}: {count} suspicions, at most {SUSPICIONS_MAX}"
            ));
        }
        if let Some((host, rate)) = busiest.filter(|(_, rate)| *rate > DATAGRAMS_S_MAX) {
            failed_checks.push(format!(
                "{host} sent {rate:.0} datagrams/s, at most {DATAGRAMS_S_MAX}"
            ));
        }
        if calls.failed() > 0 {
            let errors: Vec<_> = calls.failures.iter().map(|it| &*it.example).collect();
            let (failed, errors) = (calls.failed(), errors.join("; "));
            failed_checks.push(format!("{failed} calls failed: {errors}"));
        }
        if calls.ok() == 0 {
            failed_checks.push("no call was answered".to_owned());
        }
        for (host, end) in &record.ended {
            failed_checks.push(format!("a process ended by itself: {host}: {end:?}"));
        }
        failed_checks
    }
}

impl Row for SituationRow {
    const COMMAND: &'static str = "chaos --namespaces";
    const KIND: &'static str = "situations";
    const COLUMNS: &'static [Column<Self>] = &[
        ("", |row| row.situation.to_owned()),
        ("detected s", |row| optional(row.detect_s)),
        ("whole s", |row| optional(row.recovered_s)),
        ("calls ok", |row| row.calls_ok.to_string()),
        ("failed", |row| row.calls_failed.to_string()),
        ("false failures", |row| row.false_failures.to_string()),
        ("suspicions", |row| row.suspicions.to_string()),
        ("datagrams/s", |row| optional(row.datagrams_s)),
        ("took s", |row| number(row.seconds)),
    ];

    fn failed_checks(&self) -> &[String] {
        &self.failed_checks
    }
}

fn optional(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), number)
}

/// Most suspicions of one member by one observer in a situation.
const SUSPICIONS_MAX: u64 = 3;
/// Highest rate of a host, on average over a situation.
const DATAGRAMS_S_MAX: f64 = 300.0;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chaos::report::table;

    fn row(failed_checks: &[&str]) -> SituationRow {
        SituationRow {
            situation: "cut",
            hosts: 12,
            ok: failed_checks.is_empty(),
            detect_s: Some(6.5),
            recovered_s: None,
            calls_ok: 900,
            calls_failed: 0,
            false_failures: 0,
            suspicions: 20,
            datagrams_s: Some(8.25),
            seconds: 31.0,
            failed_checks: failed_checks.iter().map(|&text| text.to_owned()).collect(),
        }
    }

    #[test]
    fn one_failed_situation_fails_the_command() {
        assert!(table(&[row(&[])]).ends_with("chaos --namespaces: passed\n"));
        let text = table(&[row(&[]), row(&["2 calls failed"])]);
        assert!(
            text.ends_with("FAILED, 1 of 2 situations\n") && text.contains("FAILED\n"),
            "{text}"
        );
    }

    #[test]
    fn a_row_is_flat() {
        let json = serde_json::to_value(row(&[])).unwrap();
        let fields = json.as_object().unwrap();
        assert_eq!(fields["detect_s"], 6.5);
        assert!(fields["recovered_s"].is_null());
        assert!(fields.values().all(|value| !value.is_object()));
    }
}
