//! Name conflicts: effects of claims about a newer instance, one input at a time.

use std::collections::HashMap;
use std::time::Duration;

use crate::engine::Engine;
#[cfg(feature = "unstable")]
use crate::engine::hooks::DetectorHooks;
use crate::engine::test_support::{self, alive, engine};
use crate::event::{Event, MembershipState};
use crate::time::Time;
use crate::wire::{Claim, Record};

fn member() -> Engine {
    let mut engine = engine("me", 1_000, 1);
    engine.handle_seeds(Time::ZERO, &[]);
    engine.merge_gossip(record("x", 1_000, 2, alive()));
    while engine.poll_transmit().is_some() || engine.poll_event().is_some() {}
    engine
}

fn record(name: &str, epoch: u64, port: u16, claim: Claim) -> Record {
    test_support::record(name, epoch, 0, port, claim)
}

/// Lets time pass without an answer, and counts the datagrams to each port.
fn unanswered(engine: &mut Engine, from: Time, time: Duration) -> HashMap<u16, usize> {
    let mut sent = HashMap::new();
    let end = from + time;
    loop {
        while let Some((to, _)) = engine.poll_transmit() {
            *sent.entry(to.port()).or_default() += 1;
        }
        match engine.poll_timeout().filter(|at| *at <= end) {
            Some(at) => engine.handle_timeout(at),
            None => return sent,
        }
    }
}

#[test]
fn an_unproven_claim_supersedes_no_node() {
    let mut engine = member();
    engine.on_claim_about_self(Time::ZERO, &record("me", 2_000, 66, alive()));
    assert_eq!(engine.state(), MembershipState::Active);
    let sent = unanswered(&mut engine, Time::ZERO, Duration::from_secs(10));
    assert_eq!(sent[&66], super::DIALS_MAX, "it is asked a few times");
    assert_eq!(engine.state(), MembershipState::Active);
    assert_eq!(engine.id().epoch, 2_001, "and then gone past");
    assert_eq!(engine.stats().name_claims_disproved, 1);
    let told: Vec<_> = std::iter::from_fn(|| engine.poll_event()).collect();
    let is_conflict = |e: &Event| matches!(e, Event::NameConflict { .. });
    assert!(!told.iter().any(is_conflict), "{told:?}");
}

#[test]
fn a_forger_makes_no_node_dial_without_bound() {
    let mut engine = member();
    let mut dialled = HashMap::new();
    let minute = 60_000;
    for step in 0..10 * minute / 20 {
        let now = Time::from_millis(20 * step);
        // Always another address and a newer epoch, fifty times a second.
        let port = 100 + (step % 20_000) as u16;
        engine.on_claim_about_self(now, &record("me", 2_000 + 2 * step, port, alive()));
        for (port, count) in unanswered(&mut engine, now, Duration::from_millis(19)) {
            *dialled.entry(port).or_insert(0) += count;
        }
    }
    let all: usize = dialled
        .iter()
        .filter(|(port, _)| **port >= 100)
        .map(|(_, n)| n)
        .sum();
    // Four to each of the first; then pauses of up to 64 s lie between.
    assert!(all <= 4 * 18, "{all} datagrams in ten minutes");
    assert!(
        dialled.values().filter(|n| **n > 4).count() <= 2,
        "{dialled:?}"
    );
    assert_eq!(engine.state(), MembershipState::Active);
}

#[test]
fn a_former_epoch_is_exceeded_without_a_dial() {
    for (port, claim) in [(66, Claim::Failed), (66, Claim::Left), (1, alive())] {
        let mut engine = member();
        engine.on_claim_about_self(Time::ZERO, &record("me", 2_000, port, claim));
        assert_eq!(engine.id().epoch, 2_001);
        let sent = unanswered(&mut engine, Time::ZERO, Duration::from_secs(5));
        assert_eq!(sent.get(&66), None);
    }
}

#[test]
fn supersession_ends_isolation() {
    let mut engine = member();
    engine.partition.isolate(3);
    engine.on_claim_about_self(Time::ZERO, &record("me", 2_000, 5, alive()));
    engine.become_superseded(Time::ZERO, 2_000);
    let told: Vec<_> = std::iter::from_fn(|| engine.poll_event()).collect();
    let ended = told.iter().position(|it| *it == Event::IsolationEnded);
    let superseded = |it: &Event| matches!(it, Event::Superseded { .. });
    let superseded = told.iter().position(superseded);
    assert!(ended.is_some() && ended < superseded, "{told:?}");
}

/// Detector that keeps a timer and notes which members were removed.
#[cfg(feature = "unstable")]
#[derive(Clone, Debug, Default)]
struct RemovalLog(Vec<u64>);

#[cfg(feature = "unstable")]
impl DetectorHooks for RemovalLog {
    fn first_timer(&self, now: Time) -> Option<Time> {
        Some(now)
    }

    fn on_member_removed(&mut self, key: u64) {
        self.0.push(key);
    }
}

#[cfg(feature = "unstable")]
#[test]
fn a_detector_starts_anew_after_a_supersession() {
    use crate::config::ClusterConfig;
    use crate::engine::timers::NamedTimer;
    use crate::id::{NodeId, name_key};

    let (config, id) = (ClusterConfig::lan(), NodeId::new("me", 1_000));
    let (addr, log) = (test_support::addr(1), RemovalLog::default());
    let mut engine = Engine::with_detector(config, id, addr, Time::ZERO, 7, log).unwrap();
    engine.handle_seeds(Time::ZERO, &[]);
    engine.merge_gossip(record("x", 1_000, 2, alive()));
    engine.on_claim_about_self(Time::ZERO, &record("me", 2_000, 5, alive()));
    engine.become_superseded(Time::ZERO, 2_000);
    engine.end_supersession(Time::ZERO, None);
    assert_eq!(engine.state(), MembershipState::Active);
    assert_eq!(engine.detector.0, [name_key("x")]);
    assert!(engine.timers.is_set(NamedTimer::Detector));
}
