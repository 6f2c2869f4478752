//! Gossip queue: fewest-transmitted first, bounded by the number of members.

use std::collections::VecDeque;

use hashbrown::HashTable;

use crate::id::key_hash;

/// Keys of the members whose records are to be gossiped. A record is read from the table when it is
/// sent, so a later claim replaces an earlier one and nothing stale is sent.
#[derive(Debug)]
pub(crate) struct GossipQueue {
    items: Vec<QueueItem>,
    /// Indices of items that are not in use.
    vacant: Vec<u32>,
    /// Indices of items by the keyed hash of their key.
    by_key: HashTable<u32>,
    /// Indices of items by the number of transmissions, the newest first.
    by_transmissions: Vec<VecDeque<u32>>,
    /// Falls with each push. Of 64 bits, as it may not wrap: others cause the pushes.
    stamp: u64,
    /// Transmissions and stamp at which the next visits of [`GossipQueue::prune`] begin.
    prune_from: (u32, u64),
    hash_seed: u64,
}

/// Position of a member in the queue.
#[derive(Clone, Copy, Debug)]
struct QueueItem {
    key: u64,
    stamp: u64,
    transmissions: u32,
}

impl GossipQueue {
    /// Empty queue. `hash_seed` is a secret, as others choose the keys: with keys that collide, a
    /// lookup would visit all of them.
    pub(crate) fn new(hash_seed: u64) -> Self {
        Self {
            items: Vec::new(),
            vacant: Vec::new(),
            by_key: HashTable::new(),
            by_transmissions: Vec::new(),
            stamp: u64::MAX,
            prune_from: (0, 0),
            hash_seed,
        }
    }

    /// Adds a member; one that is in the queue starts anew.
    pub(crate) fn push(&mut self, key: u64) {
        self.remove(key);
        if self.by_key.len() >= QUEUE_LEN_MAX {
            // The most-transmitted is dropped: most members have it, and a sync brings it to the
            // rest.
            let last = self.by_transmissions.iter().rev().find_map(VecDeque::back);
            if let Some(oldest) = last.map(|index| self.items[*index as usize].key) {
                self.remove(oldest);
            }
        }
        self.stamp -= 1;
        let item = QueueItem {
            key,
            stamp: self.stamp,
            transmissions: 0,
        };
        let index = self.add_item(item);
        let (items, seed) = (&self.items, self.hash_seed);
        let hash = |index: &u32| key_hash(items[*index as usize].key, seed);
        self.by_key.insert_unique(hash(&index), index, hash);
        self.add_in_order(index);
    }

    pub(crate) fn remove(&mut self, key: u64) {
        let items = &self.items;
        let is_same = |index: &u32| items[*index as usize].key == key;
        let hash = key_hash(key, self.hash_seed);
        let Ok(found) = self.by_key.find_entry(hash, is_same) else {
            return;
        };
        let (index, _) = found.remove();
        self.remove_from_order(index);
        self.vacant.push(index);
        if self.by_key.is_empty() {
            self.clear();
        }
    }

    /// Removes all, and gives the memory back.
    pub(crate) fn clear(&mut self) {
        *self = Self {
            stamp: self.stamp,
            ..Self::new(self.hash_seed)
        };
    }

    /// Keys in the order of sending.
    pub(crate) fn in_send_order(&self) -> impl Iterator<Item = u64> {
        let indices = self.by_transmissions.iter().flatten();
        indices.map(|index| self.items[*index as usize].key)
    }

    /// Counts one more transmission; at the limit the member is removed.
    pub(crate) fn mark_sent(&mut self, key: u64, limit: u32) {
        let Some(index) = self.find(key) else {
            return;
        };
        if self.items[index as usize].transmissions + 1 >= limit {
            return self.remove(key);
        }
        self.remove_from_order(index);
        self.items[index as usize].transmissions += 1;
        self.add_in_order(index);
    }

    /// Visits the next `visits_max` members in the order of sending, from where the call before
    /// stopped, and removes those that are not to be kept. Says whether the pass is complete: then
    /// every member that was in the queue throughout was visited, and the next call begins anew.
    pub(crate) fn prune(&mut self, visits_max: usize, keep: impl Fn(u64) -> bool) -> bool {
        let mut rest = self.items_from(self.prune_from);
        let visited = rest.by_ref().take(visits_max);
        let unwanted: Vec<u64> = visited.map(|it| it.key).filter(|key| !keep(*key)).collect();
        // What is sent meanwhile moves on in the order: nothing unvisited comes before this.
        let next = rest.next().map(|item| (item.transmissions, item.stamp));
        drop(rest);
        self.prune_from = next.unwrap_or_default();
        unwanted.into_iter().for_each(|key| self.remove(key));
        next.is_none()
    }

    pub(crate) fn contains(&self, key: u64) -> bool {
        self.find(key).is_some()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }

    #[cfg(any(test, feature = "unstable"))]
    pub(crate) fn len(&self) -> usize {
        let in_order = self.by_transmissions.iter().map(VecDeque::len).sum();
        self.by_key.len().max(in_order)
    }

    /// Items in the order of sending, from these transmissions and this stamp on.
    fn items_from(&self, (transmissions, stamp): (u32, u64)) -> impl Iterator<Item = &QueueItem> {
        let items = &self.items;
        let first = transmissions as usize;
        let is_before = |index: &u32| items[*index as usize].stamp < stamp;
        let same = self.by_transmissions.get(first);
        let skipped = same.map_or(0, |same| same.partition_point(is_before));
        let indices = self.by_transmissions.iter().skip(first).flatten();
        indices.skip(skipped).map(|index| &items[*index as usize])
    }

    fn find(&self, key: u64) -> Option<u32> {
        let is_same = |index: &u32| self.items[*index as usize].key == key;
        let hash = key_hash(key, self.hash_seed);
        self.by_key.find(hash, is_same).copied()
    }

    fn add_item(&mut self, item: QueueItem) -> u32 {
        if let Some(index) = self.vacant.pop() {
            self.items[index as usize] = item;
            return index;
        }
        if self.items.len() == self.items.capacity() {
            // Less is unused than if the capacity doubled.
            self.items.reserve_exact(self.items.len() / 8 + 8);
        }
        self.items.push(item);
        (self.items.len() - 1) as u32
    }

    fn add_in_order(&mut self, index: u32) {
        let item = self.items[index as usize];
        let at = item.transmissions as usize;
        if at >= self.by_transmissions.len() {
            self.by_transmissions.resize_with(at + 1, VecDeque::new);
        }
        let (items, same) = (&self.items, &mut self.by_transmissions[at]);
        let is_newer = |other: &u32| items[*other as usize].stamp < item.stamp;
        // Mostly it is the newest, or the oldest that was sent as often.
        match same.back() {
            Some(last) if !is_newer(last) => {
                let at = same.partition_point(is_newer);
                same.insert(at, index);
            }
            _ => same.push_back(index),
        }
    }

    fn remove_from_order(&mut self, index: u32) {
        let item = self.items[index as usize];
        let (items, same) = (
            &self.items,
            &mut self.by_transmissions[item.transmissions as usize],
        );
        let is_newer = |other: &u32| items[*other as usize].stamp < item.stamp;
        let at = match same.front() {
            Some(first) if *first == index => 0,
            _ => same.partition_point(is_newer),
        };
        let removed = same.remove(at);
        debug_assert_eq!(removed, Some(index), "the order is sorted by stamp");
        if same.is_empty() && same.capacity() > CAPACITY_KEPT {
            *same = VecDeque::new();
        }
    }
}

/// Transmissions of each record (SWIM section 4.1, with memberlist's constant).
pub(crate) fn retransmit_limit(mult: u32, live: usize) -> u32 {
    mult * ((live + 1) as f64).log10().ceil().max(1.0) as u32
}

/// Most members in the queue.
pub(crate) const QUEUE_LEN_MAX: usize = 16_384;
/// Capacity that is kept where no member is left.
const CAPACITY_KEPT: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fewest_sent_first_then_newest() {
        let first = |queue: &GossipQueue| queue.in_send_order().collect::<Vec<_>>();
        let mut queue = GossipQueue::new(7);
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
    fn stamps_do_not_wrap_after_as_many_pushes_as_32_bits_count() {
        let mut queue = GossipQueue::new(7);
        queue.stamp = u64::MAX - u64::from(u32::MAX);
        (1..=3).for_each(|key| queue.push(key));
        assert_eq!(queue.in_send_order().collect::<Vec<_>>(), [3, 2, 1]);
        queue.remove(2);
        assert_eq!(queue.in_send_order().collect::<Vec<_>>(), [3, 1]);
    }

    #[test]
    fn prune_removes_from_all_indexes() {
        let mut queue = GossipQueue::new(7);
        (1..=9).for_each(|key| queue.push(key));
        queue.mark_sent(6, 3);
        assert!(!queue.prune(5, |key| key % 3 == 0));
        assert_eq!(queue.in_send_order().collect::<Vec<_>>(), [9, 3, 2, 1, 6]);
        assert!(queue.prune(5, |key| key % 3 == 0));
        assert_eq!(queue.in_send_order().collect::<Vec<_>>(), [9, 3, 6]);
        assert_eq!(queue.len(), 3);
        assert!(queue.prune(3, |_| false));
        assert!(queue.is_empty() && queue.prune(3, |_| false));
    }

    #[test]
    fn prune_visits_what_is_behind_members_that_are_kept() {
        let keep = |key| key >= 4;
        let mut queue = GossipQueue::new(7);
        (1..=9).for_each(|key| queue.push(key));
        assert!(!queue.prune(4, keep));
        // Some are sent meanwhile, be they visited or not, and one starts anew.
        for key in [9, 8, 5, 3, 1, 1] {
            queue.mark_sent(key, 9);
        }
        queue.push(10);
        assert!(!queue.prune(4, keep));
        assert!(queue.prune(4, keep));
        let mut kept: Vec<u64> = queue.in_send_order().collect();
        kept.sort_unstable();
        assert_eq!(kept, [4, 5, 6, 7, 8, 9, 10]);
        queue.push(1);
        assert!(
            !queue.prune(1, keep),
            "a pass that is complete is followed by another"
        );
        assert!(!queue.contains(1));
    }

    #[test]
    fn a_full_queue_drops_what_was_sent_most() {
        let mut queue = GossipQueue::new(7);
        (0..QUEUE_LEN_MAX as u64).for_each(|key| queue.push(key));
        queue.mark_sent(77, 9);
        queue.push(u64::MAX);
        assert_eq!(queue.len(), QUEUE_LEN_MAX);
        assert_eq!(queue.in_send_order().count(), QUEUE_LEN_MAX);
        assert!(!queue.contains(77));
    }

    #[test]
    fn the_order_is_that_of_a_sorted_list() {
        let mut rng = fastrand::Rng::with_seed(5);
        let (mut queue, mut list) = (GossipQueue::new(7), Vec::<(u32, i32, u64)>::new());
        for step in 0..20_000 {
            let key = rng.u64(..200);
            let found = list.iter().position(|(_, _, listed)| *listed == key);
            match (rng.u8(..16), found) {
                (0, _) => {
                    queue.remove(key);
                    found.map(|at| list.remove(at));
                }
                (1, _) => {
                    queue.push(key);
                    found.map(|at| list.remove(at));
                    list.push((0, -step, key));
                }
                _ => {
                    let sent: Vec<u64> = queue.in_send_order().take(3).chain([key]).collect();
                    for key in sent {
                        queue.mark_sent(key, 9);
                        let found = list.iter().position(|(_, _, listed)| *listed == key);
                        if let Some(at) = found {
                            list[at].0 += 1;
                        }
                    }
                    list.retain(|(sent, ..)| *sent < 9);
                }
            }
            list.sort_unstable();
            assert!(
                queue
                    .in_send_order()
                    .eq(list.iter().map(|(_, _, key)| *key))
            );
            assert_eq!(
                (queue.len(), queue.is_empty()),
                (list.len(), list.is_empty())
            );
        }
    }

    #[test]
    fn limits_grow_with_the_logarithm() {
        let limits = [1, 8, 10, 99, 100, 10_000].map(|live| retransmit_limit(4, live));
        assert_eq!(limits, [4, 4, 8, 8, 12, 20]);
    }
}
