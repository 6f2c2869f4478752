//! Partitions, isolation, and which side may serve.

use super::*;

#[test]
fn partition_is_detected_and_heals_without_seeds() {
    for (lone, seed) in [(false, 1), (false, 2), (true, 3), (true, 4)] {
        let mut cluster = Cluster::new(seed);
        // A seed that is gone when the partition heals.
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
fn an_isolated_node_knows_within_four_seconds_and_when_it_is_over() {
    for seed in 0..5 {
        let mut cluster = settled(seed, 10);
        cluster.network().isolate([4], 1);
        let isolated = PartitionStatus::Isolated { expected: 10 };
        let status = move |cluster: &Cluster| cluster.engine(4).unwrap().partition_status();
        let took = cluster.run_until(secs(5), |c| status(c) == isolated);
        let took = took.expect("it notices");
        // Three seconds after it last heard a member, which was up to half a second before the cut.
        assert!(
            (millis(2_500)..secs(4)).contains(&took),
            "seed {seed}: {took:?}"
        );
        cluster.run_for(secs(120));
        assert_eq!(status(&cluster), isolated);
        assert_eq!(
            cluster.engine(4).unwrap().live_count(),
            10,
            "no member failed"
        );
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
fn serving(cluster: &Cluster, policy: &SplitBrainPolicy) -> Vec<usize> {
    let serves = |node: &usize| {
        let engine = cluster.engine(*node);
        engine.is_some_and(|engine| engine.may_serve(policy, cluster.now()).is_allowed())
    };
    (0..cluster.len()).filter(serves).collect()
}

#[test]
fn one_side_of_a_split_serves_and_all_serve_after_it() {
    let policies = [
        SplitBrainPolicy::keep_majority(),
        SplitBrainPolicy::keep_oldest(),
    ];
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
        // Longer than failed members are expected without a partition.
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
fn a_failed_member_is_expected_for_a_bounded_time() {
    let mut cluster = settled(3, 6);
    let expected = |cluster: &Cluster| {
        let view = cluster.engine(0).unwrap().view(cluster.now());
        let reached = view.members.iter().filter(|member| member.is_reachable);
        (reached.count(), view.members.len())
    };
    assert_eq!(expected(&cluster), (6, 6));
    cluster.leave(5);
    cluster.run_for(secs(10));
    assert_eq!(
        expected(&cluster),
        (5, 5),
        "a member that left does not count"
    );
    cluster.crash(4);
    cluster.run_for(secs(30));
    assert_eq!(expected(&cluster), (4, 5), "it may be a split");
    let waits = SplitBrainPolicy::keep_majority().with_stable_after(secs(40));
    assert_eq!(serving(&cluster, &waits), []);
    cluster.run_for(secs(20));
    assert_eq!(serving(&cluster, &waits), [0, 1, 2, 3]);
    cluster.run_for(secs(20));
    assert_eq!(expected(&cluster), (4, 4), "it was a crash");
    // One that has not found its cluster is no majority of one.
    let nowhere = vec!["10.9.9.9:1".parse().unwrap()];
    let lone = cluster.add("lone", lan(), nowhere);
    cluster.run_for(secs(10));
    let decision = cluster.engine(lone).unwrap();
    let decision = decision.may_serve(&SplitBrainPolicy::keep_majority(), cluster.now());
    assert_eq!(decision.reason(), Some(&DenyReason::NotJoined));
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
    // A member that comes back ends the isolation, and then the third is found failed.
    cluster.restart(1);
    let ended = |event: &Event| *event == Event::IsolationEnded;
    cluster
        .run_until(secs(10), |c| count(c, &[0], ended) == 1)
        .expect("heard");
    let failed = |c: &Cluster| state(c, 0, 2) == Some(MemberState::Failed);
    cluster.run_until(secs(10), failed).expect("found");
}

#[test]
fn in_a_split_of_two_the_second_name_is_the_minority() {
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
fn a_second_partition_heals_as_fast_as_the_first() {
    let mut cluster = Cluster::formed(3, 32, lan());
    for _ in 0..3 {
        cluster.run_for(secs(60));
        cluster.network().isolate(0..16, 1);
        cluster.run_for(secs(60));
        cluster.network().heal_partitions();
        let took = cluster.run_until(secs(60), Cluster::is_converged);
        println!("whole again after {took:?}");
        // Contact is enough: no node waits for the views to come to rest first.
        assert!(took.expect("whole again") < secs(5), "{took:?}");
    }
    cluster.expect_safe();
}
