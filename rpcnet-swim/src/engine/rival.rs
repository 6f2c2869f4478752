//! What rivals do that ours does not: suspicions that time out, and local health. Push/pull is
//! in a file of its own.

mod push_pull;
mod suspicion_timers;

#[cfg(test)]
mod tests;

use std::time::Duration;

use self::push_pull::PushPull;
use self::suspicion_timers::{SuspicionTimer, SuspicionTimers};
use super::Engine;
use super::merge::RecordSource;
use super::probe::ProbeRound;
use super::timers::NamedTimer;
use crate::event::MemberState;
use crate::time::Time;
use crate::wire::{Claim, Confirmation, Record, Suspectors};

/// The numbers that tell one rival from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rival {
    /// A suspicion lasts this many periods at least, times max(1, log10 N).
    pub(crate) alpha: u32,
    /// And this many times as long at most; 1 for a fixed time.
    pub(crate) beta: u32,
    /// Suspectors beside the first that bring the longest time down to the shortest (K).
    pub(crate) confirmations: usize,
    /// How probes stretch when this node itself may be the slow one.
    pub(crate) health: Option<LocalHealth>,
}

/// Lifeguard's local health multiplier (section IV-A), by whose account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LocalHealth {
    /// The paper: 0 to 8, stretches the interval and the timeout.
    Paper,
    /// memberlist's `awareness.go` and `state.go`: 0 to 7, stretches the round alone.
    Memberlist,
}

/// What a rival remembers, beside the table.
#[derive(Debug, Default)]
pub(crate) struct RivalState {
    /// The local health multiplier: zero is well.
    health: u32,
    pub(super) suspicion_timers: SuspicionTimers,
    push_pull: PushPull,
    /// It has found all its seeds, and looks for no other way in any more.
    is_settled: bool,
}

impl Rival {
    /// A fixed timeout and no local health.
    pub(super) const fn swim(alpha: u32) -> Self {
        Self {
            alpha,
            beta: 1,
            confirmations: 0,
            health: None,
        }
    }

    /// How long a suspicion lasts at least, among `live` members: memberlist's
    /// `suspicionTimeout`, which drops all but three decimals of the logarithm.
    pub(super) fn suspicion_min(self, live: usize, period: Duration) -> Duration {
        let scale = (live.max(1) as f64).log10().max(1.0);
        period.mul_f64(f64::from(self.alpha) * (scale * 1_000.0).floor() / 1_000.0)
    }

    /// How many suspectors beside the first are waited for; none if there are not so many
    /// (memberlist's `suspectNode`).
    pub(super) fn confirmations_awaited(self, live: usize) -> usize {
        match live.saturating_sub(2) < self.confirmations {
            true => 0,
            false => self.confirmations,
        }
    }

    /// How long a suspicion lasts once `confirmed` of the `awaited` suspectors joined the first:
    /// Lifeguard section IV-B, in whole milliseconds as memberlist has it.
    pub(super) fn suspicion_timeout(
        self,
        min: Duration,
        awaited: usize,
        confirmed: usize,
    ) -> Duration {
        if awaited == 0 {
            return min;
        }
        let max = min * self.beta;
        let share = ((confirmed + 1) as f64).ln() / ((awaited + 1) as f64).ln();
        let falling = max.as_secs_f64() - share * (max - min).as_secs_f64();
        let floored = Duration::from_millis((falling * 1_000.0).max(0.0) as u64);
        floored.max(min)
    }
}

impl LocalHealth {
    const fn max(self) -> u32 {
        match self {
            Self::Paper => 8,
            Self::Memberlist => 7,
        }
    }

    /// What a failed probe says of this node: `missed` of the `asked` helpers sent no nack.
    const fn failed_probe(self, asked: usize, missed: usize) -> i64 {
        match self {
            Self::Paper => 1 + missed as i64,
            // Failed probes count only where no nack could come.
            Self::Memberlist if asked == 0 => 1,
            Self::Memberlist => missed as i64,
        }
    }

    /// When helpers send their nack, in probe timeouts after they were asked.
    const fn nack_after(self) -> f64 {
        match self {
            Self::Paper => 0.8,
            Self::Memberlist => 1.0,
        }
    }
}

/// What another detector than ours changes in the engine. For ours, each gives what it is without
/// feature `sim`.
impl Engine {
    /// How long a ping may go unanswered, and how long a round takes.
    pub(super) fn round_times(&self) -> (Duration, Duration) {
        let (timeout, length) = (self.config.probe_timeout, self.config.probe_interval);
        let times = self.rival.health + 1;
        match self.health_rules() {
            None => (timeout, length),
            Some(LocalHealth::Paper) => (timeout * times, length * times),
            Some(LocalHealth::Memberlist) => (timeout, length * times),
        }
    }

    /// Time between two turns of the round robin.
    pub(super) fn probe_wait(&self) -> Duration {
        match self.health_rules() {
            Some(LocalHealth::Paper) => self.round_times().1,
            Some(LocalHealth::Memberlist) | None => self.config.probe_interval,
        }
    }

    /// How long a helper waits for the target before it sends a nack.
    pub(super) fn nack_patience(&self) -> Duration {
        match self.health_rules() {
            Some(health) => self.config.probe_timeout.mul_f64(health.nack_after()),
            None => self.default_nack_delay(),
        }
    }

    /// How long members that are gone are remembered.
    pub(super) fn forget_after(&self) -> Duration {
        match self.rules().is_rival() && !self.rules().redial {
            true => GOSSIP_TO_THE_DEAD,
            false => self.config.forget_after,
        }
    }
}

/// What rivals do in place of what ours does.
impl Engine {
    pub(super) fn on_rival_timer(&mut self, now: Time) {
        self.push_pull_if_due(now);
        while let Some(key) = self.rival.suspicion_timers.first_due(now) {
            self.expire_suspicion(now, key);
        }
        self.arm_rival();
    }

    /// Before a rival probes: rounds that end at this moment come first, as they change how it
    /// probes. Whether it then waits, as memberlist does for one probe to end.
    pub(super) fn is_probe_put_off(&mut self, now: Time, turns: u32) -> bool {
        if !self.rules().is_rival() {
            return false;
        }
        let ended = self.probe_rounds.iter().filter(|round| round.end <= now);
        for seq in ended.map(|round| round.seq).collect::<Vec<_>>() {
            self.on_probe_round_timer(now, seq);
        }
        self.rival_seeks();
        let waits =
            self.health_rules() == Some(LocalHealth::Memberlist) && !self.probe_rounds.is_empty();
        if waits {
            self.timers
                .set(NamedTimer::Probe, now + self.config.probe_interval / turns);
        }
        waits
    }

    /// Lifeguard section IV-A: rises with what speaks for this node being the slow one.
    pub(super) fn note_health(&mut self, change: i64) {
        if let Some(health) = self.health_rules() {
            let score = i64::from(self.rival.health) + change;
            self.rival.health = score.clamp(0, health.max().into()) as u32;
        }
    }

    /// A probe failed: the member is suspect, or one more suspects it.
    pub(super) fn rival_miss(&mut self, now: Time, round: &ProbeRound) {
        let (asked, nacks) = round.witnesses();
        if let Some(health) = self.health_rules() {
            self.note_health(health.failed_probe(asked, asked - nacks));
        }
        let alone = asked == 0 && self.table.live().len() == 1;
        if round.stalled || (self.rules().witness && nacks == 0 && !alone) {
            self.stats.inconclusive_rounds += 1;
            return;
        }
        self.stats.missed_probes += 1;
        if self.rival_suspect(now, round.key, self.own_vote()) {
            self.stats.suspicions_raised += 1;
        }
        if self.rules().back_to_back {
            self.start_probe(now, round.key);
        }
    }

    /// What others say of a member that is known, if a rival takes it in another way than ours:
    /// a suspicion, and a death in a push/pull. Says whether it did.
    pub(super) fn rival_takes(&mut self, now: Time, record: &Record, source: RecordSource) -> bool {
        let accusers = match (&record.claim, source) {
            (Claim::Suspect(accusers), RecordSource::Gossip | RecordSource::Hello) => *accusers,
            // memberlist's `mergeState`: of either, this node makes a suspicion of its own.
            (Claim::Suspect(_) | Claim::Failed, RecordSource::Sync) => self.own_vote(),
            _ => return false,
        };
        let key = record.key();
        let entry = self.table.get(key);
        let Some(entry) = entry.filter(|e| e.epoch == record.epoch && e.state.is_live()) else {
            return false;
        };
        let (state, known) = (entry.state, entry.incarnation);
        if record.incarnation < known || entry.name != record.name {
            return true;
        }
        if state == MemberState::Alive && record.incarnation > known {
            self.table
                .update(now, key, |entry| entry.incarnation = record.incarnation);
        }
        self.rival_suspect(now, key, accusers);
        if state == MemberState::Alive {
            self.maybe_verify_suspicion(now, key);
        }
        true
    }

    /// Somebody suspects a live member. Says whether that was news.
    pub(super) fn rival_suspect(&mut self, now: Time, key: u64, accusers: Suspectors) -> bool {
        match self.table.get(key).map(|entry| entry.state) {
            Some(MemberState::Alive) => self.start_suspicion_timer(now, key, accusers),
            Some(MemberState::Suspect) => self.confirm(now, key, accusers),
            _ => false,
        }
    }

    /// A member becomes suspect: from now on its time runs out.
    fn start_suspicion_timer(&mut self, now: Time, key: u64, accusers: Suspectors) -> bool {
        let Some(rival) = self.rules().rival else {
            return false;
        };
        let live = self.live_count();
        let awaited = rival.confirmations_awaited(live);
        let mut kept = Suspectors::default();
        for vote in accusers.confirmations().iter().take(awaited + 1) {
            kept.merge(*vote);
        }
        let trial = SuspicionTimer {
            generation: self.start_suspicion(now, key, kept),
            since: now,
            min: rival.suspicion_min(live, self.config.probe_interval),
            awaited,
        };
        let confirmed = kept.confirmations().len().saturating_sub(1);
        let due = now + rival.suspicion_timeout(trial.min, awaited, confirmed);
        self.rival.suspicion_timers.start(key, trial, due);
        self.arm_rival();
        true
    }

    /// More suspectors of a suspect: only those that are waited for count, and are passed on
    /// (Lifeguard section IV-B).
    fn confirm(&mut self, now: Time, key: u64, accusers: Suspectors) -> bool {
        let entry = self.table.get_mut(key);
        let suspicion = entry
            .and_then(|entry| entry.existing_faults())
            .and_then(|case| case.suspicion.as_deref_mut());
        let (Some(suspicion), Some(trial)) = (suspicion, self.rival.suspicion_timers.get(key))
        else {
            return false;
        };
        let suspectors = &mut suspicion.suspectors;
        let before = suspectors.confirmations().len();
        for vote in accusers.confirmations() {
            if suspectors.confirmations().len() <= trial.awaited {
                suspectors.merge(*vote);
            }
        }
        let after = suspectors.confirmations().len();
        if let Some(rival) = self.config.rules().rival.filter(|_| after > before) {
            let lasts = rival.suspicion_timeout(trial.min, trial.awaited, after - 1);
            self.rival
                .suspicion_timers
                .reschedule(key, trial.since + lasts);
            self.arm_rival();
            self.enqueue_gossip(now, key);
        }
        after > before
    }

    /// A suspicion's time is over: without a refutation the member is dead.
    fn expire_suspicion(&mut self, now: Time, key: u64) {
        let trial = self
            .rival
            .suspicion_timers
            .get(key)
            .map(|trial| trial.generation);
        let suspicion = self
            .table
            .get(key)
            .and_then(|e| e.faults().suspicion.as_ref());
        let Some(suspicion) = suspicion.filter(|s| Some(s.generation) == trial) else {
            return self.rival.suspicion_timers.cancel(key);
        };
        let decides =
            !self.rules().only_suspectors_decide || suspicion.suspectors.contains(self.local.key);
        if !decides || self.is_isolated(now) {
            let later = now + self.config.probe_interval;
            return self.rival.suspicion_timers.reschedule(key, later);
        }
        self.rival.suspicion_timers.cancel(key);
        self.stats.failures_declared += 1;
        self.mark_failed(now, key);
    }

    /// The live and the dead of late, so that one that is not dead hears of it and can say so.
    pub(super) fn rival_gossip_targets(&mut self, now: Time, count: usize) -> Vec<u64> {
        let is_recent = |key: &u64| {
            let entry = self.table.get(*key);
            entry.is_some_and(|entry| now.since(entry.since) <= GOSSIP_TO_THE_DEAD)
        };
        let dead: Vec<u64> = self.table.missing().filter(is_recent).collect();
        let live = self.table.live();
        let everybody = live.len() + dead.len();
        let mut targets = Vec::with_capacity(count);
        while targets.len() < count.min(everybody) {
            let place = self.rng.usize(..everybody);
            let key = match live.get(place) {
                Some(slot) => self.table.entry_at(*slot).key,
                None => dead[place - live.len()],
            };
            if !targets.contains(&key) {
                targets.push(key);
            }
        }
        targets
    }

    /// Whether a rival still looks for the cluster: once in, with all its seeds, it never does
    /// again, and a partition that outlasts its memory of the others stays.
    pub(super) fn rival_seeks(&mut self) -> bool {
        self.rival.is_settled |= self.join.joined && self.unknown_seeds().next().is_none();
        !self.rival.is_settled
    }

    fn own_vote(&self) -> Suspectors {
        let mut own = Suspectors::default();
        own.merge(Confirmation::new(self.local.key, 0.0));
        own
    }

    fn health_rules(&self) -> Option<LocalHealth> {
        self.rules().rival?.health
    }

    fn arm_rival(&mut self) {
        let trials = self.rival.suspicion_timers.next().into_iter();
        if let Some(at) = trials.chain(self.rival.push_pull.next()).min() {
            self.timers.set(NamedTimer::Rival, at);
        }
    }
}

/// memberlist's `GossipToTheDeadTime`; after it the dead are forgotten.
const GOSSIP_TO_THE_DEAD: Duration = Duration::from_secs(30);
