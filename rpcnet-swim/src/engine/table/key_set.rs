//! Key set: sorted keys in blocks, with little memory beside the keys.

/// Sorted set of keys, in blocks that are sorted in themselves and among each other. A B-tree of
/// the standard library takes nearly twice as much memory for each key.
#[derive(Debug, Default)]
pub(super) struct KeySet {
    /// None is empty.
    blocks: Vec<Vec<u64>>,
}

impl KeySet {
    /// Adds a key, if it is not there.
    pub(super) fn insert(&mut self, key: u64) {
        if self.blocks.is_empty() {
            self.blocks.push(Vec::new());
        }
        let at = self.block_of(key).min(self.blocks.len() - 1);
        let block = &mut self.blocks[at];
        let Err(position) = block.binary_search(&key) else {
            return;
        };
        if block.len() == block.capacity() {
            block.reserve_exact(BLOCK_GROWTH);
        }
        block.insert(position, key);
        if block.len() > BLOCK_LEN_MAX {
            let upper = block.split_off(BLOCK_LEN_MAX / 2);
            block.shrink_to_fit();
            self.blocks.insert(at + 1, upper);
        }
    }

    /// Removes a key, if it is there, and gives memory back that is no longer needed.
    pub(super) fn remove(&mut self, key: u64) {
        let at = self.block_of(key);
        let Some(block) = self.blocks.get_mut(at) else {
            return;
        };
        let Ok(position) = block.binary_search(&key) else {
            return;
        };
        block.remove(position);
        if block.is_empty() {
            self.blocks.remove(at);
        } else if block.len() < block.capacity() / 4 {
            block.shrink_to(block.len() + BLOCK_GROWTH);
        }
        self.merge_with_next(at);
        if let Some(before) = at.checked_sub(1) {
            self.merge_with_next(before);
        }
        if self.blocks.len() < self.blocks.capacity() / 4 {
            self.blocks.shrink_to(2 * self.blocks.len());
        }
    }

    /// Keys in their order.
    pub(super) fn iter(&self) -> impl Iterator<Item = u64> {
        self.from(0)
    }

    /// Keys from this one on, in their order.
    pub(super) fn from(&self, first: u64) -> impl Iterator<Item = u64> {
        let (head, tail) = match self.blocks.get(self.block_of(first)..) {
            Some([block, tail @ ..]) => {
                let start = block.partition_point(|key| *key < first);
                (&block[start..], tail)
            }
            _ => (&[][..], &[][..]),
        };
        head.iter().chain(tail.iter().flatten()).copied()
    }

    /// Keys before this one, in their order.
    pub(super) fn before(&self, end: u64) -> impl Iterator<Item = u64> {
        self.iter().take_while(move |key| *key < end)
    }

    /// Merges a block with the next one if both fit in half a block, so that the keys that are left
    /// after many removals are in few blocks.
    fn merge_with_next(&mut self, at: usize) {
        let Some([block, next]) = self.blocks.get_mut(at..at + 2) else {
            return;
        };
        if block.len() + next.len() <= BLOCK_LEN_MAX / 2 {
            block.reserve_exact(next.len());
            block.append(next);
            self.blocks.remove(at + 1);
        }
    }

    /// First block whose last key is not before this one.
    fn block_of(&self, key: u64) -> usize {
        let is_before = |block: &Vec<u64>| block.last().is_none_or(|last| *last < key);
        self.blocks.partition_point(is_before)
    }
}

/// Most keys of a block.
const BLOCK_LEN_MAX: usize = 128;
/// Keys by which a block grows.
const BLOCK_GROWTH: usize = 8;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn it_behaves_like_a_sorted_set() {
        let mut rng = fastrand::Rng::with_seed(1);
        let (mut keys, mut set) = (KeySet::default(), BTreeSet::new());
        // It grows to several blocks, and becomes empty again.
        for step in 0..6_000 {
            let key = rng.u64(..2_000);
            match rng.u32(..6_000) > step {
                true => {
                    keys.insert(key);
                    set.insert(key);
                }
                false => {
                    keys.remove(key);
                    set.remove(&key);
                }
            }
            let from = rng.u64(..2_100);
            assert!(keys.from(from).eq(set.range(from..).copied()));
            assert!(keys.before(from).eq(set.range(..from).copied()));
            assert!(keys.blocks.iter().all(|block| !block.is_empty()));
        }
        set.iter().for_each(|key| keys.remove(*key));
        assert!(keys.blocks.is_empty() && keys.iter().next().is_none());
    }

    #[test]
    fn a_removal_merges_with_the_next_block_and_with_the_one_before() {
        for removed_last in [0, BLOCK_LEN_MAX as u64 - 1] {
            let mut keys = KeySet::default();
            (0..=BLOCK_LEN_MAX as u64).for_each(|key| keys.insert(key));
            assert_eq!(keys.blocks.len(), 2);
            // A half of a block and one more are left, then one less.
            (10..70).for_each(|key| keys.remove(key));
            (100..104).for_each(|key| keys.remove(key));
            assert_eq!((keys.blocks.len(), keys.iter().count()), (2, 65));
            keys.remove(removed_last);
            assert_eq!((keys.blocks.len(), keys.iter().count()), (1, 64));
        }
    }

    #[test]
    fn removals_merge_blocks_and_give_memory_back() {
        let mut rng = fastrand::Rng::with_seed(2);
        let mut order: Vec<u64> = (0..20_000).collect();
        rng.shuffle(&mut order);
        let mut keys = KeySet::default();
        order.iter().for_each(|key| keys.insert(*key));
        rng.shuffle(&mut order);
        let kept = order.split_off(19_000);
        order.iter().for_each(|key| keys.remove(*key));
        assert_eq!(keys.iter().count(), kept.len());
        let is_mergeable = |pair: &[Vec<u64>]| pair[0].len() + pair[1].len() <= BLOCK_LEN_MAX / 2;
        assert!(!keys.blocks.windows(2).any(is_mergeable));
        // So two blocks have more keys than half of one: 1,000 keys are in at most 31.
        assert!(keys.blocks.len() <= 31, "{}", keys.blocks.len());
        let capacity: usize = keys.blocks.iter().map(Vec::capacity).sum();
        assert!(capacity <= 4 * kept.len() + BLOCK_GROWTH * keys.blocks.len());
        assert!(keys.blocks.capacity() / 4 <= keys.blocks.len());
        kept.iter().for_each(|key| keys.remove(*key));
        assert!(keys.blocks.is_empty() && keys.blocks.capacity() < 4);
    }
}
