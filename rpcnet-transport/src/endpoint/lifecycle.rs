//! Lifecycle of an endpoint: serving, draining, shutting down.

use std::{
    sync::atomic::{AtomicBool, AtomicU8, Ordering::SeqCst},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;

/// Lifecycle of an endpoint: its drain state, and the tokens that end its work step by step.
pub(crate) struct Lifecycle {
    /// A [`DrainState`], changed under the lock of `accept_until`.
    drain: AtomicU8,
    /// Time until which calls are accepted, counted from the first advertisement of the drain.
    accept_until: Mutex<Option<Instant>>,
    drain_grace: Duration,
    /// Wakes the control streams of the connections when the drain state changes.
    pub(crate) drain_changed: watch::Sender<()>,
    /// Whether methods are served.
    serving: AtomicBool,
    /// Cancelled when new connections are refused.
    pub(crate) closing: CancellationToken,
    /// Cancelled when connections are closed and nothing is accepted any more.
    pub(crate) stopped: CancellationToken,
}

/// Drain state of an endpoint, in the order in which a shutdown passes through it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
enum DrainState {
    /// Calls are accepted.
    Serving,
    /// A drain is advertised, and calls are still accepted.
    Advertised,
    /// Calls are rejected after the grace.
    Draining,
    /// A shutdown has begun: like `Draining`, but for good.
    ShuttingDown,
    /// Connections are refused and calls rejected at once.
    Closed,
}

impl Lifecycle {
    /// Lifecycle of an endpoint that does not serve yet; `stopped` is cancelled at its end.
    pub(super) fn new(drain_grace: Duration, stopped: CancellationToken) -> Self {
        Self {
            drain: AtomicU8::new(DrainState::Serving as u8),
            accept_until: Mutex::default(),
            drain_grace,
            drain_changed: watch::Sender::new(()),
            serving: AtomicBool::new(false),
            closing: CancellationToken::new(),
            stopped,
        }
    }

    /// Records that methods are served.
    pub(super) fn set_serving(&self) {
        self.serving.store(true, SeqCst);
    }

    /// Whether new connections are accepted.
    pub(crate) fn accepts_connections(&self) -> bool {
        self.serving.load(SeqCst) && !self.closing.is_cancelled()
    }

    /// Whether the endpoint advertises that it drains.
    pub(crate) fn is_draining(&self) -> bool {
        self.drain.load(SeqCst) != DrainState::Serving as u8
    }

    /// Whether new calls are rejected: the endpoint drains, and its grace is over.
    pub(crate) fn rejects_calls(&self) -> bool {
        match self.drain_state() {
            DrainState::Serving | DrainState::Advertised => false,
            DrainState::Draining | DrainState::ShuttingDown => self.is_grace_over(),
            DrainState::Closed => true,
        }
    }

    /// Whether a shutdown refuses connections and rejects calls already.
    pub(crate) fn is_closed(&self) -> bool {
        self.drain_state() == DrainState::Closed
    }

    /// Advertises a drain, or withdraws the advertisement; a rejection of calls stays.
    pub(super) fn set_advertised(&self, advertised: bool) {
        self.change(|state| match (advertised, state) {
            (true, state) => state.max(DrainState::Advertised),
            (false, DrainState::Advertised) => DrainState::Serving,
            (false, state) => state,
        });
    }

    /// Starts or ends a drain; a shutdown stays.
    pub(super) fn set_draining(&self, draining: bool) {
        self.change(|state| match (draining, state) {
            (true, state) => state.max(DrainState::Draining),
            (false, DrainState::ShuttingDown | DrainState::Closed) => state,
            (false, _) => DrainState::Serving,
        });
    }

    /// Tells the callers that a shutdown has begun. Returns the time until which calls are
    /// accepted, at most `at_most` from now.
    pub(super) fn begin_shutdown(&self, at_most: Duration) -> Instant {
        self.change(|state| state.max(DrainState::ShuttingDown));
        let now = Instant::now();
        let until = self.accept_until.lock().unwrap_or(now);
        until.min(now + at_most)
    }

    /// Refuses connections and rejects calls from now on.
    pub(super) fn close(&self) {
        self.change(|_| DrainState::Closed);
        self.closing.cancel();
    }

    fn change(&self, next: impl FnOnce(DrainState) -> DrainState) {
        let mut accept_until = self.accept_until.lock();
        let before = self.drain_state();
        let after = next(before);
        // The grace is counted from the first advertisement.
        if before == DrainState::Serving && after != DrainState::Serving {
            *accept_until = Some(Instant::now() + self.drain_grace);
        }
        self.drain.store(after as u8, SeqCst);
        drop(accept_until);
        self.drain_changed.send_replace(());
    }

    fn drain_state(&self) -> DrainState {
        DrainState::ALL[usize::from(self.drain.load(SeqCst))]
    }

    fn is_grace_over(&self) -> bool {
        let until = *self.accept_until.lock();
        until.is_none_or(|until| until <= Instant::now())
    }
}

impl DrainState {
    /// All states, in the order of their numbers.
    const ALL: [Self; 5] = [
        Self::Serving,
        Self::Advertised,
        Self::Draining,
        Self::ShuttingDown,
        Self::Closed,
    ];
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRACE: Duration = Duration::from_millis(100);

    fn lifecycle() -> Lifecycle {
        Lifecycle::new(GRACE, CancellationToken::new())
    }

    #[test]
    fn states_match_their_numbers() {
        for (number, state) in DrainState::ALL.into_iter().enumerate() {
            assert_eq!(state as usize, number);
        }
        assert!(DrainState::ALL.is_sorted());
    }

    #[tokio::test(start_paused = true)]
    async fn a_drain_rejects_calls_after_the_grace_of_its_first_advertisement() {
        let lifecycle = lifecycle();
        lifecycle.set_advertised(true);
        assert!(lifecycle.is_draining() && !lifecycle.rejects_calls());
        tokio::time::advance(GRACE / 2).await;
        lifecycle.set_draining(true);
        assert!(!lifecycle.rejects_calls());
        tokio::time::advance(GRACE / 2).await;
        assert!(lifecycle.rejects_calls());
        lifecycle.set_advertised(false);
        assert!(lifecycle.rejects_calls(), "it withdraws no rejection");
        lifecycle.set_draining(false);
        assert!(!lifecycle.is_draining() && !lifecycle.rejects_calls());
    }

    #[tokio::test(start_paused = true)]
    async fn an_advertisement_alone_never_rejects_calls() {
        let lifecycle = lifecycle();
        lifecycle.set_advertised(true);
        tokio::time::advance(10 * GRACE).await;
        assert!(!lifecycle.rejects_calls());
        lifecycle.set_advertised(false);
        assert!(!lifecycle.is_draining());
    }

    #[tokio::test(start_paused = true)]
    async fn a_shutdown_cannot_be_taken_back() {
        let lifecycle = lifecycle();
        let now = Instant::now();
        assert_eq!(lifecycle.begin_shutdown(GRACE / 4), now + GRACE / 4);
        assert_eq!(lifecycle.begin_shutdown(2 * GRACE), now + GRACE);
        lifecycle.set_draining(false);
        lifecycle.set_advertised(false);
        assert!(lifecycle.is_draining() && !lifecycle.is_closed());
        lifecycle.close();
        assert!(lifecycle.is_closed() && lifecycle.rejects_calls());
        assert!(lifecycle.closing.is_cancelled());
        lifecycle.set_draining(false);
        assert!(lifecycle.is_closed());
    }
}
