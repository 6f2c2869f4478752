//! Turns in which the streams of a connection write large messages.

use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};

/// One stream of a connection writes its large message at a time.
///
/// QUIC sends the streams of one priority packet by packet in turn. Of many large messages at a time
/// each would be in memory in part on both sides and end as late as the last one, and a reader would
/// be woken for every packet. Written one after the other, a message ends when its own bytes have
/// arrived. A writer that flow control holds up gives its turn away, so a peer that does not read
/// one stream holds up no other. Where the congestion window holds the connection up, QUIC has bytes
/// of several messages again, and shares the path among them.
#[derive(Debug)]
pub(crate) struct Turns(Semaphore);

/// The turn of one stream, until it is dropped.
#[derive(Debug)]
pub(crate) struct Turn<'a> {
    _permit: SemaphorePermit<'a>,
    left: usize,
}

impl Default for Turns {
    fn default() -> Self {
        Self(Semaphore::new(1))
    }
}

impl Turns {
    /// Waits for a turn, behind the streams that wait already.
    pub(crate) async fn next(&self) -> Turn<'_> {
        let permit = self.0.acquire().await.expect("it is never closed");
        Turn {
            _permit: permit,
            left: TURN_BYTES,
        }
    }
}

impl Turn<'_> {
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
    use futures::FutureExt;

    use super::*;

    #[test]
    fn a_turn_ends_with_its_bytes_and_the_next_begins() {
        let turns = Turns::default();
        let first = turns.next().now_or_never().expect("no other has it");
        assert!(turns.next().now_or_never().is_none());
        let first = first.after(TURN_BYTES - 1).expect("a byte is left");
        assert!(turns.next().now_or_never().is_none());
        assert!(first.after(1).is_none());
        assert!(turns.next().now_or_never().is_some());
    }
}
