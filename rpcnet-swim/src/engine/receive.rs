//! Receiving: checks of incoming messages, and their dispatch.

use super::merge::RecordSource;
use super::{DetectorHooks, Engine, Phase, Sender};
use crate::event::MemberState;
use crate::id::{instance_key, short_instance_key};
use crate::time::Time;
use crate::unicast::is_usable_from;
use crate::wire::Payload;

impl<D: DetectorHooks> Engine<D> {
    /// Checks a message and handles it: its epochs, its receiver, the addresses in it, and then
    /// whether its sender is a member whose datagram this is.
    pub(super) fn handle_message(&mut self, now: Time, sender: Sender, to: u32, payload: Payload) {
        let Some(mut payload) = self.drop_future_epochs(now, sender, payload) else {
            return;
        };
        if self.drop_misaddressed(now, sender, to, &payload)
            || !self.retain_usable_addresses(sender, &mut payload)
        {
            return;
        }
        if self.phase == Phase::Superseded {
            return self.on_message_while_superseded(now, sender, payload);
        }
        // The target of an indirect probe need not be known to the helper.
        if let Payload::Ack { seq, .. } = payload {
            self.forward_ack(sender, seq);
        }
        let Some(payload) = self.handle_join_message(now, sender, payload) else {
            return;
        };
        let is_ping = matches!(payload, Payload::Ping { .. });
        if self.accept_from_member(now, sender, is_ping) {
            self.handle_payload(now, sender, payload);
        }
    }

    /// Drops a message that is not for this instance of this node, and any after it has left. Says
    /// whether it did.
    fn drop_misaddressed(&mut self, now: Time, sender: Sender, to: u32, payload: &Payload) -> bool {
        let own_instance = instance_key(self.local.key, self.local.epoch);
        if self.phase == Phase::Left {
            self.stats.dropped.after_leave += 1;
            return true;
        }
        if to != 0 && to != short_instance_key(own_instance) {
            self.stats.dropped.misaddressed += 1;
            if matches!(payload, Payload::Ping { .. }) && self.phase != Phase::Superseded {
                // It looks for a former instance of this node. No hello, which is larger than a
                // ping and would go to whatever address a replayed ping comes from.
                self.send_challenge(sender, None);
            }
            return true;
        }
        if sender.instance() == own_instance {
            self.stats.dropped.misaddressed += 1;
            if matches!(payload, Payload::Hello { .. }) {
                self.on_own_hello(now, sender.counter);
            }
            return true;
        }
        false
    }

    /// Removes the records whose address no member could send to, and counts them. Returns `false`
    /// if the message is about one such record, and so is to be dropped.
    fn retain_usable_addresses(&mut self, sender: Sender, payload: &mut Payload) -> bool {
        let addresses_refused = &mut self.stats.unusable_addresses;
        let is_hello = matches!(payload, Payload::Hello { .. });
        payload.retain_records(|record| {
            let is_usable = is_usable_from(record.addr, sender.addr);
            *addresses_refused += u64::from(!is_usable);
            // A hello is answered: the challenge tells the newcomer where it is seen.
            is_usable || is_hello
        })
    }

    /// Handles a hello or an answer to one, whose sender need not be a member. Gives any other
    /// message back.
    #[inline]
    fn handle_join_message(
        &mut self,
        now: Time,
        sender: Sender,
        payload: Payload,
    ) -> Option<Payload> {
        match payload {
            Payload::Hello { cookie, me } => self.on_hello(now, sender, cookie, me),
            Payload::Challenge { cookie, echo, seen } => {
                self.on_challenge(now, sender, cookie, echo, seen);
            }
            Payload::Welcome(welcome) => self.on_welcome(now, sender, welcome),
            Payload::HelloRefused { echo, known } => self.on_refused(now, sender, echo, known),
            Payload::ClockSkew { echo, clock } => self.on_clock_skew(now, sender, echo, clock),
            Payload::JoinRefused { echo, reason } => self.on_join_refused(sender, echo, reason),
            other => return Some(other),
        }
        None
    }

    /// Records a sign of life of the sender. Returns `false` if the sender is not a member,
    /// or the message is of another instance or a replay: then it is to be dropped.
    fn accept_from_member(&mut self, now: Time, sender: Sender, is_ping: bool) -> bool {
        let flaps_from = self.flap_window_start(now);
        let entry = self.table.get_mut(sender.key);
        let Some(entry) = entry.filter(|entry| entry.epoch >= sender.epoch) else {
            self.challenge(sender);
            return false;
        };
        if entry.epoch > sender.epoch {
            self.on_older_instance(now, sender, is_ping);
            return false;
        }
        if !entry.contact_mut().replay_window.accept(sender.counter) {
            self.stats.dropped.replayed += 1;
            self.request_counter_proof(now, sender);
            return false;
        }
        let is_elsewhere = entry.addr() != sender.addr;
        let is_failed = entry.state == MemberState::Failed;
        entry.record_sign_of_life(now);
        if is_elsewhere {
            self.record_other_source(now, sender);
        }
        if is_failed {
            self.record_displaced(now, sender);
        }
        if let Some(entry) = self.table.get_mut(sender.key) {
            entry.on_datagram(sender.sealed_with, flaps_from);
        }
        self.record_heard(now);
        true
    }

    /// Handles a fresh message of a known member.
    pub(super) fn handle_payload(&mut self, now: Time, sender: Sender, payload: Payload) {
        match payload {
            Payload::Ping { seq, view, updates } => {
                self.record_pinged(now);
                self.merge_all(now, updates, RecordSource::Gossip);
                self.send_ack(sender, seq);
                self.compare_views(now, sender.key, view);
            }
            Payload::Ack { seq, view, updates } => {
                self.record_answered(now);
                self.merge_all(now, updates, RecordSource::Gossip);
                self.on_ack(now, sender.key, seq, true);
                self.on_check_answer(now, sender.key, seq);
                self.compare_views(now, sender.key, view);
            }
            Payload::PingReq {
                seq,
                target,
                updates,
            } => {
                self.merge_all(now, updates, RecordSource::Gossip);
                self.on_ping_req(now, sender, seq, target);
            }
            Payload::RelayedAck { seq, target } => self.on_ack(now, target, seq, false),
            Payload::Nack { seq, target } => self.on_nack(sender.key, seq, target),
            Payload::Gossip { updates } => self.merge_all(now, updates, RecordSource::Gossip),
            Payload::Leave { seq, me } => self.on_leave(now, sender, seq, me),
            Payload::LeaveAck { seq } => self.on_leave_ack(now, sender.key, seq),
            Payload::SyncDigest { buckets } => self.on_digest(now, sender, &buckets),
            Payload::SyncSummary(page) => self.on_summary(now, sender, &page),
            Payload::SyncPull { keys } => self.on_sync_pull(now, sender, &keys),
            Payload::SyncRecords { records } => self.on_sync_records(now, sender, records),
            Payload::FullPull { cursor } => self.on_full_pull(now, sender, cursor),
            Payload::FullPage {
                cursor,
                next,
                records,
            } => {
                self.on_full_page(now, sender.key, cursor, next, records);
            }
            Payload::AddrRequest => self.send_observed(sender),
            Payload::AddrObserved { echo, addr } => {
                self.on_addr_observed(now, sender, echo, addr);
            }
            Payload::Hello { .. }
            | Payload::Challenge { .. }
            | Payload::Welcome(_)
            | Payload::HelloRefused { .. }
            | Payload::ClockSkew { .. }
            | Payload::JoinRefused { .. } => unreachable!("handled before the sender is looked up"),
        }
    }
}
