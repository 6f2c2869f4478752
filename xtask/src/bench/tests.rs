//! Command lines, reports and rows that the tests share.

use clap::{Args, Parser};
use serde_json::Value;
use xtask_load::{Load, Report};
use xtask_report::Quantiles;

use super::{
    options::Options,
    rows::{Figure, JsonRow, Row},
    subjects,
};

#[derive(Debug, Parser)]
struct Line<T: Args> {
    #[command(flatten)]
    options: T,
}

/// Parses arguments of `bench rpc`.
pub(crate) fn parse(arguments: &[&str]) -> Result<Options, String> {
    parse_as(arguments)
}

/// Parses arguments of another benchmark.
pub(crate) fn parse_as<T: Args>(arguments: &[&str]) -> Result<T, String> {
    let arguments = ["bench"].iter().chain(arguments);
    match Line::try_parse_from(arguments) {
        Ok(line) => Ok(line.options),
        Err(error) => Err(error.to_string()),
    }
}

/// A report of one second.
pub(crate) fn report(calls: u64, p50_us: f64) -> Report {
    Report {
        count: calls,
        seconds: 1.0,
        client_cpu_us: 6.0 * calls as f64,
        server_cpu_us: 4.0 * calls as f64,
        latency: Quantiles {
            p50_us,
            p99_us: 2.0 * p50_us,
            p999_us: 3.0 * p50_us,
        },
        ..Report::default()
    }
}

pub(crate) fn row(subject: &str, cell: (usize, usize), calls: u64, p50_us: f64) -> Row {
    let (body_bytes, in_flight) = cell;
    let load = Load {
        body_bytes,
        in_flight,
        ..Load::default()
    };
    let mut row = Row::calls(subjects::named(subject).unwrap(), load);
    row.reports.push(report(calls, p50_us));
    row
}

pub(crate) fn failed(reason: &str, cell: (usize, usize)) -> Row {
    let mut row = row("rpcnet-0.1.0", cell, 1, 1.0);
    row.failed = Some(reason.to_owned());
    row
}

pub(crate) fn json(row: &Row, fields: &[&[(&'static str, Figure)]]) -> Value {
    serde_json::to_value(JsonRow { row, fields }).unwrap()
}
