//! What others claim of members, and what of it is believed.

use super::entry::Entry;
use super::suspicion::{Evidence, refute_time};
use super::{Engine, Phase, Single};
use crate::event::{Event, Member, MemberState};
use crate::time::Time;
use crate::wire::{Claim, Record};

/// Where a record comes from, which decides whether «failed» is believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// News: somebody decided it a moment ago.
    Gossip,
    /// The member itself, which proved that it receives at its address.
    Hello,
    /// Somebody's view, of any age: the accused gets the chance to refute first.
    Sync,
}

impl Engine {
    pub(super) fn merge_all(&mut self, now: Time, mut records: Vec<Record>, source: Source) {
        for record in records.drain(..) {
            self.merge(now, record, source);
        }
        self.spare.keep_records(records);
    }

    /// Takes in one record. The order of claims (SWIM section 4.2): a newer epoch beats an older
    /// one; within an epoch, left beats everything, then a higher incarnation, then failed beats
    /// suspect beats alive.
    pub(super) fn merge(&mut self, now: Time, record: Record, source: Source) {
        let key = record.key();
        if key == self.me.key {
            // A name of the same hash is not ours.
            if record.name == self.me.name {
                self.hear_of_self(now, &record);
            }
            return;
        }
        #[cfg(feature = "sim")]
        if self.rules().is_rival() && self.rival_takes(now, &record, source) {
            return;
        }
        let Some(entry) = self.table.get(key) else {
            // Only what is alive can be new.
            if let Claim::Alive(_) = record.claim {
                self.admit(now, key, record, None, source);
            }
            return;
        };
        if entry.name != record.name {
            return;
        }
        if record.epoch > entry.epoch {
            return self.succeed(now, key, record, source);
        }
        if record.epoch < entry.epoch || entry.state == MemberState::Left {
            let known = match record.claim {
                Claim::Alive(_) | Claim::Suspect(_) => false,
                Claim::Failed => record.epoch < entry.epoch,
                Claim::Left => true,
            };
            // Somebody has not heard that this life is over, and may be about to judge it.
            if source != Source::Sync && !known && !self.queue.contains(key) {
                self.spread(now, key);
            }
            return;
        }
        match record.claim {
            Claim::Left => self.note_left(now, key, record.incarnation),
            Claim::Alive(_) if record.incarnation > entry.incarnation => {
                self.refuted(now, key, record);
            }
            Claim::Suspect(accusers)
                if record.incarnation == entry.incarnation && entry.state.is_live() =>
            {
                let first = entry.state == MemberState::Alive;
                self.suspect(now, key, accusers);
                if first {
                    self.verify(now, key);
                } else {
                    self.decide(now, key);
                }
            }
            Claim::Failed if record.incarnation >= entry.incarnation && entry.state.is_live() => {
                match self.is_credible(now, key, source) {
                    true => self.believe_failed(now, key, record.incarnation),
                    false => self.doubt(now, key),
                }
            }
            Claim::Failed if record.incarnation > entry.incarnation => {
                // It refuted what we know, and then failed again.
                self.table.update(now, key, |entry| {
                    entry.incarnation = record.incarnation;
                });
                self.spread(now, key);
            }
            _ => {}
        }
    }

    /// A member that was not known, or the newer life of one that was: of `former`, if live.
    fn admit(
        &mut self,
        now: Time,
        key: u64,
        record: Record,
        former: Option<Member>,
        source: Source,
    ) {
        #[cfg(feature = "sim")]
        let record = self.share(record);
        let Claim::Alive(tags) = &record.claim else {
            return;
        };
        if !self.take_address(now, key, &record) {
            return;
        }
        if self.table.get(key).is_none() && !self.make_room(now, source) {
            return;
        }
        if let Some(mut former) = former {
            former.state = MemberState::Failed;
            self.emit(Event::NodeFailed(former));
        }
        let entry = Entry::new(&record, tags.clone(), now);
        let member = entry.member();
        self.table.insert(now, key, entry, &mut self.rng);
        self.spread(now, key);
        self.emit(Event::NodeJoined(member.clone()));
        if member.slow {
            self.tell_slow(member);
        }
        self.tell_reach(key, false);
    }

    /// A newer life of a known name: it takes the place of the older one at once.
    fn succeed(&mut self, now: Time, key: u64, record: Record, source: Source) {
        let Some(entry) = self.table.get(key) else {
            return;
        };
        let was_live = entry.state.is_live();
        match record.claim {
            Claim::Alive(_) => {
                let former = was_live.then(|| entry.member());
                self.admit(now, key, record, former, source);
            }
            Claim::Failed if was_live && !self.is_credible(now, key, source) => {
                self.doubt(now, key);
            }
            Claim::Failed if was_live => {
                self.table.update(now, key, |entry| {
                    entry.state = MemberState::Failed;
                    entry.begin_life(&record);
                });
                self.fail(now, key);
            }
            Claim::Left if was_live => {
                self.table.update(now, key, |entry| {
                    entry.state = MemberState::Left;
                    entry.begin_life(&record);
                });
                self.note_left(now, key, record.incarnation);
            }
            // Of a suspect life we would not know the tags; a sync brings all of it.
            _ => {}
        }
    }

    /// A newer life at the address of another live member shows that the other is gone. Says
    /// whether the address is the record's.
    fn take_address(&mut self, now: Time, key: u64, record: &Record) -> bool {
        let Some(holder) = self
            .table
            .at_addr(record.addr)
            .filter(|holder| *holder != key)
        else {
            return record.addr != self.me.addr || self.note_address_claim(now, record);
        };
        let newer = self
            .table
            .get(holder)
            .is_some_and(|entry| entry.epoch < record.epoch);
        if newer {
            self.fail(now, holder);
        }
        newer
    }

    /// The member itself says that it is alive, after whatever we believed.
    fn refuted(&mut self, now: Time, key: u64, record: Record) {
        #[cfg(feature = "sim")]
        let record = self.share(record);
        let Claim::Alive(tags) = &record.claim else {
            return;
        };
        let Some(entry) = self.table.get(key) else {
            return;
        };
        let (was, was_slow) = (entry.state, entry.is_slow());
        let was_unreachable = entry.is_unreachable();
        let unanswered = entry.case().unanswered;
        let is_elsewhere = entry.addr() != record.addr;
        // A member that comes and goes stays out for a while. One that refuted again and again and
        // says itself that nobody reaches it will answer no dial, and is passed over as it is.
        let is_out_of_reach = record.unreachable && entry.case().reach.refutes_often();
        if was == MemberState::Failed && entry.case().is_held(now) && !is_out_of_reach {
            self.hasten_proof(now, key);
            let is_free = self.table.at_addr(record.addr).is_none() && record.addr != self.me.addr;
            if is_elsewhere && is_free {
                self.dial_elsewhere(now, key, record.addr);
            }
            return;
        }
        let moves = is_elsewhere || !was.is_live();
        if moves && !self.take_address(now, key, &record) {
            return;
        }
        let (member, changed) = self.table.update(now, key, |entry| {
            let changed = entry.tags != *tags
                || entry.addr() != record.addr
                || entry.draining != record.draining;
            entry.incarnation = record.incarnation;
            if entry.addr() != record.addr {
                entry.forget_reach();
            }
            entry.set_addr(record.addr);
            entry.draining = record.draining;
            entry.pulse.set_says_slow(record.slow);
            entry.pulse.set_says_unreachable(record.unreachable);
            entry.tags = tags.clone();
            entry.state = MemberState::Alive;
            entry.silent = false;
            if let Some(case) = entry.open_case() {
                case.suspicion = None;
                case.claimed_failed = false;
                case.evidence = Evidence::NONE;
                case.unanswered = 0;
            }
            entry.close_case();
            (entry.member(), changed)
        });
        self.spread(now, key);
        if was == MemberState::Failed {
            self.settled_at = now;
            self.note_return(now);
            self.check_again_now(now);
            if let Some(case) = self.table.get_mut(key).and_then(Entry::open_case) {
                case.returned_at = now;
            }
        } else {
            self.note_lost(unanswered);
        }
        // What was no news of one that is out of reach is over.
        if was == MemberState::Failed || was == MemberState::Suspect && !was_unreachable {
            self.emit(Event::NodeRecovered(member.clone()));
        }
        if changed {
            self.emit(Event::NodeUpdated(member.clone()));
        }
        if was_slow != member.slow {
            self.tell_slow(member);
        }
        self.tell_reach(key, was_unreachable && was.is_live());
        if was == MemberState::Suspect {
            self.note_refuted(now, key);
        }
    }

    pub(super) fn note_left(&mut self, now: Time, key: u64, incarnation: u32) {
        let member = self.table.update(now, key, |entry| {
            entry.state = MemberState::Left;
            entry.pulse.settle();
            entry.incarnation = entry.incarnation.max(incarnation);
            if let Some(case) = entry.open_case() {
                case.suspicion = None;
                case.claimed_failed = false;
            }
            entry.member()
        });
        self.spread(now, key);
        self.timers
            .arm(Single::Redial, now + self.config.redial_interval);
        self.emit(Event::NodeLeft(member));
    }

    fn believe_failed(&mut self, now: Time, key: u64, incarnation: u32) {
        self.table
            .update(now, key, |entry| entry.incarnation = incarnation);
        self.fail(now, key);
    }

    /// Somebody's view holds a live member failed: we ask the member itself, which refutes; if it
    /// does not answer us either, we believe it.
    fn doubt(&mut self, now: Time, key: u64) {
        if let Some(entry) = self.table.get_mut(key) {
            let case = entry.case_mut();
            if !std::mem::replace(&mut case.claimed_failed, true) {
                case.claimed_at = now;
                self.stats.claims_doubted += 1;
            }
        }
        self.start_round(now, key);
    }

    /// Whether somebody's word that a live member failed is to be believed at once: this node
    /// missed it too; or it has known for a while that two members suspect it, so that a refutation
    /// would have come; or it has asked the member since this was first said, and had no answer. Of
    /// what a sync brings, of any age, the last alone. Else this node has a look itself: members that
    /// err, or come back from a small side of a cut with what they found there, fail nobody who
    /// answers.
    fn is_credible(&self, now: Time, key: u64, source: Source) -> bool {
        if self.rules().is_rival() {
            return true;
        }
        let Some(case) = self.table.get(key).map(Entry::case) else {
            return false;
        };
        let to_refute = refute_time(self.live_count(), &self.config);
        let to_answer = to_refute.max(self.config.probe_interval * 3 / 2);
        let is_asked = case.claimed_failed && now.since(case.claimed_at) >= to_answer;
        if source == Source::Sync {
            return is_asked;
        }
        let is_known = case.suspicion.as_ref().is_some_and(|suspicion| {
            suspicion.suspectors.votes().len() >= 2 && now.since(suspicion.since) >= to_refute / 2
        });
        case.evidence.misses > 0 || is_known || is_asked
    }

    /// A claim about this node.
    pub(super) fn hear_of_self(&mut self, now: Time, record: &Record) {
        if self.phase != Phase::Active || record.epoch < self.me.epoch {
            return;
        }
        if record.epoch > self.me.epoch {
            return self.hear_of_successor(now, record);
        }
        match record.claim {
            // Ours is final within an epoch, so coming back takes a new one.
            Claim::Left => self.raise_epoch(now, record.epoch),
            Claim::Alive(_) if record.incarnation < self.me.incarnation => {}
            // Another process has this name, and started in the same millisecond. It may find out
            // at the same time: by chance one of the two goes further.
            Claim::Alive(_) if record.addr != self.me.addr => {
                let beyond = record.epoch + self.rng.u64(..TWIN_SPREAD);
                self.raise_epoch(now, beyond);
            }
            Claim::Alive(_) if record.incarnation == self.me.incarnation => {}
            Claim::Suspect(_) | Claim::Failed if record.incarnation < self.me.incarnation => {
                // Refuted before; whoever says it has not heard, or would not listen for a while.
                if !self.queue.contains(self.me.key) && !self.rules().is_rival() {
                    self.spread(now, self.me.key);
                }
            }
            _ => {
                self.me.incarnation = record.incarnation;
                self.stats.refutations += 1;
                self.note_refutation(now, record);
                #[cfg(feature = "sim")]
                self.note_health(1);
                self.raise_incarnation(now);
            }
        }
    }
}

/// Two processes that raise one epoch at the same time raise it by up to so much, in milliseconds.
const TWIN_SPREAD: u64 = 1_000;
