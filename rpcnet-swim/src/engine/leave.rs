//! Leaving by one's own word, so that nobody has to find out.

use std::collections::BTreeSet;

use super::merge::Source;
use super::timers::Single;
use super::{Engine, Phase, Sender};
use crate::event::Event;
use crate::time::Time;
use crate::wire::{Claim, Payload, Record};

/// A leave under way.
#[derive(Debug)]
pub(crate) struct Leave {
    seq: u32,
    deadline: Time,
    /// Who is told in person; the others hear it by gossip.
    told: Vec<u64>,
    acknowledged: BTreeSet<u64>,
}

impl Engine {
    pub(super) fn start_leave(&mut self, now: Time) {
        if self.phase == Phase::Superseded {
            // The name is another's: there is nobody to tell.
            self.phase = Phase::Gone;
            return self.emit(Event::Left { acknowledged: 0 });
        }
        if self.phase != Phase::Active {
            return;
        }
        self.phase = Phase::Leaving;
        self.me.draining = true;
        self.raise_incarnation(now);
        self.seq = self.seq.wrapping_add(1);
        self.leave = Some(Leave {
            seq: self.seq,
            deadline: now + self.config.leave_timeout,
            told: self.sample_live(LEAVE_TOLD_MAX, |_, _| true),
            acknowledged: BTreeSet::new(),
        });
        self.on_leave_timer(now);
    }

    /// Says it again to those who have not acknowledged it.
    pub(super) fn on_leave_timer(&mut self, now: Time) {
        let Some(leave) = &self.leave else { return };
        let needed = leave.told.len().min(LEAVE_ACKS_MIN);
        if leave.acknowledged.len() >= needed || now >= leave.deadline {
            let acknowledged = leave.acknowledged.len();
            self.phase = Phase::Gone;
            self.leave = None;
            return self.emit(Event::Left { acknowledged });
        }
        let seq = leave.seq;
        let silent: Vec<u64> = leave
            .told
            .iter()
            .copied()
            .filter(|key| !leave.acknowledged.contains(key))
            .collect();
        for key in silent {
            self.send_to(
                key,
                Payload::Leave {
                    seq,
                    me: self.own_record(),
                },
            );
        }
        self.timers
            .set(Single::Leave, now + self.config.gossip_interval);
    }

    pub(super) fn on_leave_ack(&mut self, now: Time, from: u64, seq: u32) {
        match &mut self.leave {
            Some(leave) if leave.seq == seq && leave.told.contains(&from) => {
                leave.acknowledged.insert(from);
                if leave.acknowledged.len() >= leave.told.len().min(LEAVE_ACKS_MIN) {
                    self.on_leave_timer(now);
                }
            }
            _ => self.stats.dropped.unexpected += 1,
        }
    }

    /// A member says that it leaves.
    pub(super) fn on_leave(&mut self, now: Time, sender: Sender, seq: u32, me: Record) {
        if me.key() != sender.key || me.epoch != sender.epoch || me.claim != Claim::Left {
            self.stats.dropped.malformed += 1;
            return;
        }
        self.merge(now, me, Source::Gossip);
        self.reply(sender, Payload::LeaveAck { seq });
    }
}

/// Most members told in person.
const LEAVE_TOLD_MAX: usize = 8;
/// Acknowledgements that are enough, if there are so many members.
const LEAVE_ACKS_MIN: usize = 3;
