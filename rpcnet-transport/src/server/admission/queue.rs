//! Calls that wait for a place, in the order in which they get one. Pure: time is an argument.

mod codel;
mod line;
mod peers;

use std::{hash::Hash, time::Duration};

use self::{
    codel::CoDel,
    line::{Line, Waiting},
    peers::{Peers, times},
};
use crate::Priority;

/// Calls that wait for a place.
///
/// What matters more goes first, first attempts before retries of the same class; inside of that
/// the peer that holds the fewest places, and peers that hold the same take turns. A peer that may
/// hold no more is passed over.
///
/// The queue is bounded by length. When it is full, a call of a peer that has less than an equal
/// part of it takes the place of one of a peer that has more. A call of a peer that has its part
/// takes the place of one that matters less, of the same peer or of one that has more than its
/// part, or is refused.
///
/// It is bounded by time too: nothing waits longer than the interval. Since peers take turns, what
/// one of them queues is judged for that peer alone. When for an interval no call of the peer has
/// got its place within the target, its queue is a standing queue, as CoDel has it (Nichols and
/// Jacobson, 2012; for queues by flow RFC 8290): then the newest of its calls go first and what is
/// older than the target, or than two of its places take to become free, is shed, until it has none
/// in the queue. That keeps the answers that are given quick, where a queue in order would make all
/// of them late (Maurer, "Fail at scale", 2015). Where so many peers wait that a round of turns
/// takes longer than the interval, and would at a place for each target, all calls are judged as if
/// they were one peer's, until a round takes no longer than the target.
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
    /// Peers that have calls in the lines.
    peers: Peers<P>,
    /// Calls of all peers.
    all: CoDel,
    returning_len: usize,
    next_number: u64,
    swept_at: Duration,
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
    /// It waits. `shed` is the call that was shed for it, with its peer.
    Waits {
        place: Place<P>,
        shed: Option<(P, T)>,
    },
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

impl<P: Clone + Eq + Hash, T> Queue<P, T> {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            lines: std::array::from_fn(|_| Line::default()),
            returning: Line::default(),
            is_turn_of_new: false,
            peers: Peers::default(),
            all: CoDel::new(Duration::ZERO, None),
            returning_len: 0,
            next_number: 0,
            swept_at: Duration::ZERO,
        }
    }

    /// A call comes for which no place is free.
    pub(super) fn push(&mut self, now: Duration, rank: Rank<P>, call: T) -> Pushed<P, T> {
        let line = line(&rank);
        let mut shed = None;
        if self.len() >= self.bounds.len_max {
            let Some((from, peer)) = self.victim(line, &rank.peer) else {
                return Pushed::Refused;
            };
            let peer = peer.clone();
            // Who has waited longest is next in order, and hopeless when the newest are first.
            let victim = self.lines[from].take_last(&peer, self.all.stands());
            self.peers.leave(&peer, from);
            shed = victim.map(|waiting| (peer, waiting.call));
        }
        if self.len() == 0 {
            self.all.note_empty(now);
        }
        let number = self.next_number;
        self.next_number += 1;
        let late_at = now.saturating_add(self.bounds.interval);
        let waiting = Waiting {
            number,
            since: now,
            deadline: rank.deadline,
            hopeless_at: rank.deadline.map_or(late_at, |at| at.min(late_at)),
            call,
        };
        let peer = rank.peer;
        let stands = self.peers.enter(now, &peer, line, self.all.gap());
        self.lines[line].add(&peer, waiting, stands);
        let place = Place { line, peer, number };
        Pushed::Waits { place, shed }
    }

    /// Whether a call that comes would be taken.
    pub(super) fn has_room(&self, rank: &Rank<P>) -> bool {
        self.len() < self.bounds.len_max || self.victim(line(rank), &rank.peer).is_some()
    }

    fn victim(&self, line: usize, peer: &P) -> Option<(usize, &P)> {
        let (len_max, all_stand) = (self.bounds.len_max, self.all.stands());
        self.peers.victim(line, peer, len_max, all_stand)
    }

    /// A call that has begun wants its place back, before those of its peer with higher numbers. No
    /// other one that wants it has this number.
    pub(super) fn push_returning(&mut self, peer: P, number: u64, call: T) -> Place<P> {
        let waiting = Waiting {
            number,
            since: Duration::ZERO,
            deadline: None,
            hopeless_at: Duration::MAX,
            call,
        };
        self.returning.add(&peer, waiting, false);
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
        mut shed: impl FnMut(&P, T, Why),
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
        self.sweep(now, shed);
        if self.len() == 0 {
            self.all.note_empty(now);
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
        mut shed: impl FnMut(&P, T, Why),
    ) -> Option<(P, T)> {
        let (newest, interval) = (self.all.stands(), self.bounds.interval);
        for index in 0..LINES {
            let line = &mut self.lines[index];
            line.shed_hopeless(now, newest, interval, |peer, waiting, why| {
                self.peers.leave(peer, index);
                shed(peer, waiting.call, why);
            });
            let Some(peer) = line.next(grants) else {
                continue;
            };
            let waiting = line.take_turn(&peer, newest)?;
            self.is_turn_of_new = false;
            self.note_pop(now, &peer, now.saturating_sub(waiting.since));
            self.peers.leave(&peer, index);
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
            self.peers.leave(peer, *line);
            removed
        };
        Some(removed.call)
    }

    /// Calls that wait and have not begun.
    pub(super) fn len(&self) -> usize {
        self.peers.len()
    }

    /// Calls that have begun and want their place back.
    pub(super) fn returning_len(&self) -> usize {
        self.returning_len
    }

    /// Whether the newest calls of any peer go first.
    #[cfg(test)]
    pub(super) fn stands(&self) -> bool {
        self.peers.any_stands() || self.all.stands()
    }

    /// How long it takes until the calls of the peer that wait have had their places, as far as it
    /// is known.
    pub(super) fn retry_after(&self, peer: &P) -> Duration {
        let estimate = self.peers.wait_of_next(peer, self.all.gap());
        let estimate = estimate.unwrap_or(self.bounds.interval);
        estimate.clamp(self.bounds.target.min(RETRY_AFTER_MAX), RETRY_AFTER_MAX)
    }

    /// Sheds what is too old for a standing queue.
    fn sweep(&mut self, now: Duration, mut shed: impl FnMut(&P, T, Why)) {
        let all_stand = self.all.stands();
        if !all_stand && !self.peers.any_stands() {
            return;
        }
        if now.saturating_sub(self.swept_at) < self.bounds.target / 2 {
            return;
        }
        self.swept_at = now;
        let bounds = &self.bounds;
        let of_all = all_stand.then(|| self.all.wait_max(bounds));
        for (index, line) in self.lines.iter_mut().enumerate() {
            let mut left = Vec::new();
            let peers = &self.peers;
            let than = |peer: &P, stands: bool| {
                let own = stands.then(|| peers.wait_max(peer, bounds));
                own.or(of_all).map(|wait_max| now.saturating_sub(wait_max))
            };
            line.shed_older(than, |peer, waiting| {
                left.push(peer.clone());
                let is_over = waiting.deadline.is_some_and(|deadline| deadline <= now);
                let why = if is_over { Why::Expired } else { Why::Late };
                shed(peer, waiting.call, why);
            });
            for peer in left {
                self.peers.leave(&peer, index);
            }
        }
    }

    /// A call of the peer, which is still counted, gets its place.
    fn note_pop(&mut self, now: Duration, peer: &P, waited: Duration) {
        let bounds = &self.bounds;
        if self.peers.note_pop(now, peer, waited, bounds) {
            for line in &mut self.lines {
                line.set_newest_first(peer);
            }
        }
        self.all.note_pop(now, waited, bounds);
        // One call of each peer.
        let count = self.peers.count();
        let round = self.all.gap().map(|gap| times(gap, count));
        // A few peers wait for long because one of them has long handlers: its calls alone are late.
        let are_many = times(bounds.target, count) > bounds.interval;
        if self.all.stands() {
            if round.is_some_and(|round| round <= bounds.target) {
                self.all.end_standing(now);
            }
        } else if are_many
            && round.is_some_and(|round| round > bounds.interval)
            && self.all.is_late(now, bounds)
        {
            self.all.set_standing();
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
