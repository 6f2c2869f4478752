//! Each checker sees the bug that is planted for it.

use std::time::Duration;

use super::{Cluster, Kind, Link, Plan, Violation, run};
use crate::config::ClusterConfig;
use crate::engine::Engine;
use crate::event::MemberState;
use crate::time::Time;

/// What the checkers say of five nodes after `tamper` was at the engine of the first.
fn violation(tamper: impl FnOnce(&mut Engine, Time)) -> Option<Violation> {
    let mut cluster = Cluster::of(3, 5, ClusterConfig::lan());
    cluster.forbid_false_failures(true);
    let converged = cluster.run_until(Duration::from_secs(5), Cluster::is_converged);
    converged.expect("all know all");
    cluster.set_tag(3, "a", "b").unwrap();
    cluster.run_for(Duration::from_secs(30));
    cluster.expect_safe();
    let now = cluster.now();
    tamper(cluster.engine_mut(0).unwrap(), now);
    cluster.run_for(Duration::from_secs(1));
    cluster.report().failure.map(|failure| {
        assert_eq!(failure.observer, "n0");
        failure.violation
    })
}

#[test]
fn nothing_is_seen_where_nothing_is() {
    assert_eq!(violation(|_, _| {}), None);
}

#[test]
fn an_incarnation_that_fell_is_seen() {
    // The hash of the view is kept true by hand, or that checker would be the first.
    let seen = violation(|engine, now| {
        engine.plant_update(now, "n3", |entry| entry.incarnation -= 1);
    });
    assert!(matches!(seen, Some(Violation::WentBack { .. })), "{seen:?}");
}

#[test]
fn an_incarnation_raised_by_another_is_seen() {
    let seen = violation(|engine, now| {
        engine.plant_update(now, "n3", |entry| entry.incarnation += 1);
    });
    assert!(matches!(seen, Some(Violation::Invented { .. })), "{seen:?}");
    let seen = violation(|engine, now| {
        engine.plant_update(now, "n3", |entry| entry.epoch += 1);
    });
    assert!(
        matches!(seen, Some(Violation::Invented { own: None, .. })),
        "{seen:?}"
    );
}

#[test]
fn a_failed_member_that_rises_by_itself_is_seen() {
    let mut cluster = Cluster::of(3, 5, ClusterConfig::lan());
    cluster.run_for(Duration::from_secs(5));
    cluster.crash(3);
    cluster.run_for(Duration::from_secs(10));
    cluster.expect_safe();
    let now = cluster.now();
    let engine = cluster.engine_mut(0).unwrap();
    engine.plant_update(now, "n3", |entry| entry.state = MemberState::Alive);
    cluster.run_for(Duration::from_secs(1));
    let seen = cluster.report().failure.map(|failure| failure.violation);
    assert!(
        matches!(seen, Some(Violation::RoseAgain { .. })),
        "{seen:?}"
    );
}

#[test]
fn a_left_member_that_fails_is_seen() {
    let mut cluster = Cluster::of(3, 5, ClusterConfig::lan());
    cluster.run_for(Duration::from_secs(5));
    cluster.leave(3);
    cluster.run_for(Duration::from_secs(10));
    cluster.expect_safe();
    let now = cluster.now();
    cluster.engine_mut(0).unwrap().plant_failure(now, "n3");
    cluster.run_for(Duration::from_secs(1));
    let seen = cluster.report().failure.map(|failure| failure.violation);
    assert!(
        matches!(seen, Some(Violation::RoseAgain { .. })),
        "{seen:?}"
    );
}

#[test]
fn a_failure_of_one_that_is_well_is_seen() {
    let seen = violation(|engine, now| engine.plant_failure(now, "n3"));
    assert!(
        matches!(seen, Some(Violation::FalseFailure { .. })),
        "{seen:?}"
    );
}

#[test]
fn a_queue_past_its_bound_is_seen() {
    let seen = violation(|engine, _| engine.plant_news(5_000));
    assert!(
        matches!(
            seen,
            Some(Violation::Unbounded {
                what: "gossip queue",
                ..
            })
        ),
        "{seen:?}"
    );
}

#[test]
fn a_wrong_hash_is_seen() {
    let seen = violation(|engine, _| engine.plant("n3", |entry| entry.incarnation += 1));
    assert_eq!(seen, Some(Violation::WrongHash));
}

#[test]
fn an_oversized_datagram_is_seen() {
    let seen = violation(|engine, _| engine.plant_datagram(1_401));
    assert_eq!(
        seen,
        Some(Violation::Oversized {
            bytes: 1_401,
            max: 1_400
        })
    );
}

#[test]
fn a_view_that_stays_wrong_is_seen() {
    // Two of five never hear each other again, in any way: no calm comes.
    let mut cluster = Cluster::of(3, 5, ClusterConfig::lan());
    cluster.run_for(Duration::from_secs(5));
    assert!(cluster.is_converged());
    cluster.network().isolate([1, 2], 1);
    cluster.run_for(Duration::from_secs(30));
    let (_, difference) = cluster.difference().expect("not all is well");
    assert!(difference.contains("yet up"), "{difference}");
    cluster.network().heal();
    let converged = cluster.run_until(Duration::from_secs(60), Cluster::is_converged);
    converged.expect("it heals");
    // A tag that one view has wrong, though all hashes are right.
    let tags = crate::tags::Tags::new().with("forged", "yes").unwrap();
    let engine = cluster.engine_mut(0).unwrap();
    engine.plant("n3", |entry| entry.tags = tags);
    let (observer, difference) = cluster.difference().expect("not all is well");
    assert_eq!(observer, 0);
    assert!(difference.contains("forged"), "{difference}");
}

#[test]
fn a_run_that_does_not_converge_fails_and_says_how_to_replay_it() {
    let report = super::trouble::run_tampered(5, Plan::swarm().with_nodes(4), |cluster| {
        let tags = crate::tags::Tags::new().with("forged", "yes").unwrap();
        for node in 0..cluster.len() {
            if let Some(engine) = cluster.engine_mut(node) {
                let names: Vec<_> = engine.members().map(|m| m.id.name).collect();
                for name in names {
                    engine.plant(&name, |entry| entry.tags = tags.clone());
                }
            }
        }
    });
    let failure = report.failure.expect("the tags are forged");
    assert!(
        matches!(failure.violation, Violation::NotConverged { .. }),
        "{failure}"
    );
    assert!(failure.with_replay(5).contains("RPCNET_SIM_SEED=5"));
}

#[test]
fn the_same_seed_is_the_same_run() {
    let first = run(17, Plan::swarm());
    assert_eq!(run(17, Plan::swarm()), first);
    assert_ne!(run(18, Plan::swarm()).trace, first.trace);
}

#[test]
fn every_kind_of_trouble_happens_when_it_is_asked_for() {
    let link = Link {
        duplicate: 0.1,
        reorder: 0.1,
        ..Link::lan().with_loss(0.02)
    };
    let check = |kind: Kind, happened: fn(&super::Report) -> u64| {
        let plan = Plan::swarm().with_nodes(6).with_link(link);
        let report = run(1, plan.with_kinds([kind]));
        println!("{kind:?}");
        report.expect_ok();
        assert!(happened(&report) > 0, "{kind:?}");
        assert!(report.lost > 0 && report.duplicated > 0 && report.overtaken > 0);
        assert!(report.checks > 1_000);
    };
    check(Kind::Crash, |r| r.crashes.min(r.failures));
    check(Kind::Restart, |r| r.restarts);
    check(Kind::RestartInThePast, |r| r.restarts);
    check(Kind::Rename, |r| r.renames);
    check(Kind::Stall, |r| r.stalls.min(r.suspicions));
    check(Kind::Block, |r| r.blocks.min(r.suspicions));
    check(Kind::OneWayCut, |r| r.one_way_cuts.min(r.cut));
    check(Kind::Partition, |r| r.partitions.min(r.cut));
    check(Kind::Leave, |r| r.leaves);
    check(Kind::Tags, |r| r.tag_changes);
    check(Kind::Drain, |r| r.drains);
}
