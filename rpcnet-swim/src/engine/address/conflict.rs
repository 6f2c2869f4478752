//! Address conflicts: two live nodes of different names with one advertised address.

use std::net::SocketAddr;

use super::tracker::{AddressClaimant, AddressNotice};
use super::{PING_GAP_ROUNDS, REFUTE_WINDOW_ROUNDS};
use crate::engine::{DetectorHooks, Engine, Sender};
use crate::event::{AddressStatus, Event};
use crate::time::Time;
use crate::wire::{Claim, Record};

impl<D: DetectorHooks> Engine<D> {
    /// Handles a message of a failed member. If another one has its address, both are reported.
    pub(in crate::engine) fn record_displaced(&mut self, now: Time, sender: Sender) {
        let Some(entry) = self.table.get(sender.key) else {
            return;
        };
        let (addr, name) = (entry.addr(), entry.name.clone());
        if let Some(holder) = self.other_holder(addr, sender) {
            self.report_displaced(now, sender, &name, holder);
        }
    }

    /// Record of the node that holds an address, if it is another one than the sender that claims
    /// it.
    pub(in crate::engine) fn other_holder(
        &self,
        addr: SocketAddr,
        sender: Sender,
    ) -> Option<Record> {
        if addr == self.local.addr {
            return Some(self.own_record());
        }
        let holder = self.table.at_addr(addr).filter(|key| *key != sender.key)?;
        self.table.get(holder).map(|entry| entry.alive_record())
    }

    /// Reports that `name` is there and has the address that another node holds.
    pub(in crate::engine) fn report_displaced(
        &mut self,
        now: Time,
        sender: Sender,
        name: &str,
        holder: Record,
    ) {
        let unit = self.config.probe_interval;
        let lasting_from = now - CONFLICT_ROUNDS * unit;
        let forgotten_from = now - REFUTE_WINDOW_ROUNDS * unit;
        let address = &mut self.address;
        if address.should_report_conflict(now, sender.key, lasting_from, forgotten_from) {
            let conflict = match sender.epoch > holder.epoch {
                true => conflict(holder.addr, &holder.name, name),
                false => conflict(holder.addr, name, &holder.name),
            };
            self.emit(conflict);
        }
        let from = now - PING_GAP_ROUNDS * unit;
        if self
            .address
            .should_notify(now, sender.key, AddressNotice::Conflict, from)
        {
            self.refuse(sender, holder);
        }
    }

    /// Records that another node claims the address of this one. The claim is not taken in.
    pub(in crate::engine) fn record_address_claim(&mut self, now: Time, record: &Record) -> bool {
        // An older one may be a former instance of this process, of which the sender has not heard.
        if record.epoch > self.local.epoch && matches!(record.claim, Claim::Alive(_)) {
            self.record_claimant(now, record);
        }
        false
    }

    /// Records that a peer refused this node, as another one has its address.
    pub(in crate::engine) fn record_address_refused(&mut self, now: Time, holder: &Record) {
        self.record_claimant(now, holder);
    }

    fn record_claimant(&mut self, now: Time, record: &Record) {
        match &mut self.address.claimant {
            Some(claimant) if *claimant.name == *record.name => claimant.last = now,
            claimant => {
                *claimant = Some(AddressClaimant {
                    name: record.name.to_string(),
                    epoch: record.epoch,
                    first: now,
                    last: now,
                });
            }
        }
        self.check_claimant(now);
    }

    /// Reports a conflict if another node with the address of this one has been there for a while,
    /// and no member pings this one any more: they gave the address to the other.
    pub(super) fn check_claimant(&mut self, now: Time) {
        let unit = self.config.probe_interval;
        let is_silent = now.since(self.address.pinged_at) >= PING_GAP_ROUNDS * unit;
        let Some(claimant) = &self.address.claimant else {
            return;
        };
        if now.since(claimant.last) > REFUTE_WINDOW_ROUNDS * unit {
            self.address.claimant = None;
            if self.address.status == AddressStatus::Conflict {
                self.address.status = AddressStatus::Unconfirmed;
            }
            return;
        }
        let is_lasting = claimant.last.since(claimant.first) >= CONFLICT_ROUNDS * unit;
        let is_silent = is_silent || self.table.live().is_empty();
        if is_lasting && is_silent && self.address.status != AddressStatus::Conflict {
            let (addr, name) = (self.local.addr, &self.local.name);
            let conflict = match claimant.epoch > self.local.epoch {
                true => conflict(addr, name, &claimant.name),
                false => conflict(addr, &claimant.name, name),
            };
            self.address.status = AddressStatus::Conflict;
            self.address.pings = 0;
            self.emit(conflict);
        }
    }
}

fn conflict(addr: SocketAddr, older: &str, newer: &str) -> Event {
    Event::AddressConflict {
        addr,
        older: older.to_owned(),
        newer: newer.to_owned(),
    }
}

/// Time after which a claim on the same address is no remnant of a former node, in probe intervals.
const CONFLICT_ROUNDS: u32 = 10;
