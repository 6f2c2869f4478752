//! Admission queue: queued calls, in the order in which they get permits. Pure.

mod class_queue;
mod codel;
mod peer_queues;
mod permit_source;
mod rank;

pub(super) use self::{
    codel::QueueBounds,
    permit_source::{PermitSource, ShedReason},
    rank::Rank,
};

use std::{hash::Hash, time::Duration};

use self::{
    class_queue::{ClassQueue, QueuedCall},
    codel::CoDel,
    peer_queues::{PeerQueues, times},
    rank::{CLASSES, REACQUIRING, class_of},
};

/// Calls that wait for a permit.
///
/// The higher priority goes first, first attempts before retries of the same priority. Within such
/// a class the peer that holds the fewest permits goes first, and peers that hold the same number
/// take turns. A peer that may hold no more permits is passed over.
///
/// The length of the queue is bounded. When it is full, a call of a peer that has less than an
/// equal share of it takes the position of a call of a peer that has more. A call of a peer that
/// has its share takes the position of a less important call, of the same peer or of one that has
/// more than its share, or is rejected.
///
/// The time in the queue is bounded too: no call waits longer than the interval. Since peers take
/// turns, the queue of each peer is judged alone. When for an interval no call of the peer has got
/// its permit within the target, its queue is a standing queue in the sense of CoDel (Nichols and
/// Jacobson, 2012; for queues by flow RFC 8290). Then the newest of its calls go first and calls
/// that are older than the target, or than the time in which two of its permits become free, are
/// shed, until it has none in the queue. That keeps the answers that are given quick, where a queue
/// in order would make all of them late (Maurer, "Fail at scale", 2015). Where so many peers wait
/// that a round of turns takes longer than the interval, and would at one permit for each target,
/// all calls are judged as if they were one peer's, until a round takes no longer than the target.
///
/// Calls that have started and want back the permit that they yielded wait here too, without a
/// bound in time or number: there are no more of them than calls that run. They and the others take
/// turns.
///
/// `now` is the time since any fixed moment, the same in all calls, and never decreases.
#[derive(Debug)]
pub(super) struct AdmissionQueue<P, T> {
    bounds: QueueBounds,
    classes: [ClassQueue<P, T>; CLASSES],
    /// Calls that have started and want their permit back.
    reacquiring: ClassQueue<P, T>,
    new_goes_next: bool,
    /// Peers that have calls in the classes.
    peers: PeerQueues<P>,
    /// Delay of the calls of all peers.
    all_delay: CoDel,
    reacquiring_len: usize,
    next_number: u64,
    swept_at: Duration,
}

/// Position of a queued call.
#[derive(Debug)]
pub(super) struct QueuePosition<P> {
    class: usize,
    peer: P,
    number: u64,
}

/// Outcome of a push.
#[derive(Debug)]
pub(super) enum PushOutcome<P, T> {
    /// The call is queued. `shed` is the call that was shed for it, with its peer.
    Queued {
        position: QueuePosition<P>,
        shed: Option<(P, T)>,
    },
    /// There is no capacity for the call.
    QueueFull,
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

    /// Queues a call for which no permit is free.
    pub(super) fn push(&mut self, now: Duration, rank: Rank<P>, call: T) -> PushOutcome<P, T> {
        let class = class_of(&rank);
        let mut shed = None;
        if self.len() >= self.bounds.len_max {
            let Some((from, peer)) = self.victim(class, &rank.peer) else {
                return PushOutcome::QueueFull;
            };
            let peer = peer.clone();
            // The call that waited longest is next in order, and the least likely to be served in
            // time when the newest go first.
            let victim = self.classes[from].take_last(&peer, self.all_delay.is_standing());
            self.peers.leave(&peer, from);
            shed = victim.map(|waiting| (peer, waiting.call));
        }
        if self.len() == 0 {
            self.all_delay.record_empty(now);
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
            .enter(now, &peer, class, self.all_delay.departure_gap());
        self.classes[class].add(&peer, waiting, stands);
        let position = QueuePosition {
            class,
            peer,
            number,
        };
        PushOutcome::Queued { position, shed }
    }

    /// Whether a call that comes now would be queued.
    pub(super) fn has_capacity(&self, rank: &Rank<P>) -> bool {
        self.len() < self.bounds.len_max || self.victim(class_of(rank), &rank.peer).is_some()
    }

    fn victim(&self, class: usize, peer: &P) -> Option<(usize, &P)> {
        let (len_max, all_stand) = (self.bounds.len_max, self.all_delay.is_standing());
        self.peers.victim(class, peer, len_max, all_stand)
    }

    /// Queues a call that has started and wants its permit back, before those of its peer with
    /// higher numbers. No other queued call has this number.
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
        QueuePosition {
            class: REACQUIRING,
            peer,
            number,
        }
    }

    /// Removes the next call that gets a permit, and returns it with its peer, for which the permit
    /// was acquired. Reports the calls that leave the queue without one.
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
            self.all_delay.record_empty(now);
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
            let queue = &mut self.classes[index];
            queue.shed_expired(now, newest, interval, |peer, waiting, why| {
                self.peers.leave(peer, index);
                shed(peer, waiting.call, why);
            });
            let Some(peer) = queue.next(grants) else {
                continue;
            };
            let waiting = queue.take_next_of(&peer, newest)?;
            self.new_goes_next = false;
            self.record_pop(now, &peer, now.saturating_sub(waiting.since));
            self.peers.leave(&peer, index);
            return Some((peer, waiting.call));
        }
        None
    }

    /// Removes a call that stops waiting by itself.
    pub(super) fn remove(&mut self, position: &QueuePosition<P>) -> Option<T> {
        let QueuePosition {
            class,
            peer,
            number,
        } = position;
        let removed = if *class == REACQUIRING {
            let removed = self.reacquiring.remove(peer, *number)?;
            self.reacquiring_len -= 1;
            removed
        } else {
            let removed = self.classes[*class].remove(peer, *number)?;
            self.peers.leave(peer, *class);
            removed
        };
        Some(removed.call)
    }

    /// Queued calls that have not started.
    pub(super) fn len(&self) -> usize {
        self.peers.len()
    }

    /// Queued calls that have started and want their permit back.
    pub(super) fn reacquiring_len(&self) -> usize {
        self.reacquiring_len
    }

    /// Whether the newest calls of any peer go first.
    #[cfg(test)]
    pub(super) fn is_standing(&self) -> bool {
        self.peers.any_is_standing() || self.all_delay.is_standing()
    }

    /// Estimated time until all queued calls of the peer have had their permits.
    pub(super) fn retry_after(&self, peer: &P) -> Duration {
        let estimate = self
            .peers
            .expected_wait(peer, self.all_delay.departure_gap());
        let estimate = estimate.unwrap_or(self.bounds.interval);
        estimate.clamp(self.bounds.target.min(RETRY_AFTER_MAX), RETRY_AFTER_MAX)
    }

    /// Sheds calls that are too old for a standing queue.
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
        for (index, queue) in self.classes.iter_mut().enumerate() {
            let mut left = Vec::new();
            let peers = &self.peers;
            let than = |peer: &P, stands: bool| {
                let own = stands.then(|| peers.wait_max(peer, bounds));
                own.or(of_all).map(|wait_max| now.saturating_sub(wait_max))
            };
            queue.shed_older(than, |peer, waiting| {
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

    /// Records that a call of the peer, which is still counted, gets its permit.
    fn record_pop(&mut self, now: Duration, peer: &P, waited: Duration) {
        let bounds = &self.bounds;
        if self.peers.record_pop(now, peer, waited, bounds) {
            for queue in &mut self.classes {
                queue.set_newest_first(peer);
            }
        }
        self.all_delay.record_pop(now, waited, bounds);
        // One call of each peer.
        let count = self.peers.count();
        let round = self.all_delay.departure_gap().map(|gap| times(gap, count));
        // A few peers wait for long because one of them has long handlers: only its calls are late.
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

/// Longest estimate: what is known about a queue does not reach further.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests;
