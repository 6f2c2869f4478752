//! Workers that could not be reached a moment ago.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::Instant;

/// The workers that calls avoid for a while, as this process alone sees it.
#[derive(Debug)]
pub(super) struct DownList {
    /// For how long a worker whose time is over is remembered: failures further apart are not in a row.
    memory: Duration,
    entries: Mutex<Vec<Down>>,
    /// How many there are, to find out without the lock that there are none.
    len: AtomicUsize,
}

#[derive(Debug)]
struct Down {
    name: Arc<str>,
    endpoint_id: u64,
    failures: u32,
    until: Instant,
}

impl DownList {
    pub(super) fn new(memory: Duration) -> Self {
        Self {
            memory,
            entries: Mutex::default(),
            len: AtomicUsize::new(0),
        }
    }

    /// One more failure in a row; `time` says for how long the worker is avoided after how many before.
    pub(super) fn add(
        &self,
        name: &Arc<str>,
        endpoint_id: u64,
        time: impl FnOnce(u32) -> Duration,
    ) {
        let mut entries = self.entries.lock();
        let known = entries.iter().position(|entry| entry.name == *name);
        let index = known.unwrap_or_else(|| {
            entries.push(Down {
                name: Arc::clone(name),
                endpoint_id,
                failures: 0,
                until: Instant::now(),
            });
            entries.len() - 1
        });
        let entry = &mut entries[index];
        entry.until = entry.until.max(Instant::now() + time(entry.failures));
        entry.failures = entry.failures.saturating_add(1);
        self.len.store(entries.len(), Ordering::Release);
    }

    /// It was reached, or there is news of it.
    pub(super) fn remove(&self, name: &str) {
        if self.is_empty() {
            return;
        }
        let mut entries = self.entries.lock();
        entries.retain(|entry| &*entry.name != name);
        self.len.store(entries.len(), Ordering::Release);
    }

    /// There may be news of any of them.
    pub(super) fn clear(&self) {
        let mut entries = self.entries.lock();
        entries.clear();
        self.len.store(0, Ordering::Release);
    }

    /// Adds the ids of those to be avoided now. Forgets those that it was long ago.
    pub(super) fn extend(&self, ids: &mut Vec<u64>) {
        let now = Instant::now();
        let mut entries = self.entries.lock();
        entries.retain(|entry| now < entry.until + self.memory);
        self.len.store(entries.len(), Ordering::Release);
        let down = entries.iter().filter(|entry| now < entry.until);
        ids.extend(down.map(|entry| entry.endpoint_id));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len.load(Ordering::Acquire) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_worker_is_avoided_for_its_time_and_longer_each_time() {
        let list = DownList::new(Duration::from_secs(5));
        let name: Arc<str> = "red".into();
        let ids = || {
            let mut ids = Vec::new();
            list.extend(&mut ids);
            ids
        };
        let second = Duration::from_secs(1);
        assert!(list.is_empty() && ids().is_empty());
        for failures in 0..3 {
            list.add(&name, 7, |before| {
                assert_eq!(before, failures);
                second
            });
            assert_eq!(ids(), [7]);
            tokio::time::advance(second).await;
            assert!(ids().is_empty());
        }
        list.add(&name, 7, |_| second);
        list.remove("red");
        assert!(list.is_empty() && ids().is_empty());
        list.add(&name, 7, |before| {
            assert_eq!(before, 0);
            second
        });
        // Nobody says that it is well; the time alone does.
        tokio::time::advance(6 * second).await;
        assert!(ids().is_empty() && list.is_empty());
    }
}
