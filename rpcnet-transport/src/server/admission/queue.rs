//! Calls that wait for a place, in the order in which they get one. Pure: time is an argument.

mod class_queue;
mod codel;
mod peer_queues;

use std::{hash::Hash, time::Duration};

use self::{
    class_queue::{ClassQueue, QueuedCall},
    codel::CoDel,
    peer_queues::{PeerQueues, times},
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
pub(super) struct AdmissionQueue<P, T> {
    bounds: QueueBounds,
    classes: [ClassQueue<P, T>; CLASSES],
    /// Calls that have begun.
    reacquiring: ClassQueue<P, T>,
    new_goes_next: bool,
    /// Peers that have calls in the lines.
    peers: PeerQueues<P>,
    /// Calls of all peers.
    all_delay: CoDel,
    reacquiring_len: usize,
    next_number: u64,
    swept_at: Duration,
}

/// How much may wait and how long.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct QueueBounds {
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
pub(super) struct QueuePosition<P> {
    class: usize,
    peer: P,
    number: u64,
}

/// What became of a call that came.
#[derive(Debug)]
pub(super) enum PushOutcome<P, T> {
    /// It waits. `shed` is the call that was shed for it, with its peer.
    Queued {
        position: QueuePosition<P>,
        shed: Option<(P, T)>,
    },
    /// There is no room for it.
    QueueFull,
}

/// Gives places to peers. If a peer may not take one, no peer that holds as many or more may.
pub(super) trait PermitSource<P> {
    /// Places that the peer holds.
    fn held(&self, peer: &P) -> usize;
    /// Whether the place that is free was its own: others that hold as many go first.
    fn just_released(&self, _peer: &P) -> bool {
        false
    }
    /// Takes a place for a call of the peer, if it may have one.
    fn try_acquire(&mut self, peer: &P) -> bool;
}

/// Why a call does not wait any longer and got no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ShedReason {
    /// It has waited too long.
    WaitedTooLong,
    /// Its deadline has passed.
    Expired,
}

impl<P: Clone + Eq + Hash, T> AdmissionQueue<P, T> {
    pub(super) fn new(bounds: QueueBounds) -> Self {
        Self {
            bounds,
            classes: std::array::from_fn(|_| ClassQueue::default()),
            reacquiring: ClassQueue::default(),
            new_goes_next: false,
            peers: PeerQueues::default(),
            all_delay: CoDel::new(Duration::ZERO, None),
            reacquiring_len: 0,
            next_number: 0,
            swept_at: Duration::ZERO,
        }
    }

    /// A call comes for which no place is free.
    pub(super) fn push(&mut self, now: Duration, rank: Rank<P>, call: T) -> PushOutcome<P, T> {
        let line = class_of(&rank);
        let mut shed = None;
        if self.len() >= self.bounds.len_max {
            let Some((from, peer)) = self.victim(line, &rank.peer) else {
                return PushOutcome::QueueFull;
            };
            let peer = peer.clone();
            // Who has waited longest is next in order, and hopeless when the newest are first.
            let victim = self.classes[from].take_last(&peer, self.all_delay.is_standing());
            self.peers.leave(&peer, from);
            shed = victim.map(|waiting| (peer, waiting.call));
        }
        if self.len() == 0 {
            self.all_delay.note_empty(now);
        }
        let number = self.next_number;
        self.next_number += 1;
        let late_at = now.saturating_add(self.bounds.interval);
        let waiting = QueuedCall {
            number,
            since: now,
            deadline: rank.deadline,
            expires_at: rank.deadline.map_or(late_at, |at| at.min(late_at)),
            call,
        };
        let peer = rank.peer;
        let stands = self
            .peers
            .enter(now, &peer, line, self.all_delay.departure_gap());
        self.classes[line].add(&peer, waiting, stands);
        let place = QueuePosition {
            class: line,
            peer,
            number,
        };
        PushOutcome::Queued {
            position: place,
            shed,
        }
    }

    /// Whether a call that comes would be taken.
    pub(super) fn has_room(&self, rank: &Rank<P>) -> bool {
        self.len() < self.bounds.len_max || self.victim(class_of(rank), &rank.peer).is_some()
    }

    fn victim(&self, line: usize, peer: &P) -> Option<(usize, &P)> {
        let (len_max, all_stand) = (self.bounds.len_max, self.all_delay.is_standing());
        self.peers.victim(line, peer, len_max, all_stand)
    }

    /// A call that has begun wants its place back, before those of its peer with higher numbers. No
    /// other one that wants it has this number.
    pub(super) fn push_reacquiring(&mut self, peer: P, number: u64, call: T) -> QueuePosition<P> {
        let waiting = QueuedCall {
            number,
            since: Duration::ZERO,
            deadline: None,
            expires_at: Duration::MAX,
            call,
        };
        self.reacquiring.add(&peer, waiting, false);
        self.reacquiring_len += 1;
        let line = REACQUIRING;
        QueuePosition {
            class: line,
            peer,
            number,
        }
    }

    /// The next call that gets a place, and its peer, for which a place was taken. Tells which ones
    /// wait no longer without one.
    pub(super) fn pop(
        &mut self,
        now: Duration,
        grants: &mut impl PermitSource<P>,
        mut shed: impl FnMut(&P, T, ShedReason),
    ) -> Option<(P, T)> {
        let mut next = None;
        if !self.new_goes_next {
            next = self.pop_reacquiring(grants);
        }
        if next.is_none() {
            next = self.pop_new(now, grants, &mut shed);
        }
        if next.is_none() && self.new_goes_next {
            next = self.pop_reacquiring(grants);
        }
        self.shed_stale(now, shed);
        if self.len() == 0 {
            self.all_delay.note_empty(now);
        }
        next
    }

    fn pop_reacquiring(&mut self, grants: &mut impl PermitSource<P>) -> Option<(P, T)> {
        let peer = self.reacquiring.next(grants)?;
        let waiting = self.reacquiring.take_next_of(&peer, false)?;
        self.reacquiring_len -= 1;
        self.new_goes_next = true;
        Some((peer, waiting.call))
    }

    fn pop_new(
        &mut self,
        now: Duration,
        grants: &mut impl PermitSource<P>,
        mut shed: impl FnMut(&P, T, ShedReason),
    ) -> Option<(P, T)> {
        let (newest, interval) = (self.all_delay.is_standing(), self.bounds.interval);
        for index in 0..CLASSES {
            let line = &mut self.classes[index];
            line.shed_expired(now, newest, interval, |peer, waiting, why| {
                self.peers.leave(peer, index);
                shed(peer, waiting.call, why);
            });
            let Some(peer) = line.next(grants) else {
                continue;
            };
            let waiting = line.take_next_of(&peer, newest)?;
            self.new_goes_next = false;
            self.note_pop(now, &peer, now.saturating_sub(waiting.since));
            self.peers.leave(&peer, index);
            return Some((peer, waiting.call));
        }
        None
    }

    /// A call does not wait any longer, by its own will.
    pub(super) fn remove(&mut self, place: &QueuePosition<P>) -> Option<T> {
        let QueuePosition {
            class: line,
            peer,
            number,
        } = place;
        let removed = if *line == REACQUIRING {
            let removed = self.reacquiring.remove(peer, *number)?;
            self.reacquiring_len -= 1;
            removed
        } else {
            let removed = self.classes[*line].remove(peer, *number)?;
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
    pub(super) fn reacquiring_len(&self) -> usize {
        self.reacquiring_len
    }

    /// Whether the newest calls of any peer go first.
    #[cfg(test)]
    pub(super) fn is_standing(&self) -> bool {
        self.peers.any_is_standing() || self.all_delay.is_standing()
    }

    /// How long it takes until the calls of the peer that wait have had their places, as far as it
    /// is known.
    pub(super) fn retry_after(&self, peer: &P) -> Duration {
        let estimate = self
            .peers
            .expected_wait(peer, self.all_delay.departure_gap());
        let estimate = estimate.unwrap_or(self.bounds.interval);
        estimate.clamp(self.bounds.target.min(RETRY_AFTER_MAX), RETRY_AFTER_MAX)
    }

    /// Sheds what is too old for a standing queue.
    fn shed_stale(&mut self, now: Duration, mut shed: impl FnMut(&P, T, ShedReason)) {
        let all_stand = self.all_delay.is_standing();
        if !all_stand && !self.peers.any_is_standing() {
            return;
        }
        if now.saturating_sub(self.swept_at) < self.bounds.target / 2 {
            return;
        }
        self.swept_at = now;
        let bounds = &self.bounds;
        let of_all = all_stand.then(|| self.all_delay.wait_max(bounds));
        for (index, line) in self.classes.iter_mut().enumerate() {
            let mut left = Vec::new();
            let peers = &self.peers;
            let than = |peer: &P, stands: bool| {
                let own = stands.then(|| peers.wait_max(peer, bounds));
                own.or(of_all).map(|wait_max| now.saturating_sub(wait_max))
            };
            line.shed_older(than, |peer, waiting| {
                left.push(peer.clone());
                let is_over = waiting.deadline.is_some_and(|deadline| deadline <= now);
                let why = if is_over {
                    ShedReason::Expired
                } else {
                    ShedReason::WaitedTooLong
                };
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
            for line in &mut self.classes {
                line.set_newest_first(peer);
            }
        }
        self.all_delay.note_pop(now, waited, bounds);
        // One call of each peer.
        let count = self.peers.count();
        let round = self.all_delay.departure_gap().map(|gap| times(gap, count));
        // A few peers wait for long because one of them has long handlers: its calls alone are late.
        let are_many = times(bounds.target, count) > bounds.interval;
        if self.all_delay.is_standing() {
            if round.is_some_and(|round| round <= bounds.target) {
                self.all_delay.end_standing(now);
            }
        } else if are_many
            && round.is_some_and(|round| round > bounds.interval)
            && self.all_delay.is_late(now, bounds)
        {
            self.all_delay.set_standing();
        }
    }
}

fn class_of<P>(rank: &Rank<P>) -> usize {
    2 * rank.priority as usize + usize::from(rank.is_retry)
}

/// First attempts and retries of each class.
const CLASSES: usize = 2 * Priority::ALL.len();

/// Number of the line of calls that have begun.
const REACQUIRING: usize = CLASSES;

/// What is known about a queue is not worth more.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests;
