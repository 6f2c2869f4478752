//! Probing: ping, ping-req through helpers, ack (SWIM section 3.1), with a second ping and nacks.

use super::indirect_probe::IndirectProbes;
use super::network_estimate::NetworkEstimate;
use super::probe_round::{ProbeRound, ProbeRounds, Stage};
use super::slowness::RttTracker;
use super::timers::{NamedTimer, Timer};
use super::{DetectorHooks, Engine, Entry, Phase, Sender};
use crate::config::DATAGRAM_BYTES_MIN;
use crate::event::MemberState;
use crate::time::Time;
use crate::wire::{Payload, ProbeTarget, Record};

/// Probes of this node, its own and those on behalf of others, and what they found of the network.
#[derive(Debug)]
pub(super) struct Probes {
    pub(super) rounds: ProbeRounds,
    pub(super) indirect: IndirectProbes,
    /// Last sequence number, which leaves and reach checks use too.
    pub(super) seq: u32,
    /// Next turn of the probe timer: round robin, or one of the ring successors.
    turn: usize,
    pub(super) network: NetworkEstimate,
    pub(super) rtt_tracker: RttTracker,
    pub(super) last_redial_at: Time,
}

impl Probes {
    pub(super) fn new(seq: u32, now: Time) -> Self {
        Self {
            rounds: ProbeRounds::default(),
            indirect: IndirectProbes::default(),
            seq,
            turn: 0,
            network: NetworkEstimate::new(),
            rtt_tracker: RttTracker::default(),
            last_redial_at: now,
        }
    }

    pub(super) fn next_seq(&mut self) -> u32 {
        self.seq = self.seq.wrapping_add(1);
        self.seq
    }

    /// Ends all probes without a result.
    pub(super) fn clear(&mut self) {
        self.rounds.clear();
        self.indirect.clear();
    }
}

impl<D: DetectorHooks> Engine<D> {
    pub(super) fn on_probe_timer(&mut self, now: Time) {
        if self.phase != Phase::Active {
            return;
        }
        let ring = self.detector.ring_successors(self.config.ring_successors);
        let turns = 1 + ring;
        // Beside a ring, which covers all members in each interval, the round robin may be rarer.
        let intervals = if ring > 0 {
            self.detector.round_robin_every()
        } else {
            1
        };
        if !D::before_probe(self, now, turns as u32) {
            return;
        }
        let turn = self.probes.turn;
        self.probes.turn = (turn + 1) % (turns * intervals);
        let target = match turn % turns {
            0 if turn == 0 => self.table.next_probe(&mut self.rng),
            0 => None,
            nth => self.table.successor(nth - 1),
        };
        if turn.is_multiple_of(turns) {
            self.check_slowness(now);
            self.probe_reachable_member(now);
            self.check_address(now);
        }
        if let Some(key) = target {
            self.start_probe(now, key);
        }
        self.check_partition(now);
        self.timers.set(
            NamedTimer::Probe,
            now + self.detector.probe_wait(self.config.probe_interval) / turns as u32,
        );
    }

    /// Starts a probe round to a member, unless one is in progress.
    pub(super) fn start_probe(&mut self, now: Time, key: u64) {
        let Some(entry) = self.table.get(key) else {
            return;
        };
        if !self.probes.rounds.has_room_for(key) || self.phase != Phase::Active {
            return;
        }
        let (epoch, failed) = (entry.epoch, entry.state == MemberState::Failed);
        let addr = entry.addr();
        let seq = self.probes.next_seq();
        // The second ping has the next one.
        self.probes.next_seq();
        let stage = if failed { Stage::Redial } else { Stage::Direct };
        let (timeout, interval) = (
            self.config.effective_probe_timeout(),
            self.config.probe_interval,
        );
        let (timeout, length) = self.detector.probe_times(timeout, interval);
        self.probes.rounds.push(ProbeRound {
            seq,
            key,
            epoch,
            addr,
            started: now,
            end: now + length,
            second_ping_at: None,
            stage,
            helpers: Vec::new(),
            extended: false,
            stalled: false,
            is_large: false,
        });
        self.stats.probe_rounds += 1;
        let is_large = self.ping(key, seq, self.ping_size(key));
        if let Some(round) = self.probes.rounds.get_mut(seq) {
            round.is_large = is_large;
        }
        self.timers.push(now + timeout, Timer::ProbeRound(seq));
    }

    /// Handles an answer to a ping of this node, directly from `target` or through a helper.
    pub(super) fn on_ack(&mut self, now: Time, target: u64, seq: u32, direct: bool) {
        let Some(round) = self.probes.rounds.take_answered(target, seq) else {
            return self.on_late_answer(now, target, seq, direct);
        };
        self.prune_timers();
        if self
            .table
            .get(target)
            .is_none_or(|entry| entry.epoch != round.epoch)
        {
            self.stats.dropped.unexpected += 1;
            return;
        }
        if !self.detector.on_probe_answered() {
            return;
        }
        if round.is_large && !(direct && seq == round.seq) {
            self.record_lost_large_ping(target);
        }
        if direct && round.stage == Stage::Direct {
            self.probes
                .network
                .record_rtt(now.since(round.started).as_secs_f64());
        }
        if let Some(faults) = self.table.get_mut(target).and_then(Entry::existing_faults) {
            faults.claimed_failed_at = None;
        }
        self.clear_evidence(target);
        if direct {
            self.record_direct_answer(now, target);
            if let Some(entry) = self.table.get_mut(target) {
                entry.validate(round.addr);
            }
        }
        if round.stage == Stage::Redial {
            self.on_redial_result(now, target, true);
            self.sync_after_partition(now, target);
        }
        if !direct && !round.stalled {
            self.await_late_answer(&round, true);
        }
        if direct && round.stage != Stage::Redial {
            self.record_round_outcome(now, target, true);
        }
        if direct
            && !round.stalled
            && round.stage != Stage::Redial
            && let Some(pinged_at) = round.pinged_at(seq)
        {
            self.on_round_trip(now, target, pinged_at);
        }
    }

    pub(super) fn on_nack(&mut self, from: u64, seq: u32, target: u64) {
        if !self.probes.rounds.take_nack(from, seq, target) {
            self.stats.dropped.unexpected += 1;
        }
    }

    pub(super) fn send_ack(&mut self, sender: Sender, seq: u32) {
        let extends_swim = self.detector.extends_swim();
        let first = match extends_swim {
            true => self.record_to_refute(sender.key),
            false => None,
        };
        // Gossip is for the member, not for another sender of its ping.
        let updates = match self.is_from_known_addr(sender) || !extends_swim {
            true => self.piggyback(self.ack_size(sender), ACK_BYTES, first),
            false => first.into_iter().collect(),
        };
        let view = self.table.view();
        self.reply(sender, Payload::Ack { seq, view, updates });
    }

    /// Sends a ping. A suspicion rides on every ping of the suspect, so that it hears of it at once
    /// and can refute (Lifeguard section IV-C). Says whether the datagram is larger than what every
    /// path carries.
    pub(super) fn ping(&mut self, key: u64, seq: u32, size: usize) -> bool {
        let updates = self.ping_updates(key, size);
        self.send_to(
            key,
            Payload::Ping {
                seq,
                view: self.table.view(),
                updates,
            },
        ) > DATAGRAM_BYTES_MIN
    }

    /// Records that ride on a ping. To a suspect it is the suspicion alone: it may be dead, and
    /// records sent to the dead would count as transmitted.
    pub(super) fn ping_updates(&mut self, key: u64, size: usize) -> Vec<Record> {
        match self.record_to_refute(key) {
            Some(suspicion_record) if self.detector.extends_swim() => {
                self.single_record(suspicion_record)
            }
            first => self.piggyback(size, PING_BYTES, first),
        }
    }

    /// Record that rides on a ping of a member whose state is not alive.
    pub(super) fn record_to_refute(&self, key: u64) -> Option<Record> {
        let entry = self.table.get(key)?;
        let is_suspect =
            entry.state == MemberState::Suspect && entry.faults().claimed_failed_at.is_none();
        let rides = match is_suspect {
            true => self.detector.piggybacks_suspicion(),
            false => self.detector.extends_swim() || self.detector.redials_failed(),
        };
        entry.record_to_refute().filter(|_| rides)
    }

    pub(super) fn send_ping_reqs(&mut self, key: u64, seq: u32) -> Vec<(u64, bool)> {
        let Some(entry) = self.table.get(key) else {
            return Vec::new();
        };
        let target = ProbeTarget {
            key,
            epoch: entry.epoch,
            addr: entry.addr(),
        };
        // A claim that this node doubts is for the member alone: helpers would believe it.
        let extends_swim = self.detector.extends_swim();
        let piggybacks_suspicion = extends_swim && self.detector.piggybacks_suspicion();
        let suspicion_record =
            (piggybacks_suspicion && entry.state == MemberState::Suspect).then(|| entry.record());
        let wanted = self.config.indirect_probes;
        // When many are gone and not yet found failed, one of those would be no witness.
        let mut helpers = self.sample_live(wanted, |helper, entry| {
            helper != key && entry.state == MemberState::Alive && !entry.unanswering
        });
        if helpers.len() < wanted && extends_swim {
            // Doubtful helpers are better than none.
            let candidates = self.sample_live(wanted, |helper, _| helper != key);
            let missing = wanted - helpers.len();
            let others = candidates.into_iter().filter(|key| !helpers.contains(key));
            let others: Vec<_> = others.take(missing).collect();
            helpers.extend(others);
        }
        let helpers = D::choose_helpers(self, helpers, key);
        for helper in &helpers {
            let updates =
                self.piggyback(DATAGRAM_BYTES_MIN, PING_REQ_BYTES, suspicion_record.clone());
            self.send_to(
                *helper,
                Payload::PingReq {
                    seq,
                    target,
                    updates,
                },
            );
        }
        helpers.into_iter().map(|helper| (helper, false)).collect()
    }
}

const PING_BYTES: usize = 4 + 8;
const ACK_BYTES: usize = 4 + 8;
/// Sequence number, key, epoch, IPv6 address and port.
const PING_REQ_BYTES: usize = 4 + 8 + 10 + 19;
