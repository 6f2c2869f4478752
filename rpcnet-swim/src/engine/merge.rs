//! Merging: claims about members, and which of them this node believes.

use super::entry::Entry;
use super::hooks::ClaimView;
use super::suspicion::time_to_refute;
use super::{DetectorHooks, Engine, NamedTimer, Phase};
use crate::event::{Event, Member, MemberState};
use crate::time::Time;
use crate::wire::{Claim, Record, Suspectors};

/// Source of a record, which decides whether a claim of failure is believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RecordSource {
    /// Gossip: some node decided it a short time ago.
    Gossip,
    /// The member itself, which proved that it receives at its address.
    Hello,
    /// View of another member, of any age: the member gets the chance to refute first.
    Sync,
}

impl<D: DetectorHooks> Engine<D> {
    pub(super) fn merge_all(&mut self, now: Time, mut records: Vec<Record>, source: RecordSource) {
        for record in records.drain(..) {
            self.merge(now, record, source);
        }
        self.send_queue.buffers.recycle_records(records);
    }

    /// Merges one record. Order of claims (SWIM section 4.2): a newer epoch beats an older one;
    /// within an epoch, left beats everything, then a higher incarnation, then failed beats suspect
    /// beats alive.
    pub(super) fn merge(&mut self, now: Time, record: Record, source: RecordSource) {
        let key = record.key();
        if key == self.local.key {
            // Another name may have the same hash.
            if record.name == self.local.name {
                self.on_claim_about_self(now, &record);
            }
            return;
        }
        let claim = ClaimView {
            record: &record,
            is_from_sync: source == RecordSource::Sync,
        };
        if D::merge_claim(self, now, &claim) {
            return;
        }
        let Some(entry) = self.table.get(key) else {
            // Only a member that is alive can be new.
            if let Claim::Alive(_) = record.claim {
                self.insert_member(now, key, record, None, source);
            }
            return;
        };
        if entry.name != record.name {
            return;
        }
        if record.epoch > entry.epoch {
            return self.apply_newer_instance(now, key, record, source);
        }
        if record.epoch < entry.epoch || entry.state == MemberState::Left {
            return self.answer_stale_claim(now, key, &record, source);
        }
        match record.claim {
            Claim::Left => self.mark_left(now, key, record.incarnation),
            Claim::Alive(_) if record.incarnation > entry.incarnation => {
                self.apply_alive(now, key, record);
            }
            Claim::Suspect(suspectors)
                if record.incarnation == entry.incarnation && entry.state.is_live() =>
            {
                self.apply_suspicion(now, key, suspectors);
            }
            Claim::Failed if record.incarnation >= entry.incarnation && entry.state.is_live() => {
                self.apply_failed(now, key, record.incarnation, source);
            }
            Claim::Failed if record.incarnation > entry.incarnation => {
                // It refuted the known failure, and then failed again.
                self.table.update(now, key, |entry| {
                    entry.info_mut().incarnation = record.incarnation;
                });
                self.enqueue_gossip(now, key);
            }
            _ => {}
        }
    }

    /// Gossips the state of an instance that is over, as the sender of a claim about it, or about
    /// an older one, has not heard that and may be about to act on the claim.
    fn answer_stale_claim(&mut self, now: Time, key: u64, record: &Record, source: RecordSource) {
        let is_older = |entry: &Entry| record.epoch < entry.epoch;
        let known = match record.claim {
            Claim::Alive(_) | Claim::Suspect(_) => false,
            Claim::Failed => self.table.get(key).is_some_and(is_older),
            Claim::Left => true,
        };
        if source != RecordSource::Sync && !known && !self.gossip_queue.contains(key) {
            self.enqueue_gossip(now, key);
        }
    }

    /// Inserts a new member, or a newer instance of a known one: of `former`, if that was live.
    fn insert_member(
        &mut self,
        now: Time,
        key: u64,
        record: Record,
        former: Option<Member>,
        source: RecordSource,
    ) {
        let Claim::Alive(tags) = &record.claim else {
            return;
        };
        if !self.claim_address(now, key, &record) {
            return;
        }
        self.evict_from_bucket(key, record.addr);
        if self.table.get(key).is_none() && !self.make_room(now, source) {
            return;
        }
        if let Some(mut former) = former {
            former.state = MemberState::Failed;
            self.emit(Event::NodeFailed(former));
        }
        let entry = Entry::new(&record, self.table.shared_tags(tags), now);
        let member = entry.member();
        self.table.insert(now, key, entry, &mut self.rng);
        self.enqueue_gossip(now, key);
        self.emit(Event::NodeJoined(member.clone()));
        if member.slow {
            self.emit_slowness(member);
        }
        self.emit_reachability(key, false);
    }

    /// Takes in a newer instance of a known name: it replaces the older one at once.
    fn apply_newer_instance(&mut self, now: Time, key: u64, record: Record, source: RecordSource) {
        let Some(entry) = self.table.get(key) else {
            return;
        };
        let was_live = entry.state.is_live();
        match record.claim {
            Claim::Alive(_) => {
                let former = was_live.then(|| entry.member());
                self.insert_member(now, key, record, former, source);
            }
            Claim::Failed if was_live && !self.is_failed_claim_credible(now, key, source) => {
                self.verify_failed_claim(now, key);
            }
            Claim::Failed if was_live => {
                self.update_at(now, key, record.addr, |entry| {
                    entry.state = MemberState::Failed;
                    entry.start_new_instance(&record);
                });
                self.mark_failed(now, key);
            }
            Claim::Left if was_live => {
                self.update_at(now, key, record.addr, |entry| {
                    entry.state = MemberState::Left;
                    entry.start_new_instance(&record);
                });
                self.mark_left(now, key, record.incarnation);
            }
            // The tags of a suspect instance would not be known; a sync brings all of it.
            _ => {}
        }
    }

    /// Claims the address of a record: a newer instance at the address of another live member shows
    /// that the other is gone. Says whether the address is the record's.
    fn claim_address(&mut self, now: Time, key: u64, record: &Record) -> bool {
        let Some(holder) = self
            .table
            .at_addr(record.addr)
            .filter(|holder| *holder != key)
        else {
            return record.addr != self.local.addr || self.record_address_claim(now, record);
        };
        let newer = self
            .table
            .get(holder)
            .is_some_and(|entry| entry.epoch < record.epoch);
        if newer {
            self.mark_failed(now, holder);
        }
        newer
    }

    /// Takes in that a member says itself that it is alive, whatever its state.
    fn apply_alive(&mut self, now: Time, key: u64, record: Record) {
        let Claim::Alive(tags) = &record.claim else {
            return;
        };
        let Some(entry) = self.table.get(key) else {
            return;
        };
        if entry.is_held_down(now, &record) {
            return self.redial_held_down(now, key, &record);
        }
        let (before, unanswered) = (entry.member(), entry.faults().unanswered);
        let moves = before.addr != record.addr || !before.state.is_live();
        if moves && !self.claim_address(now, key, &record) {
            return;
        }
        let tags = self.table.shared_tags(tags);
        let member = self.update_at(now, key, record.addr, |entry| {
            entry.apply_alive(&record, &tags);
            entry.member()
        });
        self.enqueue_gossip(now, key);
        if before.state == MemberState::Failed {
            self.on_failed_member_back(now, key);
        } else {
            self.record_lost_rounds(unanswered);
        }
        self.emit_alive(key, &before, member);
        if before.state == MemberState::Suspect {
            self.record_refuted_suspicion(now, key);
        }
    }

    /// Redials a member that is held down, at its new address too.
    fn redial_held_down(&mut self, now: Time, key: u64, record: &Record) {
        let entry = self.table.get(key);
        let is_elsewhere = entry.is_some_and(|entry| entry.addr() != record.addr);
        self.hasten_redial(now, key);
        let is_free = self.table.at_addr(record.addr).is_none() && record.addr != self.local.addr;
        if is_elsewhere && is_free {
            self.redial_at_new_addr(now, key, record.addr);
        }
    }

    /// Records that a failed member is alive again.
    fn on_failed_member_back(&mut self, now: Time, key: u64) {
        self.partition.membership_changed_at = now;
        self.record_recovery(now);
        self.recheck_now(now);
        if let Some(faults) = self.table.get_mut(key).and_then(Entry::existing_faults) {
            faults.recovered_at = Some(now);
        }
    }

    /// Emits what changed for a member that says it is alive.
    fn emit_alive(&mut self, key: u64, before: &Member, member: Member) {
        let is_suspicion_over = before.state == MemberState::Suspect && !before.unreachable;
        // The recovery of an unreachable member was not emitted as a suspicion either.
        if before.state == MemberState::Failed || is_suspicion_over {
            self.emit(Event::NodeRecovered(member.clone()));
        }
        if before.tags != member.tags
            || before.addr != member.addr
            || before.draining != member.draining
        {
            self.emit(Event::NodeUpdated(member.clone()));
        }
        if before.slow != member.slow {
            self.emit_slowness(member);
        }
        self.emit_reachability(key, before.unreachable);
    }

    pub(super) fn mark_left(&mut self, now: Time, key: u64, incarnation: u32) {
        let member = self.table.update(now, key, |entry| {
            entry.state = MemberState::Left;
            entry.clear_findings();
            if incarnation > entry.incarnation {
                entry.info_mut().incarnation = incarnation;
            }
            if let Some(faults) = entry.existing_faults() {
                faults.suspicion = None;
                faults.claimed_failed_at = None;
            }
            entry.member()
        });
        self.enqueue_gossip(now, key);
        self.timers
            .set_if_unset(NamedTimer::Redial, now + self.config.redial_interval);
        self.emit(Event::NodeLeft(member));
    }

    /// Takes in that others suspect a live member.
    fn apply_suspicion(&mut self, now: Time, key: u64, suspectors: Suspectors) {
        let is_alive = |entry: &Entry| entry.state == MemberState::Alive;
        let first = self.table.get(key).is_some_and(is_alive);
        self.suspect(now, key, suspectors);
        if first {
            self.maybe_verify_suspicion(now, key);
        } else {
            self.decide_failure(now, key);
        }
    }

    /// Takes in the claim that a live member failed, if it is credible.
    fn apply_failed(&mut self, now: Time, key: u64, incarnation: u32, source: RecordSource) {
        if !self.is_failed_claim_credible(now, key, source) {
            return self.verify_failed_claim(now, key);
        }
        self.table
            .update(now, key, |entry| entry.info_mut().incarnation = incarnation);
        self.mark_failed(now, key);
    }

    /// Probes a live member that another node claims failed: it refutes, or this node believes the
    /// claim after its own missed probe.
    fn verify_failed_claim(&mut self, now: Time, key: u64) {
        if let Some(entry) = self.table.get_mut(key) {
            let faults = entry.faults_mut();
            if faults.claimed_failed_at.is_none() {
                faults.claimed_failed_at = Some(now);
                self.stats.claims_rechecked += 1;
            }
        }
        self.start_probe(now, key);
    }

    /// Whether the claim that a live member failed is believed at once: this node missed it too; or
    /// it has known for a while that two members suspect it, so that a refutation would have come;
    /// or it has probed the member since the first claim, without an answer. A claim from a sync,
    /// which may be of any age, is believed in the last case alone. Else this node probes the
    /// member first: members that err, or come back from a small side of a partition with old
    /// claims, fail no member that answers.
    fn is_failed_claim_credible(&self, now: Time, key: u64, source: RecordSource) -> bool {
        if !self.detector.extends_swim() {
            return true;
        }
        let Some(faults) = self.table.get(key).map(Entry::faults) else {
            return false;
        };
        let to_refute = time_to_refute(self.live_count(), &self.config);
        let to_answer = to_refute.max(self.config.probe_interval * 3 / 2);
        let is_asked = faults
            .claimed_failed_at
            .is_some_and(|at| now.since(at) >= to_answer);
        if source == RecordSource::Sync {
            return is_asked;
        }
        let is_known = faults.suspicion.as_ref().is_some_and(|suspicion| {
            suspicion.suspectors.confirmations().len() >= 2
                && now.since(suspicion.since) >= to_refute / 2
        });
        faults.evidence.misses > 0 || is_known || is_asked
    }

    /// Handles a claim about this node.
    pub(super) fn on_claim_about_self(&mut self, now: Time, record: &Record) {
        if self.phase != Phase::Active || record.epoch < self.local.epoch {
            return;
        }
        if record.epoch > self.local.epoch {
            return self.on_newer_instance_claim(now, record);
        }
        match record.claim {
            // Left is final within an epoch, so coming back takes a new one.
            Claim::Left => self.raise_epoch(now, record.epoch),
            Claim::Alive(_) if record.incarnation < self.local.incarnation => {}
            // Another process has this name and started in the same millisecond. It may find out at
            // the same time: by chance one of the two goes further.
            Claim::Alive(_) if record.addr != self.local.addr => {
                let beyond = record.epoch + self.rng.u64(..EPOCH_TIE_JITTER);
                self.raise_epoch(now, beyond);
            }
            Claim::Alive(_) if record.incarnation == self.local.incarnation => {}
            Claim::Suspect(_) | Claim::Failed if record.incarnation < self.local.incarnation => {
                // Refuted before: the sender has not heard of it, or did not take it in for a
                // while.
                if !self.gossip_queue.contains(self.local.key) && self.detector.extends_swim() {
                    self.enqueue_gossip(now, self.local.key);
                }
            }
            _ => {
                self.local.incarnation = record.incarnation;
                self.stats.refutations += 1;
                self.record_refutation(now, record);
                self.detector.on_refutation();
                self.raise_incarnation(now);
            }
        }
    }
}

/// Range of the random step by which each of two processes raises an equal epoch, in milliseconds.
const EPOCH_TIE_JITTER: u64 = 1_000;
