//! Joining, restarting, leaving, tags and names.

use super::*;

#[test]
fn ten_nodes_know_each_other_within_2_s_of_the_last_start() {
    for seed in 0..10 {
        let mut cluster = Cluster::bootstrap(seed, 10, lan());
        let took = converge(&mut cluster, secs(5));
        assert!(took <= secs(2), "seed {seed}: {took:?}");
    }
}

#[test]
fn restart_under_the_same_name_takes_over_at_once() {
    let mut cluster = settled(2, 10);
    let before = cluster.view_of(0, 4).unwrap().id.epoch;
    cluster.restart(4);
    let took = converge(&mut cluster, secs(3));
    assert!(took <= secs(2), "{took:?}");
    let others: Vec<_> = (0..10).filter(|n| *n != 4).collect();
    assert!(cluster.view_of(0, 4).unwrap().id.epoch > before);
    assert_eq!(
        count(&cluster, &others, failed("n4")),
        9,
        "each saw the old instance end"
    );
    // The same with a clock that was set back: its former instance must be found gone first.
    cluster.restart_with_epoch(4, before - 1_000_000);
    converge(&mut cluster, secs(40));
    assert!(cluster.view_of(0, 4).unwrap().id.epoch > before);
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
    // Nodes that were replaced are no missing part of the cluster, however many.
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
    // The newer node keeps the name, and the older one stays silent.
    assert!(cluster.is_up(twin) && !cluster.is_up(3));
    let before = cluster.report();
    cluster.run_for(secs(120));
    assert!(cluster.is_converged(), "{:?}", cluster.difference());
    let after = cluster.report();
    assert_eq!(after.failures, before.failures);
    assert_eq!(after.name_conflicts, before.name_conflicts);
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
        // It may come back, as a new instance.
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
        cluster.view_of(9, 5).unwrap().tags.get("role"),
        Some("worker")
    );
    let updated = |event: &Event| matches!(event, Event::NodeUpdated(m) if &*m.id.name == "n5");
    assert_eq!(count(&cluster, &all(&cluster), updated), 16, "itself too");
    cluster.set_draining(5, true);
    converge(&mut cluster, secs(3));
    assert!(cluster.view_of(9, 5).unwrap().draining);

    // Tags that are too large are refused and change nothing.
    for (key, len) in [("a", 250), ("b", 250), ("c", 250)] {
        cluster.set_tag(5, key, &"x".repeat(len)).unwrap();
    }
    let incarnation = cluster.engine(5).unwrap().local_member().incarnation;
    assert!(cluster.set_tag(5, "d", &"x".repeat(255)).is_err());
    assert!(cluster.set_tag(5, "e", &"x".repeat(256)).is_err());
    assert!(cluster.set_tag(5, "", "x").is_err());
    assert_eq!(
        cluster.engine(5).unwrap().local_member().incarnation,
        incarnation
    );
    converge(&mut cluster, secs(3));
    assert_eq!(cluster.view_of(1, 5).unwrap().tags.get("d"), None);
    assert_eq!(
        cluster.view_of(1, 5).unwrap().tags.get("c").unwrap().len(),
        250
    );
}

/// Tags of exactly so many bytes, the first of which has so many.
fn tags_of(bytes: usize, first: usize) -> Tags {
    let rest = (bytes - (first + 3)) / 3;
    let last = bytes - (first + 3) - 2 * rest;
    let pairs = [
        ("a", first),
        ("b", rest - 3),
        ("c", rest - 3),
        ("d", last - 3),
    ];
    Tags::from_pairs(pairs.map(|(key, len)| (key, "t".repeat(len)))).unwrap()
}

#[test]
fn full_gossip_never_exceeds_a_datagram() {
    // The largest tags, and the longest name.
    for (name_bytes, tags_bytes) in [(63, 1_024), (253, 834)] {
        let long = "x".repeat(name_bytes - 3);
        let config = lan().with_tags(tags_of(tags_bytes, 252));
        let mut cluster = Cluster::new(8);
        let seeds = vec![std::net::SocketAddr::from(([10, 0, 0, 1], 7_946))];
        // Sixteen nodes with a KiB each: no two records fit into one datagram.
        for n in 0..16 {
            cluster.add(format!("{long}-{n:02}"), config.clone(), seeds.clone());
        }
        converge(&mut cluster, secs(20));
        for node in 0..16 {
            let value = "y".repeat(252);
            cluster.set_tag(node, "a", &value).unwrap();
            let error = cluster.set_tag(node, "a", &(value + "y")).unwrap_err();
            let cause = format!("at most {tags_bytes} are carried");
            assert!(error.to_string().contains(&cause), "{error}");
        }
        // With a suspicion in front, which rides on pings beside the updates.
        cluster.crash(9);
        // The checker of sizes is on all the while.
        converge(&mut cluster, secs(20));
        assert!(cluster.report().sent_bytes > 16 * 16 * 1_024);
    }
}

#[test]
fn failed_member_is_forgotten_after_its_time() {
    let config = lan().with_forget_after(secs(120));
    let mut cluster = Cluster::bootstrap(9, 6, config);
    converge(&mut cluster, secs(5));
    cluster.crash(5);
    cluster.run_for(secs(118));
    assert_eq!(state(&cluster, 0, 5), Some(MemberState::Failed));
    cluster.run_for(secs(15));
    for node in 0..5 {
        assert_eq!(state(&cluster, node, 5), None);
    }
    // For good: no member brings it back.
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
fn a_node_without_peers_keeps_trying_to_join() {
    let mut cluster = Cluster::new(11);
    let seed = "10.0.0.2:7946".parse().unwrap();
    let early = cluster.add("early", lan(), vec![seed]);
    cluster.run_for(secs(600));
    assert!(!cluster.engine(early).unwrap().is_joined());
    // The seed comes up at last.
    cluster.add("seed", lan(), Vec::new());
    converge(&mut cluster, secs(15));
    // A node that lost all others tries the members that it knew, though its seed is gone for good.
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
    let mut cluster = Cluster::bootstrap(12, 300, config.clone());
    cluster.check_every(50);
    let took = converge(&mut cluster, secs(30));
    println!("300 at once: {took:?}");
    let seeds = vec![cluster.addr(0)];
    let late = cluster.add("late", config, seeds);
    let took = cluster.run_until(secs(5), |c| c.engine(late).unwrap().live_count() == 301);
    assert!(took.expect("knows all") < secs(1), "{took:?}");
    converge(&mut cluster, secs(10));
}
