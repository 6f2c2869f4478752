//! Probing: is it there? SWIM section 3.1 with a repeated ping and Lifeguard's nacks.

use std::net::SocketAddr;
use std::time::Duration;

use super::timers::{Single, Timer};
use super::{Engine, Phase, Sender};
use crate::config::DATAGRAM_BYTES_MIN;
use crate::event::MemberState;
use crate::id::life_key;
use crate::time::Time;
use crate::usable::is_usable_from;
use crate::wire::{Address, Payload, Record};

/// One attempt to reach one member, by several ways.
#[derive(Debug)]
pub(crate) struct Round {
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
    pub(super) pinged_again: Time,
    stage: Stage,
    /// Helpers asked, and whether each said that the target did not answer it.
    helpers: Vec<(u64, bool)>,
    /// Has waited for late nacks.
    extended: bool,
    /// This process was stopped meanwhile: no answer means nothing.
    pub(crate) tainted: bool,
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
pub(crate) struct Relay {
    pub(super) seq: u32,
    target: Address,
    requester: SocketAddr,
    requester_life: u64,
    requester_seq: u32,
}

impl Round {
    fn lacks_witness(&self, needed: usize) -> bool {
        !self.helpers.is_empty() && !self.is_witnessed(needed) && !self.extended
    }

    fn is_witnessed(&self, needed: usize) -> bool {
        let (asked, nacks) = self.witnesses();
        nacks > 0 && nacks >= needed.min(asked)
    }

    /// How many helpers were asked, and how many of them witnessed it.
    pub(super) fn witnesses(&self) -> (usize, usize) {
        let nacks = self.helpers.iter().filter(|(_, nacked)| *nacked).count();
        (self.helpers.len(), nacks)
    }

    #[cfg(all(test, feature = "sim"))]
    pub(super) fn helpers(&self) -> Vec<u64> {
        self.helpers.iter().map(|(key, _)| *key).collect()
    }
}

impl Engine {
    pub(super) fn on_probe_timer(&mut self, now: Time) {
        if self.phase != Phase::Active {
            return;
        }
        let ring = self.config.ring_successors();
        let turns = 1 + ring;
        // Beside a ring, which asks after everybody in each interval, the round robin may be rarer.
        let intervals = if ring > 0 {
            self.rules().round_robin_every
        } else {
            1
        };
        #[cfg(feature = "sim")]
        if self.is_probe_put_off(now, turns as u32) {
            return;
        }
        let target = match self.turn % turns {
            0 if self.turn == 0 => self.table.next_probe(&mut self.rng),
            0 => None,
            nth => self.table.successor(nth - 1),
        };
        if self.turn.is_multiple_of(turns) {
            self.watch_pace(now);
            self.keep_contact(now);
            self.watch_address(now);
        }
        self.turn = (self.turn + 1) % (turns * intervals);
        if let Some(key) = target {
            self.start_round(now, key);
        }
        self.watch_partition(now);
        self.timers
            .set(Single::Probe, now + self.probe_wait() / turns as u32);
    }

    /// Pings a member, unless that is being done.
    pub(super) fn start_round(&mut self, now: Time, key: u64) {
        let busy = self.rounds.iter().any(|round| round.key == key);
        let Some(entry) = self.table.get(key) else {
            return;
        };
        if busy || self.rounds.len() >= ROUNDS_MAX || self.phase != Phase::Active {
            return;
        }
        let (epoch, failed) = (entry.epoch, entry.state == MemberState::Failed);
        let addr = entry.addr();
        let seq = self.seq.wrapping_add(1);
        self.seq = seq.wrapping_add(1);
        let stage = if failed { Stage::Redial } else { Stage::Direct };
        let (timeout, length) = self.round_times();
        self.rounds.push(Round {
            seq,
            key,
            epoch,
            addr,
            started: now,
            end: now + length,
            pinged_again: now,
            stage,
            helpers: Vec::new(),
            extended: false,
            tainted: false,
            is_large: false,
        });
        self.stats.rounds += 1;
        let is_large = self.ping(key, seq, self.ping_size(key));
        if let Some(round) = self.rounds.last_mut() {
            round.is_large = is_large;
        }
        self.timers.push(now + timeout, Timer::Round(seq));
    }

    /// How long a ping may go unanswered, and how long a round takes.
    #[cfg(not(feature = "sim"))]
    fn round_times(&self) -> (Duration, Duration) {
        (self.config.probe_timeout, self.config.probe_interval)
    }

    /// Time between two turns of the round robin.
    #[cfg(not(feature = "sim"))]
    fn probe_wait(&self) -> Duration {
        self.config.probe_interval
    }

    pub(super) fn on_round_timer(&mut self, now: Time, seq: u32) {
        let Some(at) = self.rounds.iter().position(|round| round.seq == seq) else {
            return;
        };
        match self.rounds[at].stage {
            Stage::Direct => {
                let key = self.rounds[at].key;
                let end = self.rounds[at].end + self.patience(now, key);
                self.rounds[at].pinged_again = now;
                self.rounds[at].stage = Stage::Indirect;
                self.rounds[at].helpers = self.ask_helpers(key, seq);
                if self.rules().second_ping {
                    self.ping(key, seq.wrapping_add(1), DATAGRAM_BYTES_MIN);
                }
                self.timers.push(end.max(now), Timer::Round(seq));
            }
            Stage::Indirect
                if self.rules().witness
                    && self.rounds[at].lacks_witness(self.rules().nacks_needed) =>
            {
                // Far away, a nack takes longer than the share of the round it is given.
                self.rounds[at].extended = true;
                let helpers = self.rounds[at].helpers.iter();
                let slowest = helpers.map(|(key, _)| self.patience(now, *key)).max();
                let more = self.config.probe_timeout / 2 + slowest.unwrap_or_default();
                self.timers.push(now + more, Timer::Round(seq));
            }
            Stage::Indirect => {
                let round = self.rounds.swap_remove(at);
                self.conclude(now, &round);
                let entry = self.table.get(round.key);
                let is_probed =
                    entry.is_some_and(|it| it.epoch == round.epoch && it.state.is_live());
                if is_probed && !round.tainted {
                    self.note_round(now, round.key, false);
                }
            }
            Stage::Redial => {
                let round = self.rounds.swap_remove(at);
                if !round.tainted && !self.is_isolated(now) {
                    self.on_dialled(now, round.key, false);
                }
            }
        }
    }

    /// A round ended without an answer.
    fn conclude(&mut self, now: Time, round: &Round) {
        let Some(entry) = self.table.get(round.key) else {
            return;
        };
        if entry.epoch != round.epoch || !entry.state.is_live() {
            return;
        }
        #[cfg(feature = "sim")]
        if self.rules().is_rival() {
            return self.rival_miss(now, round);
        }
        // The witness: without one, the silence may be our own. With nobody to ask, it counts.
        let alone = round.helpers.is_empty() && self.table.live().len() == 1;
        let is_witnessed = round.is_witnessed(self.rules().nacks_needed);
        let witnessed = is_witnessed || alone || !self.rules().witness;
        if round.tainted || !witnessed {
            self.stats.void_rounds += 1;
        }
        if round.tainted {
            return;
        }
        self.await_overdue(round, false);
        let silent = round.helpers.iter().filter(|(_, nacked)| !nacked);
        for key in silent.map(|(key, _)| *key).chain([round.key]) {
            if let Some(entry) = self.table.get_mut(key) {
                entry.silent = true;
            }
        }
        if !witnessed {
            // To the loss it counts all the same, if this node hears others and then that member.
            if !self.is_isolated(now)
                && let Some(entry) = self.table.get_mut(round.key)
            {
                let case = entry.case_mut();
                case.unanswered = case.unanswered.saturating_add(1);
            }
            return;
        }
        self.stats.misses += 1;
        self.on_miss(now, round.key);
    }

    /// `target` answered a ping of ours, directly or through a helper.
    pub(super) fn on_answer(&mut self, now: Time, target: u64, seq: u32, direct: bool) {
        let found = self
            .rounds
            .iter()
            .position(|r| r.key == target && seq.wrapping_sub(r.seq) < 2);
        let Some(at) = found else {
            return self.on_overdue_answer(now, target, seq, direct);
        };
        let round = self.rounds.swap_remove(at);
        self.prune_timers();
        if self
            .table
            .get(target)
            .is_none_or(|entry| entry.epoch != round.epoch)
        {
            self.stats.dropped.unexpected += 1;
            return;
        }
        #[cfg(feature = "sim")]
        if self.rules().is_rival() {
            return self.note_health(-1);
        }
        if round.is_large && !(direct && seq == round.seq) {
            self.note_lost_large_ping(target);
        }
        if direct && round.stage == Stage::Direct {
            self.rtt.observe(now.since(round.started).as_secs_f64());
        }
        self.on_alive(target);
        if direct {
            self.note_in_reach(now, target);
            if let Some(entry) = self.table.get_mut(target) {
                entry.validate(round.addr);
            }
        }
        if round.stage == Stage::Redial {
            self.on_dialled(now, target, true);
            self.sync_across(now, target);
        }
        if !direct && !round.tainted {
            self.await_overdue(&round, true);
        }
        if direct && round.stage != Stage::Redial {
            self.note_round(now, target, true);
        }
        if direct && !round.tainted && round.stage != Stage::Redial {
            let first = seq == round.seq;
            self.on_round_trip(
                now,
                target,
                if first {
                    round.started
                } else {
                    round.pinged_again
                },
            );
        }
    }

    pub(super) fn on_nack(&mut self, from: u64, seq: u32, target: u64) {
        let helper = self
            .rounds
            .iter_mut()
            .filter(|round| round.seq == seq && round.key == target)
            .find_map(|round| round.helpers.iter_mut().find(|(key, _)| *key == from));
        match helper {
            Some((_, nacked)) if !*nacked => *nacked = true,
            _ => self.stats.dropped.unexpected += 1,
        }
    }

    pub(super) fn send_ack(&mut self, sender: Sender, seq: u32) {
        let first = match self.rules().is_rival() {
            true => None,
            false => self.accusation(sender.key),
        };
        // News are for the member, not for whoever sent its ping from elsewhere.
        let updates = match self.is_from_known_addr(sender) || self.rules().is_rival() {
            true => self.news(self.ack_size(sender), ACK_BYTES, first),
            false => first.into_iter().collect(),
        };
        let view = self.table.view();
        self.reply(sender, Payload::Ack { seq, view, updates });
    }

    pub(super) fn on_ping_req(&mut self, now: Time, sender: Sender, seq: u32, target: Address) {
        if target.key == self.me.key && target.epoch == self.me.epoch {
            return self.reply(
                sender,
                Payload::RelayedAck {
                    seq,
                    target: target.key,
                },
            );
        }
        #[cfg(feature = "sim")]
        if self.lies {
            let key = target.key;
            return self.reply(sender, Payload::Nack { seq, target: key });
        }
        if !is_usable_from(target.addr, sender.addr) {
            self.stats.addresses_refused += 1;
            return;
        }
        if self.relays.len() >= RELAYS_MAX {
            return;
        }
        self.seq = self.seq.wrapping_add(1);
        self.relays.push(Relay {
            seq: self.seq,
            target,
            requester: sender.addr,
            requester_life: sender.life(),
            requester_seq: seq,
        });
        // A target that is not known there gets no news: the requester may have made it up.
        let is_known = self
            .table
            .get(target.key)
            .is_some_and(|e| e.addr() == target.addr);
        let updates = match is_known || self.rules().is_rival() {
            true => self.ping_updates(target.key, DATAGRAM_BYTES_MIN),
            false => Vec::new(),
        };
        let ping = Payload::Ping {
            seq: self.seq,
            view: self.table.view(),
            updates,
        };
        self.send(target.addr, life_key(target.key, target.epoch), ping);
        self.timers
            .push(now + self.nack_patience(), Timer::Relay(self.seq));
    }

    /// If the sender is the target of a relay, passes its answer on.
    pub(super) fn answer_relay(&mut self, sender: Sender, seq: u32) {
        let found = self.relays.iter().position(|relay| {
            relay.seq == seq && relay.target.key == sender.key && relay.target.epoch == sender.epoch
        });
        if let Some(at) = found {
            let relay = self.relays.swap_remove(at);
            self.prune_timers();
            let ack = Payload::RelayedAck {
                seq: relay.requester_seq,
                target: relay.target.key,
            };
            self.send(relay.requester, relay.requester_life, ack);
        }
    }

    pub(super) fn on_relay_timer(&mut self, seq: u32) {
        if let Some(at) = self.relays.iter().position(|relay| relay.seq == seq) {
            let relay = self.relays.swap_remove(at);
            if !self.rules().nacks {
                return;
            }
            let nack = Payload::Nack {
                seq: relay.requester_seq,
                target: relay.target.key,
            };
            self.send(relay.requester, relay.requester_life, nack);
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
        match self.accusation(key) {
            Some(accusation) if !self.rules().is_rival() => self.only(accusation),
            first => self.news(size, PING_BYTES, first),
        }
    }

    /// How long a helper waits. The nack has to be back before the round of who asked for it
    /// ends (Lifeguard section IV-A).
    #[cfg(not(feature = "sim"))]
    fn nack_patience(&self) -> Duration {
        self.nack_patience_of_ours()
    }

    pub(super) fn nack_patience_of_ours(&self) -> Duration {
        (self.config.probe_interval - self.config.probe_timeout).mul_f64(0.8)
    }

    /// What rides on a ping of a member that is not simply held alive.
    pub(super) fn accusation(&self, key: u64) -> Option<Record> {
        let entry = self.table.get(key)?;
        let is_suspect = entry.state == MemberState::Suspect && !entry.case().claimed_failed;
        let rides = match is_suspect {
            true => self.rules().buddy,
            false => self.rules().redial || !self.rules().is_rival(),
        };
        entry.accusation().filter(|_| rides)
    }

    fn ask_helpers(&mut self, key: u64, seq: u32) -> Vec<(u64, bool)> {
        let Some(entry) = self.table.get(key) else {
            return Vec::new();
        };
        let target = Address {
            key,
            epoch: entry.epoch,
            addr: entry.addr(),
        };
        // A claim that we doubt is for the accused alone: helpers would believe it.
        let is_told = self.rules().buddy && !self.rules().is_rival();
        let accusation = (is_told && entry.state == MemberState::Suspect).then(|| entry.record());
        let wanted = self.config.indirect_probes;
        // When many are gone and not yet found so, one of those would be no witness.
        let mut helpers = self.sample_live(wanted, |helper, entry| {
            helper != key && entry.state == MemberState::Alive && !entry.silent
        });
        if helpers.len() < wanted && !self.rules().is_rival() {
            // Better doubtful ones than none.
            let doubtful = self.sample_live(wanted, |helper, _| helper != key);
            let missing = wanted - helpers.len();
            let others = doubtful.into_iter().filter(|key| !helpers.contains(key));
            let others: Vec<_> = others.take(missing).collect();
            helpers.extend(others);
        }
        #[cfg(feature = "sim")]
        if self.rules().zoned_helpers {
            helpers = self.zoned(helpers, key);
        }
        for helper in &helpers {
            let updates = self.news(DATAGRAM_BYTES_MIN, PING_REQ_BYTES, accusation.clone());
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
impl Engine {
    /// From now on says of everybody that he does not answer, to whoever asks.
    pub(crate) fn lie(&mut self) {
        self.lies = true;
    }

    /// As many helpers, of different zones as far as a few more at random have some.
    fn zoned(&mut self, helpers: Vec<u64>, target: u64) -> Vec<u64> {
        let count = helpers.len();
        let more = self.sample_live(4 * count, |key, entry| {
            key != target && entry.state == MemberState::Alive && !entry.silent
        });
        let mut chosen: Vec<u64> = Vec::with_capacity(count);
        let zone = |key: u64| self.table.get(key).and_then(|e| e.tags.get("zone"));
        for key in helpers.iter().chain(&more) {
            if chosen.iter().all(|other| zone(*other) != zone(*key)) {
                chosen.push(*key);
            }
        }
        for key in helpers {
            if !chosen.contains(&key) {
                chosen.push(key);
            }
        }
        chosen.truncate(count);
        chosen
    }
}

const PING_BYTES: usize = 4 + 8;
const ACK_BYTES: usize = 4 + 8;
/// Sequence number, key, epoch, IPv6 address and port.
const PING_REQ_BYTES: usize = 4 + 8 + 10 + 19;
/// Most rounds at once; a member beyond waits for its next turn.
pub(crate) const ROUNDS_MAX: usize = 256;
/// Most pings at once on behalf of others; a ping-req beyond goes unanswered.
pub(crate) const RELAYS_MAX: usize = 256;
