//! Joining: hellos, challenges, and proof that a newcomer is there now. `seeds` chooses whom to
//! dial.
//!
//! A hello is answered with a challenge, which costs no memory; the hello that brings the
//! challenge's cookie back proves that its sender receives at its address now. So a replayed hello
//! changes nothing.

use std::net::SocketAddr;

use super::merge::RecordSource;
use super::replay::ReplayWindow;
use super::{DetectorHooks, Engine, Phase, Sender};
use crate::error::JoinRefusal;
use crate::event::{Event, MemberState};
use crate::time::Time;
use crate::unicast::is_usable_from;
use crate::wire::{Claim, Payload, Record, Welcome};

impl<D: DetectorHooks> Engine<D> {
    pub(super) fn send_hello(&mut self, addr: SocketAddr, to: u64, cookie: u64) {
        self.join.record_hello(self.send_queue.counter + 1, addr);
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
        let cookie = self.join.cookie(sender, self.clocks.running.last());
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
        let may_answer = matches!(self.phase, Phase::Active | Phase::Superseded);
        if may_answer && self.join.accept_challenge(echo, self.send_queue.counter) {
            if let Some(seen) = seen.filter(|_| self.phase == Phase::Active) {
                self.record_seen_by_first_peer(now, seen);
            }
            self.send_hello(sender.addr, sender.instance(), cookie);
        } else {
            self.stats.dropped.unexpected += 1;
        }
    }

    pub(super) fn on_hello(&mut self, now: Time, sender: Sender, cookie: u64, me: Record) {
        let is_consistent = me.key() == sender.key
            && me.epoch == sender.epoch
            && matches!(me.claim, Claim::Alive(_));
        if !is_consistent {
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
        if self.accept_instance(now, sender, &me) {
            self.admit(now, sender, me);
        }
    }

    /// Compares a hello with what is known of its sender. Returns `false` if it is answered by a
    /// refusal, as it is not of the newest instance, or by a request for a proof of its counter.
    fn accept_instance(&mut self, now: Time, sender: Sender, me: &Record) -> bool {
        let Some(entry) = self.table.get_mut(sender.key) else {
            return true;
        };
        let left = entry.epoch == sender.epoch && entry.state == MemberState::Left;
        if entry.epoch > sender.epoch || left {
            let known = entry.record();
            self.report_older_instance(sender);
            self.refuse(sender, known);
            return false;
        }
        let same = entry.epoch == sender.epoch && entry.incarnation == me.incarnation;
        if same && entry.state.is_live() && entry.addr() != me.addr {
            // Two processes of one name that started in the same millisecond: a node that moves
            // raises its incarnation.
            let known = entry.alive_record();
            self.refuse(sender, known);
            return false;
        }
        if entry.epoch == sender.epoch && !entry.contact_mut().replay_window.accept(sender.counter)
        {
            self.stats.dropped.replayed += 1;
            self.request_counter_proof(now, sender);
            return false;
        }
        true
    }

    /// Takes a newcomer in and welcomes it, unless another member holds its address or the table
    /// has no room.
    fn admit(&mut self, now: Time, sender: Sender, me: Record) {
        self.record_heard(now);
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
        let welcome = Welcome {
            echo: sender.counter,
            view: self.table.view(),
            seen: sender.addr,
            me: self.own_record(),
        };
        self.reply(sender, Payload::Welcome(welcome));
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

    pub(super) fn on_welcome(&mut self, now: Time, sender: Sender, welcome: Welcome) {
        let Welcome {
            echo,
            view,
            seen,
            me,
        } = welcome;
        if !self.join.accept_hello_answer(echo, sender.addr) || me.key() != sender.key {
            self.stats.dropped.unexpected += 1;
            return;
        }
        self.record_heard(now);
        self.merge(now, me, RecordSource::Hello);
        self.record_observed(now, sender, seen);
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
            self.record_address_refused(now, &known);
            if answers_hello {
                self.record_join_refusal(sender.addr, JoinRefusal::NotAdmitted);
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
        let grace = 3 * self.config.probe_interval;
        let entry = self.table.get(sender.key);
        if pings && entry.is_some_and(|entry| now.since(entry.since) >= grace) {
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
            let replay_window = &mut entry.contact_mut().replay_window;
            if !replay_window.is_started() {
                *replay_window = ReplayWindow::starting_at(sender.counter);
            }
            entry.sealed_with = sender.sealed_with;
        }
    }
}
