//! What the protocol promises, one scenario each, in virtual time.

use std::time::Duration;

use rpcnet_swim::sim::{Cluster, Link, Transition};
use rpcnet_swim::{
    ClusterConfig, ClusterKey, Event, HealthState, MemberState, PartitionStatus, Policy, Refusal,
    Tags,
};

fn lan() -> ClusterConfig {
    ClusterConfig::lan().with_key(ClusterKey::from_bytes([7; 32]))
}

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// A cluster in which all know all.
fn settled(seed: u64, nodes: usize) -> Cluster {
    let mut cluster = Cluster::of(seed, nodes, lan());
    converge(&mut cluster, secs(10));
    cluster.run_for(secs(5));
    assert!(cluster.is_converged());
    cluster
}

fn converge(cluster: &mut Cluster, limit: Duration) -> Duration {
    let took = cluster.run_until(limit, Cluster::is_converged);
    cluster.expect_safe();
    took.unwrap_or_else(|| panic!("not within {limit:?}: {:?}", cluster.difference()))
}

fn state(cluster: &Cluster, observer: usize, node: usize) -> Option<MemberState> {
    cluster.sight(observer, node).map(|member| member.state)
}

/// How often any of `nodes` told of something like this.
fn count(cluster: &Cluster, nodes: &[usize], like: impl Fn(&Event) -> bool) -> usize {
    nodes
        .iter()
        .flat_map(|node| cluster.events(*node))
        .filter(|(_, event)| like(event))
        .count()
}

fn failed(name: &str) -> impl Fn(&Event) -> bool {
    move |event| matches!(event, Event::NodeFailed(member) if &*member.id.name == name)
}

fn is_failure(event: &Event) -> bool {
    matches!(event, Event::NodeFailed(_))
}

fn is_partition(event: &Event) -> bool {
    matches!(event, Event::PartitionDetected { .. })
}

fn is_isolation(event: &Event) -> bool {
    matches!(event, Event::Isolated { .. })
}

fn all(cluster: &Cluster) -> Vec<usize> {
    (0..cluster.len()).collect()
}

#[test]
fn ten_nodes_know_each_other_within_2_s_of_the_last_start() {
    for seed in 0..10 {
        let mut cluster = Cluster::of(seed, 10, lan());
        let took = converge(&mut cluster, secs(5));
        assert!(took <= secs(2), "seed {seed}: {took:?}");
    }
}

#[test]
fn crash_is_known_everywhere_within_bound() {
    // Median and worst of the seeds, so that the table in the documentation can be made anew.
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
    // Long enough to be suspected by all, not to be held failed.
    cluster.block(3);
    let suspected = |cluster: &Cluster| state(cluster, 0, 3) == Some(MemberState::Suspect);
    cluster.run_until(secs(5), suspected).expect("suspected");
    cluster.resume(3);
    converge(&mut cluster, secs(5));
    assert!(cluster.engine(3).unwrap().me().incarnation > 0);
    assert!(cluster.engine(3).unwrap().stats().refutations > 0);
    assert_eq!(count(&cluster, &all(&cluster), is_failure), 0);
    let recovered = |event: &Event| matches!(event, Event::NodeRecovered(m) if &*m.id.name == "n3");
    assert!(count(&cluster, &[0], recovered) > 0);
    // What is said of the older incarnation afterwards moves nobody.
    cluster.run_for(secs(30));
    assert!(cluster.is_converged());
}

#[test]
fn restart_under_the_same_name_takes_over_at_once() {
    let mut cluster = settled(2, 10);
    let before = cluster.sight(0, 4).unwrap().id.epoch;
    cluster.restart(4);
    let took = converge(&mut cluster, secs(3));
    assert!(took <= secs(2), "{took:?}");
    let others: Vec<_> = (0..10).filter(|n| *n != 4).collect();
    assert!(cluster.sight(0, 4).unwrap().id.epoch > before);
    assert_eq!(
        count(&cluster, &others, failed("n4")),
        9,
        "each saw the old life end"
    );
    // The same with a clock that was set back: its former life must be found gone first.
    cluster.restart_with_epoch(4, before - 1_000_000);
    converge(&mut cluster, secs(40));
    assert!(cluster.sight(0, 4).unwrap().id.epoch > before);
}

#[test]
fn restart_at_the_same_address_under_another_name() {
    let mut cluster = settled(3, 10);
    cluster.restart_as(4, "newcomer");
    let took = converge(&mut cluster, secs(3));
    assert!(took <= secs(2), "{took:?}");
    for node in [0, 5, 9] {
        let former = cluster.engine(node).unwrap().member("n4").unwrap();
        assert_eq!(former.state, MemberState::Failed);
    }
    // Those whose place is taken are no missing part of the cluster, however many.
    for node in [5, 6, 7, 8] {
        cluster.restart_as(node, format!("newcomer-{node}"));
    }
    converge(&mut cluster, secs(3));
    cluster.run_for(secs(60));
    assert!(cluster.is_converged(), "{:?}", cluster.difference());
    assert_eq!(count(&cluster, &all(&cluster), is_partition), 0);
    // Three names at one address, and then it is down: one is missing, not three.
    cluster.restart_as(5, "second");
    cluster.run_for(secs(2));
    cluster.restart_as(5, "third");
    cluster.run_for(secs(2));
    cluster.crash(5);
    cluster.run_for(secs(60));
    assert_eq!(cluster.engine(0).unwrap().live_count(), 9);
    assert_eq!(count(&cluster, &all(&cluster), is_partition), 0);
}

#[test]
fn two_live_nodes_of_one_name_are_reported_and_do_not_flap() {
    let mut cluster = settled(4, 6);
    let seeds = vec![cluster.addr(0), cluster.addr(1)];
    cluster.run_for(secs(1));
    let twin = cluster.add("n3", lan(), seeds);
    cluster.run_for(secs(20));
    cluster.expect_safe();
    let conflict =
        |event: &Event| matches!(event, Event::NameConflict { name, .. } if name == "n3");
    assert!(count(&cluster, &all(&cluster), conflict) > 0);
    // The newer one has the name, the older one went silent, and so it stays.
    assert!(cluster.is_up(twin) && !cluster.is_up(3));
    let before = cluster.report();
    cluster.run_for(secs(120));
    assert!(cluster.is_converged(), "{:?}", cluster.difference());
    let after = cluster.report();
    assert_eq!(after.failures, before.failures);
    assert_eq!(after.conflicts, before.conflicts);
}

#[test]
fn partition_is_detected_and_heals_without_seeds() {
    for (lone, seed) in [(false, 1), (false, 2), (true, 3), (true, 4)] {
        let mut cluster = Cluster::new(seed);
        // A seed that is gone when it comes to heal.
        let first = cluster.add("first", lan(), Vec::new());
        let seeds = vec![cluster.addr(first)];
        for n in 0..10 {
            cluster.add(format!("n{n}"), lan(), seeds.clone());
        }
        converge(&mut cluster, secs(5));
        cluster.leave(first);
        cluster.run_for(secs(90));
        let side: Vec<usize> = if lone { vec![10] } else { (6..=10).collect() };
        let rest: Vec<usize> = (1..=10).filter(|n| !side.contains(n)).collect();
        cluster.network().isolate(side.iter().copied(), 1);
        cluster.run_for(secs(30));
        cluster.expect_safe();
        for node in &side {
            let status = cluster.engine(*node).unwrap().partition_status();
            let expected = match lone {
                true => PartitionStatus::Isolated { expected: 10 },
                false => PartitionStatus::Partitioned {
                    reachable: 5,
                    expected: 10,
                    minority: true,
                },
            };
            assert_eq!(status, expected);
            // One of the two, and once.
            assert_eq!(count(&cluster, &[*node], is_partition), (!lone).into());
            assert_eq!(count(&cluster, &[*node], is_isolation), lone.into());
        }
        // One of ten is a crash; half is a partition.
        assert_eq!(
            count(&cluster, &rest, is_partition),
            if lone { 0 } else { 5 }
        );
        if lone {
            assert_eq!(
                count(&cluster, &side, is_failure),
                0,
                "it is the one that is gone"
            );
        }
        cluster.run_for(secs(60));
        cluster.network().heal();
        let took = converge(&mut cluster, secs(20));
        println!("lone {lone}: healed after {took:?}");
        let over = match lone {
            true => Event::IsolationEnded,
            false => Event::PartitionHealed,
        };
        assert_eq!(count(&cluster, &side, |e| *e == over), side.len());
    }
}

#[test]
fn one_that_is_cut_off_knows_within_four_seconds_and_when_it_is_over() {
    for seed in 0..5 {
        let mut cluster = settled(seed, 10);
        cluster.network().isolate([4], 1);
        let isolated = PartitionStatus::Isolated { expected: 10 };
        let status = move |cluster: &Cluster| cluster.engine(4).unwrap().partition_status();
        let took = cluster.run_until(secs(5), |c| status(c) == isolated);
        let took = took.expect("it notices");
        // Three seconds after it last heard somebody, which was up to half a second before the cut.
        assert!(
            (millis(2_500)..secs(4)).contains(&took),
            "seed {seed}: {took:?}"
        );
        cluster.run_for(secs(120));
        assert_eq!(status(&cluster), isolated);
        assert_eq!(cluster.engine(4).unwrap().live_count(), 10, "nobody failed");
        cluster.network().heal();
        let took = cluster.run_until(secs(2), |c| status(c) == PartitionStatus::Healthy);
        println!("seed {seed}: back after {:?}", took.expect("it hears them"));
        assert_eq!(count(&cluster, &[4], is_isolation), 1);
        assert_eq!(count(&cluster, &[4], |e| *e == Event::IsolationEnded), 1);
        assert_eq!(count(&cluster, &[4], is_partition), 0);
        converge(&mut cluster, secs(20));
    }
}

/// Which nodes may serve, of those that run.
fn serving(cluster: &Cluster, policy: &Policy) -> Vec<usize> {
    let serves = |node: &usize| {
        let engine = cluster.engine(*node);
        engine.is_some_and(|engine| engine.may_serve(policy, cluster.now()).is_serve())
    };
    (0..cluster.len()).filter(serves).collect()
}

#[test]
fn one_side_of_a_split_serves_and_all_after_it() {
    let policies = [Policy::keep_majority(), Policy::keep_oldest()];
    for (side, serves) in [
        (vec![0, 1, 2, 3, 4], vec![0, 1, 2, 3, 4]),
        (vec![0, 1, 2, 3], vec![4, 5, 6, 7, 8, 9]),
        (vec![0], (1..10).collect()),
    ] {
        let mut cluster = settled(3, 10);
        for policy in &policies {
            assert_eq!(serving(&cluster, policy), all(&cluster));
        }
        cluster.network().isolate(side.iter().copied(), 1);
        cluster.run_for(secs(20));
        // Longer than failures count that are no partition.
        for _ in 0..2 {
            assert_eq!(serving(&cluster, &policies[0]), serves, "{side:?}");
            // The oldest is n0, and not to be left alone.
            let with_oldest = if side.len() == 1 { &serves } else { &side };
            assert_eq!(serving(&cluster, &policies[1]), *with_oldest);
            cluster.run_for(secs(200));
        }
        cluster.network().heal();
        converge(&mut cluster, secs(20));
        for policy in &policies {
            assert_eq!(serving(&cluster, policy), all(&cluster));
            let settling = policy.clone().with_stable_after(secs(3_600));
            assert_eq!(serving(&cluster, &settling), all(&cluster));
        }
    }
}

#[test]
fn who_is_expected_is_bounded_in_time() {
    let mut cluster = settled(3, 6);
    let expected = |cluster: &Cluster| {
        let view = cluster.engine(0).unwrap().view(cluster.now());
        let reached = view.voters.iter().filter(|voter| voter.is_reachable);
        (reached.count(), view.voters.len())
    };
    assert_eq!(expected(&cluster), (6, 6));
    cluster.leave(5);
    cluster.run_for(secs(10));
    assert_eq!(expected(&cluster), (5, 5), "who left does not count");
    cluster.crash(4);
    cluster.run_for(secs(30));
    assert_eq!(expected(&cluster), (4, 5), "it may be a split");
    let waits = Policy::keep_majority().with_stable_after(secs(40));
    assert_eq!(serving(&cluster, &waits), []);
    cluster.run_for(secs(20));
    assert_eq!(serving(&cluster, &waits), [0, 1, 2, 3]);
    cluster.run_for(secs(20));
    assert_eq!(expected(&cluster), (4, 4), "it was a crash");
    // One that has not found its cluster is no majority of one.
    let nowhere = vec!["10.9.9.9:1".parse().unwrap()];
    let lone = cluster.add("lone", lan(), nowhere);
    cluster.run_for(secs(10));
    let verdict = cluster.engine(lone).unwrap();
    let verdict = verdict.may_serve(&Policy::keep_majority(), cluster.now());
    assert_eq!(verdict.reason(), Some(&Refusal::NotJoined));
}

#[test]
fn the_last_survivor_of_three_cannot_tell_and_says_isolated() {
    let mut cluster = settled(4, 3);
    cluster.crash(1);
    cluster.crash(2);
    cluster.run_for(secs(300));
    let survivor = cluster.engine(0).unwrap();
    let isolated = PartitionStatus::Isolated { expected: 3 };
    assert_eq!(survivor.partition_status(), isolated);
    assert_eq!(count(&cluster, &[0], is_failure), 0);
    // One that comes back ends it, and then the third is found.
    cluster.restart(1);
    let ended = |event: &Event| *event == Event::IsolationEnded;
    cluster
        .run_until(secs(10), |c| count(c, &[0], ended) == 1)
        .expect("heard");
    let failed = |c: &Cluster| state(c, 0, 2) == Some(MemberState::Failed);
    cluster.run_until(secs(10), failed).expect("found");
}

#[test]
fn of_two_each_finds_the_other_failed_and_the_second_name_is_the_minority() {
    let mut cluster = settled(4, 2);
    cluster.network().isolate([1], 1);
    cluster.run_for(secs(20));
    for node in 0..2 {
        let status = cluster.engine(node).unwrap().partition_status();
        let half = PartitionStatus::Partitioned {
            reachable: 1,
            expected: 2,
            minority: node == 1,
        };
        assert_eq!(status, half);
        assert_eq!(count(&cluster, &[node], is_isolation), 0);
    }
}

#[test]
fn two_clusters_of_one_name_merge() {
    let mut cluster = Cluster::new(5);
    let lone = cluster.add("a0", lan(), Vec::new());
    let other = cluster.add("b0", lan(), Vec::new());
    for n in 1..5 {
        let (a, b) = (cluster.addr(lone), cluster.addr(other));
        cluster.add(format!("a{n}"), lan(), vec![a]);
        // They know of one node of the other cluster, which does not answer at first.
        let seeds = if n == 1 { vec![b, a] } else { vec![b] };
        let node = cluster.add(format!("b{n}"), lan(), seeds);
        for a in (0..cluster.len()).filter(|n| *n != node) {
            if cluster.name(a).starts_with('a') {
                cluster.network().isolate([a], 1);
            }
        }
    }
    cluster.run_for(secs(20));
    assert_eq!(cluster.engine(lone).unwrap().live_count(), 5);
    assert_eq!(cluster.engine(other).unwrap().live_count(), 5);
    cluster.network().heal();
    converge(&mut cluster, secs(60));
    assert_eq!(cluster.engine(lone).unwrap().live_count(), 10);
}

#[test]
fn left_is_not_failed() {
    for seed in 0..10 {
        let mut cluster = settled(seed, 12);
        cluster.leave(7);
        let others: Vec<_> = (0..12).filter(|n| *n != 7).collect();
        let know = |cluster: &Cluster| {
            let left = |n: &usize| state(cluster, *n, 7) == Some(MemberState::Left);
            (0..12).filter(|n| *n != 7).all(|n| left(&n))
        };
        let took = cluster.run_until(secs(5), know).expect("all know");
        assert!(took <= secs(2), "{took:?}");
        cluster.run_for(secs(60));
        assert!(cluster.is_converged());
        assert_eq!(count(&cluster, &others, is_failure), 0);
        let left = |event: &Event| matches!(event, Event::NodeLeft(_));
        assert_eq!(count(&cluster, &others, left), 11);
        // It may come back, as a new life.
        cluster.restart(7);
        converge(&mut cluster, secs(5));
    }
}

#[test]
fn left_is_not_failed_under_loss() {
    for seed in 0..10 {
        let mut cluster = settled(seed, 12);
        cluster.network().default = Link::lan().with_loss(0.2);
        cluster.leave(7);
        cluster.run_for(secs(30));
        cluster.network().default = Link::lan();
        cluster.run_for(secs(30));
        for node in (0..12).filter(|n| *n != 7) {
            assert_eq!(
                state(&cluster, node, 7),
                Some(MemberState::Left),
                "seed {seed}"
            );
        }
        let others: Vec<_> = (0..12).filter(|n| *n != 7).collect();
        assert_eq!(count(&cluster, &others, failed("n7")), 0, "seed {seed}");
    }
}

#[test]
fn a_leave_ends_with_several_acknowledgements_or_the_deadline() {
    let mut cluster = settled(6, 8);
    cluster.leave(2);
    cluster
        .run_until(millis(100), |c| !c.is_up(2))
        .expect("acknowledged at once");
    let acknowledged = |cluster: &Cluster, node: usize| {
        cluster
            .events(node)
            .iter()
            .find_map(|(_, event)| match event {
                Event::Left { acknowledged } => Some(*acknowledged),
                _ => None,
            })
    };
    assert_eq!(acknowledged(&cluster, 2), Some(3));
    // Cut off, it waits for the deadline and no longer.
    cluster.network().isolate([3], 1);
    cluster.leave(3);
    let took = cluster.run_until(secs(10), |c| !c.is_up(3)).unwrap();
    assert!((secs(3)..millis(3_300)).contains(&took), "{took:?}");
    assert_eq!(acknowledged(&cluster, 3), Some(0));
}

#[test]
fn tags_spread_and_limits_hold() {
    let mut cluster = settled(7, 16);
    cluster.set_tag(5, "role", "worker").unwrap();
    let took = converge(&mut cluster, secs(3));
    assert!(took <= secs(2), "{took:?}");
    assert_eq!(
        cluster.sight(9, 5).unwrap().tags.get("role"),
        Some("worker")
    );
    let updated = |event: &Event| matches!(event, Event::NodeUpdated(m) if &*m.id.name == "n5");
    assert_eq!(count(&cluster, &all(&cluster), updated), 16, "itself too");
    cluster.set_draining(5, true);
    converge(&mut cluster, secs(3));
    assert!(cluster.sight(9, 5).unwrap().draining);

    // What is too large is refused and changes nothing.
    for (key, len) in [("a", 250), ("b", 250), ("c", 250)] {
        cluster.set_tag(5, key, &"x".repeat(len)).unwrap();
    }
    let incarnation = cluster.engine(5).unwrap().me().incarnation;
    assert!(cluster.set_tag(5, "d", &"x".repeat(255)).is_err());
    assert!(cluster.set_tag(5, "e", &"x".repeat(256)).is_err());
    assert!(cluster.set_tag(5, "", "x").is_err());
    assert_eq!(cluster.engine(5).unwrap().me().incarnation, incarnation);
    converge(&mut cluster, secs(3));
    assert_eq!(cluster.sight(1, 5).unwrap().tags.get("d"), None);
    assert_eq!(
        cluster.sight(1, 5).unwrap().tags.get("c").unwrap().len(),
        250
    );
}

/// Tags of exactly the largest size.
fn largest_tags(fill: char) -> Tags {
    let value = |len: usize| fill.to_string().repeat(len);
    let pairs = [("a", 252), ("b", 252), ("c", 252), ("d", 253)];
    let pairs = pairs.map(|(key, len)| (key.to_owned(), value(len)));
    Tags::from_pairs(pairs.into_iter().chain([("e".to_owned(), String::new())])).unwrap()
}

#[test]
fn much_gossip_never_exceeds_a_datagram() {
    let long = "x".repeat(60);
    let config = lan().with_tags(largest_tags('t'));
    let mut cluster = Cluster::new(8);
    let seeds = vec![std::net::SocketAddr::from(([10, 0, 0, 1], 7_946))];
    // Sixteen nodes with a KiB each and the longest names: no two records fit into one datagram.
    for n in 0..16 {
        cluster.add(format!("{long}-{n:02}"), config.clone(), seeds.clone());
    }
    converge(&mut cluster, secs(20));
    for node in 0..16 {
        cluster.set_tag(node, "a", &"y".repeat(252)).unwrap();
    }
    // With a suspicion in front, which rides on pings beside the news.
    cluster.crash(9);
    // The checker of sizes is on all the while.
    converge(&mut cluster, secs(20));
    assert!(cluster.report().sent_bytes > 16 * 16 * 1_024);
}

#[test]
fn stalled_node_declares_nobody_failed() {
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
            // Those that were well all the time are never seen failed by it.
            for well in (0..10).filter(|n| !stalled.contains(n)) {
                assert_eq!(count(&cluster, &[*node], failed(&format!("n{well}"))), 0);
            }
        }
        converge(&mut cluster, secs(60));
        assert_eq!(cluster.report().false_failures, 0);
    }
}

#[test]
fn a_blocked_observer_declares_nobody() {
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
fn an_observer_slow_by_a_quarter_second_declares_nobody() {
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

/// What `observer` says of the health of the node at `node`.
fn health(cluster: &Cluster, observer: usize, node: usize) -> Option<HealthState> {
    let id = cluster.sight(observer, node)?.id;
    let health = cluster.engine(observer)?.health(&id, cluster.now())?;
    Some(health.state)
}

/// Each round trip between `node` and the others takes from 400 to 700 ms; or none of that.
fn set_slow(cluster: &mut Cluster, node: usize, slow: bool) {
    for other in (0..cluster.len()).filter(|n| *n != node) {
        let link = match slow {
            true => Link {
                reorder: 1.0,
                held_back_max: millis(150),
                ..Link::lan().with_delay(millis(200))
            },
            false => Link::lan(),
        };
        cluster.network().set_link(node, other, link);
        cluster.network().set_link(other, node, link);
    }
}

#[test]
fn a_slow_member_is_told_from_a_failed_one() {
    for (seed, nodes) in [(0, 3), (1, 5), (2, 10), (3, 10), (4, 32)] {
        let mut cluster = settled(seed, nodes);
        let (slow, dead) = (1, nodes - 1);
        let others: Vec<_> = (0..nodes).filter(|n| *n != slow).collect();
        set_slow(&mut cluster, slow, true);
        let all_say = |cluster: &Cluster, state| {
            let mut states = others.iter().map(|n| health(cluster, *n, slow));
            states.all(|said| said == Some(state))
        };
        let took = cluster.run_until(secs(30), |c| all_say(c, HealthState::Slow));
        println!(
            "{nodes} nodes: slow everywhere after {:?}",
            took.expect("all find it slow")
        );
        cluster.run_for(secs(60));
        // By its own word too, so those who have not asked it for long know.
        assert!(cluster.engine(slow).unwrap().me().slow);
        let id = cluster.sight(0, slow).unwrap().id;
        let said = others.iter().filter_map(|n| {
            let health = cluster.engine(*n).unwrap().health(&id, cluster.now())?;
            Some((health.round_trip?, health.age?))
        });
        let trips: Vec<_> = said.filter(|(_, age)| *age < secs(30)).collect();
        assert!(!trips.is_empty());
        assert!(
            trips
                .iter()
                .all(|(trip, _)| (millis(400)..millis(900)).contains(trip)),
            "{trips:?}"
        );
        // Nobody else is blamed, not even by the slow one.
        for (observer, member) in all(&cluster)
            .into_iter()
            .flat_map(|o| others.iter().map(move |m| (o, *m)))
        {
            if observer != member {
                let said = health(&cluster, observer, member);
                assert_eq!(
                    said,
                    Some(HealthState::Responsive),
                    "{observer} of {member}"
                );
            }
        }
        cluster.crash(dead);
        let failed = |c: &Cluster| health(c, 0, dead) == Some(HealthState::Failed);
        let took = cluster.run_until(secs(8), failed).expect("it is found");
        println!("{nodes} nodes: a crash beside it is known after {took:?}");
        set_slow(&mut cluster, slow, false);
        let others: Vec<_> = others.iter().copied().filter(|n| *n != dead).collect();
        let all_well = |c: &Cluster| {
            let mut states = others.iter().map(|n| health(c, *n, slow));
            states.all(|said| said == Some(HealthState::Responsive))
        };
        let took = cluster.run_until(secs(60), all_well);
        println!(
            "{nodes} nodes: responsive everywhere after {:?}",
            took.expect("it is over")
        );
        cluster.run_for(secs(60));
        cluster.expect_safe();
        // Each told it once, and that it was over once: no flapping, and no failure but the real one.
        for node in &others {
            let of_slow = |m: &rpcnet_swim::Member| &*m.id.name == "n1";
            let told = |e: &Event| matches!(e, Event::NodeSlow(m) if of_slow(m));
            assert_eq!(count(&cluster, &[*node], told), 1, "{node}");
            let told = |e: &Event| matches!(e, Event::NodeResponsive(m) if of_slow(m));
            assert_eq!(count(&cluster, &[*node], told), 1, "{node}");
            assert_eq!(count(&cluster, &[*node], failed_but(dead)), 0);
        }
        let slow_dead =
            |e: &Event| matches!(e, Event::NodeSlow(m) if *m.id.name == *format!("n{dead}"));
        assert_eq!(count(&cluster, &all(&cluster), slow_dead), 0);
    }
}

/// A failure of anybody but this one.
fn failed_but(dead: usize) -> impl Fn(&Event) -> bool {
    move |event| matches!(event, Event::NodeFailed(m) if *m.id.name != *format!("n{dead}"))
}

#[test]
fn answers_that_come_after_their_round_are_answers() {
    for seed in 0..4 {
        let mut cluster = settled(seed, 10);
        for other in (0..10).filter(|n| *n != 4) {
            // A round trip of 1.4 s and more, when a round takes one.
            let far = Link::lan().with_delay(millis(700));
            cluster.network().set_link(4, other, far);
            cluster.network().set_link(other, 4, far);
        }
        cluster.run_for(secs(60));
        let suspicions = cluster.report().suspicions;
        cluster.run_for(secs(240));
        assert_eq!(
            count(&cluster, &all(&cluster), is_failure),
            0,
            "seed {seed}"
        );
        println!(
            "seed {seed}: {suspicions} suspicions, {} later",
            cluster.report().suspicions - suspicions
        );
        let late: u64 = (0..10)
            .map(|n| cluster.engine(n).unwrap().stats().late_answers)
            .sum();
        assert!(late > 0);
        let blamed =
            (0..10).filter(|n| *n != 4 && health(&cluster, *n, 4) == Some(HealthState::Slow));
        assert_eq!(blamed.count(), 9);
    }
}

#[test]
fn one_slow_link_is_known_at_its_ends_alone() {
    let mut cluster = settled(3, 5);
    for (from, to) in [(1, 2), (2, 1)] {
        cluster
            .network()
            .set_link(from, to, Link::lan().with_delay(millis(250)));
    }
    cluster.run_for(secs(60));
    for observer in 0..5 {
        for member in (0..5).filter(|m| *m != observer) {
            let ends = [(1, 2), (2, 1)].contains(&(observer, member));
            let state = if ends {
                HealthState::Slow
            } else {
                HealthState::Responsive
            };
            assert_eq!(
                health(&cluster, observer, member),
                Some(state),
                "{observer} of {member}"
            );
        }
    }
}

#[test]
fn who_hears_a_slow_one_alone_does_not_call_itself_slow() {
    let mut cluster = settled(3, 3);
    // The third answers node 0 through the slow one alone.
    set_slow(&mut cluster, 1, true);
    cluster.network().cut(0, 2);
    cluster.network().cut(2, 0);
    cluster.run_for(secs(120));
    let calls_itself_slow = |n| cluster.engine(n).unwrap().me().slow;
    assert_eq!([0, 1, 2].map(calls_itself_slow), [false, true, false]);
}

#[test]
fn loss_is_not_slowness() {
    let mut cluster = settled(3, 10);
    cluster.network().default = Link::lan().with_loss(0.3);
    cluster.run_for(secs(300));
    let slow = |e: &Event| matches!(e, Event::NodeSlow(_));
    assert_eq!(count(&cluster, &all(&cluster), slow), 0);
}

#[test]
fn failed_member_is_forgotten_after_its_time() {
    let config = lan().with_forget_after(secs(120));
    let mut cluster = Cluster::of(9, 6, config);
    converge(&mut cluster, secs(5));
    cluster.crash(5);
    cluster.run_for(secs(118));
    assert_eq!(state(&cluster, 0, 5), Some(MemberState::Failed));
    cluster.run_for(secs(15));
    for node in 0..5 {
        assert_eq!(state(&cluster, node, 5), None);
    }
    // For good: nobody brings it back.
    cluster.run_for(secs(600));
    assert!((0..5).all(|node| state(&cluster, node, 5).is_none()));
    assert!(cluster.is_converged());
}

#[test]
fn join_through_any_of_several_seeds() {
    let mut cluster = settled(10, 4);
    let dead: std::net::SocketAddr = "10.9.9.9:1".parse().unwrap();
    cluster.crash(1);
    let seeds = vec![
        dead,
        cluster.addr(1),
        "10.9.9.8:1".parse().unwrap(),
        cluster.addr(3),
    ];
    let late = cluster.add("late", lan(), seeds);
    let took = cluster.run_until(secs(2), |c| c.engine(late).unwrap().is_joined());
    assert!(took.expect("joined") < millis(100));
    converge(&mut cluster, secs(10));
}

#[test]
fn alone_node_keeps_trying() {
    let mut cluster = Cluster::new(11);
    let seed = "10.0.0.2:7946".parse().unwrap();
    let early = cluster.add("early", lan(), vec![seed]);
    cluster.run_for(secs(600));
    assert!(!cluster.engine(early).unwrap().is_joined());
    // The seed comes up at last.
    cluster.add("seed", lan(), Vec::new());
    converge(&mut cluster, secs(15));
    // One that lost everybody tries whom it knew, though its seed is gone for good.
    let third = cluster.add("third", lan(), vec![seed]);
    converge(&mut cluster, secs(5));
    cluster.leave(1);
    cluster.run_for(secs(5));
    cluster.network().isolate([third], 1);
    cluster.run_for(secs(400));
    cluster.network().heal();
    converge(&mut cluster, secs(75));
}

#[test]
fn a_large_cluster_joins_page_by_page() {
    let config = lan().with_tags(Tags::from_pairs([("role", "worker"), ("zone", "eu-1")]).unwrap());
    let mut cluster = Cluster::of(12, 300, config.clone());
    cluster.check_every(50);
    let took = converge(&mut cluster, secs(30));
    println!("300 at once: {took:?}");
    let seeds = vec![cluster.addr(0)];
    let late = cluster.add("late", config, seeds);
    let took = cluster.run_until(secs(5), |c| c.engine(late).unwrap().live_count() == 301);
    assert!(took.expect("knows all") < secs(1), "{took:?}");
    converge(&mut cluster, secs(10));
}

#[test]
fn a_flapping_member_is_damped() {
    let mut cluster = settled(13, 10);
    let observer: Vec<usize> = vec![0];
    // For ten minutes it is cut off for twenty seconds and back for twenty.
    for _ in 0..15 {
        cluster.network().isolate([6], 1);
        cluster.run_for(secs(20));
        cluster.network().unite();
        cluster.run_for(secs(20));
    }
    let times = count(&cluster, &observer, failed("n6"));
    println!("failed {times} times of 15");
    // The first return is free; the second time it has to prove that it stays.
    assert_eq!(times, 2);
    // Once it is well it comes back for good.
    converge(&mut cluster, secs(1_000));
    let before = cluster.report().failures;
    cluster.run_for(secs(300));
    assert_eq!(cluster.report().failures, before);
}

#[test]
fn a_far_cluster_finds_a_crash() {
    for delay in [15, 50, 150] {
        let config = ClusterConfig::wan();
        let mut cluster = Cluster::of(14, 9, config);
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
fn most_crash_at_once() {
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
        let mut cluster = Cluster::of(16, nodes, lan());
        cluster.check_every(20);
        converge(&mut cluster, secs(20));
        // Until the news of the joins are through.
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
fn a_round_without_a_witness_accuses_nobody() {
    let mut cluster = settled(11, 3);
    // Node 0 hears the others, but nothing that it says arrives.
    cluster.network().cut(0, 1);
    cluster.network().cut(0, 2);
    cluster.run_for(secs(3));
    let voids = cluster.engine(0).unwrap().stats().void_rounds;
    assert!(voids > 0, "it did probe in vain");
    let suspects = |event: &Event| matches!(event, Event::NodeSuspect { .. });
    assert_eq!(count(&cluster, &[0], suspects), 0);
}

#[test]
fn a_second_partition_heals_as_fast_as_the_first() {
    let mut cluster = Cluster::formed(3, 32, lan());
    for _ in 0..3 {
        cluster.run_for(secs(60));
        cluster.network().isolate(0..16, 1);
        cluster.run_for(secs(60));
        cluster.network().unite();
        let took = cluster.run_until(secs(60), Cluster::is_converged);
        println!("whole again after {took:?}");
        // Contact is enough: nobody waits for the views to come to rest first. Then each node has to
        // see for itself that it reaches the others.
        assert!(took.expect("whole again") < secs(5), "{took:?}");
    }
    cluster.expect_safe();
}

#[test]
fn a_member_that_is_deaf_again_and_again_returns_once() {
    let mut cluster = Cluster::formed(1, 24, lan());
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
        // Failed, back for free, and failed until it proves that it stays.
        assert_eq!(seen.len(), 3, "{seen:?}");
    }
    // It does, in the end.
    cluster
        .run_until(secs(200), Cluster::is_converged)
        .expect("it is back");
    cluster.expect_safe();
}
