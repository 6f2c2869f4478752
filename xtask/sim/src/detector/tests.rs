//! Names of the detectors, their published numbers, and single steps of the SWIM family.

use std::{net::SocketAddr, time::Duration};

use rpcnet_swim::{
    ClusterConfig, MemberState, NodeId, Tags, Time,
    unstable::{DetectorHooks, TestClaim, name_key as member_key},
};

use super::{push_pull::push_pull_interval, *};

mod rules;

fn detector(name: &str) -> Detector {
    Detector::named(name).unwrap()
}

#[test]
fn names_are_those_of_the_tables_and_lead_back() {
    let all = Detector::all();
    assert!(all.iter().map(Detector::name).eq(ALL));
    let more = [
        "rpcnet-r0",
        "rpcnet-r2",
        "swim-with-witness",
        "lifeguard-a2-with-witness-r1",
        "lifeguard-a3-without-buddy",
        "rpcnet-nacks2-zoned",
        "rpcnet-nacks2-r2",
        "rpcnet-r2-every2",
    ];
    let more: Vec<_> = more.into_iter().map(detector).collect();
    assert_eq!(more[1].rules.ring_successors, Some(2));
    assert_eq!(more[2].rules, detector("swim").with(Rule::Witness).rules);
    assert_eq!(
        (more[5].rules.nacks_needed, more[5].rules.zoned_helpers),
        (2, true)
    );
    assert_eq!(detector("rpcnet-every3").rules.round_robin_every, 3);
    let all = Detector::all().into_iter().chain(Detector::ablation());
    for detector in all.chain(more) {
        assert_eq!(Detector::named(detector.name()), Some(detector));
    }
    for unknown in ["", "swam", "lifeguard-a0", "rpcnet-r9", "rpcnet-without-x"] {
        assert_eq!(Detector::named(unknown), None, "{unknown}");
    }
    assert_eq!(Detector::named("swim-with-observed-loss"), None);
}

#[test]
fn each_rule_is_one_switch() {
    for rule in Rule::value_variants().iter().copied() {
        let off = Detector::rpcnet().without(rule);
        assert_ne!(off.rules, Rules::OURS, "{rule:?}");
        assert_eq!(off.with(rule).rules, Rules::OURS, "{rule:?}");
    }
    // A rival has none of them, but for what is Lifeguard's.
    for rival in Detector::all().into_iter().filter(Detector::is_rival) {
        for rule in Rule::value_variants().iter().copied() {
            let none = rival.clone().without(rule).rules == rival.rules;
            let lifeguards = rule == Rule::Buddy && rival.rules.has(Rule::Buddy);
            assert_eq!(none, !lifeguards, "{rule:?} of {}", rival.name);
        }
    }
}
/// How long a suspicion lasts among `live` members with 0, 1, ... confirmations, in ms.
fn timeouts(detector: &Detector, live: usize) -> Vec<u128> {
    let params = detector.swim.expect("a rival");
    let min = params.suspicion_min(live, Duration::from_secs(1));
    let awaited = params.confirmations_awaited(live);
    (0..=awaited)
        .map(|confirmed| params.suspicion_timeout(min, awaited, confirmed))
        .map(|timeout| timeout.as_millis())
        .collect()
}

#[test]
fn suspicions_last_as_long_as_published() {
    for (detector, live, expected) in [
        (
            detector("lifeguard-a5"),
            128,
            vec![63_210, 36_872, 21_466, 10_535],
        ),
        (
            detector("lha-suspicion"),
            128,
            vec![63_210, 36_872, 21_466, 10_535],
        ),
        (
            detector("lifeguard-a5"),
            8,
            vec![30_000, 17_500, 10_187, 5_000],
        ),
        (
            detector("lifeguard-a5"),
            10_000,
            vec![120_000, 70_000, 40_751, 20_000],
        ),
        (detector("memberlist"), 128, vec![50_568, 23_980, 8_428]),
        (detector("memberlist"), 8, vec![24_000, 11_381, 4_000]),
        (detector("swim"), 128, vec![10_535]),
        (detector("buddy"), 1_000, vec![15_000]),
        (detector("lha-probe"), 2_000, vec![16_505]),
        (
            detector("lifeguard-a2"),
            128,
            vec![25_284, 14_749, 8_586, 4_214],
        ),
        // No suspector to wait for: the shortest time at once.
        (detector("lifeguard-a5"), 4, vec![5_000]),
        (
            detector("lifeguard-a5"),
            5,
            vec![30_000, 17_500, 10_187, 5_000],
        ),
        (detector("memberlist"), 3, vec![4_000]),
        (detector("memberlist"), 4, vec![24_000, 11_381, 4_000]),
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

/// A node that knows x and, as helpers, `others` more.
fn engine(detector: Detector, others: u16) -> Engine {
    let id = NodeId::new("me", 1);
    let config = ClusterConfig::lan();
    let mut engine = Engine::with_detector(config, id, addr(1), Time::ZERO, 7, detector).unwrap();
    for n in 0..=others {
        let name = if n == 0 {
            "x".to_owned()
        } else {
            format!("y{n}")
        };
        let alive = TestClaim::Alive(Tags::new());
        let mut internals = engine.internals();
        internals.merge(Time::ZERO, (&name, addr(2 + n), 0), alive, false);
    }
    engine
}

/// A round to x at its end, to which so many helpers sent a nack; or x answered.
fn round(engine: &mut Engine, now: Time, nacks: Option<usize>) {
    let key = member_key("x");
    let (timeout, length) = times(engine);
    let mut internals = engine.internals();
    internals.start_probe(now, key);
    let started = &internals.probe_rounds()[0];
    let (seq, end) = (started.seq(), started.end());
    assert_eq!(end, now + length);
    internals.on_probe_round_timer(now + timeout, seq);
    match nacks {
        None => internals.on_ack(end, key, seq, false),
        Some(nacks) => {
            let helpers = internals.probe_rounds()[0].helpers();
            for helper in &helpers[..nacks] {
                internals.on_nack(*helper, seq, key);
            }
            internals.on_probe_round_timer(end, seq);
        }
    }
    assert!(internals.probe_rounds().is_empty());
}

/// How long a ping may go unanswered, and how long a round takes.
fn times(engine: &Engine) -> (Duration, Duration) {
    let (timeout, interval) = (Duration::from_millis(500), Duration::from_secs(1));
    engine.detector().probe_times(timeout, interval)
}

/// Event that changes the local health.
#[derive(Clone, Copy, Debug)]
enum HealthEvent {
    Answered,
    /// With so many nacks of three.
    Failed(usize),
    Refuted,
}

/// The local health of a detector after each of these events, one after the other.
fn assert_health(detector: &Detector, steps: &[(HealthEvent, u32)]) {
    let mut engine = engine(detector.clone(), 3);
    let mut incarnation = 0;
    for (at, (event, expected)) in steps.iter().enumerate() {
        let now = Time::from_millis(20_000 * at as u64);
        match event {
            HealthEvent::Answered => round(&mut engine, now, None),
            HealthEvent::Failed(nacks) => round(&mut engine, now, Some(*nacks)),
            HealthEvent::Refuted => {
                let (me, claim) = (("me", addr(1), incarnation), TestClaim::Suspect(vec![9]));
                engine.internals().merge(now, me, claim, false);
                incarnation += 1;
            }
        }
        let (name, health) = (detector.name(), engine.detector().state.health);
        assert_eq!(health, *expected, "{name}: {event:?} at {at}");
    }
}

#[test]
fn local_health_follows_probes_nacks_and_refutations() {
    use HealthEvent::{Answered, Failed, Refuted};
    let lifeguard = [
        (Answered, 0),
        (Failed(3), 1),
        (Failed(1), 4),
        (Answered, 3),
        (Refuted, 4),
        (Failed(0), 8),
        (Failed(0), 8),
        (Answered, 7),
    ];
    assert_health(&detector("lifeguard-a5"), &lifeguard);
    let memberlist = [
        (Failed(3), 0),
        (Failed(1), 2),
        (Refuted, 3),
        (Failed(0), 6),
        (Failed(0), 7),
        (Answered, 6),
    ];
    assert_health(&detector("memberlist"), &memberlist);
    assert_health(
        &detector("swim"),
        &[(Failed(0), 0), (Refuted, 0), (Answered, 0)],
    );
}

#[test]
fn without_helpers_a_failed_probe_itself_lowers_the_health() {
    let mut alone = engine(detector("memberlist"), 0);
    round(&mut alone, Time::ZERO, Some(0));
    assert_eq!(alone.detector().state.health, 1);
}

#[test]
fn health_stretches_the_round_and_by_the_paper_the_timeout() {
    let ms = Duration::from_millis;
    for (detector, health, patience, wait) in [
        (detector("lifeguard-a5"), 0, (ms(500), ms(1_000)), ms(1_000)),
        (
            detector("lifeguard-a5"),
            8,
            (ms(4_500), ms(9_000)),
            ms(9_000),
        ),
        (detector("lha-probe"), 2, (ms(1_500), ms(3_000)), ms(3_000)),
        (detector("memberlist"), 7, (ms(500), ms(8_000)), ms(1_000)),
    ] {
        let mut engine = engine(detector, 3);
        engine.internals().detector().state.health = health;
        assert_eq!(times(&engine), patience);
        assert_eq!(engine.detector().probe_wait(ms(1_000)), wait);
    }
}

#[test]
fn memberlist_probes_one_member_at_a_time() {
    let probes = |detector| {
        let mut engine = engine(detector, 3);
        engine.internals().detector().state.health = 3;
        let rounds = engine.stats().probe_rounds;
        while let Some(due) = engine
            .poll_timeout()
            .filter(|due| due.as_micros() < 7_900_000)
        {
            engine.handle_timeout(due);
        }
        engine.stats().probe_rounds - rounds
    };
    // A round of four periods, then, with three missed nacks more, one of seven.
    assert_eq!(probes(detector("memberlist")), 2);
    assert_eq!(probes(detector("swim")), 8);
}

/// When the first suspicion expires.
fn next_expiry(engine: &Engine) -> Option<Time> {
    engine.detector().state.suspicion_timers.next()
}

#[test]
fn confirmations_shorten_the_suspicion_and_are_gossiped_while_awaited() {
    // With eight live members Min is alpha seconds.
    for (detector, ends) in [
        (
            detector("lifeguard-a5"),
            vec![30_000, 17_500, 10_187, 5_000],
        ),
        (detector("memberlist"), vec![24_000, 11_381, 4_000, 4_000]),
        (detector("swim"), vec![5_000, 5_000, 5_000, 5_000]),
    ] {
        let name = detector.name().to_owned();
        let mut engine = engine(detector, 6);
        let key = member_key("x");
        let mut last = u64::MAX;
        for (count, end) in (1..).zip(ends) {
            let mut internals = engine.internals();
            internals.clear_gossip();
            let claim = TestClaim::Suspect((1..=count).collect());
            internals.merge(Time::ZERO, ("x", addr(2), 0), claim, false);
            assert_eq!(internals.has_gossip(key), end < last, "{name}: gossip?");
            let due = next_expiry(&engine).unwrap().as_micros() / 1_000;
            assert_eq!(due, end, "{name} with {count}");
            last = end;
        }
        let end = next_expiry(&engine).unwrap();
        Detector::on_timer(&mut engine, end);
        assert_eq!(engine.member("x").unwrap().state, MemberState::Failed);
        assert_eq!(next_expiry(&engine), None);
    }
}

/// Merges a claim about x.
fn merge(engine: &mut Engine, incarnation: u32, claim: TestClaim, is_from_sync: bool) {
    let x = ("x", addr(2), incarnation);
    engine.internals().merge(Time::ZERO, x, claim, is_from_sync);
}

#[test]
fn a_push_pull_turns_failed_into_suspect() {
    let mut engine = engine(detector("lifeguard-a5"), 6);
    merge(&mut engine, 3, TestClaim::Failed, true);
    let x = engine.member("x").unwrap();
    assert_eq!((x.state, x.incarnation), (MemberState::Suspect, 3));
    merge(&mut engine, 4, TestClaim::Alive(Tags::new()), false);
    assert_eq!(engine.member("x").unwrap().state, MemberState::Alive);
    // In gossip, failed was decided a moment ago.
    merge(&mut engine, 4, TestClaim::Failed, false);
    assert_eq!(engine.member("x").unwrap().state, MemberState::Failed);
    // The timer that is left finds nothing to do.
    Detector::on_timer(&mut engine, Time::from_millis(99_000));
    assert_eq!(engine.detector().tracked_members(), 0);
}

#[test]
fn recently_failed_members_are_gossiped_to() {
    let mut engine = engine(detector("memberlist"), 2);
    merge(&mut engine, 0, TestClaim::Failed, false);
    let mut targets = |at| Detector::gossip_targets(&mut engine, Time::from_millis(at), 3).unwrap();
    assert!(targets(30_000).contains(&member_key("x")));
    assert!(!targets(30_001).contains(&member_key("x")));
}
