//! Bounded queue: drops its oldest entry when it is full.

use std::collections::VecDeque;
use std::ops::Deref;

use crate::event::Event;

/// Queue of at most `MAX` items.
#[derive(Debug)]
pub(crate) struct BoundedQueue<T, const MAX: usize>(VecDeque<T>);

impl<T, const MAX: usize> BoundedQueue<T, MAX> {
    /// Appends an item. Says whether the oldest was dropped for it.
    pub(crate) fn push(&mut self, item: T) -> bool {
        let is_full = self.0.len() >= MAX;
        if is_full {
            self.0.pop_front();
        }
        self.0.push_back(item);
        is_full
    }

    /// Takes out the oldest item. The memory of a burst is given back once it is over.
    pub(crate) fn pop(&mut self) -> Option<T> {
        let next = self.0.pop_front();
        if next.is_none() && self.0.capacity() > CAPACITY_KEPT {
            self.0.shrink_to(CAPACITY_KEPT);
        }
        next
    }

    pub(crate) fn retain(&mut self, keep: impl FnMut(&T) -> bool) {
        self.0.retain(keep);
    }

    /// Takes out all items, and keeps the memory.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    /// Takes out the item at an index.
    pub(crate) fn remove(&mut self, at: usize) -> Option<T> {
        self.0.remove(at)
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.0.iter_mut()
    }
}

impl<T, const MAX: usize> Deref for BoundedQueue<T, MAX> {
    type Target = VecDeque<T>;

    fn deref(&self) -> &VecDeque<T> {
        &self.0
    }
}

impl<T, const MAX: usize> Default for BoundedQueue<T, MAX> {
    fn default() -> Self {
        Self(VecDeque::new())
    }
}

/// Events that wait to be polled, and how many were dropped for them.
#[derive(Debug, Default)]
pub(crate) struct PendingEvents {
    events: BoundedQueue<Event, EVENTS_MAX>,
    /// Events dropped since the last one that was polled.
    lagged: u64,
}

impl PendingEvents {
    pub(crate) fn push(&mut self, event: Event) {
        self.lagged += u64::from(self.events.push(event));
    }

    /// Takes out the next event; first of all how many were dropped, if any were.
    pub(crate) fn pop(&mut self) -> Option<Event> {
        match std::mem::take(&mut self.lagged) {
            0 => self.events.pop(),
            missed => Some(Event::Lagged(missed)),
        }
    }

    #[cfg(feature = "unstable")]
    pub(crate) fn len(&self) -> usize {
        self.events.len()
    }
}

/// Most events that wait to be polled.
pub(crate) const EVENTS_MAX: usize = 16_384;
/// Capacity of an empty queue that is kept.
const CAPACITY_KEPT: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_queue_drops_the_oldest_and_gives_memory_back() {
        let mut queue = BoundedQueue::<u32, 1_000>::default();
        assert!((0..1_000).all(|item| !queue.push(item)));
        assert!(queue.push(1_000));
        assert_eq!((queue.len(), queue.pop()), (1_000, Some(1)));
        while queue.pop().is_some() {}
        assert!(queue.0.capacity() <= CAPACITY_KEPT);
    }

    #[test]
    fn the_number_of_dropped_events_comes_first_and_once() {
        let mut events = PendingEvents::default();
        (0..EVENTS_MAX + 3).for_each(|_| events.push(Event::PartitionHealed));
        events.push(Event::IsolationEnded);
        assert_eq!(events.pop(), Some(Event::Lagged(4)));
        let polled: Vec<_> = std::iter::from_fn(|| events.pop()).collect();
        assert_eq!(polled.len(), EVENTS_MAX);
        assert_eq!(polled.last(), Some(&Event::IsolationEnded));
    }
}
