//! Tests of the rules of the engine, one input at a time.

use std::net::SocketAddr;

use super::merge::RecordSource;
use super::test_support::{addr, alive, engine, engine_with, events, record};
use super::*;
use crate::config::MEMBERS_MAX;
use crate::wire::{Claim, Confirmation, Payload, Record, Suspectors};

mod capacity;
mod garbage;
mod hostile;
mod trust;

fn suspect() -> Claim {
    let mut suspectors = Suspectors::default();
    suspectors.merge(Confirmation::new(1, 2.0));
    Claim::Suspect(suspectors)
}

/// Leaves a round to `x` unanswered, if it is known.
fn missed(engine: &mut Engine) {
    if let Some(entry) = engine.table.get_mut(crate::id::name_key("x")) {
        entry.faults_mut().evidence.add_miss(0.1);
    }
}

/// Applies every kind of claim about `x` at epoch 5 or 6 and incarnation 3 or 4 to each state at
/// epoch 5 and incarnation 3.
#[test]
fn claims_are_ordered() {
    use MemberState::{Alive, Failed, Left, Suspect};
    let check = |before: &Claim, epoch, incarnation, claim: Claim| {
        let mut engine = engine("me", 1, 1);
        engine.merge_gossip(record("x", 5, 3, 2, alive()));
        // The claim that it failed is believed of a member that was missed.
        for _ in 0..2 {
            missed(&mut engine);
            let known = record("x", 5, 3, 2, before.clone());
            engine.merge_gossip(known);
        }
        missed(&mut engine);
        let news = record("x", epoch, incarnation, 2, claim.clone());
        engine.merge_gossip(news);
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
fn a_failed_epoch_is_revived_by_no_older_claim() {
    let mut engine = engine("me", 1, 1);
    let failed = Claim::Failed;
    for (incarnation, claim) in [(3, alive()), (3, failed.clone()), (5, failed)] {
        missed(&mut engine);
        engine.merge_gossip(record("x", 5, incarnation, 2, claim));
    }
    engine.merge_gossip(record("x", 5, 4, 2, alive()));
    assert_eq!(engine.member("x").unwrap().state, MemberState::Failed);
    engine.merge_gossip(record("x", 5, 6, 2, alive()));
    assert_eq!(engine.member("x").unwrap().state, MemberState::Alive);
}

#[test]
fn a_newer_epoch_that_is_not_inserted_replaces_no_older_one() {
    let mut engine = engine("me", 1, 1);
    engine.merge_gossip(record("x", 5, 0, 2, alive()));
    engine.merge_gossip(record("y", 9, 0, 3, alive()));
    while engine.poll_event().is_some() {}
    // The address of a member that started later still.
    engine.merge_gossip(record("x", 6, 0, 3, alive()));
    assert_eq!(engine.member("x").unwrap().id.epoch, 5);
    assert_eq!(engine.poll_event(), None);
    engine.merge_gossip(record("x", 7, 0, 4, alive()));
    assert!(matches!(engine.poll_event(), Some(Event::NodeFailed(m)) if m.id.epoch == 5));
    assert!(matches!(engine.poll_event(), Some(Event::NodeJoined(m)) if m.id.epoch == 7));
}

#[test]
fn alive_records_leave_the_gossip_queue_once_many_peers_in_a_row_agree() {
    let key = crate::id::name_key;
    let mut engine = engine("me", 1, 1);
    for (name, port) in [("x", 2), ("y", 3), ("z", 4)] {
        engine.merge_gossip(record(name, 5, 0, port, alive()));
    }
    engine.merge_gossip(record("y", 5, 0, 3, suspect()));
    engine.mark_failed(Time::ZERO, key("z"));
    let mut agree = |seconds: u64, times: usize, view: Option<u64>| {
        for _ in 0..times {
            let view = view.unwrap_or_else(|| engine.view_hash());
            engine.compare_views(Time::from_millis(1_000 * seconds), key("x"), view);
        }
        ["x", "y", "z"].map(|name| engine.gossip_queue.contains(key(name)))
    };
    // The view is not stable yet.
    assert_eq!(agree(0, 99, None), [true; 3]);
    // One less than enough in a row, twice.
    assert_eq!(agree(2, 15, None), [true; 3]);
    assert_eq!(agree(2, 1, Some(7)), [true; 3]);
    assert_eq!(agree(2, 15, None), [true; 3]);
    // What a view hash does not show stays.
    assert_eq!(agree(2, 1, None), [false, true, true]);
}

#[test]
fn a_suspect_is_sent_its_suspicion_and_no_other_gossip() {
    let key = crate::id::name_key;
    for (claim, spent) in [(alive(), true), (suspect(), false), (Claim::Failed, false)] {
        let mut engine = engine("me", 1, 1);
        for (name, port, claim) in [
            ("x", 2, alive()),
            ("y", 3, alive()),
            ("y", 3, claim.clone()),
        ] {
            engine.merge_gossip(record(name, 5, 0, port, claim));
        }
        for _ in 0..99 {
            engine.start_probe(Time::ZERO, key("y"));
            engine.probes.rounds.clear();
        }
        let is_queued = engine.gossip_queue.contains(key("x"));
        assert_eq!(is_queued, !spent, "pings of one that is {claim:?}");
    }
}

#[test]
fn a_stale_claim_puts_the_newer_state_back_into_gossip() {
    let check = |end: Record, stale: Record, told: bool| {
        let mut engine = engine("me", 1, 1);
        engine.merge_gossip(record("x", 5, 3, 2, alive()));
        engine.merge_gossip(end);
        let key = stale.key();
        engine.gossip_queue.remove(key);
        engine.merge_gossip(stale.clone());
        assert_eq!(engine.gossip_queue.contains(key), told, "{stale:?}");
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
fn a_refuted_claim_heard_again_is_refuted_again() {
    let mut engine = engine("me", 1, 1);
    engine.on_claim_about_self(Time::ZERO, &record("me", 1, 0, 1, suspect()));
    assert_eq!((engine.local.incarnation, engine.stats.refutations), (1, 1));
    engine.gossip_queue.remove(engine.local.key);
    engine.on_claim_about_self(Time::ZERO, &record("me", 1, 0, 1, Claim::Failed));
    assert!(engine.gossip_queue.contains(engine.local.key));
    assert_eq!(engine.local.incarnation, 1, "what it said is enough");
}

/// Half of the rounds are lost, and each miss is refuted before the next round. A node that forgot
/// those misses would take a network that loses half for one that loses nothing.
#[test]
fn a_refuted_miss_counts_as_loss() {
    let mut engine = engine("me", 1, 1);
    for (name, port) in [("x", 2), ("y", 3)] {
        let known = record(name, 5, 0, port, alive());
        engine.merge_gossip(known);
    }
    let x = crate::id::name_key("x");
    let miss_and_refute = |engine: &mut Engine, incarnation| {
        engine.on_missed_probe(Time::ZERO, x);
        let state = engine.member("x").unwrap().state;
        let refutation = record("x", 5, incarnation, 2, alive());
        engine.merge_gossip(refutation);
        state
    };
    assert_eq!(miss_and_refute(&mut engine, 1), MemberState::Suspect);
    for incarnation in 2..200 {
        miss_and_refute(&mut engine, incarnation);
        engine.clear_evidence(x);
    }
    assert!(
        (0.4..0.6).contains(&engine.probes.network.loss()),
        "{}",
        engine.probes.network.loss()
    );
    assert_eq!(miss_and_refute(&mut engine, 200), MemberState::Alive);

    // A failed member was gone, whatever it says when it is back.
    let before = engine.probes.network.loss();
    engine.on_missed_probe(Time::ZERO, x);
    let failed = record("x", 5, 200, 2, Claim::Failed);
    engine.merge_gossip(failed);
    let back = record("x", 5, 201, 2, alive());
    engine.merge_gossip(back);
    assert_eq!(engine.member("x").unwrap().state, MemberState::Alive);
    assert!(
        engine.probes.network.loss() <= before,
        "{} > {before}",
        engine.probes.network.loss()
    );
}

/// A round without a witness says something about the network, unless no member is heard.
#[test]
fn an_unwitnessed_round_counts_as_loss_unless_this_node_is_isolated() {
    let mut engine = engine("me", 1, 1);
    let names = ["x", "y", "z"];
    for (name, port) in names.into_iter().zip(2..) {
        let known = record(name, 5, 0, port, alive());
        engine.merge_gossip(known);
    }
    let mut unanswered_until = |end: Time| {
        while let Some(due) = engine.poll_timeout().filter(|due| *due <= end) {
            engine.handle_timeout(due);
            while engine.poll_transmit().is_some() {}
        }
        let of = |name: &str| {
            let entry = engine.table.get(crate::id::name_key(name)).unwrap();
            assert_eq!(entry.faults().evidence.misses, 0, "no evidence");
            u64::from(entry.faults().unanswered)
        };
        let unanswered: u64 = names.into_iter().map(of).sum();
        (unanswered, engine.stats().inconclusive_rounds)
    };
    let (unanswered, void) = unanswered_until(Time::from_millis(3_000));
    assert!(void > 0);
    assert_eq!(unanswered, void);
    let (later, more) = unanswered_until(Time::from_millis(30_000));
    assert!(more > void, "{more} > {void}");
    assert_eq!(later, unanswered, "isolated");
    let before = engine.probes.network.loss();
    for name in names {
        engine.clear_evidence(crate::id::name_key(name));
    }
    assert!(
        engine.probes.network.loss() > before,
        "{} > {before}",
        engine.probes.network.loss()
    );
}

#[test]
fn after_isolation_waiting_datagrams_are_merged_before_a_decision() {
    let mut engine = engine("me", 1, 1);
    for (name, port) in [("x", 2), ("y", 3), ("z", 4)] {
        engine.merge_gossip(record(name, 5, 0, port, alive()));
    }
    // Missed twice and suspected, then nothing was heard for longer than a suspicion lasts.
    let key = crate::id::name_key("x");
    let mut suspectors = Suspectors::default();
    suspectors.merge(Confirmation::new(engine.local.key, 4.0));
    suspectors.merge(Confirmation::new(9, 4.0));
    engine.suspect(Time::ZERO, key, suspectors);
    let entry = engine.table.get_mut(key).unwrap();
    entry.faults_mut().evidence.add_miss(2.0);
    entry.faults_mut().evidence.add_miss(2.0);
    let back = Time::from_millis(30_000);
    engine.decide_failure(back, key);
    assert_eq!(
        engine.member("x").unwrap().state,
        MemberState::Suspect,
        "isolated"
    );
    engine.record_heard(back);
    engine.decide_failure(back, key);
    assert_eq!(
        engine.member("x").unwrap().state,
        MemberState::Suspect,
        "just back"
    );
    engine.record_heard(Time::from_millis(31_000));
    engine.decide_failure(Time::from_millis(31_000), key);
    assert_eq!(engine.member("x").unwrap().state, MemberState::Failed);
}

#[test]
fn the_last_incarnation_is_followed_by_a_new_epoch() {
    let mut engine = engine("me", 1, 1);
    engine.on_claim_about_self(Time::ZERO, &record("me", 1, u32::MAX, 1, Claim::Failed));
    assert_eq!((engine.local.epoch, engine.local.incarnation), (2, 0));
}

#[test]
fn a_replayed_challenge_or_ping_gets_no_large_answer() {
    let (mut a, mut b) = (engine("a", 1, 1), engine("b", 1, 2));
    b.handle_seeds(Time::ZERO, &[addr(1)]);
    let (_, mut hello) = b.poll_transmit().unwrap();
    a.handle_datagram(Time::ZERO, addr(2), &mut hello);
    let (_, challenge) = a.poll_transmit().unwrap();
    b.handle_datagram(Time::ZERO, addr(1), &mut challenge.clone());
    assert!(b.poll_transmit().is_some());
    b.handle_datagram(Time::ZERO, addr(99), &mut challenge.clone());
    assert!(b.poll_transmit().is_none());
    assert_eq!(b.stats().dropped.unexpected, 1);

    let former = crate::id::instance_key(b.local.key, 0);
    let (seq, view) = (1, 0);
    let updates = Vec::new();
    a.send(addr(2), former, Payload::Ping { seq, view, updates });
    let (_, mut ping) = a.poll_transmit().unwrap();
    b.handle_datagram(Time::ZERO, addr(99), &mut ping);
    let (to, answer) = b.poll_transmit().unwrap();
    assert_eq!(to, addr(99));
    assert!(answer.len() <= ping.len(), "{} bytes", answer.len());
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
        engine.merge_gossip(newcomer);
    }
    assert_eq!(engine.live_count(), MEMBERS_MAX + 1);
    // A known member may come back all the same.
    let back = record("m5", 2, 0, 77, alive());
    engine.merge_gossip(back);
    assert_eq!(engine.member("m5").unwrap().id.epoch, 2);
    assert!(
        engine
            .poll_event()
            .is_some_and(|e| matches!(e, Event::Lagged(n) if n > 0))
    );
}

#[test]
fn a_newer_epoch_first_reported_as_failed_is_still_heard() {
    let mut engine = engine("me", 1, 1);
    engine.merge_gossip(record("x", 5, 3, 2, alive()));
    let window = |engine: &mut Engine, counter| {
        let entry = engine.table.get_mut(crate::id::name_key("x")).unwrap();
        entry.contact_mut().replay_window.accept(counter)
    };
    assert!(window(&mut engine, 1_000));
    missed(&mut engine);
    let failed = record("x", 6, 0, 3, Claim::Failed);
    engine.merge_gossip(failed);
    assert_eq!(
        engine.member("x").unwrap().addr,
        addr(3),
        "where it is dialled"
    );
    // Its counters start anew.
    assert!(window(&mut engine, 1));
}
