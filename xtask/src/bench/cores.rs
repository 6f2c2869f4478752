//! `bench rpc --cores`: a server that may use all cores, as one endpoint and as a shard for each
//! core.
//!
//! `rpcnet` is an `Endpoint` on a runtime with a thread for each core, `rpcnet-shards` is `Shards`
//! with as many shards as cores. The client has as many threads, each with a runtime of its own,
//! and makes one connection from each of them, or four. Every connection has an endpoint and so a
//! port of its own, since the system chooses a shard by address and port: several from one port
//! would share it.
//!
//! Client and server are on the same cores, and nothing is pinned.
//!
//! - It shows which of both does more calls with the same cores, and what a call costs in CPU time,
//!   all else being equal.
//! - It does not show how many calls a server takes that has its cores to itself: the client needs
//!   a good part of them. Nor how either grows with the number of cores, unless it is run on
//!   several numbers of them (`taskset -c 0-3 cargo xtask bench rpc --cores`).
//! - Latencies have in them that threads wait for a core: there are two that want to run for each.
//!   Threads that look for packets before they sleep, as those of shards and of the client do and
//!   those of the endpoint do not, take time here that would be idle elsewhere; where the other
//!   process needs it, CPU time and tails are worse for it.
//! - With few connections chance decides how many shards have any: two of two shards have the same
//!   one every other time. Then the rounds differ, as the slowest and the fastest tell, and the
//!   median of few may be of either kind. A service with many callers is like the rows with more
//!   connections, one with a caller or two like the others.

use std::error::Error;

use xtask_load::{ClosedLoop, Job, Spread, parallelism};

use xtask_report::{Bar, Panel, draw_bars, format_table, number, ratio};

use super::{
    client_process::{BenchSetup, Measurement},
    grid::Cell,
    options::Options,
    rows::{Conditions, Row},
    rpc,
    subjects::{self, OURS, SHARDS, Subject},
};

/// Measures.
pub(crate) async fn run(options: &Options) -> Result<(), Box<dyn Error>> {
    let subjects = subjects::select_among(options, &[OURS, SHARDS])?;
    let in_flight = match &options.in_flight[..] {
        [] => &[64, 512][..],
        asked => asked,
    };
    let setup = BenchSetup::new(options, &subjects)?.with_shared_cores();
    let cores = parallelism().get();
    println!("{cores} cores, which the server shares with the client");
    rpc::print_conditions(options, &setup);
    let mut rows = Vec::new();
    for in_flight in in_flight {
        let cell = Cell {
            payload_bytes: PAYLOAD_BYTES,
            in_flight: *in_flight,
        };
        for spread in spreads(rpc::closed_loop(options, cell), cores) {
            let conditions = Conditions {
                cores: Some(cores),
                connections: Some(spread.connections()),
                ..Conditions::default()
            };
            let load = |subject, _| measurement(subject, spread);
            let measured = rpc::measure_with(options, &setup, &subjects, &[cell], load).await?;
            rows.extend(measured.into_iter().map(|row| row.with(conditions)));
        }
    }
    print!("{}", report(&rows));
    rpc::write_files(options, &rows, || figure(&rows))
}

/// The load over few connections, and over more if there are calls for them.
fn spreads(load: ClosedLoop, threads: usize) -> Vec<Spread> {
    let mut spreads = CONNECTIONS_PER_THREAD
        .map(|connections_per_thread| Spread {
            load,
            threads,
            connections_per_thread,
        })
        .to_vec();
    spreads.dedup_by_key(|spread| spread.connections());
    spreads
}

fn measurement(subject: Subject, spread: Spread) -> Measurement {
    Measurement {
        subject,
        job: Job::Spread(spread),
        in_flight: spread.load.in_flight,
        body_bytes: spread.load.body_bytes,
        hold: false,
    }
}

/// The table; the last columns say how the endpoint compares with the others.
fn report(rows: &[Row]) -> String {
    let heading = [
        "32 B",
        "in flight",
        "connections",
        "calls/s",
        "slowest",
        "fastest",
        "CPU µs/call",
        "p50 µs",
        "p99 µs",
        "p99.9 µs",
        "ours: rate",
        "p50",
        "CPU",
    ];
    let mut lines = vec![heading.map(str::to_owned).to_vec()];
    let mut notes = String::new();
    for row in rows {
        let connections = row.conditions.connections.unwrap_or_default();
        let mut line = vec![
            row.subject.to_owned(),
            row.in_flight.to_string(),
            connections.to_string(),
        ];
        if let Some(figures) = row.figures {
            line.extend(
                [
                    figures.calls_per_s,
                    figures.calls_per_s_min,
                    figures.calls_per_s_max,
                    figures.cpu_us_per_call,
                    figures.p50_us,
                    figures.p99_us,
                    figures.p999_us,
                ]
                .map(number),
            );
            let ours = alike(rows, row).find(|it| it.subject == OURS);
            let ours = ours.and_then(|it| it.figures);
            if let Some(ours) = ours.filter(|_| row.subject != OURS) {
                line.extend([
                    ratio(ours.calls_per_s / figures.calls_per_s),
                    ratio(ours.p50_us / figures.p50_us),
                    ratio(ours.cpu_us_per_call / figures.cpu_us_per_call),
                ]);
            }
        } else if let Some(reason) = &row.failed {
            line.push("failed".to_owned());
            notes += &format!(
                "{} failed at {} in flight over {connections} connections: {reason}\n",
                row.subject, row.in_flight
            );
        }
        lines.push(line);
    }
    format!("{}{notes}", format_table(&lines))
}

/// The rows that were measured in the same way.
fn alike<'a>(rows: &'a [Row], row: &'a Row) -> impl Iterator<Item = &'a Row> {
    rows.iter()
        .filter(|it| it.in_flight == row.in_flight && it.conditions == row.conditions)
}

fn figure(rows: &[Row]) -> String {
    let is_first = |row: &&Row| alike(rows, row).next() == Some(*row);
    let panel = |row: &Row| Panel {
        title: format!(
            "{} in flight over {} connections",
            row.in_flight,
            row.conditions.connections.unwrap_or_default()
        ),
        bars: alike(rows, row)
            .map(|row| Bar {
                label: row.subject.to_owned(),
                value: row.figures.map(|figures| figures.calls_per_s),
                ours: row.subject == OURS,
            })
            .collect(),
    };
    let panels: Vec<Panel> = rows.iter().filter(is_first).map(panel).collect();
    let cores = rows.first().and_then(|row| row.conditions.cores);
    let title = format!(
        "calls per second, echo of 32 B, server and client on the same {} cores",
        cores.unwrap_or_default()
    );
    draw_bars(&title, &panels)
}

const PAYLOAD_BYTES: usize = 32;

/// Connections of a thread: one stands for few callers, four for enough that most shards have some.
const CONNECTIONS_PER_THREAD: [usize; 2] = [1, 4];

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::bench::rows::tests::row;

    fn spread(subject: &'static str, connections: usize, calls: u64) -> Row {
        row(subject, (32, 64), calls, 10.0).with(Conditions {
            cores: Some(2),
            connections: Some(connections),
            ..Conditions::default()
        })
    }

    #[test]
    fn the_endpoint_is_compared_with_shards_with_as_many_connections() {
        let rows = [
            spread(OURS, 2, 300),
            spread(SHARDS, 2, 200),
            spread(OURS, 8, 300),
            spread(SHARDS, 8, 600),
        ];
        let text = report(&rows);
        let lines: Vec<_> = text.lines().collect();
        assert!(!lines[1].contains('x') && !lines[3].contains('x'), "{text}");
        assert!(lines[2].ends_with("1.50x  1.00x  1.00x"), "{text}");
        assert!(lines[4].ends_with("0.50x  1.00x  1.00x"), "{text}");
        let svg = figure(&rows);
        assert!(svg.contains("same 2 cores") && svg.contains("64 in flight over 8 connections"));
        assert_eq!(svg.matches("in flight over").count(), 2);
        assert_eq!(svg.matches("#C2410C").count(), 2);
    }

    #[test]
    fn one_call_is_measured_over_one_connection() {
        let connections = |in_flight| -> Vec<usize> {
            let load = ClosedLoop {
                body_bytes: 32,
                in_flight,
                warm_up: Duration::ZERO,
                window: Duration::ZERO,
            };
            let spreads = spreads(load, 2);
            spreads.iter().map(Spread::connections).collect()
        };
        assert_eq!(connections(64), [2, 8]);
        assert_eq!(connections(5), [2, 5]);
        assert_eq!(connections(1), [1]);
    }

    #[test]
    fn a_row_says_on_how_many_cores() {
        let row = serde_json::to_value(spread(SHARDS, 8, 600)).unwrap();
        assert_eq!((&row["cores"], &row["connections"]), (&2.into(), &8.into()));
        assert_eq!((&row["in_flight"], &row["rounds"]), (&64.into(), &1.into()));
    }

    #[test]
    fn a_failure_is_reported_with_its_reason() {
        let mut failed = spread("rpcnet-0.1.0", 8, 1);
        (failed.figures, failed.failed) = (None, Some("it hangs".to_owned()));
        let text = report(&[failed]);
        assert!(text.contains("over 8 connections: it hangs"), "{text}");
    }
}
