//! Two processes of one name, in virtual time: which one keeps it, and which one gets it back.

use std::net::SocketAddr;

use rpcnet_swim::{Event, MembershipState};
use rpcnet_swim_sim::Cluster;

use crate::{converge, lan, secs};

fn state(cluster: &Cluster, node: usize) -> MembershipState {
    cluster.engine(node).expect("it runs").state()
}

fn is_superseded(cluster: &Cluster, node: usize, by: SocketAddr) -> bool {
    matches!(state(cluster, node), MembershipState::Superseded { addr, .. } if addr == by)
}

fn count(cluster: &Cluster, node: usize, like: impl Fn(&Event) -> bool) -> usize {
    let events = cluster.events(node).iter();
    events.filter(|(_, event)| like(event)).count()
}

fn is_superseding(event: &Event) -> bool {
    matches!(event, Event::Superseded { .. })
}

fn is_over(event: &Event) -> bool {
    matches!(event, Event::SupersessionEnded { .. })
}

/// Six nodes, and a newer one of the name of the fourth.
fn with_twin(seed: u64) -> (Cluster, usize) {
    let mut cluster = Cluster::bootstrap(seed, 6, lan());
    converge(&mut cluster, secs(10));
    cluster.run_for(secs(5));
    let seeds = vec![cluster.addr(0), cluster.addr(1)];
    let twin = cluster.add("n3", lan(), seeds);
    (cluster, twin)
}

/// The same, when the fourth node knows that the newer one has its name.
fn superseded(seed: u64) -> (Cluster, usize) {
    let (mut cluster, twin) = with_twin(seed);
    let by = cluster.addr(twin);
    cluster
        .run_until(secs(10), |c| is_superseded(c, 3, by))
        .expect("superseded");
    (cluster, twin)
}

#[test]
fn the_older_node_is_superseded_by_a_live_newer_one() {
    for seed in 0..3 {
        let (mut cluster, twin) = with_twin(seed);
        let by = cluster.addr(twin);
        let took = cluster.run_until(secs(10), |c| is_superseded(c, 3, by));
        assert!(took.is_some(), "seed {seed}: {:?}", state(&cluster, 3));
        converge(&mut cluster, secs(10));
        assert_eq!(count(&cluster, 3, is_superseding), 1);
        let conflict = Event::NameConflict {
            name: "n3".to_owned(),
            older: cluster.addr(3),
            newer: by,
        };
        assert_eq!(count(&cluster, 3, |e| *e == conflict), 1);
        assert_eq!(
            count(&cluster, twin, |e| *e == conflict),
            1,
            "the newer one too"
        );
        // This state lasts as long as the newer one is there.
        let before = cluster.report();
        cluster.run_for(secs(120));
        cluster.expect_safe();
        assert!(cluster.is_converged(), "{:?}", cluster.difference());
        let after = cluster.report();
        assert_eq!(after.failures, before.failures);
        assert_eq!(after.name_conflicts, before.name_conflicts);
        assert_eq!(count(&cluster, 3, is_over), 0);
        let sent = cluster.engine(3).unwrap().stats().sent;
        cluster.run_for(secs(170));
        let more = cluster.engine(3).unwrap().stats().sent - sent;
        assert!(
            (8..=30).contains(&more),
            "{more} datagrams in three minutes"
        );
    }
}

#[test]
fn the_older_one_returns_when_the_newer_one_crashes_or_leaves() {
    for seed in 0..3 {
        let (mut cluster, twin) = superseded(seed);
        cluster.run_for(secs(60));
        let newer = cluster.engine(twin).unwrap().id().epoch;
        match seed % 2 {
            0 => cluster.crash(twin),
            _ => cluster.leave(twin),
        }
        let back = |c: &Cluster| state(c, 3) == MembershipState::Active && c.is_converged();
        let took = cluster.run_until(secs(60), back).expect("the name is free");
        cluster.expect_safe();
        println!("seed {seed}: back after {took:?}");
        assert_eq!(state(&cluster, 3), MembershipState::Active);
        assert_eq!(count(&cluster, 3, is_over), 1);
        assert!(cluster.engine(3).unwrap().id().epoch > newer);
        assert_eq!(cluster.engine(0).unwrap().live_count(), 6);
        cluster.run_for(secs(120));
        cluster.expect_safe();
        assert!(cluster.is_converged(), "{:?}", cluster.difference());
    }
}

#[test]
fn the_older_one_is_told_when_the_newer_one_leaves() {
    for seed in 0..4 {
        let (mut cluster, twin) = superseded(seed);
        // Long enough that it probes every sixteen probe intervals only, and at any time between.
        cluster.run_for(secs(60 + 4 * seed));
        cluster.leave(twin);
        let back = |c: &Cluster| state(c, 3) == MembershipState::Active && c.is_converged();
        let took = cluster.run_until(secs(4), back);
        assert!(took.is_some(), "seed {seed}: {:?}", state(&cluster, 3));
        cluster.expect_safe();
        assert_eq!(count(&cluster, 3, is_over), 1);
        cluster.run_for(secs(60));
        cluster.expect_safe();
        assert!(cluster.is_converged(), "{:?}", cluster.difference());
    }
}

#[test]
fn a_crash_of_both_or_a_restart_of_the_newer_ends_well() {
    let (mut cluster, twin) = superseded(1);
    let by = cluster.addr(twin);
    cluster.run_for(secs(30));
    // The newer one restarts and keeps the name.
    cluster.restart(twin);
    cluster.run_for(secs(60));
    assert!(is_superseded(&cluster, 3, by), "{:?}", state(&cluster, 3));
    // The older one restarts: now it is the newer one.
    cluster.restart(3);
    let by = cluster.addr(3);
    cluster
        .run_until(secs(10), |c| is_superseded(c, twin, by))
        .expect("the other way round");
    converge(&mut cluster, secs(10));
    // A leave ends the conflict.
    cluster.leave(twin);
    cluster.run_for(secs(5));
    assert_eq!(state(&cluster, twin), MembershipState::Left);
    assert!(cluster.is_converged());
}

#[test]
fn two_nodes_of_one_name_without_others() {
    for seed in 0..2 {
        let mut cluster = Cluster::new(seed);
        let older = cluster.add("n", lan(), Vec::new());
        cluster.run_for(secs(5));
        let seeds = vec![cluster.addr(older)];
        let newer = cluster.add("n", lan(), seeds);
        let by = cluster.addr(newer);
        cluster
            .run_until(secs(20), |c| is_superseded(c, older, by))
            .expect("superseded");
        let joined = |c: &Cluster| c.engine(newer).unwrap().is_joined();
        cluster
            .run_until(secs(20), joined)
            .expect("there is no other node to let it in");
        // A crash is detected; a leave is announced.
        let within = match seed {
            0 => secs(60),
            _ => secs(1),
        };
        match seed {
            0 => cluster.crash(newer),
            _ => cluster.leave(newer),
        }
        let back = |c: &Cluster| state(c, older) == MembershipState::Active;
        let took = cluster.run_until(within, back).expect("it is alone");
        println!("seed {seed}: back after {took:?}");
        cluster.expect_safe();
    }
}

#[test]
fn a_node_cut_off_from_its_successor_does_not_take_the_name_back() {
    for seed in 0..2 {
        let (mut cluster, twin) = superseded(seed);
        let by = cluster.addr(twin);
        converge(&mut cluster, secs(10));
        // Cut off from the newer one alone: the others know that it is there.
        cluster.network().cut(3, twin);
        cluster.network().cut(twin, 3);
        cluster.run_for(secs(120));
        assert!(is_superseded(&cluster, 3, by), "{:?}", state(&cluster, 3));
        assert_eq!(
            count(
                &cluster,
                0,
                |e| matches!(e, Event::NodeFailed(m) if *m.id.name == *"n3")
            ),
            1
        );
        // Cut off from all: it may take the name back for itself, and yields again when it hears of
        // the others.
        cluster.network().isolate([3], 1);
        cluster.run_for(secs(60));
        cluster.network().heal();
        converge(&mut cluster, secs(120));
        assert!(is_superseded(&cluster, 3, by), "{:?}", state(&cluster, 3));
        assert_eq!(state(&cluster, twin), MembershipState::Active);
    }
}

#[test]
fn two_of_one_name_that_started_in_the_same_millisecond_find_out() {
    for seed in 0..60 {
        let nodes = if seed % 3 == 0 { 3 } else { 6 };
        let mut cluster = Cluster::bootstrap(seed, nodes, lan());
        // After the first one has joined, or both at once: then both find out at the same time.
        if seed % 4 == 0 {
            converge(&mut cluster, secs(10));
        }
        let seeds = vec![cluster.addr(0), cluster.addr(1)];
        let twin = cluster.add_twin(2, seeds);
        let (a, b) = (cluster.addr(2), cluster.addr(twin));
        let one_yields = |c: &Cluster| is_superseded(c, 2, b) || is_superseded(c, twin, a);
        let took = cluster.run_until(secs(15), one_yields);
        assert!(
            took.is_some(),
            "seed {seed}: {:?} and {:?}",
            state(&cluster, 2),
            state(&cluster, twin)
        );
        converge(&mut cluster, secs(20));
        cluster.run_for(secs(15));
        let superseded = [2, twin].map(|node| count(&cluster, node, is_superseding));
        assert_eq!(superseded.iter().sum::<usize>(), 1, "seed {seed}");
        converge(&mut cluster, secs(10));
    }
}

#[test]
fn two_of_one_name_that_cannot_reach_each_other_flap_less_and_less_and_say_so() {
    for is_same_epoch in [true, false] {
        let mut cluster = Cluster::bootstrap(1, 6, lan());
        converge(&mut cluster, secs(10));
        let seeds = vec![cluster.addr(0), cluster.addr(1)];
        let twin = match is_same_epoch {
            true => cluster.add_twin(3, seeds),
            false => cluster.add("n3", lan(), seeds),
        };
        cluster.network().cut(3, twin);
        cluster.network().cut(twin, 3);
        let is_failure = |event: &Event| matches!(event, Event::NodeFailed(_));
        cluster.run_for(secs(240));
        let early = count(&cluster, 0, is_failure);
        cluster.run_for(secs(240));
        let late = count(&cluster, 0, is_failure) - early;
        assert!(early <= 24 && late <= 10, "{early} and {late} times");
        let is_conflict = |event: &Event| matches!(event, Event::NameConflict { .. });
        for node in [3, twin] {
            assert_eq!(count(&cluster, node, is_conflict), 1, "{node}");
        }
        cluster.network().heal();
        let (a, b) = (cluster.addr(3), cluster.addr(twin));
        let one_yields = |c: &Cluster| is_superseded(c, 3, b) || is_superseded(c, twin, a);
        assert!(cluster.run_until(secs(180), one_yields).is_some());
        converge(&mut cluster, secs(20));
    }
}
