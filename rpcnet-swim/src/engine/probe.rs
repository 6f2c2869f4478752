//! Probing: is it there? SWIM section 3.1 with a repeated ping and Lifeguard's nacks.

use std::net::SocketAddr;

use super::timers::{NamedTimer, Timer};
use super::{DetectorHooks, Engine, Phase, Sender};
use crate::config::DATAGRAM_BYTES_MIN;
use crate::event::MemberState;
use crate::id::instance_key;
use crate::time::Time;
use crate::unicast::is_usable_from;
use crate::wire::{Payload, ProbeTarget, Record};

/// One attempt to reach one member, by several ways.
#[derive(Debug)]
pub struct ProbeRound {
    pub(super) seq: u32,
    pub(crate) key: u64,
    /// Which life is probed: what another one answers is no answer.
    pub(super) epoch: u64,
    /// Where it was pinged.
    addr: SocketAddr,
    pub(crate) started: Time,
    /// When it ends, if nobody is given more time.
    pub(super) end: Time,
    /// With the next sequence number, so that one knows which of the two was answered.
    pub(super) second_ping_at: Time,
    stage: Stage,
    /// Helpers asked, and whether each said that the target did not answer it.
    helpers: Vec<(u64, bool)>,
    /// Has waited for late nacks.
    extended: bool,
    /// This process was stopped meanwhile: no answer means nothing.
    pub(crate) stalled: bool,
    /// The first ping was larger than what every path carries.
    is_large: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Direct,
    Indirect,
    /// Of a failed member: one ping, nobody else is asked and nothing is concluded.
    Redial,
}

/// A ping on behalf of another member.
#[derive(Debug)]
pub(crate) struct IndirectProbe {
    pub(super) seq: u32,
    target: ProbeTarget,
    requester: SocketAddr,
    requester_instance: u64,
    requester_seq: u32,
}

impl ProbeRound {
    fn lacks_witness(&self, needed: usize) -> bool {
        needed > 0 && !self.helpers.is_empty() && !self.is_witnessed(needed) && !self.extended
    }

    fn is_witnessed(&self, needed: usize) -> bool {
        let (asked, nacks) = self.witnesses();
        needed == 0 || nacks > 0 && nacks >= needed.min(asked)
    }

    /// How many helpers were asked, and how many of them witnessed it.
    pub fn witnesses(&self) -> (usize, usize) {
        let nacks = self.helpers.iter().filter(|(_, nacked)| *nacked).count();
        (self.helpers.len(), nacks)
    }
}

#[cfg(feature = "sim")]
impl ProbeRound {
    /// Sequence number of its first ping.
    pub fn seq(&self) -> u32 {
        self.seq
    }

    /// Key of the target.
    pub fn target(&self) -> u64 {
        self.key
    }

    /// When it ends.
    pub fn end(&self) -> Time {
        self.end
    }

    /// Whether this process was stopped meanwhile.
    pub fn is_stalled(&self) -> bool {
        self.stalled
    }

    /// Keys of the helpers asked.
    pub fn helpers(&self) -> Vec<u64> {
        self.helpers.iter().map(|(key, _)| *key).collect()
    }
}

impl<D: DetectorHooks> Engine<D> {
    pub(super) fn on_probe_timer(&mut self, now: Time) {
        if self.phase != Phase::Active {
            return;
        }
        let ring = self.detector.ring_successors(self.config.ring_successors);
        let turns = 1 + ring;
        // Beside a ring, which asks after everybody in each interval, the round robin may be rarer.
        let intervals = if ring > 0 {
            self.detector.round_robin_every()
        } else {
            1
        };
        if !D::before_probe(self, now, turns as u32) {
            return;
        }
        let target = match self.probe_turn % turns {
            0 if self.probe_turn == 0 => self.table.next_probe(&mut self.rng),
            0 => None,
            nth => self.table.successor(nth - 1),
        };
        if self.probe_turn.is_multiple_of(turns) {
            self.check_slowness(now);
            self.probe_reachable_member(now);
            self.check_address(now);
        }
        self.probe_turn = (self.probe_turn + 1) % (turns * intervals);
        if let Some(key) = target {
            self.start_probe(now, key);
        }
        self.check_partition(now);
        self.timers.set(
            NamedTimer::Probe,
            now + self.detector.probe_wait(self.config.probe_interval) / turns as u32,
        );
    }

    /// Pings a member, unless that is being done.
    pub(super) fn start_probe(&mut self, now: Time, key: u64) {
        let busy = self.probe_rounds.iter().any(|round| round.key == key);
        let Some(entry) = self.table.get(key) else {
            return;
        };
        if busy || self.probe_rounds.len() >= PROBE_ROUNDS_MAX || self.phase != Phase::Active {
            return;
        }
        let (epoch, failed) = (entry.epoch, entry.state == MemberState::Failed);
        let addr = entry.addr();
        let seq = self.seq.wrapping_add(1);
        self.seq = seq.wrapping_add(1);
        let stage = if failed { Stage::Redial } else { Stage::Direct };
        let (timeout, interval) = (self.config.probe_timeout, self.config.probe_interval);
        let (timeout, length) = self.detector.probe_times(timeout, interval);
        self.probe_rounds.push(ProbeRound {
            seq,
            key,
            epoch,
            addr,
            started: now,
            end: now + length,
            second_ping_at: now,
            stage,
            helpers: Vec::new(),
            extended: false,
            stalled: false,
            is_large: false,
        });
        self.stats.probe_rounds += 1;
        let is_large = self.ping(key, seq, self.ping_size(key));
        if let Some(round) = self.probe_rounds.last_mut() {
            round.is_large = is_large;
        }
        self.timers.push(now + timeout, Timer::ProbeRound(seq));
    }

    pub(super) fn on_probe_round_timer(&mut self, now: Time, seq: u32) {
        let Some(at) = self.probe_rounds.iter().position(|round| round.seq == seq) else {
            return;
        };
        match self.probe_rounds[at].stage {
            Stage::Direct => {
                let key = self.probe_rounds[at].key;
                let end = self.probe_rounds[at].end + self.extra_timeout(now, key);
                self.probe_rounds[at].second_ping_at = now;
                self.probe_rounds[at].stage = Stage::Indirect;
                self.probe_rounds[at].helpers = self.send_ping_reqs(key, seq);
                if self.detector.repeats_ping() {
                    self.ping(key, seq.wrapping_add(1), DATAGRAM_BYTES_MIN);
                }
                self.timers.push(end.max(now), Timer::ProbeRound(seq));
            }
            Stage::Indirect
                if self.probe_rounds[at].lacks_witness(self.detector.witnesses_needed()) =>
            {
                // Far away, a nack takes longer than the share of the round it is given.
                self.probe_rounds[at].extended = true;
                let helpers = self.probe_rounds[at].helpers.iter();
                let slowest = helpers.map(|(key, _)| self.extra_timeout(now, *key)).max();
                let more = self.config.probe_timeout / 2 + slowest.unwrap_or_default();
                self.timers.push(now + more, Timer::ProbeRound(seq));
            }
            Stage::Indirect => {
                let round = self.probe_rounds.swap_remove(at);
                self.on_round_unanswered(now, &round);
                let entry = self.table.get(round.key);
                let is_probed =
                    entry.is_some_and(|it| it.epoch == round.epoch && it.state.is_live());
                if is_probed && !round.stalled {
                    self.record_round_outcome(now, round.key, false);
                }
            }
            Stage::Redial => {
                let round = self.probe_rounds.swap_remove(at);
                if !round.stalled && !self.is_isolated(now) {
                    self.on_redial_result(now, round.key, false);
                }
            }
        }
    }

    /// A round ended without an answer.
    fn on_round_unanswered(&mut self, now: Time, round: &ProbeRound) {
        let Some(entry) = self.table.get(round.key) else {
            return;
        };
        if entry.epoch != round.epoch || !entry.state.is_live() {
            return;
        }
        D::on_round_unanswered(self, now, round);
    }

    /// Judges a round to a live member that ended without an answer.
    pub(super) fn conclude_round(&mut self, now: Time, round: &ProbeRound) {
        // The witness: without one, the silence may be our own. With nobody to ask, it counts.
        let alone = round.helpers.is_empty() && self.table.live().len() == 1;
        let witnessed = alone || round.is_witnessed(self.detector.witnesses_needed());
        if round.stalled || !witnessed {
            self.stats.inconclusive_rounds += 1;
        }
        if round.stalled {
            return;
        }
        self.await_late_answer(round, false);
        let silent = round.helpers.iter().filter(|(_, nacked)| !nacked);
        for key in silent.map(|(key, _)| *key).chain([round.key]) {
            if let Some(entry) = self.table.get_mut(key) {
                entry.unanswering = true;
            }
        }
        if !witnessed {
            // To the loss it counts all the same, if this node hears others and then that member.
            if !self.is_isolated(now)
                && let Some(entry) = self.table.get_mut(round.key)
            {
                let case = entry.faults_mut();
                case.unanswered = case.unanswered.saturating_add(1);
            }
            return;
        }
        self.stats.missed_probes += 1;
        self.on_missed_probe(now, round.key);
    }

    /// `target` answered a ping of ours, directly or through a helper.
    pub(super) fn on_ack(&mut self, now: Time, target: u64, seq: u32, direct: bool) {
        let found = self
            .probe_rounds
            .iter()
            .position(|r| r.key == target && seq.wrapping_sub(r.seq) < 2);
        let Some(at) = found else {
            return self.on_late_answer(now, target, seq, direct);
        };
        let round = self.probe_rounds.swap_remove(at);
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
            self.note_lost_large_ping(target);
        }
        if direct && round.stage == Stage::Direct {
            self.rtt.observe(now.since(round.started).as_secs_f64());
        }
        self.clear_evidence(target);
        if direct {
            self.note_direct_answer(now, target);
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
        if direct && !round.stalled && round.stage != Stage::Redial {
            let first = seq == round.seq;
            self.on_round_trip(
                now,
                target,
                if first {
                    round.started
                } else {
                    round.second_ping_at
                },
            );
        }
    }

    pub(super) fn on_nack(&mut self, from: u64, seq: u32, target: u64) {
        let helper = self
            .probe_rounds
            .iter_mut()
            .filter(|round| round.seq == seq && round.key == target)
            .find_map(|round| round.helpers.iter_mut().find(|(key, _)| *key == from));
        match helper {
            Some((_, nacked)) if !*nacked => *nacked = true,
            _ => self.stats.dropped.unexpected += 1,
        }
    }

    pub(super) fn send_ack(&mut self, sender: Sender, seq: u32) {
        let extends_swim = self.detector.extends_swim();
        let first = match extends_swim {
            true => self.record_to_refute(sender.key),
            false => None,
        };
        // News are for the member, not for whoever sent its ping from elsewhere.
        let updates = match self.is_from_known_addr(sender) || !extends_swim {
            true => self.piggyback(self.ack_size(sender), ACK_BYTES, first),
            false => first.into_iter().collect(),
        };
        let view = self.table.view();
        self.reply(sender, Payload::Ack { seq, view, updates });
    }

    pub(super) fn on_ping_req(&mut self, now: Time, sender: Sender, seq: u32, target: ProbeTarget) {
        if target.key == self.local.key && target.epoch == self.local.epoch {
            return self.reply(
                sender,
                Payload::RelayedAck {
                    seq,
                    target: target.key,
                },
            );
        }
        #[cfg(feature = "sim")]
        if self.always_nacks {
            let key = target.key;
            return self.reply(sender, Payload::Nack { seq, target: key });
        }
        if !is_usable_from(target.addr, sender.addr) {
            self.stats.unusable_addresses += 1;
            return;
        }
        if self.indirect_probes.len() >= INDIRECT_PROBES_MAX {
            return;
        }
        self.seq = self.seq.wrapping_add(1);
        self.indirect_probes.push(IndirectProbe {
            seq: self.seq,
            target,
            requester: sender.addr,
            requester_instance: sender.instance(),
            requester_seq: seq,
        });
        // A target that is not known there gets no news: the requester may have made it up.
        let is_known = self
            .table
            .get(target.key)
            .is_some_and(|e| e.addr() == target.addr);
        let updates = match is_known || !self.detector.extends_swim() {
            true => self.ping_updates(target.key, DATAGRAM_BYTES_MIN),
            false => Vec::new(),
        };
        let ping = Payload::Ping {
            seq: self.seq,
            view: self.table.view(),
            updates,
        };
        let (timeout, interval) = (self.config.probe_timeout, self.config.probe_interval);
        let nack_delay = self.detector.nack_delay(timeout, interval);
        self.send(target.addr, instance_key(target.key, target.epoch), ping);
        self.timers
            .push(now + nack_delay, Timer::IndirectProbe(self.seq));
    }

    /// If the sender is the target of a relay, passes its answer on.
    pub(super) fn forward_ack(&mut self, sender: Sender, seq: u32) {
        let found = self.indirect_probes.iter().position(|relay| {
            relay.seq == seq && relay.target.key == sender.key && relay.target.epoch == sender.epoch
        });
        if let Some(at) = found {
            let relay = self.indirect_probes.swap_remove(at);
            self.prune_timers();
            let ack = Payload::RelayedAck {
                seq: relay.requester_seq,
                target: relay.target.key,
            };
            self.send(relay.requester, relay.requester_instance, ack);
        }
    }

    pub(super) fn on_indirect_probe_timer(&mut self, seq: u32) {
        if let Some(at) = self
            .indirect_probes
            .iter()
            .position(|relay| relay.seq == seq)
        {
            let relay = self.indirect_probes.swap_remove(at);
            if !self.detector.sends_nacks() {
                return;
            }
            let nack = Payload::Nack {
                seq: relay.requester_seq,
                target: relay.target.key,
            };
            self.send(relay.requester, relay.requester_instance, nack);
        }
    }

    /// The suspicion rides on every ping of the accused, so that it hears of it at once and can
    /// refute (Lifeguard section IV-C). Says whether the datagram is larger than what every path
    /// carries.
    fn ping(&mut self, key: u64, seq: u32, size: usize) -> bool {
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

    /// What rides on a ping. To the accused it is the accusation alone: it may be dead, and news
    /// sent to the dead would count as passed on.
    fn ping_updates(&mut self, key: u64, size: usize) -> Vec<Record> {
        match self.record_to_refute(key) {
            Some(accusation) if self.detector.extends_swim() => self.single_record(accusation),
            first => self.piggyback(size, PING_BYTES, first),
        }
    }

    /// What rides on a ping of a member that is not simply held alive.
    pub(super) fn record_to_refute(&self, key: u64) -> Option<Record> {
        let entry = self.table.get(key)?;
        let is_suspect = entry.state == MemberState::Suspect && !entry.faults().claimed_failed;
        let rides = match is_suspect {
            true => self.detector.piggybacks_suspicion(),
            false => self.detector.extends_swim() || self.detector.redials_failed(),
        };
        entry.record_to_refute().filter(|_| rides)
    }

    fn send_ping_reqs(&mut self, key: u64, seq: u32) -> Vec<(u64, bool)> {
        let Some(entry) = self.table.get(key) else {
            return Vec::new();
        };
        let target = ProbeTarget {
            key,
            epoch: entry.epoch,
            addr: entry.addr(),
        };
        // A claim that we doubt is for the accused alone: helpers would believe it.
        let extends_swim = self.detector.extends_swim();
        let is_told = extends_swim && self.detector.piggybacks_suspicion();
        let accusation = (is_told && entry.state == MemberState::Suspect).then(|| entry.record());
        let wanted = self.config.indirect_probes;
        // When many are gone and not yet found so, one of those would be no witness.
        let mut helpers = self.sample_live(wanted, |helper, entry| {
            helper != key && entry.state == MemberState::Alive && !entry.unanswering
        });
        if helpers.len() < wanted && extends_swim {
            // Better doubtful ones than none.
            let doubtful = self.sample_live(wanted, |helper, _| helper != key);
            let missing = wanted - helpers.len();
            let others = doubtful.into_iter().filter(|key| !helpers.contains(key));
            let others: Vec<_> = others.take(missing).collect();
            helpers.extend(others);
        }
        let helpers = D::choose_helpers(self, helpers, key);
        for helper in &helpers {
            let updates = self.piggyback(DATAGRAM_BYTES_MIN, PING_REQ_BYTES, accusation.clone());
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

#[cfg(feature = "sim")]
impl<D: DetectorHooks> Engine<D> {
    /// From now on says of everybody that he does not answer, to whoever asks.
    pub(crate) fn always_nack(&mut self) {
        self.always_nacks = true;
    }
}

const PING_BYTES: usize = 4 + 8;
const ACK_BYTES: usize = 4 + 8;
/// Sequence number, key, epoch, IPv6 address and port.
const PING_REQ_BYTES: usize = 4 + 8 + 10 + 19;
/// Most rounds at once; a member beyond waits for its next turn.
pub(crate) const PROBE_ROUNDS_MAX: usize = 256;
/// Most pings at once on behalf of others; a ping-req beyond goes unanswered.
pub(crate) const INDIRECT_PROBES_MAX: usize = 256;
