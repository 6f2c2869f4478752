//! Detector hooks of the compared detectors: ours with some rules off, or one of the SWIM family.

use std::time::Duration;

use rpcnet_swim::{
    Time,
    unstable::{ClaimView, DetectorHooks, PhiSwim, ProbeRound, Sender},
};

use super::{
    Detector, Engine, Rule, gossip, probe, push_pull,
    suspicion::{self, arm_timer, expire_suspicions},
    swim_family::LocalHealth,
};

impl DetectorHooks for Detector {
    fn ring_successors(&self, configured: usize) -> usize {
        self.rules.ring_successors.unwrap_or(configured)
    }

    fn round_robin_every(&self) -> usize {
        self.rules.round_robin_every
    }

    fn probe_times(&self, timeout: Duration, interval: Duration) -> (Duration, Duration) {
        let times = self.state.health + 1;
        match self.local_health() {
            None => (timeout, interval),
            Some(LocalHealth::Paper) => (timeout * times, interval * times),
            Some(LocalHealth::Memberlist) => (timeout, interval * times),
        }
    }

    fn probe_wait(&self, interval: Duration) -> Duration {
        match self.local_health() {
            Some(LocalHealth::Paper) => interval * (self.state.health + 1),
            Some(LocalHealth::Memberlist) | None => interval,
        }
    }

    fn nack_delay(&self, timeout: Duration, interval: Duration) -> Duration {
        match self.local_health() {
            Some(health) => timeout.mul_f64(health.nack_after()),
            None => PhiSwim.nack_delay(timeout, interval),
        }
    }

    fn forget_after(&self, configured: Duration) -> Duration {
        match self.is_rival() && !self.rules.has(Rule::Redial) {
            true => gossip::TO_THE_DEAD,
            false => configured,
        }
    }

    fn witnesses_needed(&self) -> usize {
        self.rules.if_on(Rule::Witness, self.rules.nacks_needed)
    }

    fn own_misses_to_decide(&self) -> u16 {
        self.rules
            .if_on(Rule::OnlySuspectorsDecide, PhiSwim.own_misses_to_decide())
    }

    fn verifiers(&self) -> f64 {
        self.rules.if_on(Rule::Verify, PhiSwim.verifiers())
    }

    fn repeats_ping(&self) -> bool {
        self.rules.has(Rule::SecondPing)
    }

    fn probes_suspect_again(&self) -> bool {
        self.rules.has(Rule::BackToBack)
    }

    fn loss_gain(&self) -> f64 {
        self.rules.if_on(Rule::ObservedLoss, PhiSwim.loss_gain())
    }

    fn piggybacks_suspicion(&self) -> bool {
        self.rules.has(Rule::Buddy)
    }

    fn sends_nacks(&self) -> bool {
        self.rules.nacks
    }

    fn damps_flaps(&self) -> bool {
        self.rules.has(Rule::FlapDamping)
    }

    fn shifts_deadlines_after_stall(&self) -> bool {
        self.rules.has(Rule::StallShift)
    }

    fn detects_isolation(&self) -> bool {
        self.rules.has(Rule::Isolation)
    }

    fn redials_failed(&self) -> bool {
        self.rules.has(Rule::Redial)
    }

    fn tracks_slowness(&self) -> bool {
        self.rules.has(Rule::Slowness)
    }

    fn extends_swim(&self) -> bool {
        !self.is_rival()
    }

    fn tracked_members(&self) -> usize {
        self.state.suspicion_timers.len()
    }

    fn first_timer(&self, now: Time) -> Option<Time> {
        self.is_rival().then_some(now)
    }

    fn on_timer(engine: &mut Engine, now: Time) {
        push_pull::exchange_if_due(engine, now);
        expire_suspicions(engine, now);
        arm_timer(engine);
    }

    fn before_probe(engine: &mut Engine, now: Time, turns: u32) -> bool {
        !engine.detector().is_rival() || probe::before_probe(engine, now, turns)
    }

    fn choose_helpers(engine: &mut Engine, chosen: Vec<u64>, target: u64) -> Vec<u64> {
        match engine.detector().rules.zoned_helpers {
            true => probe::choose_zoned_helpers(engine, chosen, target),
            false => chosen,
        }
    }

    fn on_probe_answered(&mut self) -> bool {
        self.record_health(-1);
        !self.is_rival()
    }

    fn on_round_unanswered(engine: &mut Engine, now: Time, round: &ProbeRound) -> bool {
        let is_rival = engine.detector().is_rival();
        if is_rival {
            probe::on_round_unanswered(engine, now, round);
        }
        is_rival
    }

    fn merge_claim(engine: &mut Engine, now: Time, claim: &ClaimView<'_>) -> bool {
        engine.detector().is_rival() && suspicion::merge_claim(engine, now, claim)
    }

    fn on_refutation(&mut self) {
        self.record_health(1);
    }

    fn on_member_removed(&mut self, key: u64) {
        self.state.suspicion_timers.cancel(key);
    }

    fn gossip_targets(engine: &mut Engine, now: Time, count: usize) -> Option<Vec<u64>> {
        let is_rival = engine.detector().is_rival();
        is_rival.then(|| gossip::targets(engine, now, count))
    }

    fn dials_seeds(engine: &mut Engine) -> bool {
        !engine.detector().is_rival() || probe::still_dials_seeds(engine)
    }

    fn answer_pull(engine: &mut Engine, sender: Sender, keys: &[u64]) -> bool {
        let is_exchange = engine.detector().is_rival() && keys.is_empty();
        if is_exchange {
            engine.internals().reply_full_state(sender);
        }
        is_exchange
    }
}
