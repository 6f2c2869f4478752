//! Timers: deadlines of the engine, one table of named ones and a heap of the others.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::time::Time;

/// Timer of the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// Named timer: there is one of each, set anew each time.
    Named(NamedTimer),
    /// Next stage of a probe round.
    ProbeRound(u32),
    /// End of a helper's wait for the target of an indirect probe.
    IndirectProbe(u32),
    /// Time of a suspicion to decide or to probe again: key and generation.
    Suspicion(u64, u32),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum NamedTimer {
    /// Next turn of probing; also checks for a partition.
    Probe,
    /// Round of gossip, while the gossip queue is not empty.
    Gossip,
    /// Next dial of seeds.
    Join,
    /// Timeout of a page of the full state.
    FullStatePull,
    /// Next goodbye, or the end of leaving.
    Leave,
    /// Next redial of failed members; also forgets old ones.
    Redial,
    /// Next dial of a claimed successor, or check of a proven one.
    NameConflict,
    /// Next turn of a reach check, or the next check.
    ReachCheck,
    /// Timer of the failure detector.
    Detector,
}

/// Named timers in a table, the others in a heap. A timer of the heap that is no longer wanted
/// stays until it reaches the top, which is within a round for all but suspicions.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    named: [Option<Time>; NAMED_TIMERS.len()],
    queue: BinaryHeap<Reverse<(Time, Timer)>>,
}

impl Timers {
    pub(crate) fn set(&mut self, single: NamedTimer, at: Time) {
        self.named[single as usize] = Some(at);
    }

    /// Sets a named timer unless it is set already.
    pub(crate) fn set_if_unset(&mut self, single: NamedTimer, at: Time) {
        self.named[single as usize].get_or_insert(at);
    }

    /// Sets a named timer, unless it is due sooner already.
    pub(crate) fn set_no_later(&mut self, single: NamedTimer, at: Time) {
        let due = self.named[single as usize].get_or_insert(at);
        *due = at.min(*due);
    }

    pub(crate) fn is_set(&self, single: NamedTimer) -> bool {
        self.named[single as usize].is_some()
    }

    pub(crate) fn clear(&mut self, single: NamedTimer) {
        self.named[single as usize] = None;
    }

    pub(crate) fn push(&mut self, at: Time, timer: Timer) {
        self.queue.push(Reverse((at, timer)));
    }

    /// Removes timers from the top of the heap until one is `wanted`.
    pub(crate) fn prune(&mut self, wanted: impl Fn(Timer) -> bool) {
        while let Some(Reverse((_, timer))) = self.queue.peek() {
            if wanted(*timer) {
                break;
            }
            self.queue.pop();
        }
    }

    pub(crate) fn next(&self) -> Option<Time> {
        let many = self.queue.peek().map(|Reverse((at, _))| *at);
        self.named.iter().copied().flatten().chain(many).min()
    }

    #[cfg(feature = "unstable")]
    pub(crate) fn len(&self) -> usize {
        self.queue.len()
    }

    /// Removes and gives one that is due, the earliest first.
    pub(crate) fn pop_due(&mut self, now: Time) -> Option<Timer> {
        let at = self.next().filter(|at| *at <= now)?;
        if let Some(single) = NAMED_TIMERS
            .iter()
            .copied()
            .find(|s| self.named[*s as usize] == Some(at))
        {
            self.clear(single);
            return Some(Timer::Named(single));
        }
        self.queue.pop().map(|Reverse((_, timer))| timer)
    }
}

const NAMED_TIMERS: &[NamedTimer] = &[
    NamedTimer::Probe,
    NamedTimer::Gossip,
    NamedTimer::Join,
    NamedTimer::FullStatePull,
    NamedTimer::Leave,
    NamedTimer::Redial,
    NamedTimer::NameConflict,
    NamedTimer::ReachCheck,
    NamedTimer::Detector,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earliest_timer_is_popped_first_and_none_early() {
        let at = Time::from_millis;
        let mut timers = Timers::default();
        timers.set(NamedTimer::Join, at(30));
        timers.push(at(10), Timer::ProbeRound(1));
        timers.push(at(20), Timer::IndirectProbe(2));
        timers.set(NamedTimer::Gossip, at(20));
        timers.set_if_unset(NamedTimer::Gossip, at(5));
        assert_eq!(timers.next(), Some(at(10)));
        assert_eq!(timers.pop_due(at(9)), None);
        let due: Vec<_> = std::iter::from_fn(|| timers.pop_due(at(29))).collect();
        assert_eq!(
            due,
            [
                Timer::ProbeRound(1),
                Timer::Named(NamedTimer::Gossip),
                Timer::IndirectProbe(2)
            ]
        );
        assert_eq!(timers.next(), Some(at(30)));
    }

    #[test]
    fn unwanted_timers_are_pruned_from_the_top() {
        let at = Time::from_millis;
        let mut timers = Timers::default();
        for seq in 1..=4 {
            timers.push(at(10 * u64::from(seq)), Timer::ProbeRound(seq));
        }
        timers.prune(|timer| timer == Timer::ProbeRound(3));
        assert_eq!(timers.next(), Some(at(30)));
        timers.prune(|timer| timer == Timer::ProbeRound(4));
        assert_eq!(timers.next(), Some(at(40)));
        timers.prune(|_| false);
        assert_eq!(timers.next(), None);
    }
}
