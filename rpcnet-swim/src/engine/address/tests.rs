//! Advertised address: observations, silence, conflicts.

use std::time::Duration;

use super::tracker::{CONFLICTS_MAX, NOTIFIED_MAX, OBSERVERS_MAX};
use super::*;
use crate::config::ClusterConfig;
use crate::id::NodeId;
use crate::wire::{Envelope, GossipMessage, Origin};

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn watch(peers: &[&str]) -> AddressTracker {
    let mut watch = AddressTracker::new(&ClusterConfig::lan(), 7, Time::ZERO);
    for (peer, seen) in peers.iter().enumerate() {
        watch.observe(Time::ZERO, peer as u64, addr(seen));
    }
    watch
}

#[test]
fn distinct_peers_have_to_agree_on_another_address() {
    let own = addr("10.0.0.1:7");
    let candidate = |live, peers: &[&str]| watch(peers).candidate(own, live);
    let (other, liar) = ("10.0.0.2:7", "10.0.0.66:7");
    assert_eq!(candidate(1, &[other]), Some(addr(other)), "the only peer");
    assert_eq!(candidate(2, &[other]), None, "one of two");
    assert_eq!(candidate(9, &[other, other, liar]), None);
    assert_eq!(
        candidate(9, &[other, other, liar, other]),
        Some(addr(other))
    );
    assert_eq!(candidate(9, &["10.0.0.1:7"; 5]), None, "as advertised");
    let split = [
        other,
        other,
        other,
        "10.0.0.1:7",
        "10.0.0.1:7",
        "10.0.0.1:7",
    ];
    assert_eq!(candidate(9, &split), None, "as many see the one advertised");
    // Another port for each of them: the bound one is taken.
    let translated = ["10.0.0.2:1001", "10.0.0.2:1002", "10.0.0.2:1003"];
    assert_eq!(candidate(9, &translated), Some(addr("10.0.0.2:7")));
    assert_eq!(
        candidate(9, &["10.0.0.2:1001"; 3]),
        Some(addr("10.0.0.2:1001"))
    );
}

#[test]
fn what_is_remembered_of_addresses_is_bounded() {
    let mut watch = watch(&[]);
    let mut now = Time::ZERO;
    for key in 0..1_000 {
        now += Duration::from_millis(1);
        watch.observe(now, key, addr("10.0.0.2:7"));
        assert!(watch.should_notify(now, key, AddressNotice::Source, Time::ZERO));
        assert!(!watch.should_notify(now, key, AddressNotice::Source, Time::ZERO));
        assert!(watch.should_notify(now, key, AddressNotice::Conflict, Time::ZERO));
        assert!(
            !watch.should_report_conflict(now, key, Time::ZERO, Time::ZERO),
            "it may pass"
        );
    }
    assert_eq!(watch.observed.len(), OBSERVERS_MAX);
    assert!(watch.observed.contains_key(&999), "the latest stay");
    assert!(watch.notified.len() <= NOTIFIED_MAX);
    assert_eq!(watch.seen_conflicts.len(), CONFLICTS_MAX);
    assert!(watch.should_report_conflict(now, 999, now, Time::ZERO));
    assert!(
        !watch.should_report_conflict(now, 999, now, Time::ZERO),
        "once"
    );
    // Long after, and of another conflict.
    now += Duration::from_secs(3_600);
    assert!(!watch.should_report_conflict(
        now,
        999,
        now - Duration::from_secs(5),
        now - Duration::from_secs(60)
    ));
}

fn engine(config: ClusterConfig, own: &str) -> Engine {
    Engine::new(config, NodeId::new("me", 5), addr(own), Time::ZERO, 7).unwrap()
}

/// A message of node `name` in clear, of its epoch 5.
fn datagram(name: &str, counter: u64, payload: Payload) -> Vec<u8> {
    let envelope = Envelope::new("rpcnet", None, 1);
    let origin = Origin {
        from: crate::id::name_key(name),
        epoch: 5,
        counter,
    };
    let mut datagram = Vec::new();
    let message = GossipMessage { to: 0, payload };
    envelope.seal(origin, &mut datagram, |out| message.encode(out));
    datagram
}

fn receive(engine: &mut Engine, now: Time, name: &str, counter: u64, payload: Payload) {
    let from = addr("10.0.0.3:7");
    engine.handle_datagram(now, from, &mut datagram(name, counter, payload));
}

/// Members `p0` ... that the engine knows.
fn know(engine: &mut Engine, peers: usize) {
    for n in 0..peers {
        let record = Record {
            name: format!("p{n}").into(),
            epoch: 5,
            addr: SocketAddr::from(([10, 0, 1, n as u8], 7)),
            ..engine.own_record()
        };
        engine.merge(
            Time::ZERO,
            record,
            super::super::merge::RecordSource::Gossip,
        );
    }
}

#[test]
fn observations_move_a_node_only_if_no_ping_arrives_and_they_answer_its_datagrams() {
    let other = addr("10.0.0.2:7");
    let moved = |ping_at: Option<u64>, echo: u64, config: ClusterConfig| {
        let mut engine = engine(config, "10.0.0.1:7");
        know(&mut engine, 5);
        engine.send_queue.counter = 100;
        // Nothing is overdue, so the time does not count as a stall.
        engine.timers = Default::default();
        let at = Time::from_millis;
        if let Some(ping_at) = ping_at {
            let ping = Payload::Ping {
                seq: 1,
                view: 0,
                updates: Vec::new(),
            };
            receive(&mut engine, at(ping_at), "p4", 1, ping);
        }
        for n in 0..3 {
            let payload = Payload::AddrObserved { echo, addr: other };
            receive(&mut engine, at(4_000), &format!("p{n}"), 2, payload);
        }
        engine.addr() == other
    };
    assert!(moved(None, 100, ClusterConfig::lan()));
    assert!(moved(Some(500), 100, ClusterConfig::lan()));
    assert!(!moved(Some(3_900), 100, ClusterConfig::lan()), "it works");
    assert!(!moved(None, 101, ClusterConfig::lan()), "not sent yet");
    let by_hand = ClusterConfig::lan().with_advertise_addr(addr("10.0.0.1:7"));
    assert!(!moved(None, 100, by_hand));
}

#[test]
fn a_better_guess_is_taken_until_somebody_knows_the_node() {
    let guessing = || {
        ClusterConfig::lan()
            .with_bind_addr(addr("0.0.0.0:7"))
            .insecure_gossip()
    };
    let mut engine = engine(guessing(), "127.0.0.1:7");
    engine.suggest_advertise_addr(addr("0.0.0.0:7"));
    assert_eq!(
        engine.addr(),
        addr("127.0.0.1:7"),
        "no node could send there"
    );
    engine.suggest_advertise_addr(addr("[::ffff:10.0.0.1]:7"));
    assert_eq!(engine.addr(), addr("10.0.0.1:7"));
    know(&mut engine, 1);
    engine.suggest_advertise_addr(addr("10.0.0.2:7"));
    assert_eq!(engine.addr(), addr("10.0.0.1:7"));

    let by_hand = guessing().with_advertise_addr(addr("10.0.0.5:7"));
    let mut engine = self::engine(by_hand, "10.0.0.5:7");
    engine.suggest_advertise_addr(addr("10.0.0.2:7"));
    assert_eq!(engine.addr(), addr("10.0.0.5:7"));
}

#[test]
fn an_address_set_at_run_time_raises_the_incarnation_and_is_told() {
    let mut engine = engine(ClusterConfig::lan(), "10.0.0.1:7");
    let unusable = engine.set_advertise_addr(Time::ZERO, addr("0.0.0.0:7"));
    assert!(matches!(
        unusable,
        Err(ConfigError::UnusableAdvertiseAddr { .. })
    ));
    assert_eq!(engine.local_member().incarnation, 0);
    engine
        .set_advertise_addr(Time::ZERO, addr("10.0.0.2:0"))
        .unwrap();
    let me = engine.local_member();
    assert_eq!((me.addr, me.incarnation), (addr("10.0.0.2:7"), 1));
    assert!(matches!(engine.poll_event(), Some(Event::NodeUpdated(m)) if m.addr == me.addr));
    assert_eq!(engine.stats().address_changes, 1);
    // Once more changes nothing.
    engine.set_advertise_addr(Time::ZERO, me.addr).unwrap();
    assert_eq!(engine.poll_event(), None);
}

#[test]
fn a_node_knows_its_own_record_whatever_the_scope_of_its_address() {
    let config = ClusterConfig::lan();
    let own = addr("[fe80::1%4]:7");
    let mut node = Engine::new(config, NodeId::new("n", 1), own, Time::ZERO, 7).unwrap();
    node.handle_seeds(Time::ZERO, &[]);
    // As others gossip it: the wire carries no scope.
    let mut echo = node.own_record();
    echo.addr = addr("[fe80::1]:7");
    node.on_claim_about_self(Time::ZERO, &echo);
    assert_eq!(node.id().epoch, 1);
    node.set_advertise_addr(Time::ZERO, addr("[fe80::2%4]:7"))
        .unwrap();
    let mut echo = node.own_record();
    echo.addr = addr("[fe80::2]:7");
    node.on_claim_about_self(Time::ZERO, &echo);
    assert_eq!(node.id().epoch, 1);
    // A record with another address is another process's.
    echo.addr = addr("[fe80::3]:7");
    node.on_claim_about_self(Time::ZERO, &echo);
    assert!(node.id().epoch > 1);
}

#[test]
fn an_address_that_changes_before_the_welcome_raises_the_incarnation() {
    let config = ClusterConfig::lan().with_bind_addr(addr("0.0.0.0:7"));
    let new = || {
        let config = config.clone().insecure_gossip();
        Engine::new(
            config,
            NodeId::new("n", 1),
            addr("127.0.0.1:7"),
            Time::ZERO,
            7,
        )
        .unwrap()
    };
    let mut suggested = new();
    suggested.suggest_advertise_addr(addr("127.0.0.1:7"));
    assert_eq!(suggested.own_record().incarnation, 0, "as before");
    suggested.suggest_advertise_addr(addr("10.0.0.5:7"));
    assert_eq!(suggested.own_record().incarnation, 1);
    let mut seen = new();
    seen.record_seen_by_first_peer(Time::ZERO, addr("10.0.0.6:7"));
    assert_eq!(seen.own_record().incarnation, 1);
}

#[test]
fn a_loopback_address_set_by_hand_is_reported_with_the_address_that_was_seen() {
    let config = ClusterConfig::lan().with_advertise_addr(addr("127.0.0.1:7"));
    let own = addr("127.0.0.1:7");
    let mut node = Engine::new(config, NodeId::new("n", 1), own, Time::ZERO, 7).unwrap();
    let seen = addr("10.0.0.6:7");
    node.record_seen_by_first_peer(Time::ZERO, seen);
    let told = std::iter::from_fn(|| node.poll_event()).find_map(|event| match event {
        Event::AddressUnreachable { addr, observed } => Some((addr, observed)),
        _ => None,
    });
    assert_eq!(told, Some((own, Some(seen))));
}
