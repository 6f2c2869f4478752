//! Clocks: epochs at the far ends.

use std::net::SocketAddr;

use proptest::prelude::*;

use super::*;
use crate::config::ClusterConfig;
use crate::engine::merge::RecordSource;
use crate::engine::test_support::{addr, alive, engine, events, record};
use crate::event::MemberState;
use crate::id::NodeId;
use crate::wire::{Claim, Envelope, GossipMessage, Origin};

/// Wall clock at the start: some day in 2023.
const TODAY: u64 = 1_700_000_000_000;
const DAY: u64 = 86_400_000;

/// Delivers a forgery in the name of a member.
fn forge(engine: &mut Engine, now: Time, from: (&str, u64, u64), payload: Payload) {
    let (name, epoch, counter) = from;
    let origin = Origin {
        from: crate::id::name_key(name),
        epoch,
        counter,
    };
    let mut datagram = Vec::new();
    let message = GossipMessage { to: 0, payload };
    Envelope::new("rpcnet", None, 1).seal(origin, &mut datagram, |out| message.encode(out));
    engine.handle_datagram(now, addr(9), &mut datagram);
}

/// Carries datagrams between two engines until there are none.
fn converse(now: Time, engines: &mut [(SocketAddr, &mut Engine)]) {
    for _ in 0..100 {
        let mut sent = Vec::new();
        for (from, engine) in engines.iter_mut() {
            while let Some((to, datagram)) = engine.poll_transmit() {
                sent.push((*from, to, datagram));
            }
        }
        if sent.is_empty() {
            return;
        }
        for (from, to, mut datagram) in sent {
            if let Some((_, engine)) = engines.iter_mut().find(|(at, _)| *at == to) {
                engine.handle_datagram(now, from, &mut datagram);
            }
        }
    }
    panic!("they never stop");
}

#[test]
fn an_epoch_from_the_future_blocks_no_name() {
    let mut observer = engine("observer", TODAY, 1);
    let knows = record("x", TODAY, 0, 2, alive());
    forge(&mut observer, Time::ZERO, ("y", TODAY, 1), hello("y", 3));
    observer.merge_gossip(knows);
    let y = record("y", TODAY, 0, 9, alive());
    observer.merge_gossip(y);
    for (n, epoch) in [u64::MAX, u64::MAX - 1, TODAY + DAY + 1]
        .into_iter()
        .enumerate()
    {
        let updates = vec![record("x", epoch, 0, 8, alive())];
        let from = ("y", TODAY, 10 + n as u64);
        forge(&mut observer, Time::ZERO, from, Payload::Gossip { updates });
        assert_eq!(observer.member("x").unwrap().id.epoch, TODAY, "{epoch}");
    }
    assert_eq!(observer.stats().future_records, 3);
    // Up to a day it is believed, and the owner of the name exceeds it.
    let updates = vec![record("x", TODAY + DAY, 0, 8, alive())];
    forge(
        &mut observer,
        Time::ZERO,
        ("y", TODAY, 20),
        Payload::Gossip { updates },
    );
    assert_eq!(observer.member("x").unwrap().id.epoch, TODAY + DAY);
    let told = events(&mut observer);
    let skews = told
        .iter()
        .filter(|e| matches!(e, Event::ClockSkew { is_own: false, .. }));
    assert_eq!(skews.count(), 1, "not for each of them: {told:?}");
}

fn hello(name: &str, port: u16) -> Payload {
    Payload::Hello {
        cookie: 0,
        me: record(name, TODAY, 0, port, alive()),
    }
}

#[test]
fn a_message_from_or_about_a_life_in_the_future_is_dropped() {
    let mut observer = engine("observer", TODAY, 1);
    forge(
        &mut observer,
        Time::ZERO,
        ("x", u64::MAX, 1),
        Payload::LeaveAck { seq: 1 },
    );
    assert_eq!(observer.stats().dropped.future_epoch, 1);
    assert!(observer.poll_transmit().is_none(), "no node is challenged");
    let known = record("observer", u64::MAX, 0, 8, alive());
    forge(
        &mut observer,
        Time::ZERO,
        ("x", TODAY, 2),
        Payload::HelloRefused { echo: 1, known },
    );
    let target = crate::wire::ProbeTarget {
        key: 4,
        epoch: u64::MAX,
        addr: addr(8),
    };
    let updates = Vec::new();
    let ask = Payload::PingReq {
        seq: 1,
        target,
        updates,
    };
    forge(&mut observer, Time::ZERO, ("x", TODAY, 3), ask);
    assert_eq!(observer.stats().dropped.future_epoch, 3);
    assert_eq!(observer.id().epoch, TODAY);
    assert!(observer.poll_transmit().is_none());
}

#[test]
fn a_node_whose_clock_is_ahead_is_told_and_gets_in_once_the_day_has_come() {
    let mut member = engine("member", TODAY, 1);
    member.handle_seeds(Time::ZERO, &[]);
    let mut ahead = engine("ahead", TODAY + 3 * DAY, 2);
    ahead.handle_seeds(Time::ZERO, &[addr(1)]);
    converse(
        Time::ZERO,
        &mut [(addr(1), &mut member), (addr(2), &mut ahead)],
    );
    assert!(!ahead.is_joined() && member.live_count() == 1);
    let apart = Duration::from_millis(3 * DAY);
    assert_eq!(ahead.clock_refusal(), Some((addr(1), apart)));
    let told = |is_own, addr| Event::ClockSkew {
        addr,
        ahead: apart,
        is_own,
    };
    assert!(events(&mut ahead).contains(&told(true, addr(1))));
    assert!(events(&mut member).contains(&told(false, addr(2))));
    // Two days later its epoch is no more than a day ahead.
    let later = Time::from_millis(2 * DAY + 60_000);
    ahead.handle_timeout(later);
    for millis in [0, 20_000, 40_000] {
        let now = later + Duration::from_millis(millis);
        ahead.handle_timeout(now);
        member.handle_timeout(now);
        converse(now, &mut [(addr(1), &mut member), (addr(2), &mut ahead)]);
    }
    assert!(ahead.is_joined(), "{:?}", ahead.clock_refusal());
    assert_eq!(ahead.clock_refusal(), None);
}

#[test]
fn a_node_whose_clock_lags_says_so_until_it_is_set() {
    let mut member = engine("member", TODAY, 1);
    member.handle_seeds(Time::ZERO, &[]);
    // No battery: it starts in 1970.
    let mut lags = engine("lags", 5_000, 2);
    lags.handle_seeds(Time::ZERO, &[addr(1)]);
    converse(
        Time::ZERO,
        &mut [(addr(1), &mut member), (addr(2), &mut lags)],
    );
    assert!(!lags.is_joined());
    let apart = Duration::from_millis(TODAY - 5_000);
    assert_eq!(lags.clock_refusal(), Some((addr(1), apart)));
    assert!(
        events(&mut lags)
            .iter()
            .any(|e| matches!(e, Event::ClockSkew { .. }))
    );
    for millis in (30_000..90_000).step_by(1_000) {
        let now = Time::from_millis(millis);
        lags.set_wall_clock(now, TODAY + millis);
        lags.handle_timeout(now);
        converse(now, &mut [(addr(1), &mut member), (addr(2), &mut lags)]);
    }
    assert!(lags.is_joined());
}

#[test]
fn a_clock_that_is_set_back_refuses_no_member() {
    let mut observer = engine("observer", TODAY, 1);
    let now = Time::from_millis(1_000);
    observer.set_wall_clock(now, 5_000);
    assert_eq!(observer.epoch_limit(now), TODAY + 1_000 + DAY);
    // Nor does a clock that shows nonsense make room for what cannot be exceeded.
    observer.set_wall_clock(now, u64::MAX);
    assert_eq!(observer.epoch_limit(now), EPOCH_MAX + DAY);
    let id = NodeId::new("x", EPOCH_MAX + 1);
    let error = Engine::new(ClusterConfig::lan(), id, addr(1), Time::ZERO, 7).unwrap_err();
    assert!(
        error.to_string().contains("epoch 281474976710657"),
        "{error}"
    );
}

#[test]
fn a_new_epoch_is_reported_as_an_event() {
    let mut me = engine("me", TODAY, 1);
    me.on_claim_about_self(Time::ZERO, &record("me", TODAY, 0, 1, Claim::Left));
    assert_eq!(me.id().epoch, TODAY + 1);
    let told = events(&mut me);
    let raised = |e: &Event| matches!(e, Event::NodeUpdated(m) if m.id.epoch == TODAY + 1);
    assert!(told.iter().any(raised), "{told:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Whatever is claimed of a node, it has a next epoch or incarnation to refute it, and no
    /// observer refuses that one.
    #[test]
    fn a_node_can_always_exceed_the_epoch_claimed_of_it(
        claims in prop::collection::vec(
            (
                prop_oneof![
                    Just(u64::MAX), Just(TODAY), Just(TODAY + DAY), Just(TODAY + DAY + 1),
                    TODAY - 5..TODAY + 5, any::<u64>(),
                ],
                prop_oneof![Just(u32::MAX), Just(0u32), any::<u32>()],
                0usize..3,
            ),
            1..20,
        ),
    ) {
        let mut me = engine("me", TODAY, 1);
        let mut observer = engine("observer", TODAY, 2);
        let now = Time::from_millis(1_000);
        for node in [&mut me, &mut observer] {
            let y = record("y", TODAY, 0, 9, alive());
            node.merge(now, y, RecordSource::Gossip);
        }
        observer.merge(now, me.own_record(), RecordSource::Gossip);
        for (n, (epoch, incarnation, claim)) in claims.into_iter().enumerate() {
            let claim = [alive(), Claim::Failed, Claim::Left][claim].clone();
            // At its own address, as a former instance of it would be.
            let updates = vec![record("me", epoch, incarnation, 1, claim)];
            for node in [&mut me, &mut observer] {
                let payload = Payload::Gossip { updates: updates.clone() };
                forge(node, now, ("y", TODAY, 1 + n as u64), payload);
            }
            let own = me.own_record();
            prop_assert!(own.epoch <= TODAY + DAY + 2 + n as u64, "{own:?}");
            let known = observer.member("me").unwrap();
            let newer = (own.epoch, own.incarnation) >= (known.id.epoch, known.incarnation);
            prop_assert!(newer, "{own:?} does not go past {known:?}");
            // A second later every clock allows it.
            let later = Time::from_millis(2_000);
            let refutation = Payload::Gossip { updates: vec![own] };
            forge(&mut observer, later, ("y", TODAY, 1_000 + n as u64), refutation);
            let seen = observer.member("me").unwrap();
            prop_assert_eq!(seen.state, MemberState::Alive);
            prop_assert_eq!(seen.id.epoch, me.id().epoch);
            prop_assert_eq!(seen.incarnation, me.local_member().incarnation);
        }
    }
}
