//! Counting what is under way.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use tokio::sync::Notify;

/// How many of something are going on, counted by guards, with a way to wait for none.
#[derive(Debug, Default, Clone)]
pub(crate) struct Gauge(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    count: AtomicUsize,
    reached_zero: Notify,
}

/// One of what the gauge counts, until it is dropped.
#[derive(Debug)]
pub(crate) struct GaugeGuard(Arc<Inner>);

impl Gauge {
    /// Counts one more, and says how many there are with it.
    pub(crate) fn enter(&self) -> (GaugeGuard, usize) {
        let count = self.0.count.fetch_add(1, SeqCst) + 1;
        (GaugeGuard(Arc::clone(&self.0)), count)
    }

    /// Counts one more without a guard; [`decrement`](Self::decrement) has to follow. Says how many there are with it.
    pub(crate) fn increment(&self) -> usize {
        self.0.count.fetch_add(1, SeqCst) + 1
    }

    pub(crate) fn decrement(&self) {
        self.0.decrement();
    }

    pub(crate) fn count(&self) -> usize {
        self.0.count.load(SeqCst)
    }

    /// Ends when there are none.
    pub(crate) async fn wait_for_zero(&self) {
        loop {
            let notified = self.0.reached_zero.notified();
            if self.count() == 0 {
                return;
            }
            notified.await;
        }
    }
}

impl Inner {
    fn decrement(&self) {
        if self.count.fetch_sub(1, SeqCst) == 1 {
            self.reached_zero.notify_waiters();
        }
    }
}

impl Drop for GaugeGuard {
    fn drop(&mut self) {
        self.0.decrement();
    }
}
