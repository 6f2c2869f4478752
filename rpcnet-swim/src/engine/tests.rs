//! Rules of the engine, one input at a time.

use std::net::SocketAddr;

use super::merge::{MEMBERS_MAX, Source};
use super::*;
use crate::wire::{Suspectors, Vote};

fn addr(n: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], n))
}

fn engine(name: &str, epoch: u64, port: u16) -> Engine {
    let id = NodeId::new(name, epoch);
    Engine::new(ClusterConfig::lan(), id, addr(port), Time::ZERO, 7).unwrap()
}

fn record(name: &str, epoch: u64, incarnation: u32, port: u16, claim: Claim) -> Record {
    Record {
        name: name.into(),
        epoch,
        incarnation,
        addr: addr(port),
        draining: false,
        claim,
    }
}

fn alive() -> Claim {
    Claim::Alive(Tags::new())
}

fn suspect() -> Claim {
    let mut suspectors = Suspectors::default();
    suspectors.merge(Vote::new(1, 2.0));
    Claim::Suspect(suspectors)
}

/// Every kind of claim of `x` at epoch 5 or 6 and incarnation 3 or 4, on each state at epoch 5
/// and incarnation 3.
#[test]
fn claims_are_ordered() {
    use MemberState::{Alive, Failed, Left, Suspect};
    let check = |before: &Claim, epoch, incarnation, claim: Claim| {
        let mut engine = engine("me", 1, 1);
        engine.merge(Time::ZERO, record("x", 5, 3, 2, alive()), Source::Gossip);
        let known = record("x", 5, 3, 2, before.clone());
        engine.merge(Time::ZERO, known, Source::Gossip);
        let news = record("x", epoch, incarnation, 2, claim);
        engine.merge(Time::ZERO, news, Source::Gossip);
        let x = engine.member("x").unwrap();
        (x.state, x.id.epoch, x.incarnation)
    };
    for (before, epoch, incarnation, claim, after) in [
        (alive(), 5, 3, alive(), (Alive, 5, 3)),
        (alive(), 5, 2, suspect(), (Alive, 5, 3)),
        (alive(), 5, 3, suspect(), (Suspect, 5, 3)),
        (alive(), 5, 3, Claim::Failed, (Failed, 5, 3)),
        (alive(), 5, 2, Claim::Failed, (Alive, 5, 3)),
        (alive(), 5, 4, Claim::Failed, (Failed, 5, 4)),
        (alive(), 5, 0, Claim::Left, (Left, 5, 3)),
        (alive(), 6, 0, alive(), (Alive, 6, 0)),
        (alive(), 6, 1, Claim::Failed, (Failed, 6, 1)),
        (alive(), 6, 1, Claim::Left, (Left, 6, 1)),
        (suspect(), 5, 3, alive(), (Suspect, 5, 3)),
        (suspect(), 5, 4, alive(), (Alive, 5, 4)),
        (suspect(), 5, 3, Claim::Failed, (Failed, 5, 3)),
        (Claim::Failed, 5, 3, alive(), (Failed, 5, 3)),
        (Claim::Failed, 5, 3, suspect(), (Failed, 5, 3)),
        (Claim::Failed, 5, 4, alive(), (Alive, 5, 4)),
        (Claim::Failed, 5, 4, Claim::Failed, (Failed, 5, 4)),
        (Claim::Failed, 5, 3, Claim::Left, (Left, 5, 3)),
        (Claim::Failed, 4, 9, alive(), (Failed, 5, 3)),
        (Claim::Left, 5, 9, alive(), (Left, 5, 3)),
        (Claim::Left, 5, 9, Claim::Failed, (Left, 5, 3)),
        (Claim::Left, 6, 0, alive(), (Alive, 6, 0)),
    ] {
        let got = check(&before, epoch, incarnation, claim.clone());
        assert_eq!(got, after, "{before:?}, then {claim:?}");
    }
}

#[test]
fn a_failed_life_is_brought_back_by_nothing_older_than_its_failure() {
    let mut engine = engine("me", 1, 1);
    for (incarnation, claim) in [(3, alive()), (3, Claim::Failed), (5, Claim::Failed)] {
        engine.merge(
            Time::ZERO,
            record("x", 5, incarnation, 2, claim),
            Source::Gossip,
        );
    }
    engine.merge(Time::ZERO, record("x", 5, 4, 2, alive()), Source::Gossip);
    assert_eq!(engine.member("x").unwrap().state, MemberState::Failed);
    engine.merge(Time::ZERO, record("x", 5, 6, 2, alive()), Source::Gossip);
    assert_eq!(engine.member("x").unwrap().state, MemberState::Alive);
}

#[test]
fn a_newer_life_that_is_not_admitted_ends_no_older_one() {
    let mut engine = engine("me", 1, 1);
    engine.merge(Time::ZERO, record("x", 5, 0, 2, alive()), Source::Gossip);
    engine.merge(Time::ZERO, record("y", 9, 0, 3, alive()), Source::Gossip);
    while engine.poll_event().is_some() {}
    // At the address of somebody who started later still.
    engine.merge(Time::ZERO, record("x", 6, 0, 3, alive()), Source::Gossip);
    assert_eq!(engine.member("x").unwrap().id.epoch, 5);
    assert_eq!(engine.poll_event(), None);
    engine.merge(Time::ZERO, record("x", 7, 0, 4, alive()), Source::Gossip);
    assert!(matches!(engine.poll_event(), Some(Event::NodeFailed(m)) if m.id.epoch == 5));
    assert!(matches!(engine.poll_event(), Some(Event::NodeJoined(m)) if m.id.epoch == 7));
}

#[test]
fn who_has_not_heard_of_an_end_is_told_again() {
    let check = |end: Record, stale: Record, told: bool| {
        let mut engine = engine("me", 1, 1);
        engine.merge(Time::ZERO, record("x", 5, 3, 2, alive()), Source::Gossip);
        engine.merge(Time::ZERO, end, Source::Gossip);
        let key = stale.key();
        engine.queue.remove(key);
        engine.merge(Time::ZERO, stale.clone(), Source::Gossip);
        assert_eq!(engine.queue.contains(key), told, "{stale:?}");
    };
    let left = || record("x", 5, 3, 2, Claim::Left);
    check(left(), record("x", 5, 3, 2, suspect()), true);
    check(left(), record("x", 5, 3, 2, Claim::Failed), true);
    check(left(), left(), false);
    let newer = || record("x", 6, 0, 2, alive());
    check(newer(), record("x", 5, 3, 2, suspect()), true);
    check(newer(), record("x", 5, 3, 2, Claim::Failed), false);
    check(newer(), left(), false);
    check(newer(), newer(), false);
}

#[test]
fn what_was_refuted_is_refuted_again_for_who_says_it_again() {
    let mut engine = engine("me", 1, 1);
    engine.hear_of_self(Time::ZERO, &record("me", 1, 0, 1, suspect()));
    assert_eq!((engine.me.incarnation, engine.stats.refutations), (1, 1));
    engine.queue.remove(engine.me.key);
    engine.hear_of_self(Time::ZERO, &record("me", 1, 0, 1, Claim::Failed));
    assert!(engine.queue.contains(engine.me.key));
    assert_eq!(engine.me.incarnation, 1, "what it said is enough");
}

#[test]
fn past_the_last_incarnation_comes_a_new_epoch() {
    let mut engine = engine("me", 1, 1);
    engine.hear_of_self(Time::ZERO, &record("me", 1, u32::MAX, 1, Claim::Failed));
    assert_eq!((engine.me.epoch, engine.me.incarnation), (2, 0));
}

#[test]
fn members_are_bounded() {
    let mut engine = engine("me", 1, 1);
    for n in 0..MEMBERS_MAX + 10 {
        let ip = std::net::Ipv4Addr::from(0x0a00_0000 + n as u32);
        let newcomer = Record {
            addr: SocketAddr::from((ip, 1)),
            ..record(&format!("m{n}"), 1, 0, 1, alive())
        };
        engine.merge(Time::ZERO, newcomer, Source::Gossip);
    }
    assert_eq!(engine.live_count(), MEMBERS_MAX + 1);
    // One that is known may come back all the same.
    let back = record("m5", 2, 0, 77, alive());
    engine.merge(Time::ZERO, back, Source::Gossip);
    assert_eq!(engine.member("m5").unwrap().id.epoch, 2);
    assert!(
        engine
            .poll_event()
            .is_some_and(|e| matches!(e, Event::Lagged(n) if n > 0))
    );
}

#[test]
fn a_newer_life_is_heard_though_it_was_first_heard_of_as_failed() {
    let mut engine = engine("me", 1, 1);
    engine.merge(Time::ZERO, record("x", 5, 3, 2, alive()), Source::Gossip);
    let window = |engine: &mut Engine, counter| {
        let entry = engine.table.get_mut(crate::id::name_key("x")).unwrap();
        entry.window.accept(counter)
    };
    assert!(window(&mut engine, 1_000));
    engine.merge(
        Time::ZERO,
        record("x", 6, 0, 3, Claim::Failed),
        Source::Gossip,
    );
    assert_eq!(
        engine.member("x").unwrap().addr,
        addr(3),
        "where it is dialled"
    );
    // Its counters start anew.
    assert!(window(&mut engine, 1));
}
