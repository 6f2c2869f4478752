//! Rules: each switches one hook, and works in a rival too.

use rpcnet_swim::unstable::PhiSwim;

use super::*;

fn at(millis: u64) -> Time {
    Time::from_millis(millis)
}

/// What the hooks of a detector say while nothing has happened.
fn hooks(detector: &impl DetectorHooks) -> [f64; 13] {
    [
        detector.witnesses_needed() as f64,
        f64::from(detector.own_misses_to_decide()),
        detector.verifiers(),
        f64::from(detector.repeats_ping()),
        f64::from(detector.probes_suspect_again()),
        detector.ring_successors(1) as f64,
        detector.loss_gain(),
        f64::from(detector.piggybacks_suspicion()),
        f64::from(detector.damps_flaps()),
        f64::from(detector.shifts_deadlines_after_stall()),
        f64::from(detector.detects_isolation()),
        f64::from(detector.redials_failed()),
        f64::from(detector.tracks_slowness()),
    ]
}

#[test]
fn each_rule_switches_one_hook() {
    assert_eq!(hooks(&Detector::rpcnet()), hooks(&PhiSwim));
    assert_eq!(hooks(&detector("swim")), [0.0; 13]);
    for (nth, rule) in Rule::value_variants().iter().copied().enumerate() {
        let mut expected = hooks(&PhiSwim);
        expected[nth] = 0.0;
        let without = Detector::rpcnet().without(rule);
        assert_eq!(hooks(&without), expected, "{rule:?}");
        if rule != Rule::ObservedLoss {
            let mut expected = [0.0; 13];
            expected[nth] = hooks(&PhiSwim)[nth];
            let with = detector("swim").with(rule);
            assert_eq!(hooks(&with), expected, "{rule:?} in SWIM");
        }
    }
}

/// Drives the engine up to a time, in silence, and gives the targets of the rounds that started.
fn run(engine: &mut Engine, until: Time) -> Vec<u64> {
    let mut rounds = Vec::new();
    while let Some(due) = engine.poll_timeout().filter(|due| *due <= until) {
        engine.handle_timeout(due);
        while engine.poll_transmit().is_some() {}
        for round in engine.internals().probe_rounds() {
            if !rounds.contains(&(round.seq(), round.target())) {
                rounds.push((round.seq(), round.target()));
            }
        }
    }
    rounds.into_iter().map(|(_, target)| target).collect()
}

fn drain(engine: &mut Engine) -> Vec<(SocketAddr, Vec<u8>)> {
    std::iter::from_fn(|| engine.poll_transmit()).collect()
}

/// Size of the first ping to a member.
fn ping_len(engine: &mut Engine, name: &str) -> usize {
    engine.internals().start_probe(at(0), member_key(name));
    drain(engine)[0].1.len()
}

/// Whether a rule shows in a rival that knows x, y1, y2 and y3, all of them alive and silent.
fn shows(rule: Rule, detector: Detector) -> bool {
    let mut engine = engine(detector, 3);
    let key = member_key("x");
    engine.internals().clear_gossip();
    match rule {
        // A round without an answer and without a witness is no evidence.
        Rule::Witness => {
            engine.internals().start_probe(at(0), key);
            run(&mut engine, at(1_900));
            let stats = engine.stats();
            stats.inconclusive_rounds > 0 && stats.missed_probes == 0
        }
        Rule::Verify => {
            merge(&mut engine, 0, TestClaim::Suspect(vec![1]), false);
            let internals = engine.internals();
            internals.probe_rounds().iter().any(|it| it.target() == key)
        }
        Rule::SecondPing => {
            engine.internals().start_probe(at(0), key);
            drain(&mut engine);
            let seq = engine.internals().probe_rounds()[0].seq();
            engine.internals().on_probe_round_timer(at(500), seq);
            drain(&mut engine).iter().any(|(to, _)| *to == addr(2))
        }
        // Of four members the round robin asks none twice in four intervals.
        Rule::Ring => {
            let mut probed = run(&mut engine, at(3_900));
            let count = probed.len();
            probed.sort_unstable();
            probed.dedup();
            probed.len() < count
        }
        Rule::Buddy => {
            engine.internals().start_suspicion(at(0), key, &[1]);
            engine.internals().clear_gossip();
            ping_len(&mut engine, "y1") < ping_len(&mut engine, "x")
        }
        Rule::FlapDamping => {
            for incarnation in 1..3 {
                merge(&mut engine, incarnation, TestClaim::Failed, false);
                let back = TestClaim::Alive(Tags::new());
                merge(&mut engine, incarnation + 1, back, false);
            }
            engine.member("x").unwrap().state == MemberState::Failed
        }
        Rule::StallShift => {
            engine.handle_timeout(at(9_000));
            engine.stats().stalls > 0
        }
        Rule::Isolation => engine.internals().is_isolated(at(9_000)),
        Rule::Redial => {
            merge(&mut engine, 0, TestClaim::Failed, false);
            run(&mut engine, at(5_100)).contains(&key)
        }
        _ => unreachable!("{rule:?} is ours alone"),
    }
}

#[test]
fn a_rival_follows_the_rules_of_ours_that_it_is_given() {
    for rule in [
        Rule::Witness,
        Rule::Verify,
        Rule::SecondPing,
        Rule::Ring,
        Rule::Buddy,
        Rule::FlapDamping,
        Rule::StallShift,
        Rule::Isolation,
        Rule::Redial,
    ] {
        assert!(!shows(rule, detector("swim")), "{rule:?}");
        assert!(shows(rule, detector("swim").with(rule)), "{rule:?}");
    }
}

#[test]
fn a_ping_of_a_suspect_is_larger_by_the_suspicion() {
    let ping = |detector| {
        let mut engine = engine(detector, 3);
        let mut internals = engine.internals();
        internals.start_suspicion(at(0), member_key("x"), &[1]);
        internals.clear_gossip();
        ping_len(&mut engine, "x")
    };
    assert!(ping(detector("buddy")) >= ping(detector("swim")) + 20);
    assert_eq!(ping(detector("lifeguard-a5")), ping(detector("memberlist")));
}

#[test]
fn a_rival_forgets_failed_members_after_30_s_unless_it_dials_them() {
    let remembers = |detector| {
        let mut engine = engine(detector, 3);
        let x = ("x", addr(2), 0);
        let mut internals = engine.internals();
        internals.merge(at(1_000), x, TestClaim::Failed, false);
        run(&mut engine, at(40_000));
        engine.member("x").is_some()
    };
    assert!(!remembers(detector("swim")), "as memberlist");
    assert!(remembers(detector("swim").with(Rule::Redial)));
}

#[test]
fn zoned_helpers_come_from_as_many_zones_as_there_are() {
    let zones_of = |detector, seed| {
        let (config, id) = (ClusterConfig::lan(), NodeId::new("me", 1));
        let mut engine = Engine::with_detector(config, id, addr(1), at(0), seed, detector).unwrap();
        let mut internals = engine.internals();
        for port in 2..40 {
            let tags = Tags::from_pairs([("zone", format!("z{}", port % 3))]).unwrap();
            let (name, alive) = (format!("n{port}"), TestClaim::Alive(tags));
            internals.merge(at(0), (&name, addr(port), 0), alive, false);
        }
        let target = member_key("n5");
        internals.start_probe(at(0), target);
        let seq = internals.probe_rounds()[0].seq();
        internals.on_probe_round_timer(at(500), seq);
        let helpers = internals.probe_rounds()[0].helpers();
        assert!(helpers.len() == 3 && !helpers.contains(&target));
        let zone = |key: &u64| internals.member_tag(*key, "zone");
        let mut zones: Vec<_> = helpers.iter().map(zone).collect();
        zones.sort_unstable();
        zones.dedup();
        zones.len()
    };
    let all = |detector: Detector| {
        (0..30)
            .filter(|n| zones_of(detector.clone(), *n) == 3)
            .count()
    };
    assert!(all(detector("rpcnet-zoned")) >= 29);
    assert!(all(Detector::rpcnet()) < 20);
}
