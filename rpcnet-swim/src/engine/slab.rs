//! Slab: values at stable indices.

use std::ops::{Index, IndexMut};

/// Values by slot. It grows by a chunk at a time, so nothing is moved and little is unused.
#[derive(Debug)]
pub(crate) struct Slab<T> {
    chunks: Vec<Vec<Option<T>>>,
    vacant: Vec<u32>,
}

impl<T> Slab<T> {
    pub(crate) fn new() -> Self {
        Self {
            chunks: Vec::new(),
            vacant: Vec::new(),
        }
    }

    /// Inserts a value and gives its slot.
    pub(crate) fn insert(&mut self, value: T) -> u32 {
        if let Some(slot) = self.vacant.pop() {
            *self.slot_mut(slot) = Some(value);
            return slot;
        }
        if self.chunks.last().is_none_or(|last| last.len() == CHUNK) {
            self.chunks.push(Vec::with_capacity(CHUNK));
        }
        let full = (self.chunks.len() - 1) * CHUNK;
        let last = self.chunks.last_mut().expect("one was pushed");
        last.push(Some(value));
        (full + last.len() - 1) as u32
    }

    /// Removes a value; its slot is reused.
    ///
    /// # Panics
    /// If the slot is vacant, like all methods that index by slot.
    pub(crate) fn remove(&mut self, slot: u32) -> T {
        let value = self.slot_mut(slot).take().expect(VACANT);
        self.vacant.push(slot);
        value
    }

    fn slot_mut(&mut self, slot: u32) -> &mut Option<T> {
        &mut self.chunks[slot as usize / CHUNK][slot as usize % CHUNK]
    }
}

impl<T> Index<u32> for Slab<T> {
    type Output = T;

    fn index(&self, slot: u32) -> &T {
        let entry = &self.chunks[slot as usize / CHUNK][slot as usize % CHUNK];
        entry.as_ref().expect(VACANT)
    }
}

impl<T> IndexMut<u32> for Slab<T> {
    fn index_mut(&mut self, slot: u32) -> &mut T {
        self.slot_mut(slot).as_mut().expect(VACANT)
    }
}

const CHUNK: usize = 128;
const VACANT: &str = "a slot in use";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_reused_and_values_stay() {
        let mut slab = Slab::new();
        let slots: Vec<u32> = (0..300).map(|value| slab.insert(value)).collect();
        assert_eq!(slots, (0..300).collect::<Vec<u32>>());
        assert_eq!((slab.remove(40), slab.remove(7)), (40, 7));
        assert_eq!((slab.insert(1_007), slab.insert(1_040)), (7, 40));
        assert_eq!((slab.insert(300), slab[99], slab[7]), (300, 99, 1_007));
        slab[7] += 1;
        assert_eq!(slab.remove(7), 1_008);
    }
}
