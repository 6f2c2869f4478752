//! Gossip queue: fewest-transmitted first, bounded by the number of members.

use std::collections::{BTreeMap, BTreeSet};

/// Keys of the members whose records are to be gossiped. A record is read from the table when it is
/// sent, so a later claim replaces an earlier one and nothing stale is sent.
#[derive(Debug, Default)]
pub(crate) struct GossipQueue {
    /// (times sent, newest first, key).
    order: BTreeSet<(u32, u32, u64)>,
    /// The first two of those, by key.
    ranks: BTreeMap<u64, (u32, u32)>,
    /// Falls with each push.
    stamp: u32,
}

impl GossipQueue {
    /// Adds a member; one that is in the queue starts anew.
    pub(crate) fn push(&mut self, key: u64) {
        self.remove(key);
        if self.ranks.len() >= QUEUE_LEN_MAX {
            // The most-transmitted is dropped: most members have it, and a sync brings it to the
            // rest.
            if let Some(&(_, _, oldest)) = self.order.last() {
                self.remove(oldest);
            }
        }
        self.stamp = self.stamp.wrapping_sub(1);
        self.set_rank(key, 0, self.stamp);
    }

    pub(crate) fn remove(&mut self, key: u64) {
        if let Some((sent, stamp)) = self.ranks.remove(&key) {
            self.order.remove(&(sent, stamp, key));
        }
    }

    /// Keys in the order of sending.
    pub(crate) fn in_send_order(&self) -> impl Iterator<Item = u64> {
        self.order.iter().map(|(_, _, key)| *key)
    }

    /// Counts one more transmission; at the limit the member is removed.
    pub(crate) fn mark_sent(&mut self, key: u64, limit: u32) {
        if let Some((sent, stamp)) = self.ranks.get(&key).copied() {
            self.remove(key);
            if sent + 1 < limit {
                self.set_rank(key, sent + 1, stamp);
            }
        }
    }

    /// Keeps only these members.
    pub(crate) fn retain(&mut self, keep: impl Fn(u64) -> bool) {
        let gone = self.ranks.keys().copied().filter(|key| !keep(*key));
        for key in gone.collect::<Vec<_>>() {
            self.remove(key);
        }
    }

    pub(crate) fn contains(&self, key: u64) -> bool {
        self.ranks.contains_key(&key)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    #[cfg(any(test, feature = "unstable"))]
    pub(crate) fn len(&self) -> usize {
        self.ranks.len().max(self.order.len())
    }

    fn set_rank(&mut self, key: u64, sent: u32, stamp: u32) {
        self.order.insert((sent, stamp, key));
        self.ranks.insert(key, (sent, stamp));
    }
}

/// Transmissions of each record (SWIM section 4.1, with memberlist's constant).
pub(crate) fn retransmit_limit(mult: u32, live: usize) -> u32 {
    mult * ((live + 1) as f64).log10().ceil().max(1.0) as u32
}

/// Most members in the queue.
pub(crate) const QUEUE_LEN_MAX: usize = 16_384;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fewest_sent_first_then_newest() {
        let first = |queue: &GossipQueue| queue.in_send_order().collect::<Vec<_>>();
        let mut queue = GossipQueue::default();
        for key in 1..=3 {
            queue.push(key);
        }
        assert_eq!(first(&queue), [3, 2, 1]);
        queue.mark_sent(3, 2);
        assert_eq!(first(&queue), [2, 1, 3]);
        queue.mark_sent(3, 2);
        assert_eq!(first(&queue), [2, 1], "sent as often as the limit says");
        queue.push(1);
        assert_eq!(first(&queue), [1, 2], "a new record starts anew");
    }

    #[test]
    fn retain_removes_from_both_indexes() {
        let mut queue = GossipQueue::default();
        (1..=9).for_each(|key| queue.push(key));
        queue.mark_sent(6, 3);
        queue.retain(|key| key % 3 == 0);
        assert_eq!(queue.in_send_order().collect::<Vec<_>>(), [9, 3, 6]);
        assert_eq!(queue.len(), 3);
    }

    #[test]
    fn a_full_queue_drops_what_was_sent_most() {
        let mut queue = GossipQueue::default();
        (0..QUEUE_LEN_MAX as u64).for_each(|key| queue.push(key));
        queue.mark_sent(77, 9);
        queue.push(u64::MAX);
        assert_eq!(queue.ranks.len(), QUEUE_LEN_MAX);
        assert_eq!(queue.order.len(), QUEUE_LEN_MAX);
        assert!(!queue.ranks.contains_key(&77));
    }

    #[test]
    fn limits_grow_with_the_logarithm() {
        let limits = [1, 8, 10, 99, 100, 10_000].map(|live| retransmit_limit(4, live));
        assert_eq!(limits, [4, 4, 8, 8, 12, 20]);
    }
}
