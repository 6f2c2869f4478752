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
    /// Streaming calls among them.
    streams: AtomicUsize,
    reached_zero: Notify,
}

/// One unit of a gauge, until it is dropped.
#[derive(Debug)]
pub(crate) struct GaugeGuard {
    gauge: Arc<Inner>,
    is_stream: bool,
}

impl Gauge {
    /// Counts one more; returns the guard and the new count.
    pub(crate) fn enter(&self) -> (GaugeGuard, usize) {
        let count = self.0.count.fetch_add(1, SeqCst) + 1;
        let gauge = Arc::clone(&self.0);
        let is_stream = false;
        (GaugeGuard { gauge, is_stream }, count)
    }

    /// Counts a streaming call.
    pub(crate) fn enter_stream(&self) -> GaugeGuard {
        let (mut guard, _) = self.enter();
        self.0.streams.fetch_add(1, SeqCst);
        guard.is_stream = true;
        guard
    }

    /// The count without streaming calls, which may last for hours without a packet.
    pub(crate) fn count_without_streams(&self) -> usize {
        let streams = self.0.streams.load(SeqCst);
        self.count().saturating_sub(streams)
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
        if self.is_stream {
            self.gauge.streams.fetch_sub(1, SeqCst);
        }
        self.gauge.decrement();
    }
}
