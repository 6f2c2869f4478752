//! Entry of one member in the table.

use std::net::SocketAddr;
use std::ops::Deref;
use std::sync::Arc;

use super::compact_addr::CompactAddr;
use super::evidence::Evidence;
use super::fault_history::FaultHistory;
use super::member_info::MemberInfo;
use super::replay::ReplayWindow;
use super::rtt_state::RttState;
use super::unreachable_tracker::UnreachableTracker;
use crate::event::{Member, MemberState};
use crate::id::{NodeId, instance_key};
use crate::tags::Tags;
use crate::time::Time;
use crate::wire::{Claim, KeySlot, Record};

/// State of one member: what is claimed of it, to which it dereferences, and what this node has
/// seen of it.
#[derive(Debug)]
pub(crate) struct Entry {
    /// Counted, as engines of one process share it through an `Interner` (feature `unstable`); a
    /// lone engine pays 16 bytes for the counts, and has one kind of entry.
    info: Arc<MemberInfo>,
    /// Boxed, as a node has been in contact with few members of a large cluster.
    contact: Option<Box<MemberContact>>,
    /// Start of this state, or of this instance if it is live.
    pub(crate) since: Time,
    /// Index in the list of the live.
    pub(super) live_index: u32,
    pub(crate) state: MemberState,
    /// Whether it left a probe, or a request as helper, unanswered and was not heard since.
    pub(crate) unanswering: bool,
    /// Key that its datagrams are sealed with.
    pub(crate) sealed_with: Option<KeySlot>,
    /// Whether something sent to its address was answered.
    is_validated: bool,
}

/// Observations of a member that this node made itself.
#[derive(Debug, Default)]
pub(super) struct MemberContact {
    pub(super) replay_window: ReplayWindow,
    /// Its last round trip.
    pub(super) rtt_state: RttState,
    /// Boxed, as most members have none.
    faults: Option<Box<FaultHistory>>,
}

impl Deref for Entry {
    type Target = MemberInfo;

    fn deref(&self) -> &MemberInfo {
        &self.info
    }
}

impl Entry {
    pub(crate) fn new(record: &Record, tags: Tags, now: Time) -> Self {
        Self {
            info: Arc::new(MemberInfo::new(record, tags)),
            contact: None,
            since: now,
            live_index: 0,
            state: MemberState::Alive,
            unanswering: false,
            sealed_with: None,
            is_validated: false,
        }
    }

    /// Info of the member, to change it; a copy if it is shared.
    pub(super) fn info_mut(&mut self) -> &mut MemberInfo {
        Arc::make_mut(&mut self.info)
    }

    /// The same info, to be replaced by one that other engines share.
    #[cfg(feature = "unstable")]
    pub(super) fn shared_info(&mut self) -> &mut Arc<MemberInfo> {
        &mut self.info
    }

    pub(super) fn replay_window(&self) -> ReplayWindow {
        let contact = self.contact.as_ref();
        contact.map(|it| it.replay_window).unwrap_or_default()
    }

    pub(super) fn rtt_state(&self) -> RttState {
        let contact = self.contact.as_ref();
        contact.map(|it| it.rtt_state).unwrap_or_default()
    }

    /// Observations of this node, created if there was no contact so far.
    pub(super) fn contact_mut(&mut self) -> &mut MemberContact {
        self.contact.get_or_insert_default()
    }

    /// Clears the findings of this node about slowness.
    pub(super) fn clear_findings(&mut self) {
        if let Some(contact) = &mut self.contact {
            contact.rtt_state.clear_findings();
        }
    }

    /// Continues with a newer instance, whose tags are not known.
    pub(crate) fn start_new_instance(&mut self, record: &Record) {
        self.info_mut().update(record);
        self.unanswering = false;
        self.is_validated = false;
        if let Some(contact) = &mut self.contact {
            contact.rtt_state = RttState::default();
            contact.replay_window = ReplayWindow::default();
        }
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
        if self.addr() != record.addr {
            self.reset_unreachable();
            self.is_validated = false;
        }
        let info = self.info_mut();
        info.update(record);
        info.tags = tags.clone();
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

    /// Whether it stays failed for a while although `record`, of a newer incarnation, says that it
    /// is alive, as it flaps. One that reports itself unreachable would answer no redial, and is
    /// taken as it is.
    pub(crate) fn is_held_down(&self, now: Time, record: &Record) -> bool {
        self.state == MemberState::Failed && self.faults().is_held_down(now) && !record.unreachable
    }

    /// Fault history of the member.
    pub(crate) fn faults(&self) -> &FaultHistory {
        static NONE: FaultHistory = FaultHistory::NONE;
        let contact = self.contact.as_ref();
        contact.and_then(|it| it.faults.as_deref()).unwrap_or(&NONE)
    }

    /// History of faults, created if there is none, to record a fault.
    pub(crate) fn faults_mut(&mut self) -> &mut FaultHistory {
        self.contact_mut().faults.get_or_insert_default()
    }

    /// History of faults if there is one, to clear a fault.
    pub(crate) fn existing_faults(&mut self) -> Option<&mut FaultHistory> {
        self.contact.as_mut()?.faults.as_deref_mut()
    }

    /// Drops the fault history of a live member if nothing is left in it.
    pub(crate) fn drop_clean_faults(&mut self) {
        if self.state.is_live()
            && self.faults().is_clean()
            && let Some(contact) = &mut self.contact
        {
            contact.faults = None;
            if !contact.replay_window.is_started() && contact.rtt_state == RttState::default() {
                self.contact = None;
            }
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

    /// Advertised address in compact form.
    pub(super) fn compact_addr(&self) -> CompactAddr {
        self.info.addr
    }

    pub(crate) fn set_addr(&mut self, addr: SocketAddr) {
        if self.addr() != addr {
            self.info_mut().addr = addr.into();
            self.is_validated = false;
        }
    }

    /// Whether something that was sent to its address was answered.
    pub(super) fn is_validated(&self) -> bool {
        self.is_validated
    }

    /// Marks `addr` as validated, if it is its address.
    pub(super) fn validate(&mut self, addr: SocketAddr) {
        self.is_validated |= self.addr() == addr;
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
        self.info.record(claim)
    }

    /// Record that the member itself has to receive so that it can refute it.
    pub(crate) fn record_to_refute(&self) -> Option<Record> {
        match self.state {
            _ if self.faults().claimed_failed_at.is_some() => Some(self.info.record(Claim::Failed)),
            // A member that is said to have left and still sends takes a new epoch.
            MemberState::Suspect | MemberState::Failed | MemberState::Left => Some(self.record()),
            MemberState::Alive => None,
        }
    }

    /// Record that it is alive, with its address and tags, whatever its state.
    pub(crate) fn alive_record(&self) -> Record {
        self.info.record(Claim::Alive(self.tags.clone()))
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
            draining: self.is_draining(),
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
        assert!(size_of::<Option<Entry>>() <= 32);
    }
}
