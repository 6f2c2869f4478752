//! Split-brain policies while the network is divided, in virtual time.

use std::num::NonZeroUsize;
use std::time::Duration;

use rpcnet_swim::{
    ClusterConfig, DenyReason, Event, MemberState, PartitionStatus, SplitBrainPolicy,
};
use rpcnet_swim_sim::{Cluster, Link};

use crate::{millis, secs};

/// A cluster in which all know all, after 15 s of probes.
fn formed(seed: u64, nodes: usize, config: ClusterConfig) -> Cluster {
    let mut cluster = Cluster::formed(seed, nodes, config);
    cluster.run_for(secs(15));
    cluster.expect_safe();
    cluster
}

fn policies(nodes: usize) -> [SplitBrainPolicy; 4] {
    [
        SplitBrainPolicy::keep_majority(),
        SplitBrainPolicy::static_quorum(NonZeroUsize::new(nodes / 2 + 1).unwrap()),
        SplitBrainPolicy::keep_oldest(),
        SplitBrainPolicy::keep_oldest_even_alone(),
    ]
}

/// Which of these nodes may serve.
fn serving(cluster: &Cluster, nodes: &[usize], policy: &SplitBrainPolicy) -> Vec<usize> {
    let serves = |node: &&usize| {
        let engine = cluster.engine(**node);
        engine.is_some_and(|engine| engine.may_serve(policy, cluster.now()).is_allowed())
    };
    nodes.iter().filter(serves).copied().collect()
}

fn range(nodes: std::ops::Range<usize>) -> Vec<usize> {
    nodes.collect()
}

/// Lets time pass and looks four times a second.
fn each_look(cluster: &mut Cluster, time: Duration, mut look: impl FnMut(&mut Cluster)) {
    let end = cluster.now() + time;
    while cluster.now() < end {
        cluster.run_for(millis(250));
        look(cluster);
    }
    cluster.expect_safe();
}

#[test]
fn however_small_a_side_is_both_serve_for_15_s_at_most() {
    for (nodes, side) in [(3, 1), (5, 2), (16, 2), (64, 2), (64, 5), (64, 16)] {
        for seed in 0..2 {
            // The oldest member is on the one side or on the other.
            let small = match seed % 2 {
                0 => range(0..side),
                _ => range(nodes - side..nodes),
            };
            let large: Vec<usize> = (0..nodes).filter(|n| !small.contains(n)).collect();
            let mut cluster = formed(seed, nodes, ClusterConfig::lan());
            cluster.network().isolate(small.iter().copied(), 1);
            cluster.run_for(secs(15));
            each_look(&mut cluster, secs(30), |cluster| {
                for policy in policies(nodes) {
                    let sides = [&small, &large].map(|side| serving(cluster, side, &policy));
                    let both = sides.iter().all(|side| !side.is_empty());
                    assert!(
                        !both,
                        "{side} of {nodes}, seed {seed}, {policy:?}: {sides:?} serve at {:?}",
                        cluster.now()
                    );
                }
            });
            // The majority goes on.
            for policy in &policies(nodes)[..2] {
                assert_eq!(serving(&cluster, &large, policy), large);
            }
        }
    }
}

#[test]
fn all_serve_again_within_5_s_of_the_heal() {
    for (nodes, side) in [(5, 2), (64, 2), (64, 6)] {
        let mut cluster = formed(3, nodes, ClusterConfig::lan());
        cluster.network().isolate(0..side, 1);
        cluster.run_for(secs(60));
        cluster.network().heal();
        let all = range(0..nodes);
        let serve = |cluster: &Cluster| {
            let policies = policies(nodes);
            policies.iter().all(|it| serving(cluster, &all, it) == all)
        };
        let took = cluster.run_until(secs(5), serve);
        assert!(took.is_some(), "{side} of {nodes}");
        let took = cluster.run_until(secs(20), Cluster::is_converged);
        assert!(took.is_some(), "{:?}", cluster.difference());
    }
}

#[test]
fn survivors_of_a_mass_crash_refuse_within_15_s() {
    for (nodes, survivors) in [(16, 3), (64, 4)] {
        let mut cluster = formed(5, nodes, ClusterConfig::lan());
        (survivors..nodes).for_each(|node| cluster.crash(node));
        cluster.run_for(secs(15));
        let left = range(0..survivors);
        each_look(&mut cluster, secs(90), |cluster| {
            assert_eq!(
                serving(cluster, &left, &SplitBrainPolicy::keep_majority()),
                [],
                "{survivors} of {nodes} at {:?}",
                cluster.now()
            );
        });
    }
}

#[test]
fn the_members_of_a_tag_that_decide_are_asked() {
    let policy = SplitBrainPolicy::keep_majority().among("role", "db");
    let mut cluster = formed(8, 200, ClusterConfig::lan());
    for node in [0, 100, 150] {
        cluster.set_tag(node, "role", "db").unwrap();
    }
    cluster.run_for(secs(10));
    // One of the three, and nine others.
    let small = range(0..10);
    let serves = |cluster: &mut Cluster, node| {
        let decision = cluster.may_serve(node, &policy).expect("it runs");
        decision.is_allowed()
    };
    assert!(serves(&mut cluster, 1));
    (0..10).for_each(|node| assert!(serves(&mut cluster, node)));
    cluster.network().isolate(small.iter().copied(), 1);
    cluster.run_for(secs(15));
    each_look(&mut cluster, secs(15), |cluster| {
        for node in 0..10 {
            assert!(!serves(cluster, node), "n{node} at {:?}", cluster.now());
        }
        assert!(serves(cluster, 120));
    });
}

#[test]
fn no_member_is_forgotten_during_a_partition() {
    for (nodes, side) in [(10, 4), (64, 2)] {
        let config = ClusterConfig::lan().with_forget_after(secs(120));
        let mut cluster = formed(4, nodes, config);
        let (small, large) = (range(0..side), range(side..nodes));
        cluster.network().isolate(small.iter().copied(), 1);
        cluster.run_for(secs(20));
        each_look(&mut cluster, secs(400), |cluster| {
            let majority = SplitBrainPolicy::keep_majority();
            assert_eq!(
                serving(cluster, &small, &majority),
                [],
                "at {:?}",
                cluster.now()
            );
        });
        for node in &small {
            let engine = cluster.engine(*node).unwrap();
            let expected = match engine.partition_status() {
                PartitionStatus::Partitioned { expected, .. } => expected,
                PartitionStatus::Isolated { expected } => expected,
                status => panic!("{status:?} at n{node}"),
            };
            assert_eq!(expected, nodes);
            let healed = |(_, event): &&(_, Event)| *event == Event::PartitionHealed;
            assert_eq!(cluster.events(*node).iter().filter(healed).count(), 0);
        }
        assert_eq!(
            serving(&cluster, &large, &SplitBrainPolicy::keep_majority()),
            large,
            "they are the majority"
        );
    }
}

#[test]
fn a_crash_is_forgotten_in_its_time() {
    let config = ClusterConfig::lan().with_forget_after(secs(120));
    let mut cluster = formed(4, 10, config);
    cluster.crash(9);
    cluster.run_for(secs(60));
    assert!(cluster.view_of(0, 9).is_some());
    cluster.run_for(secs(120));
    assert_eq!(cluster.view_of(0, 9), None);
}

#[test]
fn force_leave_removes_members_that_are_gone_for_good() {
    let mut cluster = formed(6, 10, ClusterConfig::lan());
    (4..10).for_each(|node| cluster.crash(node));
    cluster.run_for(secs(120));
    let (left, majority) = (range(0..4), SplitBrainPolicy::keep_majority());
    assert_eq!(serving(&cluster, &left, &majority), []);
    let view = cluster.engine(0).unwrap().view(cluster.now());
    for member in view.members.iter().filter(|member| !member.is_reachable) {
        assert!(cluster.force_leave(0, &member.id), "{member:?}");
    }
    let serve = |cluster: &Cluster| serving(cluster, &left, &majority) == left;
    let took = cluster.run_until(secs(5), serve);
    assert!(took.is_some(), "a forced leave at one node spreads to all");
    // No member that is reached is removed, and none twice.
    let id = cluster.engine(1).unwrap().id();
    assert!(!cluster.force_leave(0, &id));
    assert!(!cluster.force_leave(0, &view.members[9].id));
}

#[test]
fn a_member_removed_by_mistake_comes_back() {
    let mut cluster = formed(6, 10, ClusterConfig::lan());
    cluster.network().isolate([8, 9], 1);
    cluster.run_for(secs(20));
    let id = cluster.engine(9).unwrap().id();
    assert!(cluster.force_leave(0, &id));
    cluster.network().heal();
    let alive = |cluster: &Cluster| {
        let state = cluster.view_of(0, 9).map(|member| member.state);
        state == Some(MemberState::Alive)
    };
    assert!(cluster.run_until(secs(60), alive).is_some());
    let took = cluster.run_until(secs(60), Cluster::is_converged);
    assert!(took.is_some(), "{:?}", cluster.difference());
}

/// Asserts that none of these nodes refuses for another reason than that it has just started.
fn expect_served(
    cluster: &Cluster,
    nodes: impl IntoIterator<Item = usize>,
    policies: &[SplitBrainPolicy],
) {
    for node in nodes {
        let Some(engine) = cluster.engine(node) else {
            continue;
        };
        for policy in policies {
            match engine.may_serve(policy, cluster.now()).reason() {
                None | Some(DenyReason::NotJoined) => {}
                Some(reason) => panic!("n{node} at {:?}: {reason}", cluster.now()),
            }
        }
    }
}

#[test]
fn all_members_serve_at_30_percent_loss() {
    for (nodes, seed) in [(5, 1), (48, 2)] {
        let mut cluster = formed(seed, nodes, ClusterConfig::lan());
        cluster.network().default = Link::lan().with_loss(0.3);
        let policies = policies(nodes);
        each_look(&mut cluster, secs(180), |cluster| {
            expect_served(cluster, 0..nodes, &policies[..2]);
        });
    }
}

#[test]
fn healthy_members_serve_while_others_come_and_go() {
    // As in the grid of Lifeguard's experiments, and as in flip-flop: a quarter hears nothing.
    for (blocked, normal) in [(millis(2_000), millis(1_000)), (secs(20), secs(20))] {
        let mut cluster = formed(7, 32, ClusterConfig::lan());
        let well = || 8..32;
        let policies = policies(32);
        for _ in 0..4 {
            (0..8).for_each(|node| cluster.block(node));
            each_look(&mut cluster, blocked, |cluster| {
                expect_served(cluster, well(), &policies[..2]);
            });
            (0..8).for_each(|node| cluster.resume(node));
            each_look(&mut cluster, normal, |cluster| {
                expect_served(cluster, well(), &policies[..2]);
            });
        }
    }
}

#[test]
fn all_members_serve_during_a_rolling_restart() {
    let mut cluster = formed(9, 24, ClusterConfig::lan());
    let policies = policies(24);
    for node in 0..24 {
        cluster.crash(node);
        each_look(&mut cluster, millis(1_500), |cluster| {
            expect_served(cluster, 0..24, &policies[..2]);
        });
        cluster.restart(node);
        each_look(&mut cluster, millis(1_500), |cluster| {
            expect_served(cluster, 0..24, &policies[..2]);
        });
    }
}

#[test]
fn exactly_one_of_two_halves_is_a_minority() {
    // A cut and two crashes look the same to the survivors.
    for crash in [false, true] {
        let mut cluster = formed(4, 4, ClusterConfig::lan());
        match crash {
            false => cluster.network().isolate([2, 3], 1),
            true => [2, 3].map(|node| cluster.crash(node)).into_iter().collect(),
        }
        cluster.run_for(secs(40));
        let reported = |node| {
            let reported = cluster
                .events(node)
                .iter()
                .find_map(|(_, event)| match event {
                    Event::PartitionDetected {
                        reachable: 2,
                        expected: 4,
                        minority,
                    } => Some(*minority),
                    _ => None,
                });
            reported.unwrap_or_else(|| panic!("no report at {node}, crash {crash}"))
        };
        let policy = SplitBrainPolicy::keep_majority();
        let running = if crash { 0..2 } else { 0..4 };
        for node in running {
            assert_eq!(reported(node), node >= 2, "{node}, crash {crash}");
            let serves = serving(&cluster, &[node], &policy) == [node];
            assert_eq!(serves, !reported(node), "{node}, crash {crash}");
        }
    }
}
