//! Advertised address: whether it leads to this node, and which one peers see instead.
//!
//! Probes go to the advertised address, so each ping that arrives proves it. A node that gets
//! answers to its own pings and none of its peers' pings advertises an address that leads
//! elsewhere. Then it asks for the source address of its datagrams, follows what enough distinct
//! peers say, unless the address was set by hand, and emits when it stays unreachable. As long as
//! pings arrive nothing is asked and nothing is sent.

mod conflict;
mod tracker;

use std::net::{IpAddr, SocketAddr};

pub(crate) use self::tracker::AddressTracker;
use self::tracker::{AddressNotice, OBSERVERS_MIN};
use super::{DetectorHooks, Engine, Phase, Sender};
use crate::error::ConfigError;
use crate::event::{AddressStatus, Event, MemberState};
use crate::time::Time;
use crate::unicast::is_usable;
use crate::wire::{Claim, Payload, Record};

/// Advertised address of this node.
impl<D: DetectorHooks> Engine<D> {
    /// Address that others are told to send to.
    pub fn addr(&self) -> SocketAddr {
        self.local.addr
    }

    /// Whether the advertised address leads to this node, by the pings that arrive.
    pub fn address_status(&self) -> AddressStatus {
        self.address.status
    }

    /// Advertises another address from now on, set by hand: what peers see no longer changes it.
    /// Port 0 stands for the port advertised so far. A change raises the incarnation and emits
    /// [`Event::NodeUpdated`].
    ///
    /// # Errors
    /// [`ConfigError::UnusableAdvertiseAddr`] if it is no address that others can send to; nothing
    /// changed.
    pub fn set_advertise_addr(
        &mut self,
        now: Time,
        mut addr: SocketAddr,
    ) -> Result<(), ConfigError> {
        let now = self.running_time(now);
        if addr.port() == 0 {
            addr.set_port(self.local.addr.port());
        }
        let addr = advertised_form(addr);
        if !is_usable(addr) {
            return Err(ConfigError::UnusableAdvertiseAddr { addr });
        }
        self.address.fixed = true;
        self.move_to(now, addr);
        Ok(())
    }

    /// Takes in a better guess of the address that faces the cluster, as when seeds are known that
    /// were not at the start. Without effect on an address that was set by hand, that a peer has
    /// seen, or that members know.
    pub fn suggest_advertise_addr(&mut self, addr: SocketAddr) {
        let addr = advertised_form(addr);
        let address = &self.address;
        let is_replaceable = !address.fixed && address.guessed && address.changed_at.is_none();
        let is_alone = self.table.live().is_empty();
        if is_replaceable && is_alone && is_usable(addr) && addr != self.local.addr {
            self.local.addr = addr;
            // A member whose welcome is on its way may know it.
            self.raise_incarnation(self.clocks.running.last());
        }
    }

    /// Takes in a ping: it was sent to the advertised address, which leads here.
    pub(super) fn record_pinged(&mut self, now: Time) {
        let gap = PING_GAP_ROUNDS * self.config.probe_interval;
        let address = &mut self.address;
        let in_row = now.since(address.pinged_at) <= gap;
        address.pings = if in_row {
            address.pings.saturating_add(1)
        } else {
            1
        };
        address.pinged_at = now;
        address.answers.count = 0;
        let needed = match address.status {
            AddressStatus::Reachable => return,
            AddressStatus::Unconfirmed => 1,
            // A single ping may come by a way that was open for an answer.
            AddressStatus::Unreachable | AddressStatus::Conflict => PINGS_MIN,
        };
        if address.pings < needed {
            return;
        }
        let was = std::mem::replace(&mut address.status, AddressStatus::Reachable);
        address.claimant = None;
        if was.is_problem() {
            let addr = self.local.addr;
            self.emit(Event::AddressReachable { addr });
        }
        self.set_self_unreachable(now, false);
    }

    /// Takes in that a ping of this node was answered: datagrams go out, and answers come in.
    pub(super) fn record_answered(&mut self, now: Time) {
        let gap = ANSWER_GAP_ROUNDS * self.config.probe_interval;
        self.address.answers.record(now, gap);
    }

    /// Takes in that this node refuted a claim. After several times its address may be the reason.
    pub(super) fn record_refutation(&mut self, now: Time, record: &Record) {
        if record.claim == Claim::Failed {
            self.address.claimed_failed_at = Some(now);
        }
        let window = REFUTE_WINDOW_ROUNDS * self.config.probe_interval;
        let (count, since) = &mut self.address.refutations;
        if now.since(*since) > window {
            (*count, *since) = (0, now);
        }
        *count = count.saturating_add(1);
        if *count >= REFUTATIONS_MIN && !self.address.fixed {
            self.ask_for_address(now);
        }
    }

    /// Checks whether pings arrive, once in a probe interval.
    pub(super) fn check_address(&mut self, now: Time) {
        if self.phase != Phase::Active || !self.detector.extends_swim() {
            return;
        }
        if self.table.live().is_empty() {
            // There is no member that could ping.
            self.address.pinged_at = now;
            self.address.answers.count = 0;
            self.check_claimant(now);
            if self.join.is_joined() && self.address.status == AddressStatus::Unreachable {
                // The members that could not reach it are gone.
                self.address.status = AddressStatus::Unconfirmed;
                self.set_self_unreachable(now, false);
                let addr = self.local.addr;
                self.emit(Event::AddressReachable { addr });
            }
            return;
        }
        let unit = self.config.probe_interval;
        let keep = OBSERVED_ROUNDS * unit;
        let address = &mut self.address;
        address.observed.retain(|_, (_, at)| now.since(*at) <= keep);
        self.check_claimant(now);
        let answers = self.address.answers;
        // Up to the last answer: a node that hears nothing at all learns nothing of its address.
        let silent = answers
            .last
            .since(self.address.pinged_at.max(answers.since));
        if silent < PING_GAP_ROUNDS * unit || answers.count < ANSWERS_MIN / 2 {
            return;
        }
        self.ask_for_address(now);
        self.follow_observed(now);
        let is_claimed_failed = self.address.claimed_failed_at;
        let is_claimed_failed =
            is_claimed_failed.is_some_and(|at| now.since(at) <= SILENT_ROUNDS * unit);
        let dials = match is_claimed_failed {
            // Members in whose view this node is failed redial it now and then.
            true => super::redial::REDIAL_BACKOFF_MAX * self.config.redial_interval,
            false => std::time::Duration::ZERO,
        };
        if silent >= SILENT_ROUNDS * unit + dials && answers.count >= ANSWERS_MIN {
            self.report_unreachable(now, None);
        }
    }

    fn report_unreachable(&mut self, now: Time, seen: Option<SocketAddr>) {
        if self.address.status.is_problem() {
            return;
        }
        self.address.status = AddressStatus::Unreachable;
        self.address.pings = 0;
        let observed = seen.or_else(|| self.address.candidate(self.local.addr, 1));
        let addr = self.local.addr;
        self.emit(Event::AddressUnreachable { addr, observed });
        self.set_self_unreachable(now, true);
    }

    /// Sets in this node's own record whether it finds itself unreachable.
    fn set_self_unreachable(&mut self, now: Time, unreachable: bool) {
        if self.local.unreachable != unreachable {
            self.local.unreachable = unreachable;
            self.raise_incarnation(now);
        }
    }

    /// Asks some members what address they see.
    fn ask_for_address(&mut self, now: Time) {
        let pause = SILENT_ROUNDS * self.config.probe_interval;
        let is_pause_over = |at| now.since(at) >= pause;
        if !self.address.asked_at.is_none_or(is_pause_over) {
            return;
        }
        self.address.asked_at = Some(now);
        for key in self.sample_live(OBSERVERS_MIN, |_, _| true) {
            self.send_to(key, Payload::AddrRequest);
        }
    }

    /// Tells a member what address it is seen at, because it asked or has a fault.
    pub(super) fn send_observed(&mut self, sender: Sender) {
        let (echo, addr) = (sender.counter, sender.addr);
        self.reply(sender, Payload::AddrObserved { echo, addr });
    }

    /// Handles the answer of a member that sees this node at `addr`.
    pub(super) fn on_addr_observed(
        &mut self,
        now: Time,
        sender: Sender,
        echo: u64,
        addr: SocketAddr,
    ) {
        if !self.is_recent(echo) {
            self.stats.dropped.unexpected += 1;
            return;
        }
        self.record_observed(now, sender, addr);
    }

    /// Takes in that a peer sees this node at `addr`.
    pub(super) fn record_observed(&mut self, now: Time, sender: Sender, addr: SocketAddr) {
        if is_usable(addr) {
            self.address.observe(now, sender.key, addr);
            self.follow_observed(now);
        }
    }

    /// Takes in the address at which the first peer sees this node: while no member knows the
    /// guessed address, that one is advertised.
    pub(super) fn record_seen_by_first_peer(&mut self, now: Time, addr: SocketAddr) {
        let address = &self.address;
        let is_alone = self.table.live().is_empty() && !self.join.is_joined();
        let is_replaceable = address.guessed && !address.fixed && address.changed_at.is_none();
        let turns_into_loopback = addr.ip().is_loopback() && !self.local.addr.ip().is_loopback();
        if is_alone && is_usable(addr) && !turns_into_loopback {
            if is_replaceable && addr != self.local.addr {
                self.local.addr = addr;
                self.address.changed_at = Some(now);
                self.raise_incarnation(now);
            }
            let leaves_host = self.local.addr.ip().is_loopback() && !addr.ip().is_loopback();
            if leaves_host && self.address.fixed {
                self.report_unreachable(now, Some(addr));
            }
        }
    }

    /// Advertises what enough peers see, if the advertised address does not work.
    fn follow_observed(&mut self, now: Time) {
        if self.address.fixed || self.phase != Phase::Active {
            return;
        }
        let own = self.local.addr;
        let live = self.table.live().len();
        let Some(addr) = self.address.candidate(own, live) else {
            return;
        };
        let (own_host, host) = (own.ip().is_loopback(), addr.ip().is_loopback());
        let unit = self.config.probe_interval;
        let silent = now.since(self.address.pinged_at) >= PING_GAP_ROUNDS * unit;
        let is_settled = |at| now.since(at) >= SILENT_ROUNDS * unit;
        let is_working = !silent || !self.address.changed_at.is_none_or(is_settled);
        // A loopback address is no address for others, whatever pings it.
        if (own_host && !host) || (!is_working && own_host == host) {
            self.move_to(now, addr);
        }
    }

    fn move_to(&mut self, now: Time, addr: SocketAddr) {
        if addr == self.local.addr {
            return;
        }
        self.local.addr = addr;
        let address = &mut self.address;
        address.observed.clear();
        address.claimant = None;
        (address.pinged_at, address.answers.count) = (now, 0);
        address.changed_at = Some(now);
        if address.status != AddressStatus::Unreachable {
            address.status = AddressStatus::Unconfirmed;
        }
        self.stats.address_changes += 1;
        self.raise_incarnation(now);
        self.emit(Event::NodeUpdated(self.local_member()));
    }

    /// Handles a fresh datagram of a member that came from another address than the one that is
    /// probed. A member with a fault is told. It is not moved: another node may have forwarded the
    /// datagram.
    pub(super) fn record_other_source(&mut self, now: Time, sender: Sender) {
        let Some(entry) = self.table.get(sender.key) else {
            return;
        };
        let advertised = entry.addr();
        let leaves_host = advertised.ip().is_loopback() && !sender.addr.ip().is_loopback();
        let is_well = entry.state == MemberState::Alive
            && !entry.unanswering
            && entry.faults().unanswered == 0
            && !entry.is_unreachable();
        let from = now - PING_GAP_ROUNDS * self.config.probe_interval;
        if (!is_well || leaves_host)
            && self
                .address
                .should_notify(now, sender.key, AddressNotice::Source, from)
        {
            self.send_observed(sender);
        }
    }

    /// Redials a held-down member at the new address that it claims, as it could not prove at the
    /// old one that it is back.
    pub(super) fn redial_at_new_addr(&mut self, now: Time, key: u64, addr: SocketAddr) {
        self.update_at(now, key, addr, |entry| {
            entry.set_addr(addr);
            // What it lost at the other address says nothing about this one.
            let faults = entry.faults_mut();
            faults.held_until = Some(now);
            faults.next_redial_at = now;
        });
    }

    /// Whether `echo` is the counter of a recent datagram of this node.
    pub(super) fn is_recent(&self, echo: u64) -> bool {
        let oldest = self
            .send_queue
            .counter
            .saturating_sub(super::join_state::ECHO_AGE_MAX);
        (oldest..=self.send_queue.counter).contains(&echo)
    }
}

/// Canonical form of an address: an IPv4 address that an IPv6 socket shows as mapped, as IPv4.
pub(crate) fn canonical(addr: SocketAddr) -> SocketAddr {
    match addr.ip().to_canonical() {
        IpAddr::V4(v4) => SocketAddr::new(v4.into(), addr.port()),
        // With its scope, without which a link-local address leads nowhere.
        IpAddr::V6(_) => addr,
    }
}

/// Form in which an address of this node is told to others: canonical, without the scope of IPv6,
/// which means something on this host alone.
pub(super) fn advertised_form(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip().to_canonical(), addr.port())
}

/// How long an observation counts, in probe intervals.
const OBSERVED_ROUNDS: u32 = 60;
/// Time without a ping after which pings no longer arrive in a row, in probe intervals: one and a
/// half are to be expected in each.
const PING_GAP_ROUNDS: u32 = 3;
/// Time without a ping after which the address leads nowhere, if pings of this node are answered;
/// also the least time between two questions, and between two changes. In probe intervals.
const SILENT_ROUNDS: u32 = 10;
/// Answers without a ping in between that show it: with loss, both would be lost.
const ANSWERS_MIN: u32 = 8;
/// Time without an answer after which answers no longer arrive in a row, in probe intervals.
const ANSWER_GAP_ROUNDS: u32 = 5;
/// Consecutive pings after which an address that led nowhere leads here.
const PINGS_MIN: u32 = 5;
/// Refutations within the window, in probe intervals, after which this node asks.
const REFUTATIONS_MIN: u32 = 3;
const REFUTE_WINDOW_ROUNDS: u32 = 60;

#[cfg(test)]
mod tests;
