//! Rows of `bench rpc`: what is measured, and figures over the reports of its rounds.

use serde::{Serialize, Serializer};
use serde_json::Value;
use xtask_load::{Job, Load, Report};
use xtask_report::median;

use super::{
    flood_process::FloodKind,
    subjects::{OURS, Subject},
};

/// A row of the results: a subject in a cell, with a report for each round.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Row {
    pub(crate) subject: Subject,
    /// Name of the cell. Rows of the same cell are compared.
    pub(crate) cell: String,
    /// Fields of the JSON that say how it is measured.
    pub(crate) conditions: Vec<(&'static str, Value)>,
    pub(crate) load: Load,
    pub(crate) job: Job,
    /// Flood of the server, which begins before the client connects.
    pub(crate) flood: Option<FloodKind>,
    pub(crate) reports: Vec<Report>,
    /// Reports of what the row is compared with, in the same rounds.
    pub(crate) baseline: Vec<Report>,
    /// Runtime and cores of the processes.
    pub(crate) placement: Placement,
    /// Rounds that were thrown away since the machine was disturbed, and measured again.
    pub(crate) thrown_away: u32,
    /// Rounds that count although the machine was disturbed each time.
    pub(crate) disturbed: u32,
    /// Why there are no figures.
    pub(crate) failed: Option<String>,
}

/// Runtime and cores of the processes of a row.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Placement {
    /// Current-thread runtimes, a core for each process.
    #[default]
    Pinned,
    /// Multi-thread runtimes, on cores that the system chooses.
    Shared,
    /// Another mixture, which has no targets.
    Other,
}

/// A figure of a row; `None` of one that failed.
pub(crate) type Figure = fn(&Row) -> Option<f64>;

/// A row as an object of the JSON, with these figures.
pub(crate) struct JsonRow<'a> {
    pub(crate) row: &'a Row,
    pub(crate) fields: &'a [&'a [(&'static str, Figure)]],
}

pub(crate) const CALLS: &[(&str, Figure)] = &[
    ("calls_per_s", Row::per_s),
    ("cpu_us_per_call", Row::cpu_us_per_call),
    ("p50_us", Row::p50_us),
    ("p99_us", Row::p99_us),
    ("p999_us", Row::p999_us),
    ("server_rss_bytes", Row::server_rss_bytes),
    ("client_rss_bytes", Row::client_rss_bytes),
    ("calls_per_s_min", Row::per_s_min),
    ("calls_per_s_max", Row::per_s_max),
];

impl Row {
    /// A row that is still to be measured.
    pub(crate) fn new(subject: Subject, cell: String, load: Load, job: Job) -> Self {
        Self {
            subject,
            cell,
            conditions: vec![("subject", subject.name.into())],
            load,
            job,
            flood: None,
            reports: Vec::new(),
            baseline: Vec::new(),
            placement: Placement::default(),
            thrown_away: 0,
            disturbed: 0,
            failed: None,
        }
    }

    /// Calls in a closed loop.
    pub(crate) fn calls(subject: Subject, load: Load) -> Self {
        let cell = format!("{} in flight", load.in_flight);
        Self::new(subject, cell, load, Job::Closed { bulk: None })
            .with("payload_bytes", load.body_bytes)
            .with("in_flight", load.in_flight)
    }

    /// Says more about how it is measured.
    pub(crate) fn with(mut self, field: &'static str, value: impl Into<Value>) -> Self {
        self.conditions.push((field, value.into()));
        self
    }

    pub(crate) fn is_ours(&self) -> bool {
        self.subject.name == OURS
    }

    /// The median over the rounds.
    pub(crate) fn median(&self, figure: impl Fn(&Report) -> f64) -> Option<f64> {
        match self.failed {
            None => median(self.reports.iter().map(figure).collect()),
            Some(_) => None,
        }
    }

    /// The median over the rounds of a comparison with the baseline within each.
    pub(crate) fn paired(&self, figure: impl Fn(&Report, &Report) -> f64) -> Option<f64> {
        let rounds = self.reports.iter().zip(&self.baseline);
        median(rounds.map(|(it, baseline)| figure(it, baseline)).collect())
    }

    pub(crate) fn per_s(&self) -> Option<f64> {
        self.median(Report::per_s)
    }

    pub(crate) fn per_s_min(&self) -> Option<f64> {
        self.reports.iter().map(Report::per_s).reduce(f64::min)
    }

    pub(crate) fn per_s_max(&self) -> Option<f64> {
        self.reports.iter().map(Report::per_s).reduce(f64::max)
    }

    pub(crate) fn cpu_us_per_call(&self) -> Option<f64> {
        self.median(Report::cpu_us_per_call)
    }

    pub(crate) fn p50_us(&self) -> Option<f64> {
        self.median(|it| it.latency.p50_us)
    }

    pub(crate) fn p99_us(&self) -> Option<f64> {
        self.median(|it| it.latency.p99_us)
    }

    pub(crate) fn p999_us(&self) -> Option<f64> {
        self.median(|it| it.latency.p999_us)
    }

    pub(crate) fn bulk_mib_per_s(&self) -> Option<f64> {
        self.median(Report::bulk_mib_per_s)
    }

    pub(crate) fn server_rss_bytes(&self) -> Option<f64> {
        self.median(|it| it.server_rss_bytes as f64)
    }

    pub(crate) fn client_rss_bytes(&self) -> Option<f64> {
        self.median(|it| it.client_rss_bytes as f64)
    }
}

impl<'a> JsonRow<'a> {
    pub(crate) fn all(
        rows: &'a [Row],
        fields: &'a [&'a [(&'static str, Figure)]],
    ) -> impl Iterator<Item = Self> {
        rows.iter().map(move |row| Self { row, fields })
    }
}

impl Serialize for JsonRow<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let row = self.row;
        let figures = self.fields.iter().copied().flatten();
        let figures = figures.filter(|_| row.failed.is_none());
        serializer.collect_map(
            (row.conditions.iter().cloned())
                .chain(figures.filter_map(|(field, of)| Some((*field, of(row)?.into()))))
                .chain(row.failed.iter().map(|it| ("failed", it.as_str().into())))
                .chain([
                    ("rounds", row.reports.len().into()),
                    ("rounds_thrown_away", row.thrown_away.into()),
                    ("rounds_disturbed", row.disturbed.into()),
                ]),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::tests::{failed, json, report, row};

    #[test]
    fn a_row_has_the_agreed_fields() {
        let mut row = row("rpcnet", (32, 64), 100, 5.0);
        row.reports.extend([report(300, 4.0), report(200, 6.0)]);
        assert_eq!(
            json(&row, &[CALLS]),
            serde_json::json!({
                "subject": "rpcnet", "payload_bytes": 32, "in_flight": 64, "calls_per_s": 200.0,
                "cpu_us_per_call": 10.0, "p50_us": 5.0, "p99_us": 10.0, "p999_us": 15.0,
                "server_rss_bytes": 0.0, "client_rss_bytes": 0.0,
                "calls_per_s_min": 100.0, "calls_per_s_max": 300.0, "rounds": 3,
                "rounds_thrown_away": 0, "rounds_disturbed": 0,
            })
        );
    }

    #[test]
    fn a_failed_row_says_why_and_has_no_figures() {
        let row = json(&failed("timeout", (32, 4096)), &[CALLS]);
        assert_eq!(row["failed"], "timeout");
        assert!(row.get("calls_per_s").is_none());
    }
}
