//! Turns in which the streams of a connection write large messages.

use std::{
    sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    time::Duration,
};

use tokio::{
    sync::{Semaphore, SemaphorePermit},
    task::yield_now,
};

use crate::accounts::Waiting;

/// One stream of a connection writes its large message at a time.
///
/// QUIC sends the streams of one priority packet by packet in turn. Of many large messages at a time
/// each would be in memory in part on both sides and end as late as the last one, and a reader would
/// be woken for every packet. Written one after the other, a message ends when its own bytes have
/// arrived. A writer that flow control holds up gives its turn away, so a peer that does not read
/// one stream holds up no other. Where the congestion window holds the connection up, QUIC has bytes
/// of several messages again, and shares the path among them.
#[derive(Debug)]
pub(crate) struct Turns {
    one: Semaphore,
    /// Streams that wait for a turn.
    waiting: AtomicUsize,
    /// The stream that had the last one.
    last: AtomicU64,
}

/// The turn of one stream, until it is dropped.
#[derive(Debug)]
pub(crate) struct Turn<'a> {
    _permit: SemaphorePermit<'a>,
    left: usize,
    /// Whether other streams have large messages too.
    is_shared: bool,
}

impl Default for Turns {
    fn default() -> Self {
        Self {
            one: Semaphore::new(1),
            waiting: AtomicUsize::new(0),
            last: AtomicU64::new(u64::MAX),
        }
    }
}

impl Turns {
    /// Waits for a turn of this stream, behind the streams that wait already.
    pub(crate) async fn next(&self, stream: u64) -> Turn<'_> {
        let permit = match self.one.try_acquire() {
            Ok(permit) => permit,
            Err(_) => {
                let _waiting = Waiting::enter(&self.waiting);
                self.one.acquire().await.expect("it is never closed")
            }
        };
        let is_another = self.last.swap(stream, Relaxed) != stream;
        Turn {
            _permit: permit,
            left: TURN_BYTES,
            is_shared: is_another || self.waiting.load(Relaxed) > 0,
        }
    }
}

impl Turn<'_> {
    /// Lets QUIC send what it has before it is given more, of the turn before too. A stream that is
    /// alone has nothing to gain by that.
    pub(crate) async fn let_send(&self) {
        if self.is_shared {
            yield_now().await;
        }
    }

    /// The turn after so many bytes were written, unless they have used it up.
    pub(crate) fn after(mut self, written: usize) -> Option<Self> {
        self.left = self.left.saturating_sub(written);
        (self.left > 0).then_some(self)
    }
}

/// Size from which on a message is written in turns.
pub(crate) const LARGE_FROM: usize = 16 * 1024;

/// Bytes after which QUIC may send before more is written.
pub(crate) const STEP_BYTES: usize = 32 * 1024;

/// How long a writer keeps its turn while flow control holds it up: longer than a round trip in one
/// network, and short beside one between distant networks.
pub(crate) const TURN_WAIT_MAX: Duration = Duration::from_millis(1);

/// Bytes that are written in one turn at the most.
const TURN_BYTES: usize = 1024 * 1024;

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures::FutureExt;

    use super::*;

    #[test]
    fn a_turn_ends_with_its_bytes_and_the_next_begins() {
        let turns = Turns::default();
        let next = |stream| turns.next(stream).now_or_never();
        let first = next(1).expect("no other has it");
        assert!(next(2).is_none());
        let first = first.after(TURN_BYTES - 1).expect("a byte is left");
        assert!(next(2).is_none());
        assert!(first.after(1).is_none());
        assert!(next(2).is_some());
    }

    #[test]
    fn a_turn_is_shared_when_another_stream_had_the_last_one_or_waits() {
        let turns = Turns::default();
        let next = |stream| turns.next(stream).now_or_never();
        assert!(next(1).expect("free").is_shared, "it may be");
        assert!(!next(1).expect("free").is_shared);
        assert!(next(2).expect("free").is_shared);
        let held = next(2).expect("free");
        let (mut own, mut other) = (pin!(turns.next(2)), pin!(turns.next(3)));
        assert!(own.as_mut().now_or_never().is_none());
        assert!(other.as_mut().now_or_never().is_none());
        drop(held);
        assert!(own.now_or_never().expect("it is first").is_shared);
    }
}
