//! All that the engine waits for, and when.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::time::Time;

/// Something to do at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// There is one of each, set anew each time.
    Single(Single),
    /// The next stage of a probe round.
    Round(u32),
    /// A helper gives up on the target of a relay.
    Relay(u32),
    /// A suspicion's time to decide or to ask again: key and generation.
    Suspicion(u64, u32),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Single {
    /// The next probe round starts; also looks for a partition.
    Probe,
    /// A burst of gossip, while there is news.
    Gossip,
    /// Dial seeds.
    Join,
    /// A page of the full state is overdue.
    Pull,
    /// Say again that we leave, or stop saying it.
    Leave,
    /// Dial failed members, forget old ones.
    Redial,
    /// Dial an alleged successor, or look whether a proven one is there.
    Conflict,
    /// The next turn of a reach check, or the next check.
    Reach,
    /// Whatever a rival waits for.
    #[cfg(feature = "sim")]
    Rival,
}

/// Singles in a table, the many in a heap. What was cancelled stays in the heap until it comes to
/// its top, which is within a round for all but suspicions.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    singles: [Option<Time>; SINGLES.len()],
    many: BinaryHeap<Reverse<(Time, Timer)>>,
}

impl Timers {
    pub(crate) fn set(&mut self, single: Single, at: Time) {
        self.singles[single as usize] = Some(at);
    }

    /// Sets a single unless it is set already.
    pub(crate) fn arm(&mut self, single: Single, at: Time) {
        self.singles[single as usize].get_or_insert(at);
    }

    /// Sets a single, unless it is due sooner already.
    pub(crate) fn advance(&mut self, single: Single, at: Time) {
        let due = self.singles[single as usize].get_or_insert(at);
        *due = at.min(*due);
    }

    pub(crate) fn is_set(&self, single: Single) -> bool {
        self.singles[single as usize].is_some()
    }

    pub(crate) fn clear(&mut self, single: Single) {
        self.singles[single as usize] = None;
    }

    pub(crate) fn push(&mut self, at: Time, timer: Timer) {
        self.many.push(Reverse((at, timer)));
    }

    /// Takes out what would come next of the many, as long as it is not `wanted`.
    pub(crate) fn prune(&mut self, wanted: impl Fn(Timer) -> bool) {
        while let Some(Reverse((_, timer))) = self.many.peek() {
            if wanted(*timer) {
                break;
            }
            self.many.pop();
        }
    }

    pub(crate) fn next(&self) -> Option<Time> {
        let many = self.many.peek().map(|Reverse((at, _))| *at);
        self.singles.iter().copied().flatten().chain(many).min()
    }

    #[cfg(feature = "sim")]
    pub(crate) fn len(&self) -> usize {
        self.many.len()
    }

    /// Takes out one that is due, the earliest first.
    pub(crate) fn pop_due(&mut self, now: Time) -> Option<Timer> {
        let at = self.next().filter(|at| *at <= now)?;
        if let Some(single) = SINGLES
            .iter()
            .copied()
            .find(|s| self.singles[*s as usize] == Some(at))
        {
            self.clear(single);
            return Some(Timer::Single(single));
        }
        self.many.pop().map(|Reverse((_, timer))| timer)
    }
}

const SINGLES: &[Single] = &[
    Single::Probe,
    Single::Gossip,
    Single::Join,
    Single::Pull,
    Single::Leave,
    Single::Redial,
    Single::Conflict,
    Single::Reach,
    #[cfg(feature = "sim")]
    Single::Rival,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earliest_comes_first_and_nothing_comes_early() {
        let at = Time::from_millis;
        let mut timers = Timers::default();
        timers.set(Single::Join, at(30));
        timers.push(at(10), Timer::Round(1));
        timers.push(at(20), Timer::Relay(2));
        timers.set(Single::Gossip, at(20));
        timers.arm(Single::Gossip, at(5));
        assert_eq!(timers.next(), Some(at(10)));
        assert_eq!(timers.pop_due(at(9)), None);
        let due: Vec<_> = std::iter::from_fn(|| timers.pop_due(at(29))).collect();
        assert_eq!(
            due,
            [
                Timer::Round(1),
                Timer::Single(Single::Gossip),
                Timer::Relay(2)
            ]
        );
        assert_eq!(timers.next(), Some(at(30)));
    }

    #[test]
    fn nobody_is_woken_for_what_is_not_wanted() {
        let at = Time::from_millis;
        let mut timers = Timers::default();
        for seq in 1..=4 {
            timers.push(at(10 * u64::from(seq)), Timer::Round(seq));
        }
        timers.prune(|timer| timer == Timer::Round(3));
        assert_eq!(timers.next(), Some(at(30)));
        timers.prune(|timer| timer == Timer::Round(4));
        assert_eq!(timers.next(), Some(at(40)));
        timers.prune(|_| false);
        assert_eq!(timers.next(), None);
    }
}
