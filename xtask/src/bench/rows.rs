//! Rows of `bench rpc`: medians over the rounds.

use serde::Serialize;
use xtask_load::CallReport;
use xtask_report::median;

use super::grid::Cell;

/// A row of the results.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Row {
    pub(crate) subject: &'static str,
    pub(crate) payload_bytes: usize,
    pub(crate) in_flight: usize,
    /// Further conditions.
    #[serde(flatten)]
    pub(crate) conditions: Conditions,
    /// Without them it failed.
    #[serde(flatten)]
    pub(crate) figures: Option<Figures>,
    /// Why there are no figures.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) failed: Option<String>,
    pub(crate) rounds: usize,
}

/// Conditions of a measurement that differ from a closed loop over a sound network, between one
/// core and another.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub(crate) struct Conditions {
    /// Open loop: the rate of arrivals, of the highest rate in a closed loop. Calls in flight are
    /// not limited then, and the row says 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) rate_percent_of_peak: Option<u32>,
    /// Open loop: the rate of arrivals.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) offered_per_s: Option<f64>,
    /// Cores that server and client share.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cores: Option<usize>,
    /// Connections that the calls are spread over, where there is more than one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) connections: Option<usize>,
    /// Datagrams lost, each way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) loss_percent: Option<f64>,
    /// Rate of the link, each way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) link_mbit_per_s: Option<u32>,
    /// Round trip of the link, without its queue.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) link_rtt_ms: Option<u32>,
    /// Largest body of the bulk calls beside; 0 for none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) bulk_bytes: Option<usize>,
    /// Bulk calls at a time, each way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) bulk_calls_each_way: Option<usize>,
    /// Rate of the bulk calls, both directions together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) bulk_mib_per_s: Option<f64>,
    /// Flood of the server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) flood: Option<&'static str>,
}

/// Medians over the rounds, each figure by itself.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Figures {
    pub(crate) calls_per_s: f64,
    pub(crate) cpu_us_per_call: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) p999_us: f64,
    /// Resident memory at the end.
    pub(crate) server_rss_bytes: f64,
    /// Resident memory at the end.
    pub(crate) client_rss_bytes: f64,
    /// Rate of the slowest round.
    pub(crate) calls_per_s_min: f64,
    /// Rate of the fastest round.
    pub(crate) calls_per_s_max: f64,
}

impl Row {
    /// Medians of the rounds of a cell; `failed` is the reason if there are no more of them.
    pub(crate) fn new(
        subject: &'static str,
        cell: Cell,
        reports: &[CallReport],
        failed: Option<String>,
    ) -> Self {
        let figures = match failed {
            None => Figures::of(reports),
            Some(_) => None,
        };
        Self {
            subject,
            payload_bytes: cell.payload_bytes,
            in_flight: cell.in_flight,
            conditions: Conditions::default(),
            figures,
            failed,
            rounds: reports.len(),
        }
    }

    pub(crate) fn with(mut self, conditions: Conditions) -> Self {
        self.conditions = conditions;
        self
    }

    pub(crate) fn is_of(&self, cell: Cell) -> bool {
        (self.payload_bytes, self.in_flight) == (cell.payload_bytes, cell.in_flight)
    }
}

impl Figures {
    /// `None` without reports.
    pub(crate) fn of(reports: &[CallReport]) -> Option<Self> {
        let rates = || reports.iter().map(CallReport::calls_per_s);
        let of = |figure: fn(&CallReport) -> f64| median(reports.iter().map(figure).collect());
        Some(Self {
            calls_per_s: of(CallReport::calls_per_s)?,
            cpu_us_per_call: of(CallReport::cpu_us_per_call)?,
            p50_us: of(|it| it.latency.p50_us)?,
            p99_us: of(|it| it.latency.p99_us)?,
            p999_us: of(|it| it.latency.p999_us)?,
            server_rss_bytes: of(|it| it.server_rss_bytes as f64)?,
            client_rss_bytes: of(|it| it.client_rss_bytes as f64)?,
            calls_per_s_min: rates().fold(f64::INFINITY, f64::min),
            calls_per_s_max: rates().fold(0.0, f64::max),
        })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::json;
    use xtask_load::Quantiles;

    use super::*;

    /// A report of one second.
    pub(crate) fn report(calls: u64, p50_us: f64) -> CallReport {
        CallReport {
            calls,
            seconds: 1.0,
            client_cpu_us: 6.0 * calls as f64,
            server_cpu_us: 4.0 * calls as f64,
            latency: Quantiles {
                p50_us,
                p99_us: 2.0 * p50_us,
                p999_us: 3.0 * p50_us,
                ..Quantiles::default()
            },
            ..CallReport::default()
        }
    }

    pub(crate) fn row(subject: &'static str, cell: (usize, usize), calls: u64, p50_us: f64) -> Row {
        let cell = Cell {
            payload_bytes: cell.0,
            in_flight: cell.1,
        };
        Row::new(subject, cell, &[report(calls, p50_us)], None)
    }

    #[test]
    fn a_row_has_the_agreed_fields() {
        let cell = Cell {
            payload_bytes: 32,
            in_flight: 64,
        };
        let reports = [report(100, 5.0), report(300, 4.0), report(200, 6.0)];
        let row = serde_json::to_value(Row::new("rpcnet", cell, &reports, None)).unwrap();
        assert_eq!(
            row,
            json!({
                "subject": "rpcnet", "payload_bytes": 32, "in_flight": 64, "calls_per_s": 200.0,
                "cpu_us_per_call": 10.0, "p50_us": 5.0, "p99_us": 10.0, "p999_us": 15.0,
                "server_rss_bytes": 0.0, "client_rss_bytes": 0.0,
                "calls_per_s_min": 100.0, "calls_per_s_max": 300.0, "rounds": 3,
            })
        );
    }

    #[test]
    fn a_failed_cell_says_why_and_has_no_figures() {
        let cell = Cell {
            payload_bytes: 32,
            in_flight: 4096,
        };
        let row = Row::new(
            "rpcnet-0.1.0",
            cell,
            &[report(1, 1.0)],
            Some("timeout".into()),
        );
        let row = serde_json::to_value(row).unwrap();
        assert_eq!(row["failed"], "timeout");
        assert!(row.get("calls_per_s").is_none());
    }
}
