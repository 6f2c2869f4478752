//! Results: a row for each situation.

use serde::Serialize;
use xtask_report::{format_table, number};

/// The result of a situation.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Row {
    pub(crate) situation: String,
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
    /// Failed checks.
    pub(crate) complaints: Vec<String>,
}

/// The table.
pub(crate) fn table(rows: &[Row]) -> String {
    let heading = [
        "",
        "detected s",
        "whole s",
        "calls ok",
        "failed",
        "false failures",
        "suspicions",
        "datagrams/s",
        "took s",
        "",
    ];
    let mut lines = vec![heading.map(str::to_owned).to_vec()];
    let optional = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), number);
    for row in rows {
        let status = if row.ok { "passed" } else { "FAILED" };
        lines.push(vec![
            row.situation.clone(),
            optional(row.detect_s),
            optional(row.recovered_s),
            row.calls_ok.to_string(),
            row.calls_failed.to_string(),
            row.false_failures.to_string(),
            row.suspicions.to_string(),
            optional(row.datagrams_s),
            number(row.seconds),
            status.to_owned(),
        ]);
    }
    let failed = rows.iter().filter(|row| !row.ok).count();
    let status = match failed {
        0 => "chaos --namespaces: passed".to_owned(),
        some => format!(
            "chaos --namespaces: FAILED, {some} of {} situations",
            rows.len()
        ),
    };
    format!("{}{status}\n", format_table(&lines))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(ok: bool) -> Row {
        Row {
            situation: "cut".into(),
            hosts: 12,
            ok,
            detect_s: Some(6.5),
            recovered_s: None,
            calls_ok: 900,
            calls_failed: 0,
            false_failures: 0,
            suspicions: 20,
            datagrams_s: Some(8.25),
            seconds: 31.0,
            complaints: Vec::new(),
        }
    }

    #[test]
    fn one_failed_situation_fails_the_command() {
        assert!(table(&[row(true)]).ends_with("chaos --namespaces: passed\n"));
        let text = table(&[row(true), row(false)]);
        assert!(
            text.ends_with("FAILED, 1 of 2 situations\n") && text.contains("FAILED\n"),
            "{text}"
        );
    }

    #[test]
    fn a_row_is_flat() {
        let json = serde_json::to_value(row(true)).unwrap();
        let fields = json.as_object().unwrap();
        assert_eq!(fields["detect_s"], 6.5);
        assert!(fields["recovered_s"].is_null());
        assert!(fields.values().all(|value| !value.is_object()));
    }
}
