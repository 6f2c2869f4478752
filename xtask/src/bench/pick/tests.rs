//! Tests of the command line and of the order of measurements; rows that other tests share.

use super::*;
use crate::bench::tests::parse_as;

fn parse(arguments: &[&str]) -> Options {
    parse_as(arguments).unwrap()
}

/// Rounds of one thread and of two.
pub(crate) fn rounds(
    strategy: &'static str,
    work: Work,
    workers: usize,
    ns: &[(f64, f64)],
) -> Vec<Row> {
    let row = |threads, of: fn(&(f64, f64)) -> f64| {
        let cell = Cell {
            strategy,
            workers,
            threads,
            work,
        };
        let reading = |ns| Reading {
            ns: of(ns),
            allocations: 0.0,
        };
        Row::new(cell, ns.iter().map(reading).collect())
    };
    vec![row(1, |ns| ns.0), row(2, |ns| ns.1)]
}

#[test]
fn peers_are_asked_for() {
    let ours = parse(&[]).strategies().unwrap();
    assert_eq!(ours.len(), rpcnet_subject::STRATEGIES.len());
    let all = parse(&["--peers"]).strategies().unwrap();
    assert_eq!(all.len(), ours.len() + targets::PEERS.len());
    let some = parse(&["--peers", "--strategy", "pingora-random,random"]);
    assert_eq!(some.strategies().unwrap(), ["random", "pingora-random"]);
    let error = parse(&["--strategy", "worst"]).strategies().unwrap_err();
    assert!(error.contains("peak-ewma"), "{error}");
}

#[tokio::test]
async fn everything_is_measured_in_turns() {
    let options = parse(&["--rounds", "2", "--workers", "3,30", "--strategy", "random"]);
    let mut orders = Vec::new();
    let measured = measure(
        &options,
        &["random", "tower-p2c-peak-ewma"],
        async |order| {
            orders.push((
                order.workers,
                order.work,
                order.strategy.clone(),
                order.threads,
            ));
            Ok(Reading::default())
        },
    );
    let rows = measured.await.unwrap();
    // Two sizes, two rounds; picks of one, calls of both; one thread and two.
    assert_eq!(rows.len(), 2 * 3 * 2);
    assert!(rows.iter().all(|row| row.rounds == 2));
    let tower = "tower-p2c-peak-ewma".to_owned();
    assert!(orders.iter().all(|it| it.2 != tower || it.1 == Work::Call));
    assert_eq!(orders[4], (3, Work::Call, "random".to_owned(), 1));
    assert_eq!(orders[6], (3, Work::Call, tower, 1));
}

#[tokio::test]
async fn a_failure_names_its_measurement() {
    let options = parse(&["--quick"]);
    let failing = measure(&options, &["random"], async |_| Err("it broke".into()));
    let error = failing.await.unwrap_err();
    assert!(
        error.to_string().starts_with("random, 3 workers"),
        "{error}"
    );
}
