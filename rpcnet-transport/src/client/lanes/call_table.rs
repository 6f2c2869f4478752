//! Table of the calls of a lane that wait for their replies.

use std::task::{Context, Poll, Waker};

use tokio::time::Instant;

/// Slab of the calls in flight, found by id without a search.
///
/// An id is a slot and the slot's generation, so that a late reply to a cancelled call does not
/// reach the next call of the slot.
#[derive(Debug)]
pub(super) struct CallTable<T> {
    slots: Vec<Slot<T>>,
    free: Vec<u16>,
    slots_max: usize,
    waiting: usize,
    /// Lower bound of all deadlines.
    earliest: Option<Instant>,
}

#[derive(Debug)]
struct Slot<T> {
    generation: u16,
    state: SlotState<T>,
}

#[derive(Debug)]
enum SlotState<T> {
    Free,
    Waiting {
        waker: Waker,
        deadline: Option<Instant>,
    },
    Completed(T),
}

impl<T> CallTable<T> {
    /// Table for at most `calls_max` calls, and never more than 65,536.
    pub(super) fn new(calls_max: usize) -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            slots_max: calls_max.min(1 << 16),
            waiting: 0,
            earliest: None,
        }
    }

    /// Calls without a reply.
    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    /// Calls whose replies were not taken yet.
    pub(super) fn occupied(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub(super) fn is_full(&self) -> bool {
        self.free.is_empty() && self.slots.len() >= self.slots_max
    }

    /// Time at or before the first deadline, if any call has one.
    pub(super) fn earliest_deadline(&self) -> Option<Instant> {
        self.earliest
    }

    /// Adds a call and returns its id; `None` if the table is full.
    pub(super) fn insert(&mut self, waker: Waker, deadline: Option<Instant>) -> Option<u32> {
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None if self.slots.len() < self.slots_max => {
                self.slots.push(Slot {
                    generation: 0,
                    state: SlotState::Free,
                });
                (self.slots.len() - 1) as u16
            }
            None => return None,
        };
        if let Some(deadline) = deadline {
            self.earliest = Some(self.earliest.map_or(deadline, |e| e.min(deadline)));
        }
        let at = &mut self.slots[usize::from(slot)];
        at.state = SlotState::Waiting { waker, deadline };
        self.waiting += 1;
        Some(u32::from(at.generation) << 16 | u32::from(slot))
    }

    /// Completes a call and returns the waker of its caller; `None` if no call of this id waits.
    pub(super) fn complete(&mut self, id: u32, reply: T) -> Option<Waker> {
        let at = self.find(id)?;
        match std::mem::replace(&mut at.state, SlotState::Completed(reply)) {
            SlotState::Waiting { waker, .. } => {
                self.waiting -= 1;
                Some(waker)
            }
            other => {
                at.state = other;
                None
            }
        }
    }

    /// Whether the call with this id waits for its reply.
    pub(super) fn is_waiting(&mut self, id: u32) -> bool {
        self.find(id)
            .is_some_and(|at| matches!(at.state, SlotState::Waiting { .. }))
    }

    /// Polls for the reply, after which the id is free again.
    ///
    /// # Panics
    ///
    /// If the id is not of a call that was added and neither taken nor cancelled.
    pub(super) fn poll(&mut self, id: u32, cx: &Context<'_>) -> Poll<T> {
        let at = self.find(id).expect("the call is in the table");
        match &mut at.state {
            SlotState::Waiting { waker, .. } => {
                waker.clone_from(cx.waker());
                Poll::Pending
            }
            SlotState::Completed(_) => {
                let SlotState::Completed(reply) = self.release(id) else {
                    unreachable!("it was a moment ago")
                };
                Poll::Ready(reply)
            }
            SlotState::Free => panic!("the call is in the table"),
        }
    }

    /// Removes a call; returns whether it had no reply yet.
    pub(super) fn cancel(&mut self, id: u32) -> bool {
        let was_waiting = matches!(self.release(id), SlotState::Waiting { .. });
        self.waiting -= usize::from(was_waiting);
        was_waiting
    }

    /// Completes every call whose deadline has passed, and reports their ids.
    pub(super) fn expire(
        &mut self,
        now: Instant,
        reply: impl Fn() -> T,
        mut expired: impl FnMut(u32, Waker),
    ) {
        if self.earliest.is_none_or(|earliest| now < earliest) {
            return;
        }
        self.earliest = None;
        for (slot, at) in self.slots.iter_mut().enumerate() {
            let SlotState::Waiting {
                deadline: Some(deadline),
                ..
            } = at.state
            else {
                continue;
            };
            if deadline > now {
                self.earliest = Some(self.earliest.map_or(deadline, |e| e.min(deadline)));
                continue;
            }
            if let SlotState::Waiting { waker, .. } =
                std::mem::replace(&mut at.state, SlotState::Completed(reply()))
            {
                self.waiting -= 1;
                expired(u32::from(at.generation) << 16 | slot as u32, waker);
            }
        }
    }

    /// Completes every call.
    pub(super) fn complete_all(&mut self, reply: impl Fn() -> T, mut woken: impl FnMut(Waker)) {
        for at in &mut self.slots {
            if !matches!(at.state, SlotState::Waiting { .. }) {
                continue;
            }
            if let SlotState::Waiting { waker, .. } =
                std::mem::replace(&mut at.state, SlotState::Completed(reply()))
            {
                woken(waker);
            }
        }
        self.waiting = 0;
        self.earliest = None;
    }

    fn find(&mut self, id: u32) -> Option<&mut Slot<T>> {
        let [slot, generation] = [id as u16, (id >> 16) as u16];
        let at = self.slots.get_mut(usize::from(slot))?;
        (at.generation == generation).then_some(at)
    }

    fn release(&mut self, id: u32) -> SlotState<T> {
        let at = self.find(id).expect("the call is in the table");
        at.generation = at.generation.wrapping_add(1);
        let state = std::mem::replace(&mut at.state, SlotState::Free);
        self.free.push(id as u16);
        state
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn table(calls_max: usize) -> CallTable<u32> {
        CallTable::new(calls_max)
    }

    fn poll(table: &mut CallTable<u32>, id: u32) -> Poll<u32> {
        table.poll(id, &Context::from_waker(Waker::noop()))
    }

    #[test]
    fn a_reply_completes_its_call_once() {
        let mut table = table(4);
        let id = table.insert(Waker::noop().clone(), None).unwrap();
        assert_eq!((table.waiting(), poll(&mut table, id)), (1, Poll::Pending));
        assert!(table.complete(id, 7).is_some());
        assert!(table.complete(id, 8).is_none(), "it has its answer");
        assert_eq!(poll(&mut table, id), Poll::Ready(7));
        assert!(table.complete(id, 9).is_none(), "it is over");
        assert_eq!(table.waiting(), 0);
    }

    #[test]
    fn a_late_reply_does_not_reach_the_next_call() {
        let mut table = table(1);
        let first = table.insert(Waker::noop().clone(), None).unwrap();
        assert!(table.is_full());
        assert_eq!(table.insert(Waker::noop().clone(), None), None);
        assert!(table.cancel(first));
        let second = table.insert(Waker::noop().clone(), None).unwrap();
        assert_ne!(first, second);
        assert!(table.complete(first, 1).is_none());
        assert_eq!(poll(&mut table, second), Poll::Pending);
    }

    #[test]
    fn expire_completes_due_calls_and_keeps_the_next_deadline() {
        let mut table = table(8);
        let start = Instant::now();
        let after = |ms| start + Duration::from_millis(ms);
        let none = table.insert(Waker::noop().clone(), None).unwrap();
        assert_eq!(table.earliest_deadline(), None);
        let late = table
            .insert(Waker::noop().clone(), Some(after(20)))
            .unwrap();
        let soon = table
            .insert(Waker::noop().clone(), Some(after(10)))
            .unwrap();
        assert_eq!(table.earliest_deadline(), Some(after(10)));
        let mut expired = Vec::new();
        table.expire(after(9), || 0, |id, _| expired.push(id));
        assert!(expired.is_empty());
        table.expire(after(10), || 0, |id, _| expired.push(id));
        assert_eq!(expired, [soon]);
        assert_eq!(poll(&mut table, soon), Poll::Ready(0));
        assert_eq!(table.earliest_deadline(), Some(after(20)));
        table.expire(after(99), || 0, |id, _| expired.push(id));
        assert_eq!(expired, [soon, late]);
        assert_eq!(table.earliest_deadline(), None);
        assert_eq!(
            (table.waiting(), poll(&mut table, none)),
            (1, Poll::Pending)
        );
    }

    #[test]
    fn complete_all_wakes_every_waiting_call() {
        let mut table = table(8);
        let replied = table.insert(Waker::noop().clone(), None).unwrap();
        let waiting = table.insert(Waker::noop().clone(), None).unwrap();
        assert!(table.complete(replied, 1).is_some());
        let mut woken = 0;
        table.complete_all(|| 2, |_| woken += 1);
        assert_eq!((woken, table.waiting()), (1, 0));
        assert_eq!(poll(&mut table, replied), Poll::Ready(1));
        assert_eq!(poll(&mut table, waiting), Poll::Ready(2));
    }

    proptest! {
        /// Compares with a list: every call gets its own reply, and a full table says so.
        #[test]
        fn calls_and_replies_match(steps in prop::collection::vec((0u8..4, any::<prop::sample::Index>()), 0..200)) {
            let mut table = table(5);
            let mut model: Vec<(u32, Option<u32>)> = Vec::new();
            for (number, (step, index)) in (0u32..).zip(steps) {
                let chosen = (!model.is_empty()).then(|| index.index(model.len()));
                match (step, chosen) {
                    (0, _) => match table.insert(Waker::noop().clone(), None) {
                        Some(id) => model.push((id, None)),
                        None => prop_assert_eq!(model.len(), 5),
                    },
                    (1, Some(at)) => {
                        let (id, reply) = &mut model[at];
                        prop_assert_eq!(table.complete(*id, number).is_some(), reply.is_none());
                        reply.get_or_insert(number);
                    }
                    (2, Some(at)) => {
                        let (id, reply) = model[at];
                        let polled = poll(&mut table, id);
                        prop_assert_eq!(polled, reply.map_or(Poll::Pending, Poll::Ready));
                        if reply.is_some() {
                            model.swap_remove(at);
                        }
                    }
                    (3, Some(at)) => {
                        let (id, reply) = model.swap_remove(at);
                        prop_assert_eq!(table.cancel(id), reply.is_none());
                    }
                    _ => {}
                }
                let waiting = model.iter().filter(|(_, reply)| reply.is_none()).count();
                prop_assert_eq!(table.waiting(), waiting);
                prop_assert_eq!(table.occupied(), model.len());
                prop_assert_eq!(table.is_full(), model.len() == 5);
            }
        }
    }
}
