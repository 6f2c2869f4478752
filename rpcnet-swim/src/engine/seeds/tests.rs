//! Seeds: those that name the node itself, or another node each time.

use std::net::SocketAddr;

use super::*;
use crate::config::ClusterConfig;
use crate::engine::test_support::{self, addr};
use crate::id::NodeId;
use crate::split_brain::SplitBrainPolicy;

fn engine(port: u16) -> Engine {
    test_support::engine(&format!("n{port}"), 1, port)
}

/// Drives a node whose lookups take a millisecond; gives its lookups and datagrams in that time.
fn drive(
    engine: &mut Engine,
    time: Duration,
    mut resolve: impl FnMut(u64) -> Vec<SocketAddr>,
) -> (u64, u64) {
    let (mut lookups, mut now) = (0, Time::ZERO);
    while now < Time::ZERO + time {
        if engine.wants_seeds() {
            lookups += 1;
            engine.handle_seeds(now, &resolve(lookups));
        }
        if engine.poll_timeout().is_some_and(|at| at <= now) {
            engine.handle_timeout(now);
        }
        while engine.poll_transmit().is_some() {}
        now += Duration::from_millis(1);
    }
    (lookups, engine.stats().sent)
}

/// Handles everything that is due up to this time.
fn run_to(engine: &mut Engine, end: Time) {
    while let Some(at) = engine.poll_timeout().filter(|at| *at <= end) {
        engine.handle_timeout(at);
    }
}

#[test]
fn a_node_that_is_one_of_its_seeds_backs_off() {
    let mut engine = engine(1);
    let (lookups, sent) = drive(&mut engine, Duration::from_secs(60), |_| {
        vec![addr(1), addr(2)]
    });
    // At 0, 0.5, 1.25 ... and then every ten seconds.
    assert!(lookups <= 16, "{lookups} lookups in a minute");
    assert!(sent <= 16, "{sent} datagrams in a minute");
}

#[test]
fn a_node_whose_seeds_rotate_backs_off() {
    let mut engine = engine(1);
    let (lookups, sent) = drive(&mut engine, Duration::from_secs(60), |lookup| {
        let port = 2 + (lookup % 5_000) as u16;
        (0..20).map(|n| addr(port + 20 * n)).collect()
    });
    assert!(lookups <= 16, "{lookups} lookups in a minute");
    assert!(sent <= 16 * 16, "{sent} datagrams in a minute");
}

#[test]
fn a_fresh_seed_is_dialled_at_once() {
    let mut engine = engine(1);
    engine.handle_seeds(Time::ZERO, &[addr(2)]);
    assert_eq!(engine.poll_transmit().map(|(to, _)| to), Some(addr(2)));
    engine.handle_seeds(Time::from_millis(1), &[addr(2), addr(3)]);
    assert_eq!(engine.poll_transmit().map(|(to, _)| to), Some(addr(3)));
    assert_eq!(engine.poll_transmit(), None);
    // No more than may be dialled in a probe interval.
    let many: Vec<_> = (4..100).map(addr).collect();
    engine.handle_seeds(Time::from_millis(2), &many);
    let dialled = std::iter::from_fn(|| engine.poll_transmit()).count();
    assert_eq!(dialled, DIALS_MAX - 2);
}

#[test]
fn a_joined_node_stays_joined_when_it_is_alone() {
    let mut engine = engine(1);
    engine.join.enter();
    let (lookups, _) = drive(&mut engine, Duration::from_secs(60), |lookup| {
        vec![addr(1), addr(2 + lookup as u16)]
    });
    assert!(lookups > 3, "it looks for the others");
    assert!(engine.is_joined(), "alone is not out");
    let decision = engine.may_serve(&SplitBrainPolicy::keep_oldest(), Time::from_millis(60_000));
    assert!(decision.is_allowed(), "{decision:?}");
}

#[test]
fn a_node_that_is_its_only_seed_is_joined_at_once() {
    let mut engine = engine(1);
    engine.handle_seeds(Time::ZERO, &[addr(1)]);
    assert!(engine.is_joined());
    assert_eq!(engine.poll_transmit(), None, "it does not dial itself");
}

#[test]
fn a_node_that_is_one_of_its_seeds_begins_a_cluster_when_no_other_answers() {
    for unresolved in [false, true] {
        let mut engine = engine(1);
        if unresolved {
            engine.handle_unresolved_seeds(Time::ZERO);
            engine.handle_seeds(Time::ZERO, &[addr(1)]);
        } else {
            engine.handle_seeds(Time::ZERO, &[addr(1), addr(2)]);
        }
        run_to(&mut engine, Time::from_millis(1_999));
        assert!(!engine.is_joined(), "the other one is waited for");
        run_to(&mut engine, Time::from_millis(2_000));
        assert!(engine.is_joined() && engine.has_bootstrapped());
    }
    // A node that is no seed of its own goes on trying.
    let mut engine = engine(1);
    drive(&mut engine, Duration::from_secs(600), |_| vec![addr(2)]);
    assert!(!engine.is_joined());
}

#[test]
fn an_address_that_is_known_to_be_its_own_is_not_dialled() {
    let mut engine = engine(1);
    engine.set_own_addrs(vec![addr(5)]);
    engine.handle_seeds(Time::ZERO, &[addr(5)]);
    assert!(engine.is_joined());
    assert_eq!(engine.poll_transmit(), None);
}

/// A floating address, or that of a pod that is gone.
#[test]
fn an_address_that_was_its_own_is_dialled_once_it_is_another_s() {
    let mut engine = engine(1);
    engine.set_own_addrs(vec![addr(5)]);
    engine.handle_seeds(Time::ZERO, &[addr(5)]);
    assert_eq!(engine.poll_transmit(), None);
    engine.set_own_addrs(Vec::new());
    engine.handle_seeds(Time::from_millis(1), &[addr(5)]);
    let (to, _) = engine.poll_transmit().expect("a hello");
    assert_eq!(to, addr(5));
}

/// A hello that comes back shows that a seed is this node under an address that it did not know.
#[test]
fn a_hello_that_comes_back_shows_that_this_node_is_its_own_seed() {
    let mut engine = engine(1);
    engine.handle_seeds(Time::ZERO, &[addr(5)]);
    let (to, mut hello) = engine.poll_transmit().unwrap();
    assert_eq!(to, addr(5));
    engine.handle_datagram(Time::ZERO, addr(5), &mut hello);
    run_to(&mut engine, Time::from_millis(2_000));
    assert!(engine.is_joined());
}

/// Datagrams of a node with two seeds, of which one reflects its datagrams; says whether it
/// bootstrapped a cluster within five seconds.
fn begins_a_cluster(reflecting: &[u16]) -> bool {
    let key = crate::ClusterKey::from_bytes([7; 32]);
    let config = ClusterConfig::lan().with_key(key);
    let mut node = Engine::new(config, NodeId::new("n", 1), addr(1), Time::ZERO, 7).unwrap();
    let seeds = [addr(2), addr(3)];
    node.handle_seeds(Time::ZERO, &seeds);
    let mut now = Time::ZERO;
    while now < Time::from_millis(5_000) {
        while let Some((to, mut datagram)) = node.poll_transmit() {
            if reflecting.contains(&to.port()) {
                node.handle_datagram(now, to, &mut datagram);
            }
        }
        now += Duration::from_millis(10);
        run_to(&mut node, now);
        if node.wants_seeds() {
            node.handle_seeds(now, &seeds);
        }
    }
    node.has_bootstrapped()
}

#[test]
fn one_reflecting_seed_bootstraps_no_cluster() {
    assert!(!begins_a_cluster(&[]));
    assert!(!begins_a_cluster(&[2]));
    // All of them are this node itself, behind a translation of addresses.
    assert!(begins_a_cluster(&[2, 3]));
}

#[test]
fn a_look_up_that_failed_says_nothing_of_the_next_one() {
    let mut node = engine(1);
    assert!(node.wants_seeds());
    node.handle_unresolved_seeds(Time::ZERO);
    run_to(&mut node, Time::from_millis(1_000));
    assert!(node.wants_seeds(), "it is looked up again");
    // Now it resolves, to this node alone: there is no other seed to wait for.
    node.handle_seeds(Time::from_millis(1_000), &[addr(1)]);
    assert!(node.is_joined());
}
