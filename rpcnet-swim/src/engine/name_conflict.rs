//! Name conflicts: two processes of one name, and proof of which of them is there.
//!
//! The process that started later keeps the name; two that both insisted would flap for ever. That
//! there is a later one is only a claim until this node has spoken to it: the claimed successor is
//! dialled at its address, and its answer has to be from this node's name, of a newer epoch and
//! under the cluster's key. Without that proof the claim is of a former instance, or forged, and
//! this node exceeds it with a newer epoch. With it this node is superseded: it no longer takes
//! part and checks now and then whether its successor is still there. If the successor says that it
//! leaves, or other members say that it left, failed or is forgotten, this node takes part again.
//!
//! Dials are bounded whatever is claimed: one claim at a time, one small datagram in a probe
//! interval, and after a claim that proved wrong a pause that doubles.

use std::net::SocketAddr;

use super::anti_entropy::AntiEntropy;
use super::bounded_queue::BoundedQueue;
use super::partition::PartitionDetector;
use super::table::Table;
use super::timers::{NamedTimer, Timers};
use super::{DetectorHooks, Engine, Phase, Sender};
use crate::event::{Event, MembershipState};
use crate::id::NodeId;
use crate::time::Time;
use crate::wire::{Claim, Payload, Record};

/// Claims that there is a newer instance of this node's name, and their outcome.
#[derive(Debug, Default)]
pub(crate) struct NameClaims {
    /// Claim under verification.
    verification: Option<Verification>,
    /// Highest other claim heard meanwhile.
    pending: Option<Record>,
    /// Addresses at which no process of this name answered recently.
    disproved: BoundedQueue<SocketAddr, DISPROVED_MAX>,
    /// Consecutive claims that proved wrong, and when the next one may be verified.
    disproved_in_row: u32,
    next_at: Time,
    successor: Option<Successor>,
    /// Last address of an older process of this node's name.
    older: Option<SocketAddr>,
}

#[derive(Debug)]
struct Verification {
    claim: Record,
    /// Counters of the hellos sent to its address.
    hellos: Vec<u64>,
}

/// Proven newer instance of this node's name.
#[derive(Debug)]
struct Successor {
    epoch: u64,
    addr: SocketAddr,
    /// Counter of the hello that it has not answered yet.
    hello: Option<u64>,
    /// Whether a hello was sent since the last wait.
    was_asked: bool,
    /// Consecutive hellos that it did not answer.
    unanswered: u32,
    /// Probe intervals until the next one.
    wait: u32,
}

impl<D: DetectorHooks> Engine<D> {
    /// Part that this node takes in the cluster.
    pub fn state(&self) -> MembershipState {
        match (self.phase, &self.name_claims.successor) {
            (Phase::Superseded, Some(successor)) => MembershipState::Superseded {
                by: self.id_with_epoch(successor.epoch),
                addr: successor.addr,
            },
            (Phase::Active, _) if !self.join.is_joined() => MembershipState::Joining,
            (Phase::Active, _) => MembershipState::Active,
            _ => MembershipState::Left,
        }
    }

    /// Handles a claim that there is, or was, a process of this name with a newer epoch.
    pub(super) fn on_newer_instance_claim(&mut self, now: Time, record: &Record) {
        let is_over = matches!(record.claim, Claim::Failed | Claim::Left);
        if is_over || record.addr == self.local.addr {
            // A former instance of this node, from before a clock was set back, or a forgery.
            return self.raise_epoch(now, record.epoch);
        }
        if let Some(verification) = &mut self.name_claims.verification
            && verification.claim.addr == record.addr
        {
            verification.claim.epoch = verification.claim.epoch.max(record.epoch);
            return;
        }
        if self.name_claims.verification.is_some() || now < self.name_claims.next_at {
            let pending = self.name_claims.pending.as_ref();
            if pending.is_none_or(|pending| pending.epoch < record.epoch) {
                self.name_claims.pending = Some(record.clone());
            }
            return self
                .timers
                .set_if_unset(NamedTimer::NameConflict, self.name_claims.next_at.max(now));
        }
        self.stats.name_claims += 1;
        self.name_claims.verification = Some(Verification {
            claim: record.clone(),
            hellos: Vec::new(),
        });
        self.verify_claim(now);
    }

    pub(super) fn on_conflict_timer(&mut self, now: Time) {
        match self.phase {
            Phase::Superseded => self.check_successor(now),
            Phase::Active if self.name_claims.verification.is_some() => self.verify_claim(now),
            Phase::Active => {
                if let Some(claim) = self.name_claims.pending.take() {
                    self.on_claim_about_self(now, &claim);
                }
            }
            Phase::Leaving | Phase::Left => {}
        }
    }

    /// Dials the claimed successor once more; without any answer there is none.
    fn verify_claim(&mut self, now: Time) {
        let Some(verification) = &mut self.name_claims.verification else {
            return;
        };
        if verification.hellos.len() >= DIALS_MAX {
            return self.reject_name_claim(now);
        }
        verification.hellos.push(self.send_queue.counter + 1);
        let addr = verification.claim.addr;
        self.send_hello(addr, 0, 0);
        self.timers
            .set(NamedTimer::NameConflict, now + self.config.probe_interval);
    }

    /// Handles a challenge that answers a hello to a claimed or proven successor. Says whether it
    /// was one that is not to be answered.
    pub(super) fn on_name_challenge(&mut self, now: Time, sender: Sender, echo: u64) -> bool {
        // Without a key a counter can be guessed, but only a receiver at the address can answer.
        let is_from =
            |addr: SocketAddr| addr == sender.addr || (sender.sealed_with.is_some() && echo > 0);
        let is_newer = sender.key == self.local.key && sender.epoch > self.local.epoch;
        if let Some(successor) = &mut self.name_claims.successor
            && self.phase == Phase::Superseded
            && successor.hello == Some(echo)
            && is_from(successor.addr)
        {
            successor.hello = None;
            if is_newer {
                successor.epoch = sender.epoch;
                successor.unanswered = 0;
            } else {
                // The address has another node, or an older instance.
                successor.unanswered = CHECKS_MAX;
                self.check_successor(now);
            }
            return true;
        }
        let Some(verification) = &self.name_claims.verification else {
            return false;
        };
        if !verification.hellos.contains(&echo) || !is_from(verification.claim.addr) {
            return false;
        }
        if !is_newer {
            self.reject_name_claim(now);
            return true;
        }
        // The answer to it tells the newer process of this one.
        self.become_superseded(now, sender.epoch);
        false
    }

    /// Ends a verification: there is no newer instance at the claimed address.
    fn reject_name_claim(&mut self, now: Time) {
        let Some(Verification { claim, .. }) = self.name_claims.verification.take() else {
            return;
        };
        let unit = self.config.probe_interval;
        self.stats.name_claims_disproved += 1;
        if now.since(self.name_claims.next_at) > PAUSE_RESET_ROUNDS * unit {
            self.name_claims.disproved_in_row = 0;
        }
        let pause = unit * (1 << self.name_claims.disproved_in_row.min(PAUSE_DOUBLINGS_MAX));
        self.name_claims.disproved_in_row = self.name_claims.disproved_in_row.saturating_add(1);
        self.name_claims.next_at = now + pause;
        let again = self.name_claims.disproved.contains(&claim.addr);
        self.name_claims.disproved.push(claim.addr);
        if again && self.join.report_conflict() {
            // Another process exceeds this node's epoch again and again, and does not answer.
            self.emit(Event::NameConflict {
                name: self.local.name.to_string(),
                older: self.local.addr,
                newer: claim.addr,
            });
        }
        self.timers.clear(NamedTimer::NameConflict);
        if self.name_claims.pending.is_some() {
            self.timers
                .set(NamedTimer::NameConflict, self.name_claims.next_at);
        }
        if claim.epoch > self.local.epoch {
            self.raise_epoch(now, claim.epoch);
        }
    }

    /// Yields the name to the newer process, whose record is the last that this node sends.
    fn become_superseded(&mut self, now: Time, epoch: u64) {
        let Some(Verification { mut claim, .. }) = self.name_claims.verification.take() else {
            return;
        };
        let addr = claim.addr;
        self.emit(Event::NameConflict {
            name: self.local.name.to_string(),
            older: self.local.addr,
            newer: addr,
        });
        claim.epoch = epoch;
        if matches!(claim.claim, Claim::Alive(_)) {
            for key in self.sample_live(self.config.gossip_fanout, |_, _| true) {
                let updates = vec![claim.clone()];
                self.send_to(key, Payload::Gossip { updates });
            }
        }
        if self.partition.end_isolation(now) {
            // The newer process hears this node, which declares no member failed any more.
            self.emit(Event::IsolationEnded);
        }
        self.stats.superseded += 1;
        self.phase = Phase::Superseded;
        self.probes.clear();
        self.anti_entropy.pull = None;
        self.name_claims.pending = None;
        self.timers = Timers::default();
        self.name_claims.successor = Some(Successor {
            epoch,
            addr,
            hello: None,
            was_asked: false,
            unanswered: 0,
            wait: CHECK_WAIT_MIN,
        });
        self.timers.set(
            NamedTimer::NameConflict,
            now + CHECK_WAIT_MIN * self.config.probe_interval,
        );
        let by = self.id_with_epoch(epoch);
        self.emit(Event::Superseded { by, addr });
    }

    /// Checks whether the successor is still there, and asks the others if it does not answer.
    fn check_successor(&mut self, now: Time) {
        let unit = self.config.probe_interval;
        let Some(successor) = &mut self.name_claims.successor else {
            return;
        };
        if successor.hello.take().is_some() {
            successor.unanswered += 1;
        } else if std::mem::take(&mut successor.was_asked) && successor.unanswered == 0 {
            let wait = successor.wait * unit;
            successor.wait = (2 * successor.wait).min(CHECK_WAIT_MAX);
            return self.timers.set(NamedTimer::NameConflict, now + wait);
        }
        let unanswered = successor.unanswered;
        if unanswered >= CHECKS_MAX + ASKS_MAX {
            // No member knows of it either: this node joins its cluster as it did when it started.
            return self.end_supersession(now, None);
        }
        let addr = successor.addr;
        successor.hello = Some(self.send_queue.counter + 1);
        successor.was_asked = true;
        self.send_hello(addr, 0, 0);
        if unanswered >= CHECKS_MAX {
            let mut addrs = self.known_addrs();
            self.rng.shuffle(&mut addrs);
            addrs.truncate(ASKED_PEERS_MAX);
            let mut others: Vec<_> = self.join.candidate_addrs().collect();
            self.rng.shuffle(&mut others);
            addrs.extend(others.into_iter().take(ASKED_PEERS_MAX));
            for to in addrs.into_iter().filter(|it| *it != addr) {
                self.send_hello(to, 0, 0);
            }
        }
        // A hello that is not answered within a probe interval is sent again.
        self.timers.set(NamedTimer::NameConflict, now + unit);
    }

    /// Handles a message while this node is superseded: only those about its successor count.
    pub(super) fn on_message_while_superseded(
        &mut self,
        now: Time,
        sender: Sender,
        payload: Payload,
    ) {
        match payload {
            Payload::Hello { cookie, me } if sender.key == self.local.key => {
                self.on_hello(now, sender, cookie, me);
            }
            Payload::Challenge { cookie, echo, .. } => {
                self.on_challenge(now, sender, cookie, echo, None);
            }
            Payload::HelloRefused { echo, known }
                if known.key() == self.local.key
                    && self.join.accept_hello_answer(echo, sender.addr) =>
            {
                self.on_claim_about_successor(now, &known);
            }
            Payload::Welcome(welcome) => {
                if self.join.has_hello_to(welcome.echo, sender.addr) && sender.key != self.local.key
                {
                    // The member that answers knows of no other instance.
                    self.end_supersession(now, None);
                    self.on_welcome(now, sender, welcome);
                }
            }
            Payload::Leave { me, .. } => self.on_successor_leave(now, sender, &me),
            _ => self.stats.dropped.superseded += 1,
        }
    }

    /// Handles the goodbye of the successor.
    fn on_successor_leave(&mut self, now: Time, sender: Sender, me: &Record) {
        let is_own_word =
            me.key() == sender.key && me.epoch == sender.epoch && me.claim == Claim::Left;
        let is_successor = self
            .name_claims
            .successor
            .as_ref()
            .is_some_and(|successor| {
                sender.key == self.local.key
                    && sender.epoch >= successor.epoch
                    && (sender.addr == successor.addr || sender.sealed_with.is_some())
            });
        if is_own_word && is_successor {
            self.end_supersession(now, Some(me.epoch));
        } else {
            self.stats.dropped.superseded += 1;
        }
    }

    /// Tells an older process of this node's name that this one leaves: it would find out with its
    /// next check, up to [`CHECK_WAIT_MAX`] probe intervals later. Sent once; if it is lost, the
    /// check finds it.
    pub(super) fn notify_older_namesake(&mut self) {
        let Some(addr) = self.name_claims.older.take() else {
            return;
        };
        let (seq, me) = (self.probes.seq, self.own_record());
        self.send(addr, 0, Payload::Leave { seq, me });
    }

    /// Handles what others say of the successor.
    fn on_claim_about_successor(&mut self, now: Time, known: &Record) {
        let Some(successor) = &mut self.name_claims.successor else {
            return;
        };
        match known.claim {
            Claim::Failed | Claim::Left if known.epoch >= successor.epoch => {
                self.end_supersession(now, Some(known.epoch));
            }
            Claim::Alive(_) | Claim::Suspect(_) if known.epoch >= successor.epoch => {
                // Alive in their view; it may have moved.
                if successor.addr != known.addr {
                    (successor.addr, successor.epoch) = (known.addr, known.epoch);
                    successor.hello = None;
                }
                successor.unanswered = successor.unanswered.min(CHECKS_MAX);
            }
            _ => {}
        }
    }

    /// Takes part again, as the successor is gone, with an epoch past that of the successor if its
    /// end is known.
    fn end_supersession(&mut self, now: Time, past: Option<u64>) {
        let Some(successor) = self.name_claims.successor.take() else {
            return;
        };
        self.phase = Phase::Active;
        // The old table is outdated; its addresses help to find the members again.
        for addr in self.known_addrs() {
            self.join.remember_addr(addr);
        }
        for (key, _) in self.table.iter() {
            self.detector.on_member_removed(key);
        }
        #[cfg(feature = "unstable")]
        let (change_log, interner) = (self.table.change_log.take(), self.table.interner.take());
        self.table = Table::new(self.local.key, self.table.hash_seed());
        #[cfg(feature = "unstable")]
        {
            self.table.change_log = change_log;
            self.table.interner = interner;
        }
        self.table
            .set_own_version(now, self.local.epoch, self.local.incarnation);
        self.gossip_queue.clear();
        self.anti_entropy = AntiEntropy::default();
        self.partition = PartitionDetector::new(now);
        self.reach.reset();
        self.address.reset(now);
        self.timers = Timers::default();
        self.timers
            .set(NamedTimer::Probe, now + self.config.probe_interval);
        if let Some(at) = self.detector.first_timer(now) {
            self.timers.set(NamedTimer::Detector, at);
        }
        self.join.reset();
        let (by, addr) = (self.id_with_epoch(successor.epoch), successor.addr);
        self.emit(Event::SupersessionEnded { by, addr });
        if let Some(past) = past {
            self.raise_epoch(now, past);
        }
        self.on_join_timer(now);
    }

    /// Handles an older process of this node's name, which is reported once. If it is the only
    /// seed, no other member can let this node in.
    pub(super) fn on_older_namesake(&mut self, sender: Sender) {
        if sender.addr == self.local.addr {
            return;
        }
        self.name_claims.older = Some(sender.addr);
        if self.join.report_conflict() {
            self.emit(Event::NameConflict {
                name: self.local.name.to_string(),
                older: sender.addr,
                newer: self.local.addr,
            });
        }
        if self.phase == Phase::Active && self.join.has_only_seed(sender.addr) {
            self.join.enter();
        }
    }

    /// Record of the process that has this node's name.
    pub(super) fn record_of_name_holder(&self) -> Record {
        let mut record = self.own_record();
        if let Some(successor) = &self.name_claims.successor {
            (record.epoch, record.addr) = (successor.epoch, successor.addr);
        }
        record
    }

    fn id_with_epoch(&self, epoch: u64) -> NodeId {
        NodeId::new(self.local.name.clone(), epoch)
    }
}

/// Dials of a claimed successor, one in a probe interval.
const DIALS_MAX: usize = 4;
/// Most addresses remembered as disproved.
const DISPROVED_MAX: usize = 8;
/// Doublings of the pause, of one probe interval, after consecutive claims that proved wrong.
const PAUSE_DOUBLINGS_MAX: u32 = 6;
/// Probe intervals without a wrong claim after which the pause is short again.
const PAUSE_RESET_ROUNDS: u32 = 600;
/// Shortest and longest time between two checks of the successor, in probe intervals.
const CHECK_WAIT_MIN: u32 = 4;
const CHECK_WAIT_MAX: u32 = 16;
/// Hellos that a successor leaves unanswered before the others are asked, and how often they are.
const CHECKS_MAX: u32 = 3;
const ASKS_MAX: u32 = 10;
/// Members, and seeds, that are asked at a time.
const ASKED_PEERS_MAX: usize = 3;

#[cfg(test)]
mod tests;
