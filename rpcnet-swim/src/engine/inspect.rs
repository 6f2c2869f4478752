//! What the simulation's checkers look at: how full everything is, and the hash made anew.

use super::Engine;
use super::gossip::MAX_QUEUED;
use super::health::{OVERDUE_MAX, WATCHED_MAX};
use super::probe::{RELAYS_MAX, ROUNDS_MAX};
use crate::event::MemberState;
use crate::time::Time;

/// One thing that has a bound, and how full it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fill {
    pub(crate) what: &'static str,
    pub(crate) count: usize,
    pub(crate) bound: usize,
}

/// A member as the view has it, without a copy.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sight<'a> {
    pub(crate) key: u64,
    pub(crate) name: &'a str,
    pub(crate) epoch: u64,
    pub(crate) incarnation: u32,
    pub(crate) state: MemberState,
}

impl Engine {
    /// Everything that could grow.
    pub(crate) fn fills(&self) -> [Fill; 9] {
        let members = self.table.len();
        let fill = |what, count, bound| Fill { what, count, bound };
        [
            fill("rounds", self.rounds.len(), ROUNDS_MAX),
            fill("relays", self.relays.len(), RELAYS_MAX),
            fill(
                "gossip queue",
                self.queue.len(),
                MAX_QUEUED.min(members + 1),
            ),
            // Each round has one and leaves one behind, each suspicion likewise.
            fill("timers", self.timers.len(), 8 * ROUNDS_MAX + 4 * members),
            fill(
                "transmits",
                self.transmits.len(),
                super::send::TRANSMITS_MAX,
            ),
            fill("events", self.events.len(), super::EVENTS_MAX),
            fill("watched", self.trips.watched(), WATCHED_MAX),
            fill("overdue", self.trips.overdue(), OVERDUE_MAX),
            fill("hellos", self.join.hellos(), super::join::HELLOS_MAX),
        ]
    }

    pub(crate) fn sights(&self) -> impl Iterator<Item = Sight<'_>> {
        self.table.iter().map(|(key, entry)| Sight {
            key,
            name: &entry.name,
            epoch: entry.epoch,
            incarnation: entry.incarnation,
            state: entry.state,
        })
    }

    /// The hash of the view from the members alone.
    pub(crate) fn recomputed_view(&self) -> u64 {
        self.table.recomputed_view()
    }

    /// When the last member that is held down for flapping may come back.
    pub(crate) fn held_until(&self) -> Time {
        let failed = self
            .table
            .iter()
            .filter(|(_, e)| e.state == MemberState::Failed);
        let held = failed.map(|(_, e)| e.case().hold_until).max();
        held.unwrap_or_default() + self.stalled
    }
}

#[cfg(test)]
impl Engine {
    /// Changes a member behind the engine's back, to see a checker notice.
    pub(crate) fn plant(&mut self, name: &str, change: impl FnOnce(&mut super::Entry)) {
        let entry = self.table.get_mut(crate::id::name_key(name));
        change(entry.expect("there is such a member"));
    }

    /// Changes a member and what is derived from it.
    pub(crate) fn plant_update(
        &mut self,
        now: Time,
        name: &str,
        change: impl FnOnce(&mut super::Entry),
    ) {
        self.table.update(now, crate::id::name_key(name), change);
    }

    /// Sends somebody this many bytes.
    pub(crate) fn plant_datagram(&mut self, bytes: usize) {
        self.transmits.push_back((self.me.addr, vec![0; bytes]));
    }

    /// Says of a member that it failed, as if that had been judged.
    pub(crate) fn plant_failure(&mut self, now: Time, name: &str) {
        let now = self.inner_time(now);
        self.fail(now, crate::id::name_key(name));
    }

    /// Fills the gossip queue with news of nobody.
    pub(crate) fn plant_news(&mut self, count: u64) {
        (0..count).for_each(|key| self.queue.push(key));
    }
}
