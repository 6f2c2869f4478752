//! The published numbers, and single steps of the rivals.

use std::net::SocketAddr;
use std::time::Duration;

use super::push_pull::push_pull_interval;
use super::*;
use crate::config::ClusterConfig;
use crate::engine::detector::Detector;
use crate::id::{NodeId, name_key};
use crate::tags::Tags;

fn rival_of(detector: &Detector) -> Rival {
    detector.rules().rival.expect("a rival")
}

/// How long a suspicion lasts among `live` members with 0, 1, ... confirmations, in ms.
fn timeouts(detector: &Detector, live: usize) -> Vec<u128> {
    let rival = rival_of(detector);
    let min = rival.suspicion_min(live, Duration::from_secs(1));
    let awaited = rival.confirmations_awaited(live);
    (0..=awaited)
        .map(|confirmed| rival.suspicion_timeout(min, awaited, confirmed))
        .map(|timeout| timeout.as_millis())
        .collect()
}

#[test]
fn suspicions_last_as_long_as_published() {
    for (detector, live, expected) in [
        (
            Detector::lifeguard(5),
            128,
            vec![63_210, 36_872, 21_466, 10_535],
        ),
        (
            Detector::lha_suspicion(),
            128,
            vec![63_210, 36_872, 21_466, 10_535],
        ),
        (
            Detector::lifeguard(5),
            8,
            vec![30_000, 17_500, 10_187, 5_000],
        ),
        (
            Detector::lifeguard(5),
            10_000,
            vec![120_000, 70_000, 40_751, 20_000],
        ),
        (Detector::memberlist(), 128, vec![50_568, 23_980, 8_428]),
        (Detector::memberlist(), 8, vec![24_000, 11_381, 4_000]),
        (Detector::swim(), 128, vec![10_535]),
        (Detector::buddy(), 1_000, vec![15_000]),
        (Detector::lha_probe(), 2_000, vec![16_505]),
        (
            Detector::lifeguard(2),
            128,
            vec![25_284, 14_749, 8_586, 4_214],
        ),
        // Nobody to wait for: the shortest time at once.
        (Detector::lifeguard(5), 4, vec![5_000]),
        (
            Detector::lifeguard(5),
            5,
            vec![30_000, 17_500, 10_187, 5_000],
        ),
        (Detector::memberlist(), 3, vec![4_000]),
        (Detector::memberlist(), 4, vec![24_000, 11_381, 4_000]),
    ] {
        let name = detector.name();
        let got = timeouts(&detector, live);
        // What is floored to whole milliseconds depends on the last bit.
        let close = got.iter().zip(&expected).all(|(a, b)| a.abs_diff(*b) <= 1);
        assert!(
            close && got.len() == expected.len(),
            "{name} at {live}: {got:?}, not {expected:?}"
        );
    }
}

#[test]
fn push_pulls_are_rarer_in_larger_clusters() {
    for (live, times) in [
        (1, 1),
        (32, 1),
        (33, 2),
        (64, 2),
        (65, 3),
        (128, 3),
        (1_000, 6),
        (2_000, 7),
        (10_000, 10),
    ] {
        assert_eq!(push_pull_interval(live), Duration::from_secs(30 * times));
    }
}

fn addr(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

fn record(name: &str, port: u16, incarnation: u32, claim: Claim) -> Record {
    Record {
        name: name.into(),
        epoch: 1,
        incarnation,
        addr: addr(port),
        draining: false,
        slow: false,
        unreachable: false,
        claim,
    }
}

/// A node that knows x and, as helpers, `others` more.
fn engine(detector: Detector, others: u16) -> Engine {
    let config = ClusterConfig::lan().with_detector(detector);
    let mut engine = Engine::new(config, NodeId::new("me", 1), addr(1), Time::ZERO, 7).unwrap();
    for n in 0..=others {
        let name = if n == 0 {
            "x".to_owned()
        } else {
            format!("y{n}")
        };
        let alive = record(&name, 2 + n, 0, Claim::Alive(Tags::new()));
        engine.merge(Time::ZERO, alive, RecordSource::Gossip);
    }
    engine
}

/// A round to x at its end, to which so many helpers sent a nack; or x answered.
fn round(engine: &mut Engine, now: Time, nacks: Option<usize>) {
    let key = name_key("x");
    engine.start_probe(now, key);
    let (seq, end) = (engine.probe_rounds[0].seq, engine.probe_rounds[0].end);
    let (timeout, length) = engine.round_times();
    assert_eq!(end, now + length);
    engine.on_probe_round_timer(now + timeout, seq);
    match nacks {
        None => engine.on_ack(end, key, seq, false),
        Some(nacks) => {
            let helpers = engine.probe_rounds[0].helpers();
            for helper in &helpers[..nacks] {
                engine.on_nack(*helper, seq, key);
            }
            engine.on_probe_round_timer(end, seq);
        }
    }
    assert!(engine.probe_rounds.is_empty());
}

#[test]
fn local_health_follows_probes_nacks_and_refutations() {
    use Step::{Answered, Failed, Refuted};
    #[derive(Clone, Copy, Debug)]
    enum Step {
        Answered,
        /// With so many nacks of three.
        Failed(usize),
        Refuted,
    }
    for (detector, steps) in [
        (
            Detector::lifeguard(5),
            vec![
                (Answered, 0),
                (Failed(3), 1),
                (Failed(1), 4),
                (Answered, 3),
                (Refuted, 4),
                (Failed(0), 8),
                (Failed(0), 8),
                (Answered, 7),
            ],
        ),
        (
            Detector::memberlist(),
            vec![
                (Failed(3), 0),
                (Failed(1), 2),
                (Refuted, 3),
                (Failed(0), 6),
                (Failed(0), 7),
                (Answered, 6),
            ],
        ),
        (
            Detector::swim(),
            vec![(Failed(0), 0), (Refuted, 0), (Answered, 0)],
        ),
    ] {
        let mut engine = engine(detector.clone(), 3);
        let mut incarnation = 0;
        for (at, (step, expected)) in steps.into_iter().enumerate() {
            let now = Time::from_millis(20_000 * at as u64);
            match step {
                Answered => round(&mut engine, now, None),
                Failed(nacks) => round(&mut engine, now, Some(nacks)),
                Refuted => {
                    let mut by = Suspectors::default();
                    by.merge(Confirmation::new(9, 0.0));
                    let me = record("me", 1, incarnation, Claim::Suspect(by));
                    engine.merge(now, me, RecordSource::Gossip);
                    incarnation += 1;
                }
            }
            let name = detector.name();
            assert_eq!(engine.rival.health, expected, "{name}: {step:?} at {at}");
        }
    }
    let mut alone = engine(Detector::memberlist(), 0);
    round(&mut alone, Time::ZERO, Some(0));
    assert_eq!(alone.rival.health, 1, "no helpers: the probe itself counts");
}

#[test]
fn health_stretches_the_round_and_by_the_paper_the_timeout() {
    let ms = Duration::from_millis;
    for (detector, health, patience, wait) in [
        (Detector::lifeguard(5), 0, (ms(500), ms(1_000)), ms(1_000)),
        (Detector::lifeguard(5), 8, (ms(4_500), ms(9_000)), ms(9_000)),
        (Detector::lha_probe(), 2, (ms(1_500), ms(3_000)), ms(3_000)),
        (Detector::memberlist(), 7, (ms(500), ms(8_000)), ms(1_000)),
    ] {
        let mut engine = engine(detector, 3);
        engine.rival.health = health;
        assert_eq!(engine.round_times(), patience);
        assert_eq!(engine.probe_wait(), wait);
    }
}

#[test]
fn memberlist_probes_one_member_at_a_time() {
    let probes = |detector| {
        let mut engine = engine(detector, 3);
        engine.rival.health = 3;
        let rounds = engine.stats.probe_rounds;
        while let Some(due) = engine
            .poll_timeout()
            .filter(|due| due.as_micros() < 7_900_000)
        {
            engine.handle_timeout(due);
        }
        engine.stats.probe_rounds - rounds
    };
    // A round of four periods, then, with three missed nacks more, one of seven.
    assert_eq!(probes(Detector::memberlist()), 2);
    assert_eq!(probes(Detector::swim()), 8);
}

/// Suspectors 1, 2, ... `count`.
fn suspectors(count: u64) -> Suspectors {
    let mut suspectors = Suspectors::default();
    (1..=count).for_each(|by| {
        suspectors.merge(Confirmation::new(by, 0.0));
    });
    suspectors
}

#[test]
fn confirmations_bring_the_end_nearer_and_are_news_while_they_are_awaited() {
    // With eight live members Min is alpha seconds.
    for (detector, ends) in [
        (Detector::lifeguard(5), vec![30_000, 17_500, 10_187, 5_000]),
        (Detector::memberlist(), vec![24_000, 11_381, 4_000, 4_000]),
        (Detector::swim(), vec![5_000, 5_000, 5_000, 5_000]),
    ] {
        let name = detector.name().to_owned();
        let mut engine = engine(detector, 6);
        let key = name_key("x");
        let mut last = u64::MAX;
        for (count, end) in (1..).zip(ends) {
            engine.gossip_queue = Default::default();
            let claim = Claim::Suspect(suspectors(count));
            engine.merge(Time::ZERO, record("x", 2, 0, claim), RecordSource::Gossip);
            let due = engine.rival.suspicion_timers.next().unwrap().as_micros() / 1_000;
            assert_eq!(due, end, "{name} with {count}");
            assert_eq!(
                engine.gossip_queue.contains(key),
                end < last,
                "{name}: news?"
            );
            last = end;
        }
        let end = engine.rival.suspicion_timers.next().unwrap();
        engine.on_rival_timer(end);
        assert_eq!(engine.member("x").unwrap().state, MemberState::Failed);
        assert_eq!(engine.rival.suspicion_timers.next(), None);
    }
}

#[test]
fn what_a_push_pull_calls_dead_is_suspect_and_refutes_itself() {
    let mut engine = engine(Detector::lifeguard(5), 6);
    engine.merge(
        Time::ZERO,
        record("x", 2, 3, Claim::Failed),
        RecordSource::Sync,
    );
    let x = engine.member("x").unwrap();
    assert_eq!((x.state, x.incarnation), (MemberState::Suspect, 3));
    let back = Claim::Alive(Tags::new());
    engine.merge(Time::ZERO, record("x", 2, 4, back), RecordSource::Gossip);
    assert_eq!(engine.member("x").unwrap().state, MemberState::Alive);
    // In gossip somebody has just decided it.
    engine.merge(
        Time::ZERO,
        record("x", 2, 4, Claim::Failed),
        RecordSource::Gossip,
    );
    assert_eq!(engine.member("x").unwrap().state, MemberState::Failed);
    // What is left of the trial finds nothing to do.
    engine.on_rival_timer(Time::from_millis(99_000));
    assert_eq!(engine.rival.suspicion_timers.len(), 0);
}

#[test]
fn the_dead_of_late_are_gossiped_to() {
    let mut engine = engine(Detector::memberlist(), 2);
    engine.merge(
        Time::ZERO,
        record("x", 2, 0, Claim::Failed),
        RecordSource::Gossip,
    );
    let mut told = |at| engine.rival_gossip_targets(Time::from_millis(at), 3);
    assert!(told(30_000).contains(&name_key("x")));
    assert!(!told(30_001).contains(&name_key("x")));
}
