//! Runs that can be repeated.

use std::{collections::BTreeSet, sync::Mutex};

use super::*;

/// A run with all kinds of trouble; its result is its log.
async fn troubled(cluster: &TestCluster) -> String {
    let nodes = started(cluster, 5).await;
    cluster.lose(0.05);
    for round in 0..10 {
        let client = nodes[round % 4].client();
        let called = client
            .call_worker_typed::<_, String>("name", &(), None)
            .await;
        cluster.note(&format!("call {round}: {called:?}"));
    }
    nodes[4].kill();
    cluster.eventually(|| cluster.has_converged()).await;
    cluster.partition(&nodes[..2], &nodes[2..4]);
    tokio::time::sleep(15 * SECOND).await;
    for node in &nodes[..4] {
        let client = node.client();
        let called = client
            .call_worker_typed::<_, String>("name", &(), None)
            .await;
        cluster.note(&format!("call of {}: {called:?}", node.name()));
    }
    nodes[1].stop();
    cluster.heal();
    tokio::time::sleep(15 * SECOND).await;
    nodes[1].resume();
    nodes[4].restart().await;
    nodes[3].upgrade(serving).await;
    cluster.eventually(|| cluster.has_converged()).await;
    cluster.log()
}

/// Logs of a run with each of these seeds, by seed.
fn logs(seeds: impl IntoIterator<Item = u64, IntoIter: Send>) -> BTreeSet<(u64, String)> {
    let logs = Mutex::default();
    TestCluster::for_seeds(seeds, async |cluster| {
        let log = troubled(cluster).await;
        let mut logs: std::sync::MutexGuard<'_, BTreeSet<_>> = logs.lock().expect("no panic");
        logs.insert((cluster.seed(), log));
    });
    logs.into_inner().expect("no panic")
}

#[test]
fn the_same_seed_repeats_a_run_byte_for_byte_and_another_one_does_not() {
    let once = logs(0..6);
    assert_eq!(once.len(), 6);
    let again = logs(0..6);
    for ((seed, one), (_, other)) in once.iter().zip(&again) {
        assert_eq!(one, other, "seed {seed}");
    }
    // Apart from the first line, which has the seed.
    let schedules: BTreeSet<&str> = once
        .iter()
        .filter_map(|(_, log)| log.split_once('\n'))
        .map(|(_, rest)| rest)
        .collect();
    assert_eq!(schedules.len(), 6);
}

#[test]
fn a_hundred_seeds_take_seconds() {
    let began = std::time::Instant::now();
    TestCluster::for_seeds(0..100, async |cluster| {
        let nodes = started(cluster, 5).await;
        nodes[4].kill();
        cluster.eventually(|| cluster.has_converged()).await;
        cluster.partition(&nodes[..2], &nodes[2..4]);
        let is_split = || nodes[0].alive() == 2 && nodes[3].alive() == 2;
        cluster.eventually(is_split).await;
        cluster.heal();
        cluster.eventually(|| cluster.has_converged()).await;
    });
    let took = began.elapsed();
    assert!(took < 60 * SECOND, "{took:?}");
}

#[test]
fn a_seed_that_fails_ends_the_run() {
    let begun = Mutex::new(0);
    let run = || {
        TestCluster::for_seeds(0..1_000, async |cluster| {
            *begun.lock().expect("no panic") += 1;
            assert!(cluster.seed() != 3, "seed 3 fails");
        });
    };
    let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run));
    let message = panic
        .expect_err("it fails")
        .downcast::<&str>()
        .expect("a message");
    assert_eq!(*message, "seed 3 fails");
    assert!(*begun.lock().expect("no panic") < 1_000);
}
