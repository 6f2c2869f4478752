//! `bench rpc --connections N`: memory of idle connections.

use std::error::Error;

use serde::Serialize;
use xtask_load::{ClientMessage, ConnectionReport, Job};

use xtask_report::{Bar, Panel, Progress, draw_bars, format_table, median, number};

use super::{
    client_process::{BenchSetup, Measurement},
    options::Options,
    rpc,
    subjects::{self, OURS, QUINN},
};

/// A row of the results: medians over the rounds.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Row {
    subject: &'static str,
    connections: usize,
    server_bytes_per_connection: f64,
    client_bytes_per_connection: f64,
    /// Time to open one, each after the other.
    open_us: f64,
    rounds: usize,
}

/// Measures.
pub(crate) async fn run(options: &Options, count: usize) -> Result<(), Box<dyn Error>> {
    let subjects = subjects::select_among(options, &[OURS, QUINN])?;
    let setup = BenchSetup::new(options, &subjects)?;
    println!(
        "{}; {count} idle connections, opened one after the other\n",
        setup.describe()
    );
    let rounds = options.rounds();
    let mut progress = Progress::new(rounds as usize * subjects.len());
    let mut reports: Vec<Vec<ConnectionReport>> = vec![Vec::new(); subjects.len()];
    for round in 1..=rounds {
        for (at, subject) in subjects.iter().enumerate() {
            let what = format!("{} (round {round} of {rounds})", subject.name);
            progress.step(&what);
            let measurement = Measurement {
                subject: *subject,
                job: Job::Connections { count },
                in_flight: 1,
                body_bytes: 1024,
                hold: false,
            };
            match setup.start(&measurement).await?.result().await {
                Ok(ClientMessage::Connections(report)) => reports[at].push(report),
                Ok(other) => return Err(format!("{what}: the client tells {other:?}").into()),
                Err(error) => return Err(format!("{what}: {error}").into()),
            }
        }
    }
    drop(progress);
    let rows: Vec<Row> = subjects
        .iter()
        .zip(&reports)
        .filter_map(|(subject, reports)| Row::new(subject.name, reports))
        .collect();
    print!("{}", report(&rows));
    rpc::write_files(options, &rows, || figure(&rows))
}

impl Row {
    fn new(subject: &'static str, reports: &[ConnectionReport]) -> Option<Self> {
        let each = |figure: fn(&ConnectionReport) -> f64| {
            let values = reports.iter().map(|it| figure(it) / it.connections as f64);
            median(values.collect())
        };
        Some(Self {
            subject,
            connections: reports.first()?.connections,
            server_bytes_per_connection: each(|it| it.server_bytes as f64)?,
            client_bytes_per_connection: each(|it| it.client_bytes as f64)?,
            open_us: each(|it| it.seconds * 1e6)?,
            rounds: reports.len(),
        })
    }
}

fn report(rows: &[Row]) -> String {
    let heading = ["RSS per connection", "server KiB", "client KiB", "open µs"];
    let mut lines = vec![heading.map(str::to_owned).to_vec()];
    for row in rows {
        lines.push(vec![
            row.subject.to_owned(),
            number(row.server_bytes_per_connection / 1024.0),
            number(row.client_bytes_per_connection / 1024.0),
            number(row.open_us),
        ]);
    }
    format_table(&lines)
}

fn figure(rows: &[Row]) -> String {
    let panel = |title: &str, bytes: fn(&Row) -> f64| Panel {
        title: title.to_owned(),
        bars: rows
            .iter()
            .map(|row| Bar {
                label: row.subject.to_owned(),
                value: Some(bytes(row) / 1024.0),
                ours: row.subject == OURS,
            })
            .collect(),
    };
    let panels = [
        panel("server", |it| it.server_bytes_per_connection),
        panel("client", |it| it.client_bytes_per_connection),
    ];
    draw_bars(
        "KiB of resident memory per idle connection (shorter is better)",
        &panels,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_of_one_connection() {
        let report = |server_bytes| ConnectionReport {
            connections: 100,
            client_bytes: 204_800,
            server_bytes,
            seconds: 0.1,
        };
        let row = Row::new(OURS, &[report(100), report(409_600), report(1_000_000)]).unwrap();
        assert_eq!(row.server_bytes_per_connection, 4096.0);
        assert_eq!((row.client_bytes_per_connection, row.rounds), (2048.0, 3));
        assert_eq!(row.open_us.round(), 1000.0);
        assert!(super::report(&[row]).contains("4.00"));
        assert_eq!(Row::new(OURS, &[]), None);
    }
}
