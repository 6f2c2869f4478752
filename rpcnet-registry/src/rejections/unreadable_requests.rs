//! Unreadable requests: whether a worker or the requests are to blame.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use parking_lot::{Mutex, RwLock};

use crate::NodeInfo;

/// Counters of requests in a row that a worker could not read, by method.
///
/// Bounded: [`METHODS_MAX`] methods, of each [`COUNTED_MAX`] workers that are counted and
/// [`READERS_MAX`] that are known to read it. Methods are the caller's own, and may be made up.
#[derive(Debug, Default)]
pub(super) struct UnreadableRequests {
    by_method: Mutex<HashMap<Arc<str>, Vec<UnreadableStreak>>>,
    /// Whether any are counted. Nearly always there are none, and a call that is served reads no
    /// more than this.
    is_any: AtomicBool,
    /// Workers that have read the request of a stream, by method and endpoint id, as they were
    /// known then: another process, address or set of tags may read it no more.
    stream_readers: RwLock<HashMap<Arc<str>, StreamReaders>>,
}

type StreamReaders = HashMap<u64, Arc<NodeInfo>>;

#[derive(Debug)]
struct UnreadableStreak {
    id: u64,
    length: u8,
    /// Whether another worker has served the method since the first of them.
    is_served_elsewhere: bool,
}

impl UnreadableRequests {
    /// Whether no worker's requests are counted.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        !self.is_any.load(Relaxed)
    }

    /// Counts a request that a worker could not read and another one has served. `true` if there
    /// were enough of them in a row: one proves little, since it may be made so that one worker
    /// alone reads it.
    pub(super) fn count(&self, method: &str, id: u64) -> bool {
        self.count_one(method, id, true)
    }

    /// Counts the request of a stream that a worker could not read, which is not sent to another
    /// one. `true` if there were enough of them in a row, of a worker that has read none, while
    /// another one has served the method: otherwise the requests may be to blame.
    pub(super) fn count_stream(&self, method: &str, (id, node): (u64, &NodeInfo)) -> bool {
        let is_reader = self
            .stream_readers
            .read()
            .get(method)
            .and_then(|readers| readers.get(&id))
            .is_some_and(|known| is_unchanged(known, node));
        !is_reader && self.count_one(method, id, false)
    }

    fn count_one(&self, method: &str, id: u64, is_served_elsewhere: bool) -> bool {
        let mut by_method = self.by_method.lock();
        if !by_method.contains_key(method) && by_method.len() >= METHODS_MAX {
            by_method.clear();
        }
        let counts = by_method.entry(method.into()).or_default();
        let index = counts.iter().position(|count| count.id == id);
        let index = index.unwrap_or_else(|| {
            if counts.len() >= COUNTED_MAX {
                counts.clear();
            }
            counts.push(UnreadableStreak::of(id));
            counts.len() - 1
        });
        let count = &mut counts[index];
        count.length = count.length.saturating_add(1);
        count.is_served_elsewhere |= is_served_elsewhere;
        let is_enough = count.length >= STREAK_MIN && count.is_served_elsewhere;
        if is_enough {
            counts.swap_remove(index);
            if counts.is_empty() {
                by_method.remove(method);
            }
        }
        self.is_any.store(!by_method.is_empty(), Relaxed);
        is_enough
    }

    /// A worker has served the method.
    pub(super) fn on_served(&self, method: &str, id: u64) {
        if !self.is_any.load(Relaxed) {
            return;
        }
        let mut by_method = self.by_method.lock();
        let Some(counts) = by_method.get_mut(method) else {
            return;
        };
        counts.retain(|count| count.id != id);
        for count in &mut *counts {
            count.is_served_elsewhere = true;
        }
        if counts.is_empty() {
            by_method.remove(method);
        }
        self.is_any.store(!by_method.is_empty(), Relaxed);
    }

    /// Records that a worker has replied to a stream of the method.
    pub(super) fn on_stream_served(&self, method: &str, (id, node): (u64, &Arc<NodeInfo>)) {
        self.on_served(method, id);
        let readers = self.stream_readers.read();
        let known = readers.get(method).and_then(|readers| readers.get(&id));
        if known.is_some_and(|known| is_unchanged(known, node)) {
            return;
        }
        drop(readers);
        let mut readers = self.stream_readers.write();
        if !readers.contains_key(method) && readers.len() >= METHODS_MAX {
            readers.clear();
        }
        let readers = readers.entry(method.into()).or_default();
        if readers.len() >= READERS_MAX {
            readers.clear();
        }
        readers.insert(id, Arc::clone(node));
    }
}

impl UnreadableStreak {
    fn of(id: u64) -> Self {
        Self {
            id,
            length: 0,
            is_served_elsewhere: false,
        }
    }
}

/// Whether both are the same process, at the same address and with the same tags.
pub(super) fn is_unchanged(one: &NodeInfo, other: &NodeInfo) -> bool {
    std::ptr::eq(one, other)
        || (&one.id, one.addr, &one.tags) == (&other.id, other.addr, &other.tags)
}

/// Requests in a row that are enough.
const STREAK_MIN: u8 = 3;

/// Limit of methods that are remembered.
const METHODS_MAX: usize = 64;

/// Limit of workers that could not read requests, of each method.
const COUNTED_MAX: usize = 16;

/// Limit of workers that have read requests, of each method.
const READERS_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::NodeId;

    fn node(id: u64, epoch: u64) -> Arc<NodeInfo> {
        let id = NodeId::new(format!("w{id}"), epoch);
        Arc::new(NodeInfo::new(id, ([127, 0, 0, 1], 7000).into()))
    }

    fn count_stream(unread: &UnreadableRequests, id: u64) -> bool {
        unread.count_stream("m", (id, &node(id, 1)))
    }

    #[test]
    fn a_request_that_one_worker_alone_reads_is_not_enough() {
        let unread = UnreadableRequests::default();
        assert!(!unread.count("m", 1) && !unread.count("m", 1));
        assert!(!unread.count("m", 2) && !unread.count("n", 1));
        unread.on_served("m", 1);
        assert!(!unread.count("m", 1) && !unread.count("m", 1));
        assert!(unread.count("m", 1), "three in a row");
    }

    #[test]
    fn nothing_grows_without_bound() {
        let unread = UnreadableRequests::default();
        for number in 0..10_000 {
            unread.count(&number.to_string(), 1);
            unread.count("m", number);
            let node = node(number, 1);
            unread.on_stream_served(&number.to_string(), (1, &node));
            unread.on_stream_served("m", (number, &node));
        }
        let counts = unread.by_method.lock();
        assert!(counts.len() <= METHODS_MAX);
        assert!(counts.values().all(|counts| counts.len() <= COUNTED_MAX));
        let readers = unread.stream_readers.read();
        assert!(readers.len() <= METHODS_MAX);
        assert!(readers.values().all(|readers| readers.len() <= READERS_MAX));
    }

    #[test]
    fn requests_of_streams_count_when_another_worker_has_served_the_method() {
        let unread = UnreadableRequests::default();
        for _ in 0..1_000 {
            assert!(!count_stream(&unread, 1), "served nowhere");
        }
        unread.on_served("other", 2);
        assert!(!count_stream(&unread, 1));
        unread.on_served("m", 2);
        assert!(count_stream(&unread, 1));
        assert!(!count_stream(&unread, 1), "counted anew");
        unread.on_served("m", 1);
        assert!(!unread.is_any.load(Relaxed));
    }

    #[test]
    fn a_worker_that_has_read_a_stream_is_not_to_blame() {
        let unread = UnreadableRequests::default();
        unread.on_stream_served("m", (1, &node(1, 1)));
        for _ in 0..100 {
            assert!(!count_stream(&unread, 1));
            unread.on_stream_served("m", (2, &node(2, 1)));
        }
        // Another process may not read it any more.
        let restarted = node(1, 2);
        let counted = (0..3).map(|_| {
            unread.on_served("m", 2);
            unread.count_stream("m", (1, &restarted))
        });
        assert_eq!(counted.collect::<Vec<_>>(), [false, false, true]);
    }
}
