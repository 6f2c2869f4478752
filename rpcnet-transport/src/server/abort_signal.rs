//! Signal that ends all tasks of the streams of a connection.

use std::{
    future::poll_fn,
    pin::pin,
    sync::atomic::{AtomicBool, Ordering::SeqCst},
    task::Poll,
};

use tokio_util::sync::CancellationToken;

/// A signal that is set once, and ends the futures that run until then.
#[derive(Debug, Default)]
pub(super) struct AbortSignal {
    token: CancellationToken,
    /// For futures that are woken often: a look at the token takes its lock.
    is_set: AtomicBool,
}

impl AbortSignal {
    pub(super) fn set(&self) {
        self.is_set.store(true, SeqCst);
        self.token.cancel();
    }

    /// Polls a future until the signal is set. The token is polled only once, which is enough to be
    /// woken by it.
    pub(super) async fn run_until_set(&self, future: impl Future<Output = ()>) {
        let mut set = pin!(self.token.cancelled());
        let mut future = pin!(future);
        let mut is_registered = false;
        poll_fn(|cx| {
            if !std::mem::replace(&mut is_registered, true) && set.as_mut().poll(cx).is_ready() {
                return Poll::Ready(());
            }
            if self.is_set.load(SeqCst) {
                return Poll::Ready(());
            }
            future.as_mut().poll(cx)
        })
        .await;
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use futures::FutureExt;

    use super::*;

    #[test]
    fn a_future_runs_until_the_signal_is_set() {
        let signal = AbortSignal::default();
        assert_eq!(signal.run_until_set(async {}).now_or_never(), Some(()));
        let mut running = pin!(signal.run_until_set(pending()));
        assert_eq!(running.as_mut().now_or_never(), None);
        signal.set();
        assert_eq!(running.now_or_never(), Some(()));
        assert_eq!(signal.run_until_set(pending()).now_or_never(), Some(()));
    }
}
