//! Leaving: goodbye to some members until enough acknowledge it, and forced leaves.

use std::collections::BTreeSet;
use std::time::Duration;

use super::merge::RecordSource;
use super::timers::NamedTimer;
use super::{DetectorHooks, Engine, Phase, Sender};
use crate::event::{Event, MemberState};
use crate::id::NodeId;
use crate::time::Time;
use crate::wire::{Claim, Payload, Record};

/// Leave in progress.
#[derive(Debug)]
pub(crate) struct LeaveState {
    seq: u32,
    deadline: Time,
    /// Members that are told directly; the others hear it by gossip.
    notified: Vec<u64>,
    acknowledged: BTreeSet<u64>,
    notified_at: Time,
}

impl LeaveState {
    /// Whether an acknowledgement belongs to this leave.
    fn is_awaited(&self, from: u64, seq: u32) -> bool {
        self.seq == seq && self.notified.contains(&from)
    }

    /// Whether enough members acknowledged it.
    fn is_acknowledged(&self) -> bool {
        self.acknowledged.len() >= self.notified.len().min(LEAVE_ACKS_MIN)
    }

    /// Members that have not acknowledged it.
    fn unacknowledged(&self) -> impl Iterator<Item = u64> {
        let notified = self.notified.iter().copied();
        notified.filter(|key| !self.acknowledged.contains(key))
    }
}

impl<D: DetectorHooks> Engine<D> {
    /// Declares, on behalf of a member that is gone for good, that it has left (`force-leave` in
    /// Serf). This node no longer expects it and, by gossip, nor does any member that it reaches.
    /// Says whether that was done: only to a member that failed or that this node does not reach.
    ///
    /// While a partition is suspected or reported, its missing members stay expected, however long
    /// it lasts, as they cannot be told from members that serve on another side. Where an operator
    /// knows that they are gone, this is how the survivors learn it. A member that is alive all the
    /// same hears of it when it is reached again, and comes back with a higher epoch.
    pub fn force_leave(&mut self, now: Time, id: &NodeId) -> bool {
        let now = self.running_time(now);
        let key = id.key();
        let isolated = self.is_isolated(now);
        let incarnation = self.table.get(key).and_then(|entry| {
            let is_out = match entry.state {
                MemberState::Left => false,
                MemberState::Failed => true,
                MemberState::Alive | MemberState::Suspect => isolated || !self.reach.reaches(key),
            };
            (entry.epoch == id.epoch && is_out).then_some(entry.incarnation)
        });
        let Some(incarnation) = incarnation.filter(|_| self.phase == Phase::Active) else {
            return false;
        };
        self.mark_left(now, key, incarnation);
        self.check_partition(now);
        true
    }

    /// Leaves like [`leave`](Self::leave), but waits for acknowledgements for `within` at most, if
    /// the leave timeout is longer. Acknowledgements until then count.
    pub fn leave_within(&mut self, now: Time, within: Duration) {
        let now = self.running_time(now);
        self.start_leave(now, within.min(self.config.leave_timeout));
    }

    pub(super) fn start_leave(&mut self, now: Time, within: Duration) {
        if self.phase == Phase::Superseded {
            // The name is another process's: no member is to be told.
            self.phase = Phase::Left;
            return self.emit(Event::Left { acknowledged: 0 });
        }
        if self.phase != Phase::Active {
            return;
        }
        self.phase = Phase::Leaving;
        self.local.draining = true;
        self.raise_incarnation(now);
        let seq = self.probes.next_seq();
        self.leave = Some(LeaveState {
            seq,
            deadline: now + within,
            notified: self.sample_live(LEAVE_NOTIFIED_MAX, |_, _| true),
            acknowledged: BTreeSet::new(),
            notified_at: now,
        });
        // However short the time, the others are told once.
        self.send_leave(now);
        self.on_leave_timer(now);
    }

    /// Repeats the goodbye to members that have not acknowledged it, or ends the leave.
    pub(super) fn on_leave_timer(&mut self, now: Time) {
        let Some(leave) = &self.leave else { return };
        if leave.is_acknowledged() || now >= leave.deadline {
            let acknowledged = leave.acknowledged.len();
            // Sent after the others were told: they hear of it if the older process comes back.
            self.notify_older_namesake();
            self.phase = Phase::Left;
            self.leave = None;
            return self.emit(Event::Left { acknowledged });
        }
        if now >= leave.notified_at + self.config.gossip_interval {
            self.send_leave(now);
        }
    }

    fn send_leave(&mut self, now: Time) {
        let Some(leave) = &mut self.leave else { return };
        leave.notified_at = now;
        let next = (now + self.config.gossip_interval).min(leave.deadline);
        let seq = leave.seq;
        let unacknowledged: Vec<u64> = leave.unacknowledged().collect();
        for key in unacknowledged {
            self.send_to(
                key,
                Payload::Leave {
                    seq,
                    me: self.own_record(),
                },
            );
        }
        self.timers.set(NamedTimer::Leave, next);
    }

    pub(super) fn on_leave_ack(&mut self, now: Time, from: u64, seq: u32) {
        match &mut self.leave {
            Some(leave) if leave.is_awaited(from, seq) => {
                leave.acknowledged.insert(from);
                if leave.is_acknowledged() {
                    self.on_leave_timer(now);
                }
            }
            _ => self.stats.dropped.unexpected += 1,
        }
    }

    /// Handles the goodbye of a member.
    pub(super) fn on_leave(&mut self, now: Time, sender: Sender, seq: u32, me: Record) {
        if me.key() != sender.key || me.epoch != sender.epoch || me.claim != Claim::Left {
            self.stats.dropped.malformed += 1;
            return;
        }
        self.merge(now, me, RecordSource::Gossip);
        self.reply(sender, Payload::LeaveAck { seq });
    }
}

/// Most members that are told directly.
const LEAVE_NOTIFIED_MAX: usize = 8;
/// Acknowledgements that suffice, if there are so many members.
const LEAVE_ACKS_MIN: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    fn leave(notified: u64) -> LeaveState {
        LeaveState {
            seq: 5,
            deadline: Time::from_millis(3_000),
            notified: (1..=notified).collect(),
            acknowledged: BTreeSet::new(),
            notified_at: Time::ZERO,
        }
    }

    #[test]
    fn three_acknowledgements_or_all_suffice() {
        for (notified, needed) in [(0, 0), (1, 1), (2, 2), (3, 3), (8, 3)] {
            let mut leave = leave(notified);
            for from in 1..=needed {
                assert!(!leave.is_acknowledged(), "{notified} notified");
                leave.acknowledged.insert(from);
            }
            assert!(leave.is_acknowledged(), "{notified} notified");
            let left = leave.unacknowledged().count() as u64;
            assert_eq!(left, notified - needed);
        }
    }

    #[test]
    fn an_acknowledgement_counts_from_a_notified_member_and_for_this_leave() {
        let leave = leave(3);
        assert!(leave.is_awaited(3, 5));
        assert!(!leave.is_awaited(4, 5) && !leave.is_awaited(3, 4));
    }
}
