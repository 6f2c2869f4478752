//! Calls of one class that wait, by peer.

use std::{
    collections::{HashMap, VecDeque},
    hash::Hash,
    time::Duration,
};

use super::{Grants, Why};

/// Calls of one class, first attempts or retries, by peer.
#[derive(Debug)]
pub(super) struct Line<P, T> {
    /// Peers that have calls here; the first has the next turn.
    turns: VecDeque<P>,
    waiting: HashMap<P, Calls<T>>,
    /// Before this time no call that is next of its peer is hopeless, so that most places are given
    /// without a look at each peer.
    due: Duration,
}

/// Calls of one peer in a line, the oldest first.
#[derive(Debug)]
struct Calls<T> {
    waiting: VecDeque<Waiting<T>>,
    /// Whether the newest has the peer's next turn: its queue is a standing queue.
    is_newest_first: bool,
}

#[derive(Debug)]
pub(super) struct Waiting<T> {
    pub(super) number: u64,
    pub(super) since: Duration,
    pub(super) deadline: Option<Duration>,
    /// When it is not worth a place any more.
    pub(super) hopeless_at: Duration,
    pub(super) call: T,
}

impl<T> Calls<T> {
    /// When the next call is hopeless, or one that may be the next in another order.
    fn due(&self) -> Duration {
        let ends = [self.waiting.front(), self.waiting.back()];
        let due = ends.into_iter().flatten().map(|call| call.hopeless_at);
        due.min().unwrap_or(Duration::MAX)
    }

    fn next(&self, newest: bool) -> Option<&Waiting<T>> {
        if newest || self.is_newest_first {
            self.waiting.back()
        } else {
            self.waiting.front()
        }
    }

    fn take_next(&mut self, newest: bool) -> Option<Waiting<T>> {
        if newest || self.is_newest_first {
            self.waiting.pop_back()
        } else {
            self.waiting.pop_front()
        }
    }

    /// The call that is the farthest from its turn.
    fn take_last(&mut self, newest: bool) -> Option<Waiting<T>> {
        if newest || self.is_newest_first {
            self.waiting.pop_front()
        } else {
            self.waiting.pop_back()
        }
    }
}

/// `newest` says that the newest calls of all peers go first, not only those of peers for which it
/// was [set](Self::set_newest_first).
impl<P: Clone + Eq + Hash, T> Line<P, T> {
    /// A call comes, behind those of its peer with lower numbers.
    pub(super) fn add(&mut self, peer: &P, waiting: Waiting<T>, is_newest_first: bool) {
        let calls = self.waiting.entry(peer.clone()).or_insert_with(|| Calls {
            waiting: VecDeque::new(),
            is_newest_first,
        });
        if calls.waiting.is_empty() {
            self.turns.push_back(peer.clone());
        }
        let is_before = |other: &Waiting<T>| other.number < waiting.number;
        if calls.waiting.back().is_none_or(is_before) {
            calls.waiting.push_back(waiting);
        } else {
            let at = calls.waiting.partition_point(is_before);
            calls.waiting.insert(at, waiting);
        }
        self.due = self.due.min(calls.due());
    }

    /// From now on the newest calls of the peer go first, until it has none here.
    pub(super) fn set_newest_first(&mut self, peer: &P) {
        if let Some(calls) = self.waiting.get_mut(peer) {
            calls.is_newest_first = true;
        }
    }

    /// The peer that holds the fewest places, of several the one that has the next turn, after a
    /// place was taken for it.
    pub(super) fn next(&self, grants: &mut impl Grants<P>) -> Option<P> {
        let order = |peer: &&P| (grants.held(peer), grants.has_just_ended(peer));
        let peer = self.turns.iter().min_by_key(order)?;
        grants.try_take(peer).then(|| peer.clone())
    }

    /// Takes a call of the peer, whose next turn is after those of all others.
    pub(super) fn take_turn(&mut self, peer: &P, newest: bool) -> Option<Waiting<T>> {
        if let Some(at) = self.turns.iter().position(|other| other == peer) {
            self.turns.remove(at);
            self.turns.push_back(peer.clone());
        }
        let taken = self.waiting.get_mut(peer)?.take_next(newest);
        self.note_taken(peer);
        taken
    }

    /// Takes out the call of the peer that is the farthest from its turn.
    pub(super) fn take_last(&mut self, peer: &P, newest: bool) -> Option<Waiting<T>> {
        let taken = self.waiting.get_mut(peer)?.take_last(newest);
        self.note_taken(peer);
        taken
    }

    pub(super) fn remove(&mut self, peer: &P, number: u64) -> Option<Waiting<T>> {
        let calls = &mut self.waiting.get_mut(peer)?.waiting;
        let at = calls.binary_search_by_key(&number, |w| w.number).ok()?;
        let removed = calls.remove(at);
        self.note_taken(peer);
        removed
    }

    /// Takes out the calls that would be next of their peers and are not worth a place any more.
    pub(super) fn shed_hopeless(
        &mut self,
        now: Duration,
        newest: bool,
        interval: Duration,
        mut shed: impl FnMut(&P, Waiting<T>, Why),
    ) {
        if now < self.due {
            return;
        }
        self.due = Duration::MAX;
        let mut is_shed = false;
        for (peer, calls) in &mut self.waiting {
            while let Some(next) = calls.next(newest) {
                let why = if next.deadline.is_some_and(|deadline| deadline <= now) {
                    Why::Expired
                } else if now.saturating_sub(next.since) > interval {
                    Why::Late
                } else {
                    break;
                };
                is_shed = true;
                let next = calls.take_next(newest);
                next.into_iter().for_each(|next| shed(peer, next, why));
            }
            self.due = self.due.min(calls.due());
        }
        if is_shed {
            self.forget_empty();
        }
    }

    /// Takes out the calls that came before a time, which may be another one for each peer. `None`
    /// keeps those of a peer.
    pub(super) fn shed_older(
        &mut self,
        than: impl Fn(&P, bool) -> Option<Duration>,
        mut shed: impl FnMut(&P, Waiting<T>),
    ) {
        for (peer, calls) in &mut self.waiting {
            let Some(than) = than(peer, calls.is_newest_first) else {
                continue;
            };
            let old = calls.waiting.partition_point(|call| call.since < than);
            calls.waiting.drain(..old).for_each(|call| shed(peer, call));
            self.due = self.due.min(calls.due());
        }
        self.forget_empty();
    }

    fn forget_empty(&mut self) {
        self.waiting.retain(|_, calls| !calls.waiting.is_empty());
        self.turns.retain(|peer| self.waiting.contains_key(peer));
    }

    /// A call of the peer was taken out.
    fn note_taken(&mut self, peer: &P) {
        let Some(calls) = self.waiting.get(peer) else {
            return;
        };
        self.due = self.due.min(calls.due());
        if calls.waiting.is_empty() {
            self.waiting.remove(peer);
            self.turns.retain(|other| other != peer);
        }
    }
}

impl<P, T> Default for Line<P, T> {
    fn default() -> Self {
        Self {
            turns: VecDeque::new(),
            waiting: HashMap::new(),
            due: Duration::MAX,
        }
    }
}
