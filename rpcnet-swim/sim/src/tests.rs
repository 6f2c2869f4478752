//! Mutation tests of the checkers: each one detects the bug that is planted for it.
//!
//! | invariant | planted | violation |
//! |---|---|---|
//! | epoch and incarnation never fall | lowered by a view; by the node | `VersionRegressed` |
//! | only the node itself raises its own | an incarnation; an epoch | `ForgedVersion` |
//! | failed or left never returns by itself | failed to alive; left to failed | `Resurrected` |
//! | evidence before a decision | none; secret; each part lacking | `InsufficientEvidence` |
//! | no healthy member is declared failed | a failure out of nothing | `FalseFailure` |
//! | queues are bounded | 5,000 updates about unknown members | `BoundExceeded` |
//! | tables are bounded | 65,600 members | `BoundExceeded` |
//! | datagrams are bounded | one of 1,233 bytes | `Oversized` |
//! | work is bounded | 20,000 members at one address | `WorkBoundExceeded` |
//! | no pending work, few datagrams | lookups in a loop; acks; pages | `TrafficBoundExceeded` |
//! | a view and its hash agree | an incarnation changed beside the hash | `ViewHashMismatch` |
//! | every failure is known everywhere | a stopped observer; no probes | `UndetectedCrash` |
//! | at most one side serves | a node forgets the other side | `BothSidesServe` |
//! | every member is live in another view | one is failed in all | `UndiscoveredMember` |
//! | views are equal in the end | forged tags in all views; in one | `NotConverged` |

use std::time::Duration;

use rpcnet_swim::unstable::{MemberVersion, PhiSwim};
use rpcnet_swim::{ClusterConfig, Engine, MemberState, Time};

use super::{Cluster, FaultKind, Link, SimConfig, Violation, run};

/// The violation found in five nodes after `tamper` was applied to the engine of the first.
fn violation(tamper: impl FnOnce(&mut Engine, Time)) -> Option<Violation> {
    violation_in(Cluster::bootstrap(3, 5, ClusterConfig::lan()), tamper)
}

fn violation_in(mut cluster: Cluster, tamper: impl FnOnce(&mut Engine, Time)) -> Option<Violation> {
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

/// The violation found in five nodes, one of which is gone, after `tamper` was applied to the
/// engine of the first.
fn violation_after(
    remove: impl FnOnce(&mut Cluster, usize),
    tamper: impl FnOnce(&mut Engine, Time),
) -> Option<Violation> {
    let mut cluster = Cluster::bootstrap(3, 5, ClusterConfig::lan());
    cluster.run_for(Duration::from_secs(5));
    remove(&mut cluster, 3);
    cluster.run_for(Duration::from_secs(10));
    cluster.expect_safe();
    let now = cluster.now();
    tamper(cluster.engine_mut(0).unwrap(), now);
    cluster.run_for(Duration::from_secs(1));
    cluster.report().failure.map(|failure| failure.violation)
}

/// Asserts that a violation of this form was found.
macro_rules! assert_seen {
    ($seen:expr, $violation:pat) => {
        assert!(matches!($seen, Some($violation)), "{:?}", $seen);
    };
}

#[test]
fn a_sound_cluster_violates_no_invariant() {
    assert_eq!(violation(|_, _| {}), None);
}

#[test]
fn an_incarnation_that_fell_is_seen() {
    // The hash of the view is kept true by hand, or that checker would be the first.
    let seen = violation(|engine, now| {
        engine
            .tampering()
            .update(now, "n3", |version| version.incarnation -= 1);
    });
    assert_seen!(seen, Violation::VersionRegressed { .. });
}

#[test]
fn an_incarnation_raised_by_another_is_seen() {
    let seen = violation(|engine, now| {
        engine
            .tampering()
            .update(now, "n3", |version| version.incarnation += 1);
    });
    assert_seen!(seen, Violation::ForgedVersion { .. });
    let seen = violation(|engine, now| {
        engine
            .tampering()
            .update(now, "n3", |version| version.epoch += 1);
    });
    assert_seen!(seen, Violation::ForgedVersion { own: None, .. });
}

#[test]
fn a_node_whose_own_incarnation_falls_is_seen() {
    let mut cluster = Cluster::bootstrap(3, 5, ClusterConfig::lan());
    cluster.set_tag(0, "a", "b").unwrap();
    cluster.run_for(Duration::from_secs(5));
    cluster
        .engine_mut(0)
        .unwrap()
        .tampering()
        .set_own_incarnation(0);
    cluster.run_for(Duration::from_secs(1));
    let seen = cluster.report().failure.map(|failure| failure.violation);
    assert_seen!(seen, Violation::VersionRegressed { .. });
}

#[test]
fn a_failure_declared_without_evidence_is_seen() {
    let hasty = |tamper: fn(&mut Engine, Time)| match violation(tamper) {
        Some(Violation::InsufficientEvidence { evidence, .. }) => evidence,
        seen => panic!("{seen:?}"),
    };
    let evidence = hasty(|engine, now| engine.tampering().declare_failed(now, "n3", true));
    assert!(evidence.starts_with("0 misses, 0 suspectors"), "{evidence}");
    let evidence = hasty(|engine, now| engine.tampering().declare_failed(now, "n3", false));
    assert!(evidence.contains("1 declared failed, 0 with"), "{evidence}");
}

#[test]
fn each_part_of_the_evidence_is_required() {
    use rpcnet_swim::unstable::{Confirmation, FailureDecision, Suspectors};
    let check_own = |misses, own_phi: f64, confirmations: &[f64], live, age_ms| {
        let mut suspectors = Suspectors::default();
        for (by, phi) in confirmations.iter().enumerate() {
            suspectors.merge(Confirmation::new(by as u64, *phi));
        }
        let mut own = rpcnet_swim::unstable::Evidence::default();
        (0..misses).for_each(|_| own.add_miss(own_phi / f64::from(misses)));
        let decision = FailureDecision {
            key: 0,
            live,
            own,
            suspectors,
            age: Duration::from_millis(age_ms),
        };
        let member = || "n3".to_owned();
        super::check::check_evidence(member, &decision, &ClusterConfig::lan()).is_ok()
    };
    let check = |misses, confirmations: &[f64], live, age_ms| {
        check_own(misses, 8.0, confirmations, live, age_ms)
    };
    assert!(check(2, &[4.0, 4.0], 10, 650));
    assert!(!check(1, &[4.0, 4.0], 10, 650), "misses");
    assert!(!check(2, &[9.0], 10, 650), "suspectors");
    assert!(!check(2, &[9.0, 3.5], 10, 650), "phi, capped");
    assert!(!check(2, &[4.0, 4.0], 10, 649), "time");
    assert!(!check(2, &[4.0, 4.0], 1_000, 1_949), "time of many");
    assert!(check(2, &[4.0, 4.0], 1_000, 1_950));
    assert!(check(2, &[4.0], 2, 650), "alone");
    assert!(check(2, &[1.0], 10, 20_000), "all the patience there is");
    assert!(
        !check_own(2, 3.9, &[1.0], 10, 20_000),
        "and yet four of its own"
    );
    assert!(!check(1, &[1.0], 10, 20_000), "and yet two misses");
}

#[test]
fn two_sides_that_serve_are_seen() {
    let run = |forgets: bool| {
        let mut cluster = Cluster::formed(3, 8, ClusterConfig::lan());
        cluster.forbid_split_brain(Duration::from_secs(15));
        cluster.run_for(Duration::from_secs(5));
        cluster.network().isolate([0, 1], 1);
        cluster.run_for(Duration::from_secs(14));
        if forgets {
            let others: Vec<_> = (2..8).map(|node| format!("n{node}")).collect();
            cluster.engine_mut(0).unwrap().tampering().forget(&others);
        }
        cluster.run_for(Duration::from_secs(20));
        cluster.report().failure.map(|failure| failure.violation)
    };
    assert_eq!(run(false), None);
    let seen = run(true);
    assert_seen!(seen, Violation::BothSidesServe { .. });
}

#[test]
fn at_most_one_side_serves_despite_other_faults() {
    let kinds = [
        FaultKind::Partition,
        FaultKind::Crash,
        FaultKind::Restart,
        FaultKind::TagChange,
        FaultKind::Drain,
    ];
    for seed in 0..12 {
        run(seed, SimConfig::swarm().with_fault_kinds(kinds)).expect_ok();
    }
}

#[test]
fn a_crash_that_one_node_never_detects_is_seen() {
    let mut cluster = Cluster::bootstrap(3, 5, ClusterConfig::lan());
    cluster.run_for(Duration::from_secs(5));
    cluster.crash(3);
    let took = cluster.expect_converged(Duration::from_secs(10));
    assert!(took > Duration::from_millis(750), "{took:?}");
    assert_eq!(cluster.undetected_crash(), None);
    // A member is down but live in one view, and no node probes it: the process with that view is
    // stopped.
    cluster.crash(4);
    cluster.stall(0);
    let failure = cluster.converge(Duration::from_secs(10)).unwrap_err();
    assert_eq!(failure.observer, "n0");
    assert_eq!(
        failure.violation,
        Violation::UndetectedCrash {
            member: "n4".to_owned(),
            after: Duration::from_secs(10),
        }
    );
    assert_eq!(cluster.report().failure, Some(failure));
}

#[test]
fn a_run_in_which_a_crash_stays_unknown_fails() {
    let plan = SimConfig::swarm().with_nodes(4).with_fault_kinds([]);
    let report = run::run_tampered(5, plan, PhiSwim, |cluster| {
        // No node can find it: it answers, and yet is none of the nodes.
        cluster.crash(3);
        for node in 0..3 {
            let engine = cluster.engine_mut(node).unwrap();
            engine.tampering().silence();
        }
    });
    let failure = report.failure.expect("the crash stays undetected");
    let seen = &failure.violation;
    assert!(
        matches!(seen, Violation::UndetectedCrash { .. }),
        "{failure}"
    );
}

#[test]
fn a_run_in_which_a_member_stays_lost_to_all_fails() {
    let plan = SimConfig::swarm().with_nodes(4).with_fault_kinds([]);
    let report = run::run_tampered(5, plan, PhiSwim, |cluster| {
        let now = cluster.now();
        cluster.forbid_false_failures(false);
        for node in 0..4 {
            let engine = cluster.engine_mut(node).unwrap();
            if node != 3 {
                engine.tampering().fail(now, "n3");
            }
            // No node dials it, and it does not speak.
            engine.tampering().silence();
        }
        assert_eq!(cluster.undiscovered_member(), Some((3, "n3".to_owned())));
    });
    let failure = report.failure.expect("it is lost");
    assert_eq!(failure.observer, "n3", "{failure}");
    let seen = &failure.violation;
    assert!(
        matches!(seen, Violation::UndiscoveredMember { .. }),
        "{failure}"
    );
}

#[test]
fn a_table_past_its_bound_is_seen() {
    let seen = violation(|engine, now| engine.tampering().add_members(now, 65_600));
    assert_seen!(
        seen,
        Violation::BoundExceeded {
            name: "members",
            ..
        }
    );
}

#[test]
fn a_member_that_is_gone_and_changes_by_itself_is_seen() {
    let seen = violation_after(Cluster::crash, |engine, now| {
        let alive = |version: &mut MemberVersion| version.state = MemberState::Alive;
        engine.tampering().update(now, "n3", alive);
    });
    assert_seen!(seen, Violation::Resurrected { .. });
    let seen = violation_after(Cluster::leave, |engine, now| {
        engine.tampering().fail(now, "n3");
    });
    assert_seen!(seen, Violation::Resurrected { .. });
}

#[test]
fn a_failure_of_a_healthy_member_is_seen() {
    let mut cluster = Cluster::bootstrap(3, 5, ClusterConfig::lan());
    cluster.forbid_false_failures(true);
    let seen = violation_in(cluster, |engine, now| engine.tampering().fail(now, "n3"));
    assert_seen!(seen, Violation::FalseFailure { .. });
}

#[test]
fn a_queue_past_its_bound_is_seen() {
    let seen = violation(|engine, _| engine.tampering().queue_gossip(5_000));
    assert_seen!(
        seen,
        Violation::BoundExceeded {
            name: "gossip queue",
            ..
        }
    );
}

#[test]
fn a_datagram_that_takes_too_much_work_is_seen() {
    let mut cluster = Cluster::bootstrap(3, 5, ClusterConfig::lan());
    cluster.run_for(Duration::from_secs(5));
    // Whole views are not checked: that checker would be the first.
    cluster.check_every(1_000_000);
    // Each record of a member at that address visits them all.
    cluster
        .engine_mut(0)
        .unwrap()
        .tampering()
        .add_members_at_address("n3", 20_000);
    cluster.set_tag(3, "a", "b").unwrap();
    cluster.run_for(Duration::from_secs(2));
    let failure = cluster.report().failure.expect("too much work");
    assert_eq!(failure.observer, "n0");
    let seen = failure.violation;
    assert!(
        matches!(seen, Violation::WorkBoundExceeded { .. }),
        "{seen:?}"
    );
}

#[test]
fn a_wrong_hash_is_seen() {
    let seen = violation(|engine, _| {
        engine
            .tampering()
            .change("n3", |version, _| version.incarnation += 1);
    });
    assert_eq!(seen, Some(Violation::ViewHashMismatch));
}

#[test]
fn an_oversized_datagram_is_seen() {
    let seen = violation(|engine, _| engine.tampering().queue_datagram(1_233));
    assert_eq!(
        seen,
        Some(Violation::Oversized {
            bytes: 1_233,
            max: 1_232
        })
    );
}

#[test]
fn a_view_that_stays_wrong_is_seen() {
    // Two of five never hear each other again, in any way: they do not converge.
    let mut cluster = Cluster::bootstrap(3, 5, ClusterConfig::lan());
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
    let tags = rpcnet_swim::Tags::new().with("forged", "yes").unwrap();
    let engine = cluster.engine_mut(0).unwrap();
    engine.tampering().change("n3", |_, it| *it = tags);
    let (observer, difference) = cluster.difference().expect("not all is well");
    assert_eq!(observer, 0);
    assert!(difference.contains("forged"), "{difference}");
}

#[test]
fn a_run_that_does_not_converge_fails_and_says_how_to_replay_it() {
    let report = run::run_tampered(5, SimConfig::swarm().with_nodes(4), PhiSwim, |cluster| {
        let tags = rpcnet_swim::Tags::new().with("forged", "yes").unwrap();
        for node in 0..cluster.len() {
            if let Some(engine) = cluster.engine_mut(node) {
                let names: Vec<_> = engine.members().map(|m| m.id.name).collect();
                for name in names {
                    engine.tampering().change(&name, |_, it| *it = tags.clone());
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
    let first = run(17, SimConfig::swarm());
    assert_eq!(run(17, SimConfig::swarm()), first);
    assert_ne!(run(18, SimConfig::swarm()).trace, first.trace);
}

#[test]
fn every_configured_fault_kind_is_injected() {
    let link = Link {
        duplicate: 0.1,
        reorder: 0.1,
        ..Link::lan().with_loss(0.02)
    };
    let check = |kind: FaultKind, happened: fn(&super::SimReport) -> u64| {
        let plan = SimConfig::swarm().with_nodes(6).with_link(link);
        let report = run(1, plan.with_fault_kinds([kind]));
        println!("{kind:?}");
        report.expect_ok();
        assert!(happened(&report) > 0, "{kind:?}");
        assert!(report.lost > 0 && report.duplicated > 0 && report.overtaken > 0);
        assert!(report.checks > 1_000);
    };
    check(FaultKind::Crash, |r| r.crashes.min(r.failures));
    check(FaultKind::Restart, |r| r.restarts);
    check(FaultKind::RestartInThePast, |r| r.restarts);
    check(FaultKind::Rename, |r| r.renames);
    check(FaultKind::Stall, |r| r.stalls.min(r.suspicions));
    check(FaultKind::Block, |r| r.blocks.min(r.suspicions));
    check(FaultKind::HalfBlock, |r| r.half_blocks.min(r.suspicions));
    check(FaultKind::Slow, |r| r.slow_nodes.min(r.suspicions));
    check(FaultKind::Lossy, |r| r.lossy_nodes.min(r.suspicions));
    check(FaultKind::OneWayPartition, |r| {
        r.one_way_partitions.min(r.cut)
    });
    check(FaultKind::OneWayCut, |r| r.one_way_cuts.min(r.cut));
    check(FaultKind::Partition, |r| r.partitions.min(r.cut));
    check(FaultKind::Leave, |r| r.leaves);
    check(FaultKind::TagChange, |r| r.tag_changes);
    check(FaultKind::Drain, |r| r.drains);
}
