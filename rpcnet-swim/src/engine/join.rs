//! Joining: hellos, challenges, and proof that a newcomer is there now. `seeds` chooses whom to
//! dial.
//!
//! A hello is answered with a challenge, which costs no memory; the hello that brings the
//! challenge's cookie back proves that its sender receives at its address now. So a replayed hello
//! changes nothing.

use std::collections::{BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::merge::RecordSource;
use super::replay::ReplayWindow;
use super::seeds::Seeds;
use super::{DetectorHooks, Engine, Phase, Sender};
use crate::error::JoinRefusal;
use crate::event::{Event, MemberState};
use crate::time::Time;
use crate::unicast::is_usable_from;
use crate::wire::{Claim, Payload, Record, Writer};

/// Progress of a node into its cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum JoinStage {
    Joining,
    /// A seed let this node in, or it needs none.
    Joined,
    /// The view has agreed with another member's since.
    ViewComplete,
}

/// Progress of joining, and known addresses of the cluster.
#[derive(Debug)]
pub(crate) struct JoinState {
    stage: JoinStage,
    /// View hash of the member that let this node in, as it was then.
    peer_view: Option<u64>,
    pub(super) seeds: Seeds,
    /// Addresses of forgotten members, to be dialled by a node that is alone.
    pub(super) address_book: VecDeque<SocketAddr>,
    /// Unanswered hellos: counter and address.
    pending_hellos: VecDeque<(u64, SocketAddr)>,
    /// Counters of recent datagrams whose challenge was answered, so that a replayed challenge is
    /// not.
    challenged: BTreeSet<u64>,
    conflict_reported: bool,
    /// Member that refused this node, and why.
    pub(super) refusal: Option<(SocketAddr, JoinRefusal)>,
    secret: u64,
}

impl JoinState {
    pub(crate) fn new(secret: u64) -> Self {
        Self {
            stage: JoinStage::Joining,
            peer_view: None,
            seeds: Seeds::new(),
            address_book: VecDeque::new(),
            pending_hellos: VecDeque::new(),
            challenged: BTreeSet::new(),
            conflict_reported: false,
            refusal: None,
            secret,
        }
    }

    pub(crate) fn is_joined(&self) -> bool {
        self.stage != JoinStage::Joining
    }

    /// Takes note that this node is in. Says whether that is new.
    pub(crate) fn enter(&mut self) -> bool {
        let is_new = !self.is_joined();
        if is_new {
            self.stage = JoinStage::Joined;
        }
        is_new
    }

    pub(super) fn is_view_complete(&self) -> bool {
        self.stage == JoinStage::ViewComplete
    }

    /// Takes note that the view agrees with another member's.
    pub(super) fn complete_view(&mut self) {
        if self.is_joined() {
            self.stage = JoinStage::ViewComplete;
        }
    }

    /// Key of the table's address hash; secret, like the value that it is derived from.
    pub(crate) fn addr_seed(&self) -> u64 {
        xxh3_64_with_seed(b"addresses", self.secret)
    }

    /// Keeps the address of a forgotten member.
    pub(crate) fn remember_addr(&mut self, addr: SocketAddr) {
        self.address_book.retain(|known| *known != addr);
        if self.address_book.len() >= ADDRESS_BOOK_MAX {
            self.address_book.pop_front();
        }
        self.address_book.push_back(addr);
    }

    /// Marks the conflict as reported. True the first time.
    pub(crate) fn report_conflict(&mut self) -> bool {
        !std::mem::replace(&mut self.conflict_reported, true)
    }

    /// Starts over as a node that has not joined; known addresses are kept.
    pub(super) fn reset(&mut self) {
        self.stage = match self.seeds.reset() {
            true => JoinStage::Joining,
            false => JoinStage::Joined,
        };
        (self.peer_view, self.refusal) = (None, None);
    }

    /// Whether `addr` is the only seed.
    pub(super) fn has_only_seed(&self, addr: SocketAddr) -> bool {
        self.seeds.addrs() == [addr]
    }

    /// Addresses where members may be, beside those of the table.
    pub(super) fn candidate_addrs(&self) -> impl Iterator<Item = SocketAddr> {
        self.seeds.addrs().iter().chain(&self.address_book).copied()
    }

    #[cfg(feature = "sim")]
    pub(crate) fn pending_hellos_len(&self) -> usize {
        self.pending_hellos.len()
    }

    fn note_hello(&mut self, counter: u64, addr: SocketAddr) {
        if self.pending_hellos.len() >= HELLOS_MAX {
            self.pending_hellos.pop_front();
        }
        self.pending_hellos.push_back((counter, addr));
    }

    /// Whether `echo`, the counter of a recent datagram, is challenged for the first time.
    fn accept_challenge(&mut self, echo: u64, counter: u64) -> bool {
        let oldest = counter.saturating_sub(ECHO_AGE_MAX);
        self.challenged = self.challenged.split_off(&oldest);
        (oldest..=counter).contains(&echo) && self.challenged.insert(echo)
    }

    /// Whether `echo` answers a hello that was sent to `addr`; it does so once.
    pub(super) fn accept_hello_answer(&mut self, echo: u64, addr: SocketAddr) -> bool {
        let found = self
            .pending_hellos
            .iter()
            .position(|hello| *hello == (echo, addr));
        found.is_some_and(|at| self.pending_hellos.remove(at).is_some())
    }

    /// Destination of the pending hello of this counter, if it is pending.
    pub(super) fn pending_hello_addr(&self, counter: u64) -> Option<SocketAddr> {
        let hello = self.pending_hellos.iter().find(|hello| hello.0 == counter);
        hello.map(|hello| hello.1)
    }

    /// Whether a hello of this counter to this address is pending.
    pub(crate) fn has_hello_to(&self, counter: u64, addr: SocketAddr) -> bool {
        self.pending_hellos.contains(&(counter, addr))
    }

    /// Proof that `sender` received something at its address in this period.
    fn cookie(&self, sender: Sender, period: u64) -> u64 {
        let mut bytes = Vec::with_capacity(40);
        bytes.put_u64(sender.instance());
        bytes.put_u64(period);
        bytes.put_addr(sender.addr);
        xxh3_64_with_seed(&bytes, self.secret).max(1)
    }

    fn is_valid_cookie(&self, cookie: u64, sender: Sender, now: Time) -> bool {
        let period = cookie_period(now);
        [period, period.saturating_sub(1)]
            .into_iter()
            .any(|period| self.cookie(sender, period) == cookie)
    }
}

impl<D: DetectorHooks> Engine<D> {
    pub(super) fn send_hello(&mut self, addr: SocketAddr, to: u64, cookie: u64) {
        self.join.note_hello(self.outbox.counter + 1, addr);
        self.send(
            addr,
            to,
            Payload::Hello {
                cookie,
                me: self.own_record(),
            },
        );
    }

    /// Asks an unknown node to say hello.
    pub(super) fn challenge(&mut self, sender: Sender) {
        self.stats.dropped.unknown_sender += 1;
        self.send_challenge(sender, None);
    }

    /// Asks for a hello with a cookie. Only an answer to a hello tells where it was `seen`.
    pub(super) fn send_challenge(&mut self, sender: Sender, seen: Option<SocketAddr>) {
        let cookie = self
            .join
            .cookie(sender, cookie_period(self.running_clock.last()));
        self.reply(
            sender,
            Payload::Challenge {
                cookie,
                echo: sender.counter,
                seen,
            },
        );
    }

    pub(super) fn on_challenge(
        &mut self,
        now: Time,
        sender: Sender,
        cookie: u64,
        echo: u64,
        seen: Option<SocketAddr>,
    ) {
        if self.on_name_challenge(now, sender, echo) {
            return;
        }
        let speaks = matches!(self.phase, Phase::Active | Phase::Superseded);
        if speaks && self.join.accept_challenge(echo, self.outbox.counter) {
            if let Some(seen) = seen.filter(|_| self.phase == Phase::Active) {
                self.note_seen_by_first_peer(now, seen);
            }
            self.send_hello(sender.addr, sender.instance(), cookie);
        } else {
            self.stats.dropped.unexpected += 1;
        }
    }

    pub(super) fn on_hello(&mut self, now: Time, sender: Sender, cookie: u64, me: Record) {
        let honest = me.key() == sender.key
            && me.epoch == sender.epoch
            && matches!(me.claim, Claim::Alive(_));
        if !honest {
            self.stats.dropped.malformed += 1;
            return;
        }
        let is_there = self.accept_counter_proof(sender, cookie)
            || self.join.is_valid_cookie(cookie, sender, now);
        if !is_there {
            return self.send_challenge(sender, Some(sender.addr));
        }
        if !is_usable_from(me.addr, sender.addr) {
            return self.refuse_join(sender, JoinRefusal::UnusableAddress);
        }
        if sender.key == self.local.key {
            if sender.epoch < self.local.epoch {
                self.on_older_namesake(sender);
                self.refuse(sender, self.record_of_name_holder());
            }
            return self.on_claim_about_self(now, &me);
        }
        if let Some(entry) = self.table.get_mut(sender.key) {
            let left = entry.epoch == sender.epoch && entry.state == MemberState::Left;
            if entry.epoch > sender.epoch || left {
                let known = entry.record();
                self.report_older_instance(sender);
                return self.refuse(sender, known);
            }
            let same = entry.epoch == sender.epoch && entry.incarnation == me.incarnation;
            if same && entry.state.is_live() && entry.addr() != me.addr {
                // Two processes of one name that started in the same millisecond: a node that moves
                // raises its incarnation.
                let known = entry.alive_record();
                return self.refuse(sender, known);
            }
            if entry.epoch == sender.epoch && !entry.replay_window.accept(sender.counter) {
                self.stats.dropped.replayed += 1;
                return self.request_counter_proof(now, sender);
            }
        }
        self.note_heard(now);
        let (addr, name) = (me.addr, me.name.clone());
        self.merge(now, me, RecordSource::Hello);
        if let Some(holder) = self.other_holder(addr, sender) {
            return self.report_displaced(now, sender, &name, holder);
        }
        if !self.is_admitted(sender, &name) {
            return;
        }
        self.start_replay_window(sender);
        if addr == sender.addr {
            self.validate_addr(sender.key, addr);
        }
        let welcome = Payload::Welcome {
            echo: sender.counter,
            view: self.table.view(),
            seen: sender.addr,
            me: self.own_record(),
        };
        self.reply(sender, welcome);
        let suspicion_record = self
            .table
            .get(sender.key)
            .and_then(|entry| entry.record_to_refute());
        if let Some(suspicion_record) = suspicion_record {
            // It has to refute what happened meanwhile.
            self.reply(
                sender,
                Payload::Gossip {
                    updates: vec![suspicion_record],
                },
            );
        }
        self.join.enter();
    }

    pub(super) fn on_welcome(
        &mut self,
        now: Time,
        sender: Sender,
        echo: u64,
        view: u64,
        seen: SocketAddr,
        me: Record,
    ) {
        if !self.join.accept_hello_answer(echo, sender.addr) || me.key() != sender.key {
            self.stats.dropped.unexpected += 1;
            return;
        }
        self.note_heard(now);
        self.merge(now, me, RecordSource::Hello);
        self.note_observed(now, sender, seen);
        self.start_replay_window(sender);
        self.validate_addr(sender.key, sender.addr);
        if self
            .table
            .get(sender.key)
            .is_none_or(|entry| entry.epoch != sender.epoch)
        {
            return;
        }
        let first = self.join.enter();
        if first {
            self.enqueue_gossip(now, self.local.key);
        }
        self.join.peer_view = Some(view);
        if view != self.table.view() {
            self.start_pull(now, sender.key, first);
        } else {
            self.join.complete_view();
        }
    }

    /// Handles the end of a full state transfer. If the view of the member that let this node in
    /// was another one, that view has changed since or was not complete: the member is probed
    /// again, and so is every member of the round robin.
    pub(super) fn on_full_state(&mut self, now: Time, from: u64) {
        if self.join.peer_view == Some(self.table.view()) {
            self.join.complete_view();
        } else if !self.join.is_view_complete() {
            self.start_probe(now, from);
        }
    }

    /// Whether this node has joined and its view has agreed with another member's since, or there
    /// is no other member: it knows all members that those who let it in know.
    pub fn is_view_complete(&self) -> bool {
        self.is_joined() && (self.join.is_view_complete() || self.table.live().is_empty())
    }

    pub(super) fn on_refused(&mut self, now: Time, sender: Sender, echo: u64, known: Record) {
        let answers_hello = self.join.accept_hello_answer(echo, sender.addr);
        if known.key() != self.local.key && known.addr == self.local.addr && self.is_recent(echo) {
            self.note_address_refused(now, &known);
            if answers_hello {
                self.note_join_refusal(sender.addr, JoinRefusal::NotAdmitted);
            }
        } else if answers_hello && known.key() == self.local.key {
            self.on_claim_about_self(now, &known);
        } else {
            self.stats.dropped.unexpected += 1;
        }
    }

    /// Handles a message of an older instance: a late datagram, a replay, or two processes of one
    /// name. If that instance is there, its hello will show it.
    pub(super) fn on_older_instance(&mut self, now: Time, sender: Sender, pings: bool) {
        self.stats.dropped.unknown_sender += 1;
        let patience = 3 * self.config.probe_interval;
        let entry = self.table.get(sender.key);
        if pings && entry.is_some_and(|entry| now.since(entry.since) >= patience) {
            self.send_challenge(sender, None);
        }
    }

    /// Reports, once, that an older instance of a live member is there, at another address.
    fn report_older_instance(&mut self, sender: Sender) {
        let Some(entry) = self.table.get_mut(sender.key) else {
            return;
        };
        let is_other = entry.state.is_live() && entry.addr() != sender.addr;
        if is_other && !std::mem::replace(&mut entry.faults_mut().conflict_reported, true) {
            let (name, newer) = (entry.name.to_string(), entry.addr());
            self.emit(Event::NameConflict {
                name,
                older: sender.addr,
                newer,
            });
        }
    }

    pub(super) fn refuse(&mut self, sender: Sender, known: Record) {
        self.reply(
            sender,
            Payload::HelloRefused {
                echo: sender.counter,
                known,
            },
        );
    }

    /// Starts the replay window at this counter: everything the sender sent before counts as seen.
    fn start_replay_window(&mut self, sender: Sender) {
        if let Some(entry) = self.table.get_mut(sender.key)
            && entry.epoch == sender.epoch
        {
            if !entry.replay_window.is_started() {
                entry.replay_window = ReplayWindow::starting_at(sender.counter);
            }
            entry.sealed_with = sender.sealed_with;
        }
    }
}

fn cookie_period(now: Time) -> u64 {
    now.as_micros() / COOKIE_PERIOD.as_micros() as u64
}

/// A cookie is valid for one to two of these periods; members are remembered longer.
const COOKIE_PERIOD: Duration = Duration::from_secs(30);
/// Age of a datagram whose challenge is answered, in datagrams.
pub(crate) const ECHO_AGE_MAX: u64 = 4_096;
/// Most hellos that wait for an answer.
pub(crate) const HELLOS_MAX: usize = 64;
/// Most addresses of forgotten members.
const ADDRESS_BOOK_MAX: usize = 64;
