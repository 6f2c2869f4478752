//! Entry of one member in the table.

use std::net::SocketAddr;
use std::sync::Arc;

use super::compact_addr::CompactAddr;
use super::evidence::Evidence;
use super::fault_history::FaultHistory;
use super::replay::ReplayWindow;
use super::rtt_state::RttState;
use super::unreachable_tracker::UnreachableTracker;
use crate::event::{Member, MemberState};
use crate::id::{NodeId, instance_key};
use crate::tags::Tags;
use crate::time::Time;
use crate::wire::{Claim, KeySlot, Record};

/// State of one member.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) name: Arc<str>,
    pub(crate) epoch: u64,
    pub(crate) incarnation: u32,
    addr: CompactAddr,
    pub(crate) draining: bool,
    pub(crate) state: MemberState,
    pub(crate) tags: Tags,
    /// Start of this state, or of this instance if it is live.
    pub(crate) since: Time,
    pub(crate) replay_window: ReplayWindow,
    /// Whether it left a probe, or a request as helper, unanswered and was not heard since.
    pub(crate) unanswering: bool,
    /// Its last round trip, and whether it reports itself slow.
    pub(crate) rtt_state: RttState,
    /// Key that its datagrams are sealed with.
    pub(crate) sealed_with: Option<KeySlot>,
    /// Boxed, as most members have none.
    faults: Option<Box<FaultHistory>>,
    pub(super) key: u64,
    /// Index in the list of the live.
    pub(super) live_index: u32,
}

impl Entry {
    pub(crate) fn new(record: &Record, tags: Tags, now: Time) -> Self {
        Self {
            name: record.name.clone(),
            epoch: record.epoch,
            incarnation: record.incarnation,
            addr: record.addr.into(),
            draining: record.draining,
            state: MemberState::Alive,
            tags,
            since: now,
            replay_window: ReplayWindow::default(),
            unanswering: false,
            rtt_state: RttState::new(record.slow, record.unreachable),
            sealed_with: None,
            faults: None,
            key: 0,
            live_index: 0,
        }
    }

    /// Continues with a newer instance, whose tags are not known.
    pub(crate) fn start_new_instance(&mut self, record: &Record) {
        self.epoch = record.epoch;
        self.incarnation = record.incarnation;
        self.addr = record.addr.into();
        self.draining = record.draining;
        self.rtt_state = RttState::new(record.slow, record.unreachable);
        self.replay_window = ReplayWindow::default();
        self.unanswering = false;
        if let Some(faults) = self.existing_faults() {
            faults.evidence = Evidence::NONE;
            faults.unanswered = 0;
            faults.unreachable = UnreachableTracker::NONE;
            faults.conflict_reported = false;
            faults.counter_proof = None;
        }
    }

    /// Takes over what the member says of itself, which is alive: it refutes its faults.
    pub(crate) fn apply_alive(&mut self, record: &Record, tags: &Tags) {
        self.incarnation = record.incarnation;
        if self.addr() != record.addr {
            self.reset_unreachable();
        }
        self.set_addr(record.addr);
        self.draining = record.draining;
        self.rtt_state.set_self_reports_slow(record.slow);
        self.rtt_state
            .set_self_reports_unreachable(record.unreachable);
        self.tags = tags.clone();
        self.state = MemberState::Alive;
        self.unanswering = false;
        if let Some(faults) = self.existing_faults() {
            faults.suspicion = None;
            faults.claimed_failed_at = None;
            faults.evidence = Evidence::NONE;
            faults.unanswered = 0;
        }
        self.drop_clean_faults();
    }

    /// Whether it stays failed for a while although it says that it is alive, as it flaps. One that
    /// refuted repeatedly and reports itself unreachable answers no redial, and is taken as it is.
    pub(crate) fn is_held_down(&self, now: Time, record: &Record) -> bool {
        let faults = self.faults();
        let is_out_of_reach = record.unreachable && faults.unreachable.refutes_often();
        self.state == MemberState::Failed && faults.is_held_down(now) && !is_out_of_reach
    }

    /// Fault history of the member.
    pub(crate) fn faults(&self) -> &FaultHistory {
        static NONE: FaultHistory = FaultHistory::NONE;
        self.faults.as_deref().unwrap_or(&NONE)
    }

    /// History of faults, created if there is none, to record a fault.
    pub(crate) fn faults_mut(&mut self) -> &mut FaultHistory {
        self.faults.get_or_insert_default()
    }

    /// History of faults if there is one, to clear a fault.
    pub(crate) fn existing_faults(&mut self) -> Option<&mut FaultHistory> {
        self.faults.as_deref_mut()
    }

    /// Drops the fault history of a live member if nothing is left in it.
    pub(crate) fn drop_clean_faults(&mut self) {
        if self.state.is_live() && self.faults().is_clean() {
            self.faults = None;
        }
    }

    /// Records a fresh datagram. Flaps whose hold ended before `flaps_from` no longer
    /// count.
    pub(crate) fn on_datagram(&mut self, sealed_with: Option<KeySlot>, flaps_from: Time) {
        self.sealed_with = sealed_with;
        self.unanswering = false;
        if let Some(faults) = self.existing_faults() {
            faults.expire_flaps(flaps_from);
            faults.unreachable.expire_refutations(flaps_from);
            self.drop_clean_faults();
        }
    }

    /// Advertised address.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr.into()
    }

    /// The same in compact form.
    pub(super) fn compact_addr(&self) -> CompactAddr {
        self.addr
    }

    pub(crate) fn set_addr(&mut self, addr: SocketAddr) {
        let addr = addr.into();
        if self.addr != addr {
            self.addr = addr;
        }
    }

    /// Whether something that was sent to its address was answered.
    pub(super) fn is_validated(&self) -> bool {
        self.addr.is_validated
    }

    /// Marks `addr` as validated, if it is its address.
    pub(super) fn validate(&mut self, addr: SocketAddr) {
        self.addr.is_validated |= self.addr() == addr;
    }

    pub(crate) fn instance(&self, key: u64) -> u64 {
        instance_key(key, self.epoch)
    }

    /// Record that this node gossips about the member.
    pub(crate) fn record(&self) -> Record {
        let claim = match (self.state, &self.faults().suspicion) {
            (MemberState::Suspect, Some(suspicion)) => Claim::Suspect(suspicion.suspectors),
            (MemberState::Failed, _) => Claim::Failed,
            (MemberState::Left, _) => Claim::Left,
            _ => Claim::Alive(self.tags.clone()),
        };
        self.record_with(claim)
    }

    /// Record that the member itself has to receive so that it can refute it.
    pub(crate) fn record_to_refute(&self) -> Option<Record> {
        match self.state {
            _ if self.faults().claimed_failed_at.is_some() => Some(self.record_with(Claim::Failed)),
            // A member that is said to have left and still sends takes a new epoch.
            MemberState::Suspect | MemberState::Failed | MemberState::Left => Some(self.record()),
            MemberState::Alive => None,
        }
    }

    /// Record that it is alive, with its address and tags, whatever its state.
    pub(crate) fn alive_record(&self) -> Record {
        self.record_with(Claim::Alive(self.tags.clone()))
    }

    fn record_with(&self, claim: Claim) -> Record {
        Record {
            name: self.name.clone(),
            epoch: self.epoch,
            incarnation: self.incarnation,
            addr: self.addr(),
            draining: self.draining,
            slow: self.rtt_state.self_reports_slow(),
            unreachable: self.rtt_state.self_reports_unreachable(),
            claim,
        }
    }

    pub(crate) fn member(&self) -> Member {
        Member {
            id: NodeId {
                name: self.name.clone(),
                epoch: self.epoch,
            },
            addr: self.addr(),
            incarnation: self.incarnation,
            state: self.state,
            draining: self.draining,
            slow: self.is_slow(),
            unreachable: self.is_unreachable() && self.state.is_live(),
            tags: self.tags.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_small() {
        assert!(size_of::<Option<Entry>>() <= 120);
    }
}
