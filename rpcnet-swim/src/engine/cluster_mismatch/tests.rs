//! Cluster mismatch: what a node sends that cannot open a datagram, and the effect.

use super::*;
use crate::config::ClusterConfig;
use crate::engine::test_support::{addr, engine_with};
use crate::key::ClusterKey;

fn engine(port: u16, config: ClusterConfig) -> Engine {
    engine_with(config, &format!("n{port}"), 1, port)
}

fn keyed(byte: u8) -> ClusterConfig {
    ClusterConfig::lan().with_key(ClusterKey::from_bytes([byte; 32]))
}

/// The hello of a node with this configuration to port 1.
fn hello(config: ClusterConfig) -> (Engine, Vec<u8>) {
    let mut engine = engine(2, config);
    engine.handle_seeds(Time::ZERO, &[addr(1)]);
    let (_, hello) = engine.poll_transmit().unwrap();
    (engine, hello)
}

#[test]
fn a_joiner_of_another_cluster_is_told_why_and_so_is_the_seed() {
    let lan = ClusterConfig::lan;
    for (joins, seed, reason) in [
        (keyed(8), keyed(7), ClusterMismatch::ClusterKey),
        (lan(), keyed(7), ClusterMismatch::MissingKey),
        (keyed(8), lan(), ClusterMismatch::ClusterKey),
        (
            keyed(7).with_cluster_name("other"),
            keyed(7),
            ClusterMismatch::ClusterName,
        ),
    ] {
        let (mut joiner, sent) = hello(joins);
        let mut seed = engine(1, seed);
        seed.handle_datagram(Time::ZERO, addr(2), &mut sent.clone());
        assert_eq!(
            seed.poll_event(),
            Some(Event::DatagramRefused {
                from: addr(2),
                reason
            })
        );
        let (to, mut notice) = seed.poll_transmit().expect("a notice");
        assert_eq!(to, addr(2));
        assert!(notice.len() <= sent.len(), "it amplifies nothing");
        let before = (joiner.view_hash(), joiner.is_joined());
        joiner.handle_datagram(Time::ZERO, addr(1), &mut notice);
        assert_eq!((joiner.view_hash(), joiner.is_joined()), before);
        assert_eq!(joiner.poll_transmit(), None, "it is not answered");
        assert_eq!(
            joiner.seed_refusals().collect::<Vec<_>>(),
            [(addr(1), reason)]
        );
        assert_eq!(
            joiner.poll_event(),
            Some(Event::SeedRefused {
                seed: addr(1),
                reason
            })
        );
        // Reported once.
        joiner.handle_datagram(Time::ZERO, addr(1), &mut notice);
        assert_eq!(joiner.poll_event(), None);
    }
}

#[test]
fn a_notice_about_something_that_was_not_sent_does_nothing() {
    let (mut joiner, _) = hello(keyed(7));
    let notice = |from, counter| MismatchNotice {
        mismatch: ClusterMismatch::ClusterKey,
        from,
        counter,
    };
    let own = joiner.local.key;
    for (at, notice) in [
        (1, notice(own, joiner.send_queue.counter + 1)),
        (1, notice(own + 1, joiner.send_queue.counter)),
        (3, notice(own, joiner.send_queue.counter)),
    ] {
        joiner.handle_datagram(Time::ZERO, addr(at), &mut notice.encode());
    }
    assert_eq!(joiner.seed_refusals().count(), 0);
    assert_eq!(joiner.stats().dropped.unexpected, 3);
    assert_eq!(joiner.poll_event(), None);
}

#[test]
fn a_flood_causes_few_notices_and_events() {
    let mut seed = engine(1, keyed(7));
    let (_, sent) = hello(keyed(8));
    for port in 2..1_002 {
        seed.handle_datagram(Time::ZERO, addr(port), &mut sent.clone());
    }
    let notices = std::iter::from_fn(|| seed.poll_transmit()).count();
    let events = std::iter::from_fn(|| seed.poll_event()).count();
    assert_eq!((notices, events), (NOTICES_PER_ROUND, EVENTS_PER_ROUND));
    assert_eq!(seed.stats().dropped.unknown_key, 1_000);
    assert!(seed.mismatch_notices.answered.len() <= MISMATCH_NOTICES_MAX);

    // And one address gets few of them in all.
    let mut seed = engine(1, keyed(7));
    for tenth in 0..600 {
        let now = Time::from_millis(100 * tenth);
        seed.handle_datagram(now, addr(2), &mut sent.clone());
    }
    let notices = std::iter::from_fn(|| seed.poll_transmit()).count();
    let events = std::iter::from_fn(|| seed.poll_event()).count();
    assert!(notices <= 12 && events == 1, "{notices}, {events}");
}

#[test]
fn a_corrupted_or_short_datagram_gets_no_notice() {
    let mut seed = engine(1, keyed(7));
    let (_, mut sent) = hello(keyed(7));
    *sent.last_mut().unwrap() ^= 1;
    seed.handle_datagram(Time::ZERO, addr(2), &mut sent);
    let (_, sent) = hello(ClusterConfig::lan());
    seed.handle_datagram(Time::ZERO, addr(2), &mut sent[..NOTICE_BYTES - 1].to_vec());
    assert_eq!(seed.poll_transmit(), None);
}
