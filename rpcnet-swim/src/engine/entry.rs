//! What is known of one member.

use std::net::SocketAddr;
use std::sync::Arc;

use super::addr::Addr;
use super::case::Case;
use super::health::Pulse;
use super::one_way::Reach;
use super::replay::ReplayWindow;
use super::suspicion::Evidence;
use crate::event::{Member, MemberState};
use crate::id::{NodeId, life_key};
use crate::tags::Tags;
use crate::time::Time;
use crate::wire::{Claim, KeySlot, Record};

/// All that is known of one member.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) name: Arc<str>,
    pub(crate) epoch: u64,
    pub(crate) incarnation: u32,
    addr: Addr,
    pub(crate) draining: bool,
    pub(crate) state: MemberState,
    pub(crate) tags: Tags,
    /// Start of this state, or of this life if it is live.
    pub(crate) since: Time,
    pub(crate) window: ReplayWindow,
    /// It did not answer a round, or as a helper, and was not heard since.
    pub(crate) silent: bool,
    /// How long it took to answer our probes, and whether it calls itself slow.
    pub(crate) pulse: Pulse,
    /// Which key its datagrams are sealed with.
    pub(crate) sealed_with: Option<KeySlot>,
    /// Rare, so apart.
    case: Option<Box<Case>>,
    pub(super) key: u64,
    /// Place in the list of the live.
    pub(super) live_at: u32,
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
            window: ReplayWindow::default(),
            silent: false,
            pulse: Pulse::new(record.slow, record.unreachable),
            sealed_with: None,
            case: None,
            key: 0,
            live_at: 0,
        }
    }

    /// Goes on with what is known of a newer life. Its tags are not.
    pub(crate) fn begin_life(&mut self, record: &Record) {
        self.epoch = record.epoch;
        self.incarnation = record.incarnation;
        self.addr = record.addr.into();
        self.draining = record.draining;
        self.pulse = Pulse::new(record.slow, record.unreachable);
        self.window = ReplayWindow::default();
        self.silent = false;
        if let Some(case) = self.open_case() {
            case.evidence = Evidence::NONE;
            case.unanswered = 0;
            case.reach = Reach::NONE;
            case.conflict_reported = false;
            case.counter_proof = None;
        }
    }

    /// What is held against it.
    pub(crate) fn case(&self) -> &Case {
        static NONE: Case = Case::NONE;
        self.case.as_deref().unwrap_or(&NONE)
    }

    /// The same to add something; [`Entry::open_case`] does to take something away.
    pub(crate) fn case_mut(&mut self) -> &mut Case {
        self.case.get_or_insert_default()
    }

    /// What is held against it, if anything is.
    pub(crate) fn open_case(&mut self) -> Option<&mut Case> {
        self.case.as_deref_mut()
    }

    /// Forgets the case of a live member if there is nothing left of it.
    pub(crate) fn close_case(&mut self) {
        if self.state.is_live() && self.case().is_settled() {
            self.case = None;
        }
    }

    /// A fresh datagram of it came. Flaps before `flaps_from` no longer count.
    pub(crate) fn heard(&mut self, sealed_with: Option<KeySlot>, flaps_from: Time) {
        self.sealed_with = sealed_with;
        self.silent = false;
        if let Some(case) = self.open_case() {
            case.forgive_flaps(flaps_from);
            case.reach.forget(flaps_from);
            self.close_case();
        }
    }

    /// Where it is reached.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr.into()
    }

    /// The same for the table.
    pub(super) fn compact_addr(&self) -> Addr {
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

    /// It answered what was sent to `addr`.
    pub(super) fn validate(&mut self, addr: SocketAddr) {
        self.addr.is_validated |= self.addr() == addr;
    }

    pub(crate) fn life(&self, key: u64) -> u64 {
        life_key(key, self.epoch)
    }

    /// What we would tell others of it.
    pub(crate) fn record(&self) -> Record {
        let claim = match (self.state, &self.case().suspicion) {
            (MemberState::Suspect, Some(suspicion)) => Claim::Suspect(suspicion.suspectors),
            (MemberState::Failed, _) => Claim::Failed,
            (MemberState::Left, _) => Claim::Left,
            _ => Claim::Alive(self.tags.clone()),
        };
        self.claiming(claim)
    }

    /// What the member itself has to hear so that it can refute it.
    pub(crate) fn accusation(&self) -> Option<Record> {
        match self.state {
            _ if self.case().claimed_failed => Some(self.claiming(Claim::Failed)),
            // One that is said to have left and speaks takes a new epoch.
            MemberState::Suspect | MemberState::Failed | MemberState::Left => Some(self.record()),
            MemberState::Alive => None,
        }
    }

    /// That it is alive: its address and tags, whatever we believe.
    pub(crate) fn alive_record(&self) -> Record {
        self.claiming(Claim::Alive(self.tags.clone()))
    }

    fn claiming(&self, claim: Claim) -> Record {
        Record {
            name: self.name.clone(),
            epoch: self.epoch,
            incarnation: self.incarnation,
            addr: self.addr(),
            draining: self.draining,
            slow: self.pulse.says_slow(),
            unreachable: self.pulse.says_unreachable(),
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
