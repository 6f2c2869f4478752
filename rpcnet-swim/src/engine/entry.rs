//! What is known of one member.

use std::net::SocketAddr;
use std::sync::Arc;

use super::health::Pulse;
use super::replay::ReplayWindow;
use super::suspicion::{Evidence, Suspicion};
use crate::event::{Member, MemberState};
use crate::id::{NodeId, life_key};
use crate::key::KeyId;
use crate::tags::Tags;
use crate::time::Time;
use crate::wire::{Claim, Record};

/// All that is known of one member.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) name: Arc<str>,
    pub(crate) epoch: u64,
    pub(crate) incarnation: u32,
    pub(crate) addr: SocketAddr,
    pub(crate) draining: bool,
    pub(crate) state: MemberState,
    pub(crate) tags: Tags,
    /// Start of this state, or of this life if it is live.
    pub(crate) since: Time,
    pub(crate) window: ReplayWindow,
    /// What our own probes say.
    pub(crate) evidence: Evidence,
    /// How long it took to answer them, and whether it calls itself slow.
    pub(crate) pulse: Pulse,
    /// What everybody's probes say, while it is suspect.
    pub(crate) suspicion: Option<Box<Suspicion>>,
    /// Somebody's view holds it failed; one witnessed miss of our own confirms that.
    pub(crate) claimed_failed: bool,
    /// Which key its datagrams are sealed with.
    pub(crate) sealed_with: Option<KeyId>,
    /// How often it came back from the dead lately.
    pub(crate) flaps: u8,
    /// Until then a refutation does not bring it back.
    pub(crate) hold_until: Time,
    /// How often it was dialled since it failed, and when it is due again.
    pub(crate) redials: u8,
    pub(crate) redial_at: Time,
    /// An older life that still speaks was reported.
    pub(crate) conflict_reported: bool,
    /// Place in the list of the live.
    pub(super) live_at: u32,
}

impl Entry {
    pub(crate) fn new(record: &Record, tags: Tags, now: Time) -> Self {
        Self {
            name: record.name.clone(),
            epoch: record.epoch,
            incarnation: record.incarnation,
            addr: record.addr,
            draining: record.draining,
            state: MemberState::Alive,
            tags,
            since: now,
            window: ReplayWindow::default(),
            evidence: Evidence::default(),
            pulse: Pulse::new(record.slow),
            suspicion: None,
            claimed_failed: false,
            sealed_with: None,
            flaps: 0,
            hold_until: Time::ZERO,
            redials: 0,
            redial_at: Time::ZERO,
            conflict_reported: false,
            live_at: 0,
        }
    }

    /// Goes on with what is known of a newer life. Its tags are not.
    pub(crate) fn begin_life(&mut self, record: &Record) {
        self.epoch = record.epoch;
        self.incarnation = record.incarnation;
        self.addr = record.addr;
        self.draining = record.draining;
        self.pulse = Pulse::new(record.slow);
        self.window = ReplayWindow::default();
        self.evidence = Evidence::default();
        self.conflict_reported = false;
    }

    pub(crate) fn life(&self, key: u64) -> u64 {
        life_key(key, self.epoch)
    }

    /// What we would tell others of it.
    pub(crate) fn record(&self) -> Record {
        let claim = match (self.state, &self.suspicion) {
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
            _ if self.claimed_failed => Some(self.claiming(Claim::Failed)),
            MemberState::Suspect | MemberState::Failed => Some(self.record()),
            MemberState::Alive | MemberState::Left => None,
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
            addr: self.addr,
            draining: self.draining,
            slow: self.pulse.says_slow(),
            claim,
        }
    }

    pub(crate) fn member(&self) -> Member {
        Member {
            id: NodeId {
                name: self.name.clone(),
                epoch: self.epoch,
            },
            addr: self.addr,
            incarnation: self.incarnation,
            state: self.state,
            draining: self.draining,
            slow: self.is_slow(),
            tags: self.tags.clone(),
        }
    }
}
