//! Members that failed or left: their cost to the others, and the events that the others see.

use std::time::Duration;

use rpcnet_swim::{ClusterConfig, Decision, Event, MemberState, SplitBrainPolicy};
use rpcnet_swim_sim::{Cluster, Link};

use crate::{lan, secs};

fn settled(seed: u64, nodes: usize, config: ClusterConfig) -> Cluster {
    let mut cluster = Cluster::bootstrap(seed, nodes, config);
    cluster.check_every(nodes as u64);
    let took = cluster.run_until(secs(30), Cluster::is_converged);
    took.unwrap_or_else(|| panic!("{:?}", cluster.difference()));
    cluster.run_for(secs(5));
    cluster
}

/// Datagrams a second that are sent to members that are gone.
fn sent_in_vain(cluster: &mut Cluster, window: u64) -> f64 {
    let before = cluster.report().sent - cluster.report().delivered;
    cluster.run_for(secs(window));
    let after = cluster.report().sent - cluster.report().delivered;
    (after - before) as f64 / window as f64
}

#[test]
fn live_members_share_the_redials_of_failed_ones() {
    let (nodes, dead) = (60, 2);
    let mut cluster = settled(1, nodes, lan());
    // None of them is a seed: seeds are dialled all the same.
    for node in nodes - dead..nodes {
        cluster.crash(node);
        // One after the other, so that it is no partition.
        cluster.run_for(secs(30));
    }
    cluster.run_for(secs(60));
    let rate = sent_in_vain(&mut cluster, 120);
    println!("{rate:.2} dials a second of {dead} dead");
    assert!(rate > 0.0, "no member dials them");
    assert!(rate <= 0.5, "{rate} dials a second");
    cluster.expect_safe();
}

#[test]
fn few_survivors_of_many_redial_little() {
    let (nodes, left) = (80, 8);
    let mut cluster = settled(2, nodes, lan());
    for node in left..nodes {
        cluster.crash(node);
    }
    cluster.run_for(secs(240));
    let each = sent_in_vain(&mut cluster, 60) / left as f64;
    println!("{each:.2} dials a second of each of {left}");
    // 72 failed members, each redialled by 4 in a minute; and one in 5 s, as it may be a partition.
    assert!(each <= 0.9, "{each} dials a second");
    cluster.expect_safe();
}

#[test]
fn with_no_time_to_leave_the_others_are_told_once() {
    let config = lan().with_leave_timeout(Duration::ZERO);
    let mut cluster = settled(3, 5, config);
    cluster.leave(2);
    cluster.run_for(secs(1));
    for observer in [0, 1, 3, 4] {
        let state = cluster.view_of(observer, 2).map(|member| member.state);
        assert_eq!(state, Some(MemberState::Left), "at {observer}");
    }
    cluster.expect_safe();
}

#[test]
fn a_leave_that_ends_early_counts_the_acknowledgements_that_came() {
    let config = lan().with_leave_timeout(secs(1));
    let mut cluster = settled(4, 4, config);
    // Two of three do not acknowledge it.
    cluster.network().default = Link::lan();
    for silent in [1, 2] {
        cluster.network().set_ingress_loss(silent, 1.0);
    }
    cluster.leave(0);
    cluster.run_for(secs(2));
    let left = cluster.events(0).iter().find_map(|(_, event)| match event {
        Event::Left { acknowledged } => Some(*acknowledged),
        _ => None,
    });
    assert_eq!(left, Some(1));
}

#[test]
fn one_that_left_and_one_that_crashed_are_no_partition() {
    for (seed, loss) in (0..12).zip([0.0, 0.1, 0.2].into_iter().cycle()) {
        for wait in [-5_000, -500, 0, 500, 5_000_i64] {
            let mut cluster = Cluster::formed(seed, 4, lan());
            cluster.network().default.loss = loss;
            cluster.run_for(secs(15));
            let between = Duration::from_millis(wait.unsigned_abs());
            if wait < 0 {
                cluster.crash(3);
                cluster.run_for(between);
                cluster.leave(2);
            } else {
                cluster.leave(2);
                cluster.run_for(between);
                cluster.crash(3);
            }
            let policy = SplitBrainPolicy::keep_majority();
            for _ in 0..120 {
                cluster.run_for(Duration::from_millis(250));
                for node in [0, 1] {
                    let decision = cluster.may_serve(node, &policy);
                    let case = format!("seed {seed}, loss {loss}, {wait} ms, node {node}");
                    assert_eq!(decision, Some(Decision::Allow), "{case}");
                }
            }
            for node in [0, 1] {
                let events = cluster.events(node);
                let cut = |(_, event): &&(_, Event)| {
                    matches!(
                        event,
                        Event::PartitionDetected { .. } | Event::Isolated { .. }
                    )
                };
                assert_eq!(
                    events.iter().find(cut),
                    None,
                    "seed {seed}, loss {loss}, {wait} ms"
                );
            }
            cluster.expect_safe();
        }
    }
}
