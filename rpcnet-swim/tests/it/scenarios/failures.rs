//! Crashes, suspicions and what must not be taken for a crash.

use super::*;

#[test]
fn crash_is_known_everywhere_within_bound() {
    // Median and worst of the seeds, from which the table in the documentation is made.
    for (nodes, bound) in [
        (2, secs(6)),
        (3, secs(5)),
        (5, secs(5)),
        (10, secs(5)),
        (16, secs(5)),
        (32, millis(5_500)),
    ] {
        let mut took: Vec<_> = (0..8)
            .map(|seed| {
                let mut cluster = settled(seed, nodes);
                cluster.run_for(millis(137 * seed));
                cluster.crash(nodes - 1);
                let known = |cluster: &Cluster| {
                    let gone = |n| state(cluster, n, nodes - 1) == Some(MemberState::Failed);
                    (0..nodes - 1).all(gone)
                };
                let took = cluster.run_until(secs(30), known);
                cluster.expect_safe();
                assert_eq!(cluster.report().false_failures, 0);
                took.expect("all know within 30 s")
            })
            .collect();
        took.sort_unstable();
        println!("N={nodes}: median {:?}, worst {:?}", took[4], took[7]);
        assert!(took[7] <= bound, "N={nodes}: {took:?}");
    }
}

#[test]
fn refutation_beats_older_suspicion() {
    let mut cluster = settled(1, 8);
    // Long enough to be suspected by all, not to be declared failed.
    cluster.block(3);
    let suspected = |cluster: &Cluster| state(cluster, 0, 3) == Some(MemberState::Suspect);
    cluster.run_until(secs(5), suspected).expect("suspected");
    cluster.resume(3);
    converge(&mut cluster, secs(5));
    assert!(cluster.engine(3).unwrap().local_member().incarnation > 0);
    assert!(cluster.engine(3).unwrap().stats().refutations > 0);
    assert_eq!(count(&cluster, &all(&cluster), is_failure), 0);
    let recovered = |event: &Event| matches!(event, Event::NodeRecovered(m) if &*m.id.name == "n3");
    assert!(count(&cluster, &[0], recovered) > 0);
    // Later claims about the older incarnation have no effect.
    cluster.run_for(secs(30));
    assert!(cluster.is_converged());
}

#[test]
fn a_stalled_node_declares_no_member_failed() {
    for (seed, stalled) in [(1, vec![4]), (2, vec![1, 4, 7]), (3, (0..9).collect())] {
        let mut cluster = settled(seed, 10);
        stalled.iter().for_each(|node| cluster.stall(*node));
        cluster.run_for(secs(30));
        // Not all at the same moment.
        for node in &stalled {
            cluster.resume(*node);
            cluster.run_for(millis(5));
        }
        cluster.run_for(secs(1));
        for node in &stalled {
            let stats = cluster.engine(*node).unwrap().stats();
            assert_eq!(stats.failures_declared, 0, "n{node} of {stalled:?}");
            assert!(stats.stalls > 0);
            // Members that were healthy all the time are never seen failed by it.
            for well in (0..10).filter(|n| !stalled.contains(n)) {
                assert_eq!(count(&cluster, &[*node], failed(&format!("n{well}"))), 0);
            }
        }
        converge(&mut cluster, secs(60));
        assert_eq!(cluster.report().false_failures, 0);
    }
}

#[test]
fn a_blocked_observer_declares_no_member_failed() {
    for seed in 0..5 {
        let mut cluster = settled(seed, 10);
        cluster.block(4);
        cluster.run_for(secs(30));
        assert_eq!(cluster.engine(4).unwrap().stats().failures_declared, 0);
        assert_eq!(count(&cluster, &[4], is_failure), 0);
        cluster.resume(4);
        converge(&mut cluster, secs(60));
        assert_eq!(cluster.engine(4).unwrap().stats().failures_declared, 0);
        assert_eq!(cluster.report().false_failures, 0);
    }
}

#[test]
fn an_observer_slow_by_a_quarter_second_declares_no_member_failed() {
    for seed in 0..5 {
        let mut cluster = settled(seed, 10);
        // Each message from and to it takes a quarter of a second.
        for other in (0..10).filter(|n| *n != 4) {
            let slow = Link::lan().with_delay(millis(250));
            cluster.network().set_link(4, other, slow);
            cluster.network().set_link(other, 4, slow);
        }
        cluster.run_for(secs(120));
        assert_eq!(
            count(&cluster, &all(&cluster), is_failure),
            0,
            "seed {seed}"
        );
    }
}

#[test]
fn a_flapping_member_is_damped() {
    let mut cluster = settled(13, 10);
    let observer: Vec<usize> = vec![0];
    // For ten minutes it is cut off for twenty seconds and back for twenty.
    for _ in 0..15 {
        cluster.network().isolate([6], 1);
        cluster.run_for(secs(20));
        cluster.network().heal_partitions();
        cluster.run_for(secs(20));
    }
    let times = count(&cluster, &observer, failed("n6"));
    println!("failed {times} times of 15");
    // The first recovery is accepted at once; the second time it has to prove that it lasts.
    assert_eq!(times, 2);
    // Once it is healthy it recovers for good.
    converge(&mut cluster, secs(1_000));
    let before = cluster.report().failures;
    cluster.run_for(secs(300));
    assert_eq!(cluster.report().failures, before);
}

#[test]
fn a_far_cluster_finds_a_crash() {
    for delay in [15, 50, 150] {
        let config = ClusterConfig::wan();
        let mut cluster = Cluster::bootstrap(14, 9, config);
        cluster.network().default = Link::lan().with_delay(millis(delay));
        converge(&mut cluster, secs(30));
        cluster.run_for(secs(20));
        cluster.crash(8);
        let took = converge(&mut cluster, secs(20));
        println!("one way {delay} ms: {took:?}");
        assert_eq!(cluster.report().false_failures, 0);
    }
}

#[test]
fn a_crash_of_most_members_at_once_is_detected() {
    for (nodes, left) in [(4, 2), (10, 2), (10, 5), (32, 4)] {
        let mut cluster = settled(15, nodes);
        (left..nodes).for_each(|node| cluster.crash(node));
        let known = |cluster: &Cluster| {
            (0..left).all(|n| cluster.engine(n).is_some_and(|e| e.live_count() == left))
        };
        let took = cluster.run_until(secs(120), known);
        println!("{left} of {nodes} left: known after {took:?}");
        cluster.expect_safe();
        assert_eq!(cluster.report().false_failures, 0);
        assert!(took.is_some());
    }
}

#[test]
fn a_quiet_cluster_costs_little() {
    for (nodes, bound) in [(10, 400), (32, 400), (128, 400)] {
        let mut cluster = Cluster::bootstrap(16, nodes, lan());
        cluster.check_every(20);
        converge(&mut cluster, secs(20));
        // Until the joins are known everywhere.
        cluster.run_for(secs(60));
        let before = cluster.report();
        cluster.run_for(secs(30));
        let after = cluster.report();
        let each = |total: u64| total / (30 * nodes as u64);
        let bytes = each(after.sent_bytes - before.sent_bytes);
        let tenths = each(10 * (after.sent - before.sent));
        println!(
            "N={nodes}: {bytes} B/s, {}.{} datagrams/s a node",
            tenths / 10,
            tenths % 10
        );
        assert!(bytes <= bound, "N={nodes}: {bytes} B/s a node");
        assert_eq!(after.suspicions, before.suspicions);
    }
}

#[test]
fn a_probe_round_without_a_witness_raises_no_suspicion() {
    let mut cluster = settled(11, 3);
    // Node 0 hears the others, but none of its datagrams arrives.
    cluster.network().cut(0, 1);
    cluster.network().cut(0, 2);
    cluster.run_for(secs(3));
    let voids = cluster.engine(0).unwrap().stats().inconclusive_rounds;
    assert!(voids > 0, "it did probe in vain");
    let suspects = |event: &Event| matches!(event, Event::NodeSuspect { .. });
    assert_eq!(count(&cluster, &[0], suspects), 0);
}

#[test]
fn a_member_that_is_deaf_repeatedly_recovers_once() {
    for seed in 1..=4 {
        let mut cluster = Cluster::formed(seed, 24, lan());
        cluster.log_events(false);
        cluster.run_for(secs(15));
        for _ in 0..15 {
            for loss in [1.0, 0.0] {
                cluster.network().set_ingress_loss(3, loss);
                cluster.run_for(secs(20));
            }
        }
        for observer in (0..24).filter(|observer| *observer != 3) {
            let of_it = |t: &&Transition| (t.observer, t.subject) == (observer, 3);
            let seen: Vec<_> = cluster.transitions().iter().filter(of_it).collect();
            // Failed, recovered at once, and failed until it proves that the recovery lasts.
            assert_eq!(seen.len(), 3, "{seen:?}");
        }
        // The recovery lasts in the end.
        cluster
            .run_until(secs(200), Cluster::is_converged)
            .expect("it is back");
        cluster.expect_safe();
    }
}
