//! Calls that wait for a place, in the order in which they get one. Pure: time is an argument.

use std::{
    collections::{HashMap, VecDeque},
    hash::Hash,
    time::Duration,
};

use crate::Priority;

/// Calls that wait for a place.
///
/// What matters more goes first, first attempts before retries of the same class; inside of that
/// the peer that holds the fewest places, and peers that hold the same take turns. A peer that may
/// hold no more is passed over. The queue is bounded by length: a call for which there is no room
/// takes the place of one that matters less, or of a peer that has more there, and is refused
/// otherwise. It is bounded by time too: nothing waits longer than the interval. When for an
/// interval no call has got its place within the target, the queue stands, as CoDel has it (Nichols
/// and Jacobson, 2012): then the newest go first and what is older than the target, or than two
/// places take to become free, is shed, until the queue is empty. That keeps the answers that are
/// given quick, where a queue in order would make all of them late (Maurer, "Fail at scale", 2015).
///
/// Calls that have begun and want back the place that they lent wait here too, without a bound in
/// time or number: they are as many as run. They and the others take turns.
///
/// `now` is the time since any moment, the same in all calls, and never less than before.
#[derive(Debug)]
pub(super) struct Queue<P, T> {
    bounds: Bounds,
    lines: [Line<P, T>; LINES],
    /// Calls that have begun.
    returning: Line<P, T>,
    is_turn_of_new: bool,
    len: usize,
    returning_len: usize,
    next_number: u64,
    /// When the queue was last empty, or a call got its place in time.
    good_at: Duration,
    stands: bool,
    swept_at: Duration,
    /// When the last call got its place, if the queue was not empty since.
    popped_at: Option<Duration>,
    /// Between two places that become free, smoothed.
    gap: Option<Duration>,
}

/// How much may wait and how long.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Bounds {
    pub(super) len_max: usize,
    pub(super) target: Duration,
    pub(super) interval: Duration,
}

/// A call as the queue sees it.
#[derive(Debug, Clone)]
pub(super) struct Rank<P> {
    pub(super) priority: Priority,
    pub(super) is_retry: bool,
    pub(super) peer: P,
    pub(super) deadline: Option<Duration>,
}

/// Where a call waits.
#[derive(Debug)]
pub(super) struct Place<P> {
    line: usize,
    peer: P,
    number: u64,
}

/// What became of a call that came.
#[derive(Debug)]
pub(super) enum Pushed<P, T> {
    /// It waits, and another one does no longer for it.
    Waits { place: Place<P>, shed: Option<T> },
    /// There is no room for it.
    Refused,
}

/// Gives places to peers. If a peer may not take one, no peer that holds as many or more may.
pub(super) trait Grants<P> {
    /// Places that the peer holds.
    fn held(&self, peer: &P) -> usize;
    /// Whether the place that is free was its own: others that hold as many go first.
    fn has_just_ended(&self, _peer: &P) -> bool {
        false
    }
    /// Takes a place for a call of the peer, if it may have one.
    fn try_take(&mut self, peer: &P) -> bool;
}

/// Why a call does not wait any longer and got no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    /// It has waited too long.
    Late,
    /// Its deadline has passed.
    Expired,
}

/// Calls of one class, first attempts or retries, by peer.
#[derive(Debug)]
struct Line<P, T> {
    /// Peers that have calls here; the first has the next turn.
    turns: VecDeque<P>,
    waiting: HashMap<P, VecDeque<Waiting<T>>>,
}

#[derive(Debug)]
struct Waiting<T> {
    number: u64,
    since: Duration,
    deadline: Option<Duration>,
    call: T,
}

impl<P: Clone + Eq + Hash, T> Queue<P, T> {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            lines: std::array::from_fn(|_| Line::default()),
            returning: Line::default(),
            is_turn_of_new: false,
            len: 0,
            returning_len: 0,
            next_number: 0,
            good_at: Duration::ZERO,
            stands: false,
            swept_at: Duration::ZERO,
            popped_at: None,
            gap: None,
        }
    }

    /// A call comes for which no place is free.
    pub(super) fn push(&mut self, now: Duration, rank: Rank<P>, call: T) -> Pushed<P, T> {
        let line = line(&rank);
        let mut shed = None;
        if self.len >= self.bounds.len_max {
            let Some((from, peer)) = self.victim(line, &rank.peer) else {
                return Pushed::Refused;
            };
            // Who has waited longest is next in order, and hopeless when the newest are first.
            shed = self.lines[from].take(&peer, !self.stands).map(|w| w.call);
            self.len -= 1;
        }
        if self.len == 0 {
            self.note_empty(now);
        }
        let number = self.next_number;
        self.next_number += 1;
        let waiting = Waiting {
            number,
            since: now,
            deadline: rank.deadline,
            call,
        };
        self.lines[line].add(&rank.peer, waiting);
        self.len += 1;
        let peer = rank.peer;
        let place = Place { line, peer, number };
        Pushed::Waits { place, shed }
    }

    /// Whether a call that comes would be taken.
    pub(super) fn has_room(&self, rank: &Rank<P>) -> bool {
        self.len < self.bounds.len_max || self.victim(line(rank), &rank.peer).is_some()
    }

    /// A call that has begun wants its place back.
    pub(super) fn push_returning(&mut self, peer: P, call: T) -> Place<P> {
        let number = self.next_number;
        self.next_number += 1;
        let waiting = Waiting {
            number,
            since: Duration::ZERO,
            deadline: None,
            call,
        };
        self.returning.add(&peer, waiting);
        self.returning_len += 1;
        let line = RETURNING;
        Place { line, peer, number }
    }

    /// The next call that gets a place, and its peer, for which a place was taken. Tells which ones
    /// wait no longer without one.
    pub(super) fn pop(
        &mut self,
        now: Duration,
        grants: &mut impl Grants<P>,
        mut shed: impl FnMut(T, Why),
    ) -> Option<(P, T)> {
        let mut next = None;
        if !self.is_turn_of_new {
            next = self.pop_returning(grants);
        }
        if next.is_none() {
            next = self.pop_new(now, grants, &mut shed);
        }
        if next.is_none() && self.is_turn_of_new {
            next = self.pop_returning(grants);
        }
        if self.stands {
            self.sweep(now, shed);
        }
        if self.len == 0 {
            self.note_empty(now);
        }
        next
    }

    fn pop_returning(&mut self, grants: &mut impl Grants<P>) -> Option<(P, T)> {
        let peer = self.returning.next(grants)?;
        let waiting = self.returning.take_turn(&peer, false)?;
        self.returning_len -= 1;
        self.is_turn_of_new = true;
        Some((peer, waiting.call))
    }

    fn pop_new(
        &mut self,
        now: Duration,
        grants: &mut impl Grants<P>,
        mut shed: impl FnMut(T, Why),
    ) -> Option<(P, T)> {
        let (newest, interval) = (self.stands, self.bounds.interval);
        for line in &mut self.lines {
            line.shed_hopeless(now, newest, interval, |waiting, why| {
                self.len -= 1;
                shed(waiting.call, why);
            });
            let Some(peer) = line.next(grants) else {
                continue;
            };
            let waiting = line.take_turn(&peer, newest)?;
            self.len -= 1;
            self.is_turn_of_new = false;
            self.note_pop(now, now.saturating_sub(waiting.since));
            return Some((peer, waiting.call));
        }
        None
    }

    /// A call does not wait any longer, by its own will.
    pub(super) fn remove(&mut self, place: &Place<P>) -> Option<T> {
        let Place { line, peer, number } = place;
        let removed = if *line == RETURNING {
            let removed = self.returning.remove(peer, *number)?;
            self.returning_len -= 1;
            removed
        } else {
            let removed = self.lines[*line].remove(peer, *number)?;
            self.len -= 1;
            removed
        };
        Some(removed.call)
    }

    /// Calls that wait and have not begun.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Calls that have begun and want their place back.
    pub(super) fn returning_len(&self) -> usize {
        self.returning_len
    }

    /// Whether the newest go first.
    #[cfg(test)]
    pub(super) fn stands(&self) -> bool {
        self.stands
    }

    /// How long it takes until those that wait have had their places, as far as it is known.
    pub(super) fn retry_after(&self) -> Duration {
        let calls = u32::try_from(self.len + 1).unwrap_or(u32::MAX);
        let estimate = self
            .gap
            .map_or(self.bounds.interval, |gap| gap.saturating_mul(calls));
        estimate.clamp(self.bounds.target.min(RETRY_AFTER_MAX), RETRY_AFTER_MAX)
    }

    /// Whose call makes room for one of this line and peer: the line that matters least, and the peer that has most there.
    fn victim(&self, line: usize, peer: &P) -> Option<(usize, P)> {
        let lowest = self.lines.iter().rposition(|line| !line.turns.is_empty())?;
        let longest = self.lines[lowest].longest()?;
        if lowest > line {
            return Some((lowest, longest.clone()));
        }
        let (ours, theirs) = (
            self.lines[line].count(peer),
            self.lines[lowest].count(longest),
        );
        if lowest < line {
            return None;
        }
        if theirs > ours + 1 {
            return Some((lowest, longest.clone()));
        }
        // One of the same peer, if it is the older that has no hope.
        (self.stands && ours > 0).then(|| (line, peer.clone()))
    }

    /// Sheds what is too old for a queue that stands.
    fn sweep(&mut self, now: Duration, mut shed: impl FnMut(T, Why)) {
        if now.saturating_sub(self.swept_at) < self.bounds.target / 2 {
            return;
        }
        self.swept_at = now;
        let patience = self
            .gap
            .map_or(self.bounds.target, |gap| gap.saturating_mul(2))
            .clamp(
                self.bounds.target.min(self.bounds.interval),
                self.bounds.interval,
            );
        for line in &mut self.lines {
            line.shed_older(now.saturating_sub(patience), |waiting| {
                self.len -= 1;
                let is_over = waiting.deadline.is_some_and(|deadline| deadline <= now);
                let why = if is_over { Why::Expired } else { Why::Late };
                shed(waiting.call, why);
            });
        }
    }

    fn note_pop(&mut self, now: Duration, waited: Duration) {
        if let Some(before) = self.popped_at.replace(now) {
            let sample = now.saturating_sub(before);
            self.gap = Some(self.gap.map_or(sample, |gap| (gap * 7 + sample) / 8));
        }
        if waited <= self.bounds.target && !self.stands {
            self.good_at = now;
        }
        self.stands |= now.saturating_sub(self.good_at) > self.bounds.interval;
    }

    fn note_empty(&mut self, now: Duration) {
        self.good_at = now;
        self.stands = false;
        self.popped_at = None;
    }
}

impl<P: Clone + Eq + Hash, T> Line<P, T> {
    fn add(&mut self, peer: &P, waiting: Waiting<T>) {
        let calls = self.waiting.entry(peer.clone()).or_default();
        if calls.is_empty() {
            self.turns.push_back(peer.clone());
        }
        calls.push_back(waiting);
    }

    /// The peer that holds the fewest places, of several the one that has the next turn, after a
    /// place was taken for it.
    fn next(&self, grants: &mut impl Grants<P>) -> Option<P> {
        let order = |peer: &&P| (grants.held(peer), grants.has_just_ended(peer));
        let peer = self.turns.iter().min_by_key(order)?;
        grants.try_take(peer).then(|| peer.clone())
    }

    /// Takes a call of the peer, whose next turn is after those of all others.
    fn take_turn(&mut self, peer: &P, newest: bool) -> Option<Waiting<T>> {
        if let Some(at) = self.turns.iter().position(|other| other == peer) {
            self.turns.remove(at);
            self.turns.push_back(peer.clone());
        }
        self.take(peer, newest)
    }

    /// Takes out the calls that would be next of their peers and are not worth a place any more.
    fn shed_hopeless(
        &mut self,
        now: Duration,
        newest: bool,
        interval: Duration,
        mut shed: impl FnMut(Waiting<T>, Why),
    ) {
        let mut is_shed = false;
        for calls in self.waiting.values_mut() {
            while let Some(next) = if newest { calls.back() } else { calls.front() } {
                let why = if next.deadline.is_some_and(|deadline| deadline <= now) {
                    Why::Expired
                } else if now.saturating_sub(next.since) > interval {
                    Why::Late
                } else {
                    break;
                };
                let next = if newest {
                    calls.pop_back()
                } else {
                    calls.pop_front()
                };
                is_shed = true;
                next.into_iter().for_each(|next| shed(next, why));
            }
        }
        if is_shed {
            self.forget_empty();
        }
    }

    fn take(&mut self, peer: &P, newest: bool) -> Option<Waiting<T>> {
        let calls = self.waiting.get_mut(peer)?;
        let taken = if newest {
            calls.pop_back()
        } else {
            calls.pop_front()
        };
        self.forget_if_empty(peer);
        taken
    }

    fn remove(&mut self, peer: &P, number: u64) -> Option<Waiting<T>> {
        let calls = self.waiting.get_mut(peer)?;
        let at = calls.binary_search_by_key(&number, |w| w.number).ok()?;
        let removed = calls.remove(at);
        self.forget_if_empty(peer);
        removed
    }

    fn shed_older(&mut self, than: Duration, mut shed: impl FnMut(Waiting<T>)) {
        for calls in self.waiting.values_mut() {
            let old = calls.partition_point(|waiting| waiting.since < than);
            calls.drain(..old).for_each(&mut shed);
        }
        self.forget_empty();
    }

    fn forget_empty(&mut self) {
        self.waiting.retain(|_, calls| !calls.is_empty());
        self.turns.retain(|peer| self.waiting.contains_key(peer));
    }

    fn forget_if_empty(&mut self, peer: &P) {
        if self.waiting.get(peer).is_some_and(VecDeque::is_empty) {
            self.waiting.remove(peer);
            self.turns.retain(|other| other != peer);
        }
    }

    fn count(&self, peer: &P) -> usize {
        self.waiting.get(peer).map_or(0, VecDeque::len)
    }

    fn longest(&self) -> Option<&P> {
        self.turns.iter().max_by_key(|peer| self.count(peer))
    }
}

impl<P, T> Default for Line<P, T> {
    fn default() -> Self {
        Self {
            turns: VecDeque::new(),
            waiting: HashMap::new(),
        }
    }
}

fn line<P>(rank: &Rank<P>) -> usize {
    2 * rank.priority as usize + usize::from(rank.is_retry)
}

/// First attempts and retries of each class.
const LINES: usize = 2 * Priority::ALL.len();

/// Number of the line of calls that have begun.
const RETURNING: usize = LINES;

/// What is known about a queue is not worth more.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests;
