//! One outage is not flapping: a member that was stable before is back soon after it.

use rpcnet_swim::{ClusterConfig, MemberState};
use rpcnet_swim_sim::{Cluster, Transition};

use crate::secs;

/// Whether every other node has `n{node}` alive.
fn is_back(cluster: &Cluster, node: usize) -> bool {
    let name = format!("n{node}");
    (0..cluster.len()).filter(|n| *n != node).all(|n| {
        let member = cluster.engine(n).and_then(|engine| engine.member(&name));
        member.is_some_and(|member| member.state == MemberState::Alive)
    })
}

/// Lets `node` hear nothing for 40 s, but for a moment in which it is back.
fn deaf_for_40_s(cluster: &mut Cluster, node: usize, back_at: u64) {
    cluster.network().set_ingress_loss(node, 1.0);
    cluster.run_for(secs(back_at));
    cluster.network().set_ingress_loss(node, 0.0);
    let recovered = cluster.run_until(secs(10), |cluster| is_back(cluster, node));
    let recovered = recovered.expect("the first recovery is immediate");
    cluster.network().set_ingress_loss(node, 1.0);
    cluster.run_for(secs(40 - back_at) - recovered);
    assert!(!is_back(cluster, node), "it failed again");
    cluster.network().set_ingress_loss(node, 0.0);
}

#[test]
fn a_stable_member_that_recovered_once_within_its_outage_is_back_10_s_after_it() {
    for nodes in [8, 24, 64] {
        for seed in 1..=16 {
            let mut cluster = Cluster::formed(seed, nodes, ClusterConfig::lan());
            cluster.log_events(false);
            cluster.check_every(50);
            cluster.run_for(secs(20));
            deaf_for_40_s(&mut cluster, 3, 7 + seed % 8);
            let took = cluster.run_until(secs(60), |cluster| is_back(cluster, 3));
            println!("{nodes} nodes, seed {seed}: back after {took:?}");
            assert!(took.is_some_and(|took| took <= secs(10)), "{took:?}");
            // It stays down.
            cluster.run_for(secs(30));
            assert!(is_back(&cluster, 3));
            cluster.expect_safe();
        }
    }
}

/// A switch that fails twice: their proofs do not wait for each other.
#[test]
fn members_that_relapse_together_are_back_as_soon() {
    let mut cluster = Cluster::formed(1, 64, ClusterConfig::lan());
    cluster.log_events(false);
    cluster.check_every(200);
    cluster.run_for(secs(20));
    let set_loss = |cluster: &mut Cluster, loss| {
        for node in 0..12 {
            cluster.network().set_ingress_loss(node, loss);
        }
    };
    let are_back = |cluster: &Cluster| {
        (0..12).all(|node| {
            let name = format!("n{node}");
            (12..64).all(|observer| {
                let member = cluster.engine(observer).and_then(|it| it.member(&name));
                member.is_some_and(|member| member.state == MemberState::Alive)
            })
        })
    };
    set_loss(&mut cluster, 1.0);
    cluster.run_for(secs(12));
    set_loss(&mut cluster, 0.0);
    let recovered = cluster.run_until(secs(10), are_back);
    assert!(recovered.is_some(), "the first recovery is immediate");
    set_loss(&mut cluster, 1.0);
    cluster.run_for(secs(25));
    set_loss(&mut cluster, 0.0);
    let took = cluster.run_until(secs(60), are_back);
    println!("12 of 64: back after {took:?}");
    assert!(took.is_some_and(|took| took <= secs(15)), "{took:?}");
}

#[test]
fn a_member_that_relapses_again_and_again_is_held_down() {
    for seed in 1..=3 {
        let mut cluster = Cluster::formed(seed, 24, ClusterConfig::lan());
        cluster.log_events(false);
        cluster.check_every(50);
        cluster.run_for(secs(20));
        // Eight seconds each, for five minutes: shorter than any return that lasts.
        for _ in 0..19 {
            for loss in [1.0, 0.0] {
                cluster.network().set_ingress_loss(3, loss);
                cluster.run_for(secs(8));
            }
        }
        for observer in (0..24).filter(|observer| *observer != 3) {
            let of_it = |t: &&Transition| (t.observer, t.subject) == (observer, 3);
            let seen = cluster.transitions().iter().filter(of_it).count();
            assert!(seen <= 5, "{seen} changes in the view of n{observer}");
        }
        cluster.expect_safe();
    }
}
