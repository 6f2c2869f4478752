//! Turns in which the streams of a connection write large messages.

use std::{
    pin::pin,
    sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    time::Duration,
};

use tokio::{
    sync::{Semaphore, SemaphorePermit},
    task::yield_now,
    time::timeout,
};

use crate::accounts::WaiterGuard;

/// One stream of a connection at a time writes its large message.
///
/// QUIC sends the streams of one priority packet by packet in turn. Of many concurrent large
/// messages each would be partly in memory on both sides and end as late as the last one, and a
/// reader would be woken for every packet. Written one after the other, a message ends when its own
/// bytes have arrived. A writer that is blocked by flow control gives its turn away, so a peer that
/// does not read one stream holds up no other. Where the congestion window limits the connection,
/// QUIC has bytes of several messages again, and shares the path among them.
#[derive(Debug)]
pub(crate) struct WriteTurns {
    semaphore: Semaphore,
    /// Streams that wait for a turn.
    waiting: AtomicUsize,
    /// The stream that had the last turn.
    last: AtomicU64,
    /// Counts the steps that are written in turns.
    progress_steps: AtomicU64,
    /// Value of `progress_steps` at which a turn was found to be held by a future that is not
    /// polled.
    stuck_at_step: AtomicU64,
}

/// The turn of one stream, until it is dropped.
#[derive(Debug)]
pub(crate) struct WriteTurn<'a> {
    turns: &'a WriteTurns,
    /// `None` for a stream that did not get its turn, and writes all the same.
    permit: Option<SemaphorePermit<'a>>,
    left: usize,
    /// Whether other streams have large messages too.
    is_shared: bool,
}

impl Default for WriteTurns {
    fn default() -> Self {
        Self {
            semaphore: Semaphore::new(1),
            waiting: AtomicUsize::new(0),
            last: AtomicU64::new(u64::MAX),
            progress_steps: AtomicU64::new(0),
            stuck_at_step: AtomicU64::new(u64::MAX),
        }
    }
}

impl WriteTurns {
    /// Waits for a turn of this stream, behind the streams that wait already. A turn that makes no
    /// progress is not waited for: its future may be kept without being polled.
    pub(crate) async fn acquire(&self, stream: u64) -> WriteTurn<'_> {
        let permit = match self.semaphore.try_acquire() {
            Ok(permit) => Some(permit),
            Err(_) => self.wait_for_permit().await,
        };
        let is_another = self.last.swap(stream, Relaxed) != stream;
        WriteTurn {
            turns: self,
            permit,
            left: TURN_BYTES,
            is_shared: is_another || self.waiting.load(Relaxed) > 0,
        }
    }

    async fn wait_for_permit(&self) -> Option<SemaphorePermit<'_>> {
        let _waiting = WaiterGuard::enter(&self.waiting);
        let mut permit = pin!(self.semaphore.acquire());
        loop {
            let steps = self.progress_steps.load(Relaxed);
            if steps == self.stuck_at_step.load(Relaxed) {
                return None;
            }
            if let Ok(permit) = timeout(STUCK_TIMEOUT, permit.as_mut()).await {
                return Some(permit.expect("it is never closed"));
            }
            if steps == self.progress_steps.load(Relaxed) {
                self.stuck_at_step.store(steps, Relaxed);
            }
        }
    }
}

impl WriteTurn<'_> {
    /// Lets QUIC send what it has, also of the previous turn, before it is given more. A stream
    /// that is alone gains nothing by that.
    pub(crate) async fn yield_to_sender(&self) {
        if self.is_shared {
            yield_now().await;
        }
    }

    /// The turn after so many bytes were written; `None` if they have used it up.
    pub(crate) fn after_writing(mut self, written: usize) -> Option<Self> {
        if self.permit.is_some() {
            self.turns.progress_steps.fetch_add(1, Relaxed);
        }
        self.left = self.left.saturating_sub(written);
        (self.left > 0).then_some(self)
    }
}

/// Least size of a message that is written in turns.
pub(crate) const LARGE_BYTES_MIN: usize = 16 * 1024;

/// Bytes after which QUIC may send before more is written.
pub(crate) const STEP_BYTES: usize = 32 * 1024;

/// How long a writer that is blocked by flow control keeps its turn: longer than a round trip in
/// one network, and short beside one between distant networks.
pub(crate) const TURN_WAIT_MAX: Duration = Duration::from_millis(1);

/// How long a turn may take without progress before others stop waiting for it. Longer than a busy
/// machine lets a task wait, and short beside the deadlines of calls.
const STUCK_TIMEOUT: Duration = Duration::from_millis(50);

/// Most bytes that are written in one turn.
const TURN_BYTES: usize = 1024 * 1024;

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_unpolled_turn_delays_others_only_once() {
        let turns = WriteTurns::default();
        let held = turns.acquire(1).await;
        let began = Instant::now();
        let other = turns.acquire(2).await;
        assert_eq!(began.elapsed(), STUCK_TIMEOUT);
        assert!(other.permit.is_none() && other.is_shared);
        drop(turns.acquire(3).await);
        assert_eq!(began.elapsed(), STUCK_TIMEOUT, "not again");
        // It makes progress, so it is waited for again.
        let held = held.after_writing(1).expect("bytes are left");
        let mut next = pin!(turns.acquire(4));
        assert!(next.as_mut().now_or_never().is_none());
        drop(held);
        assert!(next.await.permit.is_some());
    }

    #[tokio::test]
    async fn a_turn_ends_with_its_bytes_and_the_next_begins() {
        let turns = WriteTurns::default();
        let next = |stream| turns.acquire(stream).now_or_never();
        let first = next(1).expect("no other has it");
        assert!(next(2).is_none());
        let first = first.after_writing(TURN_BYTES - 1).expect("a byte is left");
        assert!(next(2).is_none());
        assert!(first.after_writing(1).is_none());
        assert!(next(2).is_some());
    }

    #[tokio::test]
    async fn a_turn_is_shared_when_another_stream_had_the_last_one_or_waits() {
        let turns = WriteTurns::default();
        let next = |stream| turns.acquire(stream).now_or_never();
        assert!(next(1).expect("free").is_shared, "it may be");
        assert!(!next(1).expect("free").is_shared);
        assert!(next(2).expect("free").is_shared);
        let held = next(2).expect("free");
        let (mut own, mut other) = (pin!(turns.acquire(2)), pin!(turns.acquire(3)));
        assert!(own.as_mut().now_or_never().is_none());
        assert!(other.as_mut().now_or_never().is_none());
        drop(held);
        assert!(own.now_or_never().expect("it is first").is_shared);
    }
}
