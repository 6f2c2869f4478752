//! Queues of the peers: how many calls each has queued, and for how long they wait.

use std::{collections::HashMap, hash::Hash, time::Duration};

use super::{
    codel::{CoDel, QueueBounds},
    rank::CLASSES,
};

/// Peers that have queued calls, until their last call leaves the queue.
#[derive(Debug)]
pub(super) struct PeerQueues<P> {
    by_peer: HashMap<P, PeerQueue>,
    /// Queued calls of all peers.
    len: usize,
    /// Peers that have a standing queue.
    standing_count: usize,
    next_number: u64,
}

/// Queue of one peer.
#[derive(Debug)]
struct PeerQueue {
    /// Number of calls in each class.
    len_by_class: [usize; CLASSES],
    len: usize,
    delay: CoDel,
    /// Peers that came later have higher numbers.
    number: u64,
}

impl PeerQueue {
    /// The class of its least important calls.
    fn lowest_class(&self) -> Option<usize> {
        self.len_by_class.iter().rposition(|len| *len > 0)
    }
}

impl<P: Clone + Eq + Hash> PeerQueues<P> {
    /// Adds a call of the peer. `gap` is the departure gap of all peers. Returns whether the peer
    /// has a standing queue.
    pub(super) fn enter(
        &mut self,
        now: Duration,
        peer: &P,
        class: usize,
        gap: Option<Duration>,
    ) -> bool {
        let (count, number) = (self.count() + 1, self.next_number);
        let queue = self.by_peer.entry(peer.clone()).or_insert_with(|| {
            // The peer takes turns with the others.
            let gap = gap.map(|gap| times(gap, count));
            PeerQueue {
                len_by_class: [0; CLASSES],
                len: 0,
                delay: CoDel::new(now, gap),
                number,
            }
        });
        queue.len_by_class[class] += 1;
        queue.len += 1;
        self.next_number += 1;
        self.len += 1;
        queue.delay.is_standing()
    }

    /// Removes a call of the peer, with a permit or without one.
    pub(super) fn leave(&mut self, peer: &P, class: usize) {
        let Some(queue) = self.by_peer.get_mut(peer) else {
            debug_assert!(false, "a call of a peer that has none");
            return;
        };
        self.len -= 1;
        queue.len_by_class[class] -= 1;
        queue.len -= 1;
        if queue.len == 0 {
            self.standing_count -= usize::from(queue.delay.is_standing());
            self.by_peer.remove(peer);
        }
    }

    /// Records that a call of the peer, which is still counted, gets its permit. Returns whether
    /// this makes the queue of the peer a standing queue.
    pub(super) fn record_pop(
        &mut self,
        now: Duration,
        peer: &P,
        waited: Duration,
        bounds: &QueueBounds,
    ) -> bool {
        let Some(PeerQueue { delay, .. }) = self.by_peer.get_mut(peer) else {
            return false;
        };
        delay.record_pop(now, waited, bounds);
        let begins = !delay.is_standing() && delay.is_late(now, bounds);
        if begins {
            delay.set_standing();
            self.standing_count += 1;
        }
        begins
    }

    /// Queued calls of all peers.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Number of peers.
    pub(super) fn count(&self) -> usize {
        self.by_peer.len()
    }

    /// Whether any peer has a standing queue.
    pub(super) fn any_is_standing(&self) -> bool {
        self.standing_count > 0
    }

    /// How long calls of a peer with a standing queue may wait.
    pub(super) fn wait_max(&self, peer: &P, bounds: &QueueBounds) -> Duration {
        let queue = self.by_peer.get(peer);
        queue.map_or(bounds.target, |queue| queue.delay.wait_max(bounds))
    }

    /// Estimated time until the queued calls of the peer, and one more, have had their permits.
    /// `gap` is the departure gap of all peers.
    pub(super) fn expected_wait(&self, peer: &P, gap: Option<Duration>) -> Option<Duration> {
        let queue = self.by_peer.get(peer);
        let count = self.count() + usize::from(queue.is_none());
        let own_gap = queue.and_then(|queue| queue.delay.departure_gap());
        let own_gap = own_gap.or_else(|| gap.map(|gap| times(gap, count)))?;
        Some(times(own_gap, queue.map_or(0, |queue| queue.len) + 1))
    }

    /// The peer and the class whose call is shed from a full queue for a call of this class and
    /// peer.
    ///
    /// A peer that has less than an equal share of the queue has room, whatever the others wait
    /// for: among the peers that have more, the least important call is shed, of several that of
    /// the peer that has most. A peer that has its share takes room from these, and from itself,
    /// for more important calls, and for equally important ones from a peer that has more.
    /// `all_stand` says that the newest calls go first.
    pub(super) fn victim(
        &self,
        class: usize,
        peer: &P,
        len_max: usize,
        all_stand: bool,
    ) -> Option<(usize, &P)> {
        let own = self.by_peer.get(peer);
        let own_len = own.map_or(0, |queue| queue.len);
        let count = self.count() + usize::from(own.is_none());
        let part = (len_max / count).max(1);
        let has_part = own_len >= part;
        let beyond =
            self.lowest_ranked(|other, queue| queue.len > part || (has_part && other == peer));
        if !has_part {
            // No peer has more only if each has one call: then the least important one is shed.
            let any = || {
                self.lowest_ranked(|_, _| true)
                    .filter(|(lowest, ..)| *lowest > class)
            };
            let (lowest, _, other) = beyond.or_else(any)?;
            return Some((lowest, other));
        }
        let (lowest, len, other) = beyond?;
        if lowest > class || (lowest == class && len > own_len + 1) {
            return Some((lowest, other));
        }
        // A call of the same peer, if the older one is the least likely to be served in time.
        let is_older = |queue: &PeerQueue| {
            lowest == class
                && queue.len_by_class[class] > 0
                && (all_stand || queue.delay.is_standing())
        };
        let (own_peer, _) = self.by_peer.get_key_value(peer)?;
        own.is_some_and(is_older).then_some((class, own_peer))
    }

    /// Among some peers the one with the least important call, the class of that call, and how many
    /// calls the peer has; of several the one that has most, and of these the last that came.
    fn lowest_ranked(&self, which: impl Fn(&P, &PeerQueue) -> bool) -> Option<(usize, usize, &P)> {
        self.by_peer
            .iter()
            .filter(|(peer, queue)| which(peer, queue))
            .filter_map(|(peer, queue)| {
                Some((queue.lowest_class()?, queue.len, queue.number, peer))
            })
            .max_by_key(|(class, len, number, _)| (*class, *len, *number))
            .map(|(class, len, _, peer)| (class, len, peer))
    }
}

impl<P> Default for PeerQueues<P> {
    fn default() -> Self {
        Self {
            by_peer: HashMap::new(),
            len: 0,
            standing_count: 0,
            next_number: 0,
        }
    }
}

/// Multiplies a duration.
pub(super) fn times(gap: Duration, count: usize) -> Duration {
    gap.saturating_mul(u32::try_from(count).unwrap_or(u32::MAX))
}
