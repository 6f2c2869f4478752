//! Seeds that resolve to the node itself, or to another node each time, in virtual time.

use rpcnet_swim::{ClusterConfig, SplitBrainPolicy};
use rpcnet_swim_sim::{Cluster, Link};

use crate::secs;

/// Datagrams that a node sends in a minute.
fn sent_in_a_minute(cluster: &mut Cluster, node: usize) -> u64 {
    let before = cluster.traffic(node).sent;
    cluster.run_for(secs(60));
    cluster.expect_safe();
    cluster.traffic(node).sent - before
}

#[test]
fn a_node_that_is_one_of_its_seeds_waits_quietly_for_the_others() {
    let mut cluster = Cluster::new(1);
    let seeds = vec![
        "10.0.0.1:7946".parse().unwrap(),
        "10.0.0.2:7946".parse().unwrap(),
    ];
    let first = cluster.add("first", ClusterConfig::lan(), seeds.clone());
    cluster.run_for(secs(3));
    assert!(
        cluster.engine(first).unwrap().is_joined(),
        "its own cluster"
    );
    let sent = sent_in_a_minute(&mut cluster, first);
    assert!((3..=12).contains(&sent), "{sent} datagrams in a minute");
    // The other node starts, and they become one cluster.
    cluster.add("second", ClusterConfig::lan(), seeds);
    let met = cluster.run_until(secs(1), Cluster::is_converged);
    cluster.expect_safe();
    met.expect("the second one dials the first");
}

#[test]
fn a_node_whose_seeds_rotate_waits_quietly_for_them() {
    let mut cluster = Cluster::new(2);
    let seeds: Vec<_> = (1..200)
        .map(|n| format!("10.9.0.{n}:7946").parse().unwrap())
        .collect();
    let node = cluster.add("node", ClusterConfig::lan(), seeds);
    cluster.rotate_seeds(node, 3);
    cluster.run_for(secs(30));
    let sent = sent_in_a_minute(&mut cluster, node);
    assert!((12..=60).contains(&sent), "{sent} datagrams in a minute");
    assert!(!cluster.engine(node).unwrap().is_joined());
}

/// A name that stands for all nodes, of which each lookup returns some others.
#[test]
fn a_cluster_whose_seeds_rotate_is_as_quiet_as_any_other() {
    let count = 12;
    let all: Vec<_> = (1..=count)
        .map(|n| format!("10.0.0.{n}:7946").parse().unwrap())
        .collect();
    let mut cluster = Cluster::new(3);
    for n in 0..count {
        let node = cluster.add(format!("n{n}"), ClusterConfig::lan(), all.clone());
        cluster.rotate_seeds(node, 2);
    }
    let took = cluster.run_until(secs(30), Cluster::is_converged);
    cluster.expect_safe();
    took.expect("all know all");
    cluster.run_for(secs(30));
    let sent = sent_in_a_minute(&mut cluster, 0);
    // A ping and an answer for each of 90 rounds that a node starts and of those it is target of.
    assert!(sent < 60 * 5, "{sent} datagrams in a minute");
}

#[test]
fn a_last_survivor_stays_in_and_backs_off() {
    let mut cluster = Cluster::bootstrap(4, 3, ClusterConfig::lan());
    let all: Vec<_> = (0..3).map(|n| cluster.addr(n)).collect();
    cluster.run_for(secs(10));
    assert!(cluster.is_converged());
    cluster.leave(1);
    cluster.leave(2);
    cluster.run_for(secs(60));
    let alone = cluster.engine(0).unwrap();
    assert_eq!(alone.live_count(), 1);
    assert!(alone.is_joined(), "alone is not out");
    let decision = alone.may_serve(&SplitBrainPolicy::keep_oldest(), cluster.now());
    assert!(decision.is_allowed(), "{decision:?}");
    let sent = sent_in_a_minute(&mut cluster, 0);
    // Two seeds and, as addresses of members that it knew, the same ones.
    assert!((6..=30).contains(&sent), "{sent} datagrams in a minute");
    // Nodes that come back find it, or it finds them.
    cluster.restart(1);
    let met = cluster.run_until(secs(15), |cluster| {
        cluster.engine(0).unwrap().live_count() == 2
    });
    cluster.expect_safe();
    met.expect("it is found");
    assert_eq!(all.len(), 3);
}

/// A view is whole when it agrees with that of another member, and not when a seed has answered.
#[test]
fn a_newcomer_s_view_is_complete_when_it_knows_every_member() {
    for seed in 0..10 {
        let mut cluster = Cluster::formed(seed, 60, ClusterConfig::lan());
        cluster.network().default = Link::lan().with_loss(0.1);
        cluster.run_for(secs(5));
        let seeds = vec![cluster.addr(7)];
        let late = cluster.add("late", ClusterConfig::lan(), seeds);
        let whole = |cluster: &Cluster| cluster.engine(late).unwrap().is_view_complete();
        let took = cluster.run_until(secs(30), whole);
        cluster.expect_safe();
        took.expect("it is whole at last");
        assert_eq!(
            cluster.engine(late).unwrap().live_count(),
            61,
            "seed {seed}"
        );
    }
}

/// Nodes that start together see each other's views grow: a complete one knows all members but
/// those that were let in at the same moment.
#[test]
fn nodes_that_start_together_are_complete_soon() {
    let mut cluster = Cluster::bootstrap(5, 20, ClusterConfig::lan());
    let whole =
        |cluster: &Cluster| (0..20).all(|node| cluster.engine(node).unwrap().is_view_complete());
    let took = cluster.run_until(secs(10), whole);
    cluster.expect_safe();
    assert!(took.expect("all are whole") < secs(5), "{took:?}");
}
