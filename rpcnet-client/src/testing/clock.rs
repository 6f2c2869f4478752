//! Clocks of a test cluster: virtual time since its beginning, and the wall clocks of its nodes.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering::SeqCst},
    },
    time::{Duration, SystemTime},
};

use tokio::time::Instant;

/// Virtual time of a cluster.
#[derive(Debug, Clone, Copy)]
pub(super) struct ClusterClock {
    began: Instant,
    /// System time at the beginning, at which certificates are valid that were made for the test.
    began_at: SystemTime,
}

/// Wall clock of one node, which may be wrong.
#[derive(Debug, Clone)]
pub(super) struct NodeClock {
    cluster: ClusterClock,
    /// Milliseconds that the clock is ahead.
    ahead_ms: Arc<AtomicI64>,
}

impl ClusterClock {
    pub(super) fn start() -> Self {
        Self {
            began: Instant::now(),
            began_at: SystemTime::now(),
        }
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }
}

impl NodeClock {
    pub(super) fn new(cluster: ClusterClock) -> Self {
        Self {
            cluster,
            ahead_ms: Arc::default(),
        }
    }

    pub(super) fn set_ahead_ms(&self, ahead_ms: i64) {
        self.ahead_ms.store(ahead_ms, SeqCst);
    }

    /// Clock of gossip. It begins at the same time in each run, so that runs can be compared.
    pub(super) fn gossip(&self) -> SystemTime {
        self.read(SystemTime::UNIX_EPOCH + GOSSIP_BEGAN)
    }

    /// Clock by which certificates are judged. It begins at the time of the system.
    pub(super) fn certificates(&self) -> SystemTime {
        self.read(self.cluster.began_at)
    }

    fn read(&self, began: SystemTime) -> SystemTime {
        let now = began + self.cluster.elapsed();
        let ahead_ms = self.ahead_ms.load(SeqCst);
        let by = Duration::from_millis(ahead_ms.unsigned_abs());
        let skewed = if ahead_ms < 0 {
            now.checked_sub(by)
        } else {
            now.checked_add(by)
        };
        skewed.unwrap_or(SystemTime::UNIX_EPOCH)
    }
}

/// 2026-01-01 00:00:00 UTC.
const GOSSIP_BEGAN: Duration = Duration::from_secs(1_767_225_600);
