//! `bench rpc --cores`: a server that may use all cores, as one endpoint and as a shard for each
//! core.
//!
//! `rpcnet` is an `Endpoint` on a runtime with a thread for each core, `rpcnet-shards` is `Shards`
//! with as many shards as cores. The client has as many threads, each with a runtime of its own,
//! and makes one connection from each of them, or four. Every connection has an endpoint and so a
//! port of its own, since the system chooses a shard by address and port: several from one port
//! would share it.
//!
//! Client and server are on the same cores, and nothing is pinned. So the rows show which of both
//! does more calls with the same cores, and what a call costs in CPU time; not how many calls a
//! server takes that has its cores to itself, nor how either grows with the number of cores, unless
//! it is run on several numbers of them (`taskset -c 0-3 cargo xtask bench rpc --cores`).
//!
//! - Latencies have in them that threads wait for a core: there are two that want to run for each.
//!   Threads that look for packets before they sleep, as those of shards and of the client do, take
//!   time here that would be idle elsewhere, and CPU time and tails are worse for it.
//! - With few connections chance decides how many shards have any: two of two shards have the same
//!   one every other time, as the slowest and the fastest round tell. A service with many callers
//!   is like the rows with more connections, one with a caller or two like the others.

use xtask_load::{Job, Spread, parallelism};

use super::{
    grid,
    mode::{CPU, Column, IN_FLIGHT, Mode, OURS_CPU, OURS_P50, OURS_RATE, P50, P99, P999, RATE},
    options::Options,
    rows::Row,
    subjects::{OURS, SHARDS, Subject},
};

pub(crate) const MODE: Mode = Mode {
    subjects: &[OURS, SHARDS],
    inapplicable: &["--payload", "--peers", "--runtime multi", "--unpinned"],
    prepare: |_, setup| {
        println!(
            "{} cores, which the server shares with the client",
            parallelism()
        );
        setup.with_shared_cores()
    },
    groups: |options, subjects| groups(options, subjects, parallelism().get()),
    columns: &[
        IN_FLIGHT,
        Column::Text("connections", |row| match row.job {
            Job::Spread(spread) => spread.connections(row.load.in_flight).to_string(),
            _ => String::new(),
        }),
        RATE,
        Column::Number("slowest", Row::per_s_min),
        Column::Number("fastest", Row::per_s_max),
        CPU,
        P50,
        P99,
        P999,
        OURS_RATE,
        OURS_P50,
        OURS_CPU,
    ],
    figure: |rows| {
        let cores = rows.first().map_or(0, |row| match row.job {
            Job::Spread(spread) => spread.threads,
            _ => 0,
        });
        format!("calls per second, echo of 32 B, server and client on the same {cores} cores")
    },
    ..Mode::CALLS
};

/// Calls over few connections, and over more if there are calls for them.
fn groups(options: &Options, subjects: &[Subject], cores: usize) -> Vec<Vec<Row>> {
    let mut groups = Vec::new();
    for in_flight in options.in_flight_or(&[64, 512]) {
        let mut spreads = CONNECTIONS_PER_THREAD
            .map(|connections_per_thread| Spread {
                threads: cores,
                connections_per_thread,
            })
            .to_vec();
        spreads.dedup_by_key(|spread| spread.connections(in_flight));
        for spread in spreads {
            let connections = spread.connections(in_flight);
            let mut rows = grid::group(options, subjects, (32, in_flight));
            for row in &mut rows {
                row.cell += &format!(" over {connections} connections");
                row.job = Job::Spread(spread);
            }
            let rows = rows.into_iter();
            let rows = rows.map(|row| row.with("cores", cores).with("connections", connections));
            groups.push(rows.collect());
        }
    }
    groups
}

/// Connections of a thread: one stands for few callers, four for enough that most shards have some.
const CONNECTIONS_PER_THREAD: [usize; 2] = [1, 4];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::{
        subjects,
        tests::{json, parse, report},
    };

    /// Rows of these many calls, in the order of the groups.
    fn measured(subject: &[&str], calls: &[u64]) -> Vec<Row> {
        let subjects: Vec<_> = subject
            .iter()
            .filter_map(|it| subjects::named(it))
            .collect();
        let options = parse(&["--in-flight", "64"]).unwrap();
        let mut rows = groups(&options, &subjects, 2).concat();
        assert_eq!(rows.len(), calls.len());
        for (row, calls) in rows.iter_mut().zip(calls) {
            row.reports.push(report(*calls, 10.0));
        }
        rows
    }

    #[test]
    fn the_endpoint_is_compared_with_shards_with_as_many_connections() {
        let rows = measured(&[OURS, SHARDS], &[300, 200, 300, 600]);
        let text = MODE.report(&rows);
        let lines: Vec<_> = text.lines().collect();
        assert!(!lines[1].contains('x') && !lines[3].contains('x'), "{text}");
        assert!(lines[2].ends_with("1.50x  1.00x  1.00x"), "{text}");
        assert!(lines[4].ends_with("0.50x  1.00x  1.00x"), "{text}");
        let svg = MODE.draw(&rows);
        assert!(svg.contains("same 2 cores") && svg.contains("64 in flight over 8 connections"));
        assert_eq!(svg.matches("in flight over").count(), 2);
        assert_eq!(svg.matches("#C2410C").count(), 2);
    }

    #[test]
    fn one_call_is_measured_over_one_connection() {
        let connections = |in_flight| -> Vec<usize> {
            let options = parse(&["--in-flight", in_flight]).unwrap();
            let rows = groups(&options, &subjects::ALL[..1], 2).concat();
            let connections = rows.iter().map(|row| match row.job {
                Job::Spread(spread) => spread.connections(row.load.in_flight),
                _ => 0,
            });
            connections.collect()
        };
        assert_eq!(connections("64"), [2, 8]);
        assert_eq!(connections("5"), [2, 5]);
        assert_eq!(connections("1"), [1]);
    }

    #[test]
    fn a_row_says_on_how_many_cores() {
        let row = json(&measured(&[SHARDS], &[600, 600])[1], MODE.fields);
        assert_eq!((&row["cores"], &row["connections"]), (&2.into(), &8.into()));
        assert_eq!((&row["in_flight"], &row["rounds"]), (&64.into(), &1.into()));
    }

    #[test]
    fn a_failure_is_reported_with_its_reason() {
        let mut failed = measured(&["rpcnet-0.1.0"], &[1, 1]).remove(1);
        failed.failed = Some("it hangs".to_owned());
        let text = MODE.report(&[failed]);
        assert!(text.contains("over 8 connections: it hangs"), "{text}");
    }
}
