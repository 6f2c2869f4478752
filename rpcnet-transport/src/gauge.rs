//! Gauge: a count of what is in progress, with a wait for zero.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use tokio::sync::Notify;

/// Gauge with RAII guards and a way to wait until it is zero. Cheap to clone.
#[derive(Debug, Default, Clone)]
pub(crate) struct Gauge(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    count: AtomicUsize,
    reached_zero: Notify,
}

/// One unit of a gauge, until it is dropped.
#[derive(Debug)]
pub(crate) struct GaugeGuard(Arc<Inner>);

impl Gauge {
    /// Counts one more; returns the guard and the new count.
    pub(crate) fn enter(&self) -> (GaugeGuard, usize) {
        let count = self.0.count.fetch_add(1, SeqCst) + 1;
        (GaugeGuard(Arc::clone(&self.0)), count)
    }

    /// Counts one more without a guard, to be followed by [`decrement`](Self::decrement). Returns
    /// the new count.
    pub(crate) fn increment(&self) -> usize {
        self.0.count.fetch_add(1, SeqCst) + 1
    }

    pub(crate) fn decrement(&self) {
        self.0.decrement();
    }

    pub(crate) fn count(&self) -> usize {
        self.0.count.load(SeqCst)
    }

    /// Waits until the gauge is zero.
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
