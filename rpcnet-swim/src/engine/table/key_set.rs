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

    /// Removes a key, if it is there.
    pub(super) fn remove(&mut self, key: u64) {
        let at = self.block_of(key);
        let Some(block) = self.blocks.get_mut(at) else {
            return;
        };
        if let Ok(position) = block.binary_search(&key) {
            block.remove(position);
            if block.is_empty() {
                self.blocks.remove(at);
            }
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
}
