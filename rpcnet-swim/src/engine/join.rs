//! Getting in: seeds, hellos, and proof that a newcomer is there now.
//!
//! A newcomer's hello is answered with a challenge, which costs nothing to remember; the hello
//! that brings the challenge's cookie back proves that its sender receives at its address now. So
//! a replayed hello changes nothing.

use std::collections::{BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::entry::Entry;
use super::merge::Source;
use super::replay::ReplayWindow;
use super::timers::Single;
use super::{Engine, Phase, Sender};
use crate::error::JoinRefusal;
use crate::event::{Event, MemberState};
use crate::time::Time;
use crate::wire::{Claim, Payload, Record, Write};

/// What is known of ways into the cluster.
#[derive(Debug)]
pub(crate) struct Join {
    pub(crate) joined: bool,
    seeds: Vec<SocketAddr>,
    /// Addresses of members that were forgotten, for one that finds itself alone.
    book: VecDeque<SocketAddr>,
    /// Unanswered hellos: counter and address.
    hellos: VecDeque<(u64, SocketAddr)>,
    /// Counters of late whose challenge was answered, so that one sent again is not.
    challenged: BTreeSet<u64>,
    attempts: u32,
    wants_seeds: bool,
    conflict_reported: bool,
    /// Who did not let this node in, and why.
    pub(super) refusal: Option<(SocketAddr, JoinRefusal)>,
    secret: u64,
}

impl Join {
    pub(crate) fn new(secret: u64) -> Self {
        Self {
            joined: false,
            seeds: Vec::new(),
            book: VecDeque::new(),
            hellos: VecDeque::new(),
            challenged: BTreeSet::new(),
            attempts: 0,
            wants_seeds: true,
            conflict_reported: false,
            refusal: None,
            secret,
        }
    }

    /// Key of the table's hash of addresses; never told, like what it is made of.
    pub(crate) fn addr_seed(&self) -> u64 {
        xxh3_64_with_seed(b"addresses", self.secret)
    }

    pub(crate) fn take_wants_seeds(&mut self) -> bool {
        std::mem::take(&mut self.wants_seeds)
    }

    pub(crate) fn want_seeds(&mut self) {
        self.wants_seeds = true;
    }

    /// Keeps the address of a member that is forgotten.
    pub(crate) fn remember(&mut self, addr: SocketAddr) {
        self.book.retain(|known| *known != addr);
        if self.book.len() >= BOOK_MAX {
            self.book.pop_front();
        }
        self.book.push_back(addr);
    }

    /// True the first time.
    pub(crate) fn report_conflict(&mut self) -> bool {
        !std::mem::replace(&mut self.conflict_reported, true)
    }

    #[cfg(feature = "sim")]
    pub(crate) fn hellos(&self) -> usize {
        self.hellos.len()
    }

    fn note_hello(&mut self, counter: u64, addr: SocketAddr) {
        if self.hellos.len() >= HELLOS_MAX {
            self.hellos.pop_front();
        }
        self.hellos.push_back((counter, addr));
    }

    /// Whether `echo`, the counter of something sent lately, is challenged for the first time.
    fn take_challenge(&mut self, echo: u64, counter: u64) -> bool {
        let oldest = counter.saturating_sub(ECHO_AGE_MAX);
        self.challenged = self.challenged.split_off(&oldest);
        (oldest..=counter).contains(&echo) && self.challenged.insert(echo)
    }

    /// Whether `echo` answers a hello that was sent to `addr`; it does so once.
    pub(super) fn take_hello(&mut self, echo: u64, addr: SocketAddr) -> bool {
        let found = self.hellos.iter().position(|hello| *hello == (echo, addr));
        found.is_some_and(|at| self.hellos.remove(at).is_some())
    }

    /// What proves that the node behind `header` received something at `addr` lately.
    fn cookie(&self, sender: Sender, period: u64) -> u64 {
        let mut bytes = Vec::with_capacity(40);
        bytes.put_u64(sender.life());
        bytes.put_u64(period);
        bytes.put_addr(sender.addr);
        xxh3_64_with_seed(&bytes, self.secret).max(1)
    }

    fn is_cookie(&self, cookie: u64, sender: Sender, now: Time) -> bool {
        let period = cookie_period(now);
        [period, period.saturating_sub(1)]
            .into_iter()
            .any(|period| self.cookie(sender, period) == cookie)
    }
}

impl Engine {
    pub(super) fn set_seeds(&mut self, now: Time, seeds: &[SocketAddr]) {
        let fresh = seeds.iter().any(|seed| !self.join.seeds.contains(seed));
        self.join.seeds = seeds
            .iter()
            .copied()
            .filter(|seed| *seed != self.me.addr)
            .collect();
        let alone = self.table.live().is_empty();
        if self.join.seeds.is_empty() {
            self.join.joined |= self.join.attempts == 0;
        } else if fresh && alone {
            self.join.joined = false;
            self.join.attempts = 0;
            self.on_join_timer(now);
        }
        self.timers.arm(
            Single::Join,
            now + SEED_CHECK_ROUNDS * self.config.probe_interval,
        );
    }

    /// The next attempt asks for them again.
    pub(super) fn seeds_unresolved(&mut self, now: Time) {
        self.timers
            .arm(Single::Join, now + self.config.probe_interval / 2);
    }

    /// Out, or alone: dials every way in. In: looks now and then whether a seed belongs to
    /// another cluster of this name, to merge with it.
    pub(super) fn on_join_timer(&mut self, now: Time) {
        if self.phase != Phase::Active {
            return;
        }
        #[cfg(feature = "sim")]
        if self.rules().is_rival() && !self.rival_seeks() {
            return;
        }
        self.join.wants_seeds = true;
        let alone = self.table.live().is_empty() || self.is_isolated(now);
        if self.join.joined && !alone {
            self.join.attempts = 0;
            let strangers: Vec<_> = self.strangers().collect();
            if !strangers.is_empty() {
                let seed = strangers[self.rng.usize(..strangers.len())];
                self.send_hello(seed, 0, 0);
            }
            let wait = SEED_CHECK_ROUNDS * self.config.probe_interval;
            return self.timers.set(
                Single::Join,
                now + wait.mul_f64(0.75 + 0.5 * self.rng.f64()),
            );
        }
        let mut doors: Vec<_> = self.join.seeds.clone();
        self.rng.shuffle(&mut doors);
        doors.truncate(DOORS_MAX);
        let mut known = self.known_addrs();
        known.extend(&self.join.book);
        self.rng.shuffle(&mut known);
        doors.extend(known.into_iter().take(DOORS_MAX));
        doors.dedup();
        for door in doors {
            self.send_hello(door, 0, 0);
        }
        let wait = self
            .config
            .probe_interval
            .mul_f64(0.5 * 1.5f64.powi(self.join.attempts as i32));
        self.join.attempts = (self.join.attempts + 1).min(ATTEMPTS_MAX);
        let wait = wait.min(JOIN_BACKOFF_ROUNDS * self.config.probe_interval);
        self.timers.set(
            Single::Join,
            now + wait.mul_f64(0.75 + 0.5 * self.rng.f64()),
        );
    }

    /// Addresses of members: of all, or of some if there are many.
    fn known_addrs(&mut self) -> Vec<SocketAddr> {
        if self.table.len() <= KNOWN_MAX {
            return self.table.iter().map(|(_, entry)| entry.addr()).collect();
        }
        (0..KNOWN_MAX)
            .filter_map(|_| self.table.near(self.rng.u64(..)).map(Entry::addr))
            .collect()
    }

    pub(super) fn send_hello(&mut self, addr: SocketAddr, to: u64, cookie: u64) {
        self.join.note_hello(self.counter + 1, addr);
        self.send(
            addr,
            to,
            Payload::Hello {
                cookie,
                me: self.own_record(),
            },
        );
    }

    /// Asks a node that is not known to say hello.
    pub(super) fn challenge(&mut self, sender: Sender) {
        self.stats.dropped.unknown_sender += 1;
        self.send_challenge(sender);
    }

    pub(super) fn send_challenge(&mut self, sender: Sender) {
        let cookie = self.join.cookie(sender, cookie_period(self.last_now));
        self.reply(
            sender,
            Payload::Challenge {
                cookie,
                echo: sender.counter,
            },
        );
    }

    pub(super) fn on_challenge(&mut self, sender: Sender, cookie: u64, echo: u64) {
        match self.phase == Phase::Active && self.join.take_challenge(echo, self.counter) {
            true => self.send_hello(sender.addr, sender.life(), cookie),
            false => self.stats.dropped.unexpected += 1,
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
        if !self.join.is_cookie(cookie, sender, now) {
            return self.send_challenge(sender);
        }
        if sender.key == self.me.key {
            if sender.epoch < self.me.epoch {
                self.refuse(sender, self.own_record());
            }
            return self.hear_of_self(now, &me);
        }
        if let Some(entry) = self.table.get_mut(sender.key) {
            let left = entry.epoch == sender.epoch && entry.state == MemberState::Left;
            if entry.epoch > sender.epoch || left {
                let known = entry.record();
                self.report_older_life(sender);
                return self.refuse(sender, known);
            }
            if entry.epoch == sender.epoch && !entry.window.accept(sender.counter) {
                self.stats.dropped.replayed += 1;
                return;
            }
        }
        self.hear(now);
        let (addr, name) = (me.addr, me.name.clone());
        self.merge(now, me, Source::Hello);
        if !self.is_admitted(sender, &name) {
            return;
        }
        self.start_window(sender);
        if addr == sender.addr {
            self.validate_addr(sender.key, addr);
        }
        let welcome = Payload::Welcome {
            echo: sender.counter,
            view: self.table.view(),
            me: self.own_record(),
        };
        self.reply(sender, welcome);
        let accusation = self
            .table
            .get(sender.key)
            .and_then(|entry| entry.accusation());
        if let Some(accusation) = accusation {
            // It has to refute what happened meanwhile.
            self.reply(
                sender,
                Payload::Gossip {
                    updates: vec![accusation],
                },
            );
        }
        self.join.joined = true;
    }

    pub(super) fn on_welcome(
        &mut self,
        now: Time,
        sender: Sender,
        echo: u64,
        view: u64,
        me: Record,
    ) {
        if !self.join.take_hello(echo, sender.addr) || me.key() != sender.key {
            self.stats.dropped.unexpected += 1;
            return;
        }
        self.hear(now);
        self.merge(now, me, Source::Hello);
        self.start_window(sender);
        self.validate_addr(sender.key, sender.addr);
        if self
            .table
            .get(sender.key)
            .is_none_or(|entry| entry.epoch != sender.epoch)
        {
            return;
        }
        let first = !std::mem::replace(&mut self.join.joined, true);
        if first {
            self.spread(now, self.me.key);
        }
        if view != self.table.view() {
            self.start_pull(now, sender.key);
        }
    }

    pub(super) fn on_refused(&mut self, now: Time, sender: Sender, echo: u64, known: Record) {
        match self.join.take_hello(echo, sender.addr) && known.key() == self.me.key {
            true => self.hear_of_self(now, &known),
            false => self.stats.dropped.unexpected += 1,
        }
    }

    /// A life that was succeeded still speaks: a late datagram, an old one sent again, or two
    /// nodes of one name. If it is there, its hello will show it.
    pub(super) fn on_older_life(&mut self, now: Time, sender: Sender, pings: bool) {
        self.stats.dropped.unknown_sender += 1;
        let patience = 3 * self.config.probe_interval;
        let entry = self.table.get(sender.key);
        if pings && entry.is_some_and(|entry| now.since(entry.since) >= patience) {
            self.send_challenge(sender);
        }
    }

    /// An older life of a live member is there, elsewhere: reported once.
    fn report_older_life(&mut self, sender: Sender) {
        let Some(entry) = self.table.get_mut(sender.key) else {
            return;
        };
        let is_other = entry.state.is_live() && entry.addr() != sender.addr;
        if is_other && !std::mem::replace(&mut entry.case_mut().conflict_reported, true) {
            let (name, newer) = (entry.name.to_string(), entry.addr());
            self.emit(Event::NameConflict {
                name,
                older: sender.addr,
                newer,
            });
        }
    }

    fn refuse(&mut self, sender: Sender, known: Record) {
        self.reply(
            sender,
            Payload::Refused {
                echo: sender.counter,
                known,
            },
        );
    }

    /// Everything the sender said before counts as seen from now on.
    fn start_window(&mut self, sender: Sender) {
        if let Some(entry) = self.table.get_mut(sender.key)
            && entry.epoch == sender.epoch
        {
            if !entry.window.is_started() {
                entry.window = ReplayWindow::starting_at(sender.counter);
            }
            entry.sealed_with = sender.sealed_with;
        }
    }

    /// Seeds that are no live members.
    pub(super) fn strangers(&self) -> impl Iterator<Item = SocketAddr> {
        self.join
            .seeds
            .iter()
            .copied()
            .filter(|seed| self.table.at_addr(*seed).is_none())
    }
}

fn cookie_period(now: Time) -> u64 {
    now.as_micros() / COOKIE_PERIOD.as_micros() as u64
}

/// A cookie is good for one to two of these; members are remembered longer.
const COOKIE_PERIOD: Duration = Duration::from_secs(30);
/// How many datagrams ago a challenge's cause may have been sent.
const ECHO_AGE_MAX: u64 = 4_096;
/// Most hellos that wait for an answer.
pub(crate) const HELLOS_MAX: usize = 64;
/// Most seeds, and most known addresses, dialled at a time.
const DOORS_MAX: usize = 8;
/// Most addresses of members among which some are chosen to be dialled.
const KNOWN_MAX: usize = 64;
/// Most addresses of forgotten members.
const BOOK_MAX: usize = 64;
/// Attempts after which the wait no longer grows.
const ATTEMPTS_MAX: u32 = 16;
/// Longest wait between attempts, in probe intervals.
const JOIN_BACKOFF_ROUNDS: u32 = 10;
/// How often a member looks whether a seed belongs to another cluster, in probe intervals.
const SEED_CHECK_ROUNDS: u32 = 30;
