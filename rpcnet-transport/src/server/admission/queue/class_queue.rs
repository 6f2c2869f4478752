//! Queued calls of one class, by peer.

use std::{
    collections::{HashMap, VecDeque},
    hash::Hash,
    time::Duration,
};

use super::permit_source::{PermitSource, ShedReason};

/// Queue of one class: first attempts or retries of one priority, by peer.
#[derive(Debug)]
pub(super) struct ClassQueue<P, T> {
    /// Peers that have calls here; the first has the next turn.
    round_robin: VecDeque<P>,
    calls_by_peer: HashMap<P, PeerCalls<T>>,
    /// Before this time the next call of no peer has expired, so that most permits are granted
    /// without a look at each peer.
    next_expiry: Duration,
}

/// Calls of one peer in a class, the oldest first.
#[derive(Debug)]
struct PeerCalls<T> {
    queued: VecDeque<QueuedCall<T>>,
    /// Whether the newest call has the next turn of the peer: its queue is a standing queue.
    is_newest_first: bool,
}

#[derive(Debug)]
pub(super) struct QueuedCall<T> {
    pub(super) number: u64,
    pub(super) since: Duration,
    pub(super) deadline: Option<Duration>,
    /// When the call is shed instead of admitted.
    pub(super) expires_at: Duration,
    pub(super) call: T,
}

impl<T> PeerCalls<T> {
    /// When the next call expires, or one that may be the next in another order.
    fn next_expiry(&self) -> Duration {
        let ends = [self.queued.front(), self.queued.back()];
        let due = ends.into_iter().flatten().map(|call| call.expires_at);
        due.min().unwrap_or(Duration::MAX)
    }

    fn next(&self, newest: bool) -> Option<&QueuedCall<T>> {
        if newest || self.is_newest_first {
            self.queued.back()
        } else {
            self.queued.front()
        }
    }

    fn take_next(&mut self, newest: bool) -> Option<QueuedCall<T>> {
        if newest || self.is_newest_first {
            self.queued.pop_back()
        } else {
            self.queued.pop_front()
        }
    }

    /// The call that is the farthest from its turn.
    fn take_last(&mut self, newest: bool) -> Option<QueuedCall<T>> {
        if newest || self.is_newest_first {
            self.queued.pop_front()
        } else {
            self.queued.pop_back()
        }
    }
}

/// `newest` says that the newest calls of all peers go first, not only those of peers for which it
/// was [set](Self::set_newest_first).
impl<P: Clone + Eq + Hash, T> ClassQueue<P, T> {
    /// Adds a call, behind those of its peer with lower numbers.
    pub(super) fn add(&mut self, peer: &P, waiting: QueuedCall<T>, is_newest_first: bool) {
        let calls = self
            .calls_by_peer
            .entry(peer.clone())
            .or_insert_with(|| PeerCalls {
                queued: VecDeque::new(),
                is_newest_first,
            });
        if calls.queued.is_empty() {
            self.round_robin.push_back(peer.clone());
        }
        let is_before = |other: &QueuedCall<T>| other.number < waiting.number;
        if calls.queued.back().is_none_or(is_before) {
            calls.queued.push_back(waiting);
        } else {
            let at = calls.queued.partition_point(is_before);
            calls.queued.insert(at, waiting);
        }
        self.next_expiry = self.next_expiry.min(calls.next_expiry());
    }

    /// Lets the newest calls of the peer go first, until it has none here.
    pub(super) fn set_newest_first(&mut self, peer: &P) {
        if let Some(calls) = self.calls_by_peer.get_mut(peer) {
            calls.is_newest_first = true;
        }
    }

    /// The peer that holds the fewest permits, of several the one that has the next turn, after a
    /// permit was acquired for it.
    pub(super) fn next(&self, grants: &mut impl PermitSource<P>) -> Option<P> {
        let order = |peer: &&P| (grants.permits_held(peer), grants.just_released(peer));
        let peer = self.round_robin.iter().min_by_key(order)?;
        grants.try_acquire(peer).then(|| peer.clone())
    }

    /// Takes the next call of the peer, whose next turn is after those of all others.
    pub(super) fn take_next_of(&mut self, peer: &P, newest: bool) -> Option<QueuedCall<T>> {
        if let Some(at) = self.round_robin.iter().position(|other| other == peer) {
            self.round_robin.remove(at);
            self.round_robin.push_back(peer.clone());
        }
        let taken = self.calls_by_peer.get_mut(peer)?.take_next(newest);
        self.after_take(peer);
        taken
    }

    /// Takes the call of the peer that is the farthest from its turn.
    pub(super) fn take_last(&mut self, peer: &P, newest: bool) -> Option<QueuedCall<T>> {
        let taken = self.calls_by_peer.get_mut(peer)?.take_last(newest);
        self.after_take(peer);
        taken
    }

    pub(super) fn remove(&mut self, peer: &P, number: u64) -> Option<QueuedCall<T>> {
        let calls = &mut self.calls_by_peer.get_mut(peer)?.queued;
        let at = calls.binary_search_by_key(&number, |w| w.number).ok()?;
        let removed = calls.remove(at);
        self.after_take(peer);
        removed
    }

    /// Removes the calls that would be next of their peers and have expired.
    pub(super) fn shed_expired(
        &mut self,
        now: Duration,
        newest: bool,
        interval: Duration,
        mut shed: impl FnMut(&P, QueuedCall<T>, ShedReason),
    ) {
        if now < self.next_expiry {
            return;
        }
        self.next_expiry = Duration::MAX;
        let mut is_shed = false;
        for (peer, calls) in &mut self.calls_by_peer {
            while let Some(next) = calls.next(newest) {
                let why = if next.deadline.is_some_and(|deadline| deadline <= now) {
                    ShedReason::Expired
                } else if now.saturating_sub(next.since) > interval {
                    ShedReason::WaitedTooLong
                } else {
                    break;
                };
                is_shed = true;
                let next = calls.take_next(newest);
                next.into_iter().for_each(|next| shed(peer, next, why));
            }
            self.next_expiry = self.next_expiry.min(calls.next_expiry());
        }
        if is_shed {
            self.remove_empty();
        }
    }

    /// Removes the calls that came before a time, which may differ between peers. `None` keeps
    /// those of a peer.
    pub(super) fn shed_older(
        &mut self,
        than: impl Fn(&P, bool) -> Option<Duration>,
        mut shed: impl FnMut(&P, QueuedCall<T>),
    ) {
        for (peer, calls) in &mut self.calls_by_peer {
            let Some(than) = than(peer, calls.is_newest_first) else {
                continue;
            };
            let old = calls.queued.partition_point(|call| call.since < than);
            calls.queued.drain(..old).for_each(|call| shed(peer, call));
            self.next_expiry = self.next_expiry.min(calls.next_expiry());
        }
        self.remove_empty();
    }

    fn remove_empty(&mut self) {
        self.calls_by_peer
            .retain(|_, calls| !calls.queued.is_empty());
        self.round_robin
            .retain(|peer| self.calls_by_peer.contains_key(peer));
    }

    /// Updates the peer after one of its calls was removed.
    fn after_take(&mut self, peer: &P) {
        let Some(calls) = self.calls_by_peer.get(peer) else {
            return;
        };
        self.next_expiry = self.next_expiry.min(calls.next_expiry());
        if calls.queued.is_empty() {
            self.calls_by_peer.remove(peer);
            self.round_robin.retain(|other| other != peer);
        }
    }
}

impl<P, T> Default for ClassQueue<P, T> {
    fn default() -> Self {
        Self {
            round_robin: VecDeque::new(),
            calls_by_peer: HashMap::new(),
            next_expiry: Duration::MAX,
        }
    }
}
