//! Tests of the hooks: each has an effect of its own.

use crate::config::ClusterConfig;
use crate::engine::Engine;
use crate::engine::hooks::{DetectorHooks, PhiSwim};
use crate::engine::merge::RecordSource;
use crate::engine::test_support::{addr, alive, record};
use crate::event::MemberState;
use crate::id::{NodeId, name_key};
use crate::time::Time;
use crate::wire::{Claim, Confirmation, Record, Suspectors};

fn at(millis: u64) -> Time {
    Time::from_millis(millis)
}

fn x(incarnation: u32, claim: Claim) -> Record {
    member("x", 2, incarnation, claim)
}

fn member(name: &str, port: u16, incarnation: u32, claim: Claim) -> Record {
    record(name, 1, incarnation, port, claim)
}

fn suspectors(count: u64) -> Suspectors {
    let mut suspectors = Suspectors::default();
    for by in 1..=count {
        suspectors.merge(Confirmation::new(by, 4.0));
    }
    suspectors
}

/// [`PhiSwim`] with another value of some hooks.
#[derive(Clone, Copy, Debug, Default)]
struct Varied {
    without: Option<Rule>,
    witnesses_needed: Option<usize>,
}

/// One behaviour that a hook switches off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    Witness,
    OnlySuspectorsDecide,
    Verify,
    SecondPing,
    BackToBack,
    Ring,
    ObservedLoss,
    Buddy,
    FlapDamping,
    StallShift,
    Isolation,
    Redial,
    Slowness,
}

impl Rule {
    const ALL: [Self; 13] = [
        Self::Witness,
        Self::OnlySuspectorsDecide,
        Self::Verify,
        Self::SecondPing,
        Self::BackToBack,
        Self::Ring,
        Self::ObservedLoss,
        Self::Buddy,
        Self::FlapDamping,
        Self::StallShift,
        Self::Isolation,
        Self::Redial,
        Self::Slowness,
    ];
}

impl Varied {
    fn without(rule: Rule) -> Self {
        Self {
            without: Some(rule),
            ..Self::default()
        }
    }

    fn has(self, rule: Rule) -> bool {
        self.without != Some(rule)
    }
}

impl DetectorHooks for Varied {
    fn witnesses_needed(&self) -> usize {
        match self.has(Rule::Witness) {
            true => self.witnesses_needed.unwrap_or(1),
            false => 0,
        }
    }

    fn own_misses_to_decide(&self) -> u16 {
        PhiSwim.own_misses_to_decide() * u16::from(self.has(Rule::OnlySuspectorsDecide))
    }

    fn verifiers(&self) -> f64 {
        PhiSwim.verifiers() * f64::from(self.has(Rule::Verify))
    }

    fn repeats_ping(&self) -> bool {
        self.has(Rule::SecondPing)
    }

    fn probes_suspect_again(&self) -> bool {
        self.has(Rule::BackToBack)
    }

    fn ring_successors(&self, configured: usize) -> usize {
        configured * usize::from(self.has(Rule::Ring))
    }

    fn loss_gain(&self) -> f64 {
        PhiSwim.loss_gain() * f64::from(self.has(Rule::ObservedLoss))
    }

    fn piggybacks_suspicion(&self) -> bool {
        self.has(Rule::Buddy)
    }

    fn damps_flaps(&self) -> bool {
        self.has(Rule::FlapDamping)
    }

    fn shifts_deadlines_after_stall(&self) -> bool {
        self.has(Rule::StallShift)
    }

    fn detects_isolation(&self) -> bool {
        self.has(Rule::Isolation)
    }

    fn redials_failed(&self) -> bool {
        self.has(Rule::Redial)
    }

    fn tracks_slowness(&self) -> bool {
        self.has(Rule::Slowness)
    }
}

/// A node that knows x, y, z and w, all of them alive and silent.
fn engine(detector: Varied) -> Engine<Varied> {
    let (config, id) = (ClusterConfig::lan(), NodeId::new("me", 1));
    let mut engine = Engine::with_detector(config, id, addr(1), at(0), 7, detector).unwrap();
    for (name, port) in [("x", 2), ("y", 3), ("z", 4), ("w", 5)] {
        let alive = member(name, port, 0, alive());
        engine.merge_gossip(alive);
    }
    engine
}

/// Drives the engine up to a time, in silence.
fn run(engine: &mut Engine<Varied>, until: Time) {
    while let Some(due) = engine.poll_timeout().filter(|due| *due <= until) {
        engine.handle_timeout(due);
        while engine.poll_transmit().is_some() {}
    }
}

/// Members that are probed, by their keys.
fn probed_members(engine: &Engine<Varied>) -> impl Iterator<Item = u64> {
    let rounds = engine.probes.rounds.as_slice();
    rounds.iter().map(|round| round.key)
}

fn probed(engine: &Engine<Varied>, name: &str) -> bool {
    probed_members(engine).any(|key| key == name_key(name))
}

fn state(engine: &Engine<Varied>, name: &str) -> MemberState {
    engine.member(name).unwrap().state
}

/// Whether a rule shows in one engine.
fn is_applied(rule: Rule, detector: Varied) -> bool {
    let mut engine = engine(detector);
    engine.gossip_queue.clear();
    match rule {
        Rule::Witness | Rule::SecondPing | Rule::Ring | Rule::ObservedLoss | Rule::Slowness => {
            is_probe_rule_applied(rule, &mut engine)
        }
        Rule::OnlySuspectorsDecide | Rule::Verify | Rule::BackToBack | Rule::Buddy => {
            is_suspicion_rule_applied(rule, &mut engine)
        }
        Rule::FlapDamping | Rule::StallShift | Rule::Isolation | Rule::Redial => {
            is_outage_rule_applied(rule, &mut engine)
        }
    }
}

/// Whether a rule of probe rounds shows.
fn is_probe_rule_applied(rule: Rule, engine: &mut Engine<Varied>) -> bool {
    let key = name_key("x");
    match rule {
        // A round without an answer and without a witness is no evidence.
        Rule::Witness => {
            engine.start_probe(at(0), key);
            run(engine, at(1_900));
            engine.stats.inconclusive_rounds > 0 && engine.stats.missed_probes == 0
        }
        Rule::SecondPing => {
            engine.start_probe(at(0), key);
            while engine.poll_transmit().is_some() {}
            engine.on_probe_round_timer(at(500), engine.probes.rounds.as_slice()[0].seq);
            std::iter::from_fn(|| engine.poll_transmit()).any(|(to, _)| to == addr(2))
        }
        Rule::Ring => {
            // Of four members the round robin probes none twice in four turns.
            let mut probed = Vec::new();
            for turn in 0..4 {
                engine.probes.rounds.clear();
                engine.on_probe_timer(at(500 * turn));
                probed.extend(probed_members(engine));
            }
            let asked = probed.len();
            probed.sort_unstable();
            probed.dedup();
            probed.len() < asked
        }
        Rule::ObservedLoss => {
            let before = engine.probes.network.loss();
            engine.clear_evidence(key);
            engine.probes.network.loss() != before
        }
        Rule::Slowness => {
            engine.start_probe(at(0), key);
            let seq = engine.probes.rounds.as_slice()[0].seq;
            run(engine, at(1_900));
            engine.on_ack(at(1_900), key, seq, true);
            engine.stats.late_answers > 0
        }
        _ => unreachable!("another group of rules"),
    }
}

/// Whether a rule of suspicions shows.
fn is_suspicion_rule_applied(rule: Rule, engine: &mut Engine<Varied>) -> bool {
    let key = name_key("x");
    match rule {
        Rule::OnlySuspectorsDecide => {
            engine.merge_gossip(x(0, Claim::Suspect(suspectors(2))));
            engine.record_heard(at(1_000));
            engine.decide_failure(at(1_000), key);
            state(engine, "x") == MemberState::Suspect
        }
        Rule::Verify => {
            engine.merge_gossip(x(0, Claim::Suspect(suspectors(1))));
            probed(engine, "x")
        }
        Rule::BackToBack => {
            engine.on_missed_probe(at(1_000), key);
            probed(engine, "x")
        }
        Rule::Buddy => {
            engine.start_suspicion(at(0), key, suspectors(1));
            engine.gossip_queue.clear();
            engine.start_probe(at(0), name_key("y"));
            engine.start_probe(at(0), key);
            let mut ping = || engine.poll_transmit().unwrap().1.len();
            ping() < ping()
        }
        _ => unreachable!("another group of rules"),
    }
}

/// Whether a rule of outages shows: of members that fail, or of this node.
fn is_outage_rule_applied(rule: Rule, engine: &mut Engine<Varied>) -> bool {
    match rule {
        Rule::FlapDamping => {
            for incarnation in 1..3 {
                is_said_to_have_failed(engine, at(0), incarnation);
                let back = alive();
                engine.merge(at(1), x(incarnation + 1, back), RecordSource::Gossip);
            }
            state(engine, "x") == MemberState::Failed
        }
        Rule::StallShift => {
            engine.handle_timeout(at(9_000));
            engine.stats.stalls > 0
        }
        Rule::Isolation => engine.is_isolated(at(9_000)),
        Rule::Redial => {
            is_said_to_have_failed(engine, at(0), 0);
            run(engine, at(5_100));
            probed(engine, "x")
        }
        _ => unreachable!("another group of rules"),
    }
}

/// Merges the claim that x failed, which is believed as x was missed.
fn is_said_to_have_failed(engine: &mut Engine<Varied>, at: Time, incarnation: u32) {
    let entry = engine.table.get_mut(name_key("x"));
    entry
        .expect("it is known")
        .faults_mut()
        .evidence
        .add_miss(0.1);
    engine.merge(at, x(incarnation, Claim::Failed), RecordSource::Gossip);
}

#[test]
fn a_hook_takes_one_rule_away_and_leaves_the_others() {
    for rule in Rule::ALL {
        assert!(is_applied(rule, Varied::default()), "{rule:?}");
        for without in Rule::ALL {
            let shown = is_applied(rule, Varied::without(without));
            assert_eq!(shown, rule != without, "{rule:?} without {without:?}");
        }
    }
}

#[test]
fn without_redials_failed_members_are_still_remembered() {
    let remembers = |detector| {
        let mut engine = engine(detector);
        is_said_to_have_failed(&mut engine, at(1_000), 0);
        run(&mut engine, at(40_000));
        engine.member("x").is_some()
    };
    assert!(remembers(Varied::without(Rule::Redial)));
}

#[test]
fn a_round_counts_if_as_many_helpers_witness_it_as_are_needed() {
    let witnessed_by = |needed| Varied {
        witnesses_needed: Some(needed),
        ..Varied::default()
    };
    let misses = |detector, nacks: usize| {
        let mut engine = engine(detector);
        let key = name_key("x");
        engine.start_probe(at(0), key);
        let seq = engine.probes.rounds.as_slice()[0].seq;
        engine.on_probe_round_timer(at(500), seq);
        let helpers = engine.probes.rounds.as_slice()[0].helpers();
        assert_eq!(helpers.len(), 3);
        for helper in &helpers[..nacks] {
            engine.on_nack(*helper, seq, key);
        }
        // The end of the round, and of the wait for more nacks.
        engine.on_probe_round_timer(at(1_000), seq);
        engine.on_probe_round_timer(at(1_250), seq);
        assert_eq!(
            engine.stats.missed_probes + engine.stats.inconclusive_rounds,
            1
        );
        engine.stats.missed_probes == 1
    };
    for needed in 1..=3 {
        for nacks in 0..=3 {
            assert_eq!(misses(witnessed_by(needed), nacks), nacks >= needed);
        }
    }
    // No more helpers than there are.
    assert!(misses(witnessed_by(5), 3));
    assert!(!misses(witnessed_by(5), 2));
}

#[test]
fn a_liar_nacks_at_once() {
    let mut helper = engine(Varied::default());
    helper.tampering().always_nack();
    while helper.poll_transmit().is_some() {}
    let sender = crate::engine::Sender {
        bytes: 100,
        addr: addr(3),
        key: name_key("y"),
        epoch: 1,
        counter: 1,
        sealed_with: None,
    };
    let target = crate::wire::ProbeTarget {
        key: name_key("x"),
        epoch: 1,
        addr: addr(2),
    };
    helper.on_ping_req(at(0), sender, 7, target);
    assert_eq!(helper.poll_transmit().map(|(to, _)| to), Some(addr(3)));
    assert!(helper.poll_transmit().is_none() && helper.probes.indirect.len() == 0);
}
