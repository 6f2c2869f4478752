//! Engine internals, for failure detectors outside of this crate and for their tests.

use std::net::SocketAddr;
use std::time::Duration;

use fastrand::Rng;

use super::engine_seed::EngineSeed;
use super::hooks::ClaimView;
use super::local_member::LocalMember;
use super::merge::RecordSource;
use super::probe_round::ProbeRound;
use super::timers::NamedTimer;
use super::{DetectorHooks, Engine, Entry, Phase, PhiSwim, Sender};
use crate::config::ClusterConfig;
use crate::error::ConfigError;
use crate::event::MemberState;
use crate::id::NodeId;
use crate::stats::Stats;
use crate::tags::Tags;
use crate::time::Time;
use crate::wire::{Claim, Confirmation, Payload, Record, Suspectors};

/// Internals of an engine. Not covered by semantic versioning.
#[derive(Debug)]
pub struct Internals<'a, D: DetectorHooks = PhiSwim>(&'a mut Engine<D>);

/// Claim of another node, for tests.
#[derive(Clone, Debug)]
pub enum TestClaim {
    /// The member is alive and has these tags.
    Alive(Tags),
    /// These suspect it.
    Suspect(Vec<u64>),
    /// It failed.
    Failed,
}

impl<D: DetectorHooks> Engine<D> {
    /// Node with another failure detector; else as [`Engine::new`].
    ///
    /// # Errors
    /// As [`Engine::new`].
    pub fn with_detector(
        config: ClusterConfig,
        id: NodeId,
        addr: SocketAddr,
        now: Time,
        seed: impl Into<EngineSeed>,
        detector: D,
    ) -> Result<Self, ConfigError> {
        let local = LocalMember::new(&config, id, addr)?;
        Ok(Self::build(config, local, now, &seed.into(), detector))
    }

    /// The failure detector.
    pub fn detector(&self) -> &D {
        &self.detector
    }

    /// Access to what only a failure detector may touch.
    pub fn internals(&mut self) -> Internals<'_, D> {
        Internals(self)
    }
}

impl<D: DetectorHooks> Internals<'_, D> {
    /// The failure detector.
    pub fn detector(&mut self) -> &mut D {
        &mut self.0.detector
    }

    /// The counters.
    pub fn stats(&mut self) -> &mut Stats {
        &mut self.0.stats
    }

    /// Key of this node.
    pub fn own_key(&self) -> u64 {
        self.0.local.key
    }

    /// The configured probe interval.
    pub fn probe_interval(&self) -> Duration {
        self.0.config.probe_interval
    }

    /// Source of all choices of the engine.
    pub fn rng(&mut self) -> &mut Rng {
        &mut self.0.rng
    }

    /// Random member in the state alive.
    pub fn random_alive_member(&mut self) -> Option<u64> {
        let is_alive = |_: u64, entry: &Entry| entry.state == MemberState::Alive;
        self.0.sample_live(1, is_alive).first().copied()
    }

    /// Live member of an index, which is below the number of live members.
    pub fn live_member_at(&self, index: usize) -> Option<u64> {
        let slot = self.0.table.live().get(index)?;
        Some(self.0.table.entry_at(*slot).key)
    }

    /// Failed members that may come back, and since when they are failed.
    pub fn failed_members(&self) -> impl Iterator<Item = (u64, Time)> {
        let table = &self.0.table;
        let missing = table.missing();
        missing.filter_map(|key| Some((key, table.get(key)?.since)))
    }

    /// State of a member.
    pub fn member_state(&self, key: u64) -> Option<MemberState> {
        self.0.table.get(key).map(|entry| entry.state)
    }

    /// Tag of a member.
    pub fn member_tag(&self, key: u64, tag: &str) -> Option<&str> {
        self.0.table.get(key)?.tags.get(tag)
    }

    /// Random live members other than `target` that answered last, at most `count`.
    pub fn helper_candidates(&mut self, count: usize, target: u64) -> Vec<u64> {
        self.0.sample_live(count, |key, entry| {
            key != target && entry.state == MemberState::Alive && !entry.unanswering
        })
    }

    /// Whether this node takes part in the cluster.
    pub fn is_active(&self) -> bool {
        self.0.phase == Phase::Active
    }

    /// Whether this node hears no member.
    pub fn is_isolated(&self, now: Time) -> bool {
        self.0.is_isolated(now)
    }

    /// Whether this node has joined, and each of its seeds is a member.
    pub fn has_found_all_seeds(&self) -> bool {
        self.0.join.is_joined() && self.0.unknown_seeds().next().is_none()
    }

    /// Sets when the probe timer fires next.
    pub fn set_probe_timer(&mut self, at: Time) {
        self.0.timers.set(NamedTimer::Probe, at);
    }

    /// Sets when the detector's timer fires next.
    pub fn set_detector_timer(&mut self, at: Time) {
        self.0.timers.set(NamedTimer::Detector, at);
    }

    /// Starts a probe round, unless one to this member is in progress.
    pub fn start_probe(&mut self, now: Time, key: u64) {
        self.0.start_probe(now, key);
    }

    /// Ends the probe rounds that end now or before.
    pub fn end_due_probe_rounds(&mut self, now: Time) {
        let ended = self
            .0
            .probes
            .rounds
            .as_slice()
            .iter()
            .filter(|round| round.end <= now);
        for seq in ended.map(|round| round.seq).collect::<Vec<_>>() {
            self.0.on_probe_round_timer(now, seq);
        }
    }

    /// Probe rounds in progress.
    pub fn probe_rounds(&self) -> &[ProbeRound] {
        self.0.probes.rounds.as_slice()
    }

    /// Makes a live member suspect. Gives the generation of the suspicion.
    pub fn start_suspicion(&mut self, now: Time, key: u64, suspectors: &[u64]) -> u32 {
        self.0.start_suspicion(now, key, confirmations(suspectors))
    }

    /// Generation and suspectors of the suspicion of a member, if it is suspect.
    pub fn suspicion(&self, key: u64) -> Option<(u32, Vec<u64>)> {
        let suspicion = self.0.table.get(key)?.faults().suspicion.as_deref()?;
        Some((suspicion.generation, keys_of(&suspicion.suspectors)))
    }

    /// Adds a suspector to the suspicion of a member. Gives how many there are now.
    pub fn add_suspector(&mut self, key: u64, suspector: u64) -> usize {
        let entry = self.0.table.get_mut(key);
        let suspicion = entry
            .and_then(Entry::existing_faults)
            .and_then(|faults| faults.suspicion.as_deref_mut());
        let Some(suspicion) = suspicion else {
            return 0;
        };
        let suspectors = &mut suspicion.suspectors;
        suspectors.merge(Confirmation::new(suspector, 0.0));
        suspectors.confirmations().len()
    }

    /// Probes a suspect with the chance that a member that hears of a suspicion verifies it.
    pub fn maybe_verify_suspicion(&mut self, now: Time, key: u64) {
        self.0.maybe_verify_suspicion(now, key);
    }

    /// Declares a member failed.
    pub fn mark_failed(&mut self, now: Time, key: u64) {
        self.0.mark_failed(now, key);
    }

    /// Takes over a higher incarnation of a member.
    pub fn set_incarnation(&mut self, now: Time, key: u64, incarnation: u32) {
        self.0
            .table
            .update(now, key, |entry| entry.info_mut().incarnation = incarnation);
    }

    /// Puts the record of a member into the gossip queue.
    pub fn enqueue_gossip(&mut self, now: Time, key: u64) {
        self.0.enqueue_gossip(now, key);
    }

    /// Sends all records to a member and asks it for all of its own.
    pub fn exchange_full_state(&mut self, key: u64) {
        for records in self.full_state() {
            self.0.send_to(key, Payload::SyncRecords { records });
        }
        // No keys stand for all of them.
        let keys = Vec::new();
        self.0.send_to(key, Payload::SyncPull { keys });
    }

    /// Answers with all records.
    pub fn reply_full_state(&mut self, sender: Sender) {
        for records in self.full_state() {
            self.0.reply(sender, Payload::SyncRecords { records });
        }
    }

    fn full_state(&self) -> Vec<Vec<Record>> {
        let members = self.0.table.iter().map(|(_, entry)| entry.record());
        let records = std::iter::once(self.0.own_record()).chain(members);
        self.0.pack(records, 0, usize::MAX)
    }
}

/// For tests.
impl<D: DetectorHooks> Internals<'_, D> {
    /// Merges a claim about the member `name` of epoch 1.
    pub fn merge(
        &mut self,
        now: Time,
        (name, addr, incarnation): (&str, SocketAddr, u32),
        claim: TestClaim,
        is_from_sync: bool,
    ) {
        let claim = match claim {
            TestClaim::Alive(tags) => Claim::Alive(tags),
            TestClaim::Suspect(suspectors) => Claim::Suspect(confirmations(&suspectors)),
            TestClaim::Failed => Claim::Failed,
        };
        let source = match is_from_sync {
            true => RecordSource::Sync,
            false => RecordSource::Gossip,
        };
        let record = Record {
            name: name.into(),
            epoch: 1,
            incarnation,
            addr,
            claim,
            ..self.0.own_record()
        };
        self.0.merge(now, record, source);
    }

    /// Handles the timer of a probe round.
    pub fn on_probe_round_timer(&mut self, now: Time, seq: u32) {
        self.0.on_probe_round_timer(now, seq);
    }

    /// Handles an answer to a ping, directly from the target or through a helper.
    pub fn on_ack(&mut self, now: Time, target: u64, seq: u32, direct: bool) {
        self.0.on_ack(now, target, seq, direct);
    }

    /// Handles a nack of a helper.
    pub fn on_nack(&mut self, helper: u64, seq: u32, target: u64) {
        self.0.on_nack(helper, seq, target);
    }

    /// Empties the gossip queue.
    pub fn clear_gossip(&mut self) {
        self.0.gossip_queue.clear();
    }

    /// Whether the gossip queue has a record of a member.
    pub fn has_gossip(&self, key: u64) -> bool {
        self.0.gossip_queue.contains(key)
    }
}

impl ClaimView<'_> {
    /// Key of the member.
    pub fn key(&self) -> u64 {
        self.record.key()
    }

    /// Incarnation that it speaks of.
    pub fn incarnation(&self) -> u32 {
        self.record.incarnation
    }

    /// Suspectors, if it says that the member is suspect.
    pub fn suspectors(&self) -> Option<Vec<u64>> {
        match &self.record.claim {
            Claim::Suspect(suspectors) => Some(keys_of(suspectors)),
            _ => None,
        }
    }

    /// Whether it says that the member failed.
    pub fn is_failed(&self) -> bool {
        self.record.claim == Claim::Failed
    }

    /// Whether it came with a sync rather than by gossip.
    pub fn is_from_sync(&self) -> bool {
        self.is_from_sync
    }

    /// State and incarnation of the member that it is about, if that one is known and live.
    pub fn live_member<D: DetectorHooks>(&self, of: &Engine<D>) -> Option<(MemberState, u32)> {
        let entry = of.table.get(self.key())?;
        let is_meant = entry.epoch == self.record.epoch && entry.name == self.record.name;
        (is_meant && entry.state.is_live()).then_some((entry.state, entry.incarnation))
    }
}

fn keys_of(suspectors: &Suspectors) -> Vec<u64> {
    let confirmations = suspectors.confirmations().iter();
    confirmations.map(|it| it.by).collect()
}

fn confirmations(keys: &[u64]) -> Suspectors {
    let mut suspectors = Suspectors::default();
    for key in keys {
        suspectors.merge(Confirmation::new(*key, 0.0));
    }
    suspectors
}
