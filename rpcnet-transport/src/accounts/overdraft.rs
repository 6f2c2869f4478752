//! Overdraft: replies that exist already and find no room in the share of their peer.

use std::{
    pin::pin,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use tokio::time::Instant;

use super::{Account, Reservation, UNCHARGED_BYTES_MAX, Waiting};
use crate::stream::{Patience, Stalled};

impl Account {
    /// Room for a reply that is to be sent, in the share of the peer or beyond it. `None` if the
    /// peer has as much again as its share beyond it already.
    ///
    /// A reply beyond the share is sent on like others: it exists, so that waiting would free
    /// nothing. What waits is the peer's next call, see [`settled`](Self::settled).
    pub(crate) fn hold_reply(self: &Arc<Self>, bytes: usize) -> Option<Reservation> {
        if bytes <= UNCHARGED_BYTES_MAX {
            return Some(Reservation::none());
        }
        let mut held = self.all.held.lock();
        if self.take(&mut held, bytes) {
            return Some(Reservation::of_peer(Arc::clone(self), bytes));
        }
        let own = self.overdrawn.load(Relaxed);
        if !self.all.bytes.allows(own, held.overdrawn, bytes) {
            return None;
        }
        held.overdrawn += bytes;
        self.overdrawn.store(own + bytes, Relaxed);
        Some(Reservation::beyond_share(Arc::clone(self), bytes))
    }

    /// Room for a message of a stream, when the peer is not overdrawn. `None` if it takes too
    /// little for too long.
    pub(crate) async fn hold_message(
        self: &Arc<Self>,
        bytes: usize,
        patience: &Patience,
    ) -> Option<Reservation> {
        let is_charged = bytes > UNCHARGED_BYTES_MAX;
        if is_charged && self.is_overdrawn() {
            // Not in the line of calls: a handler may keep this future without polling it.
            self.while_sending(patience, self.within_share())
                .await
                .ok()?;
        }
        self.hold_reply(bytes)
    }

    pub(super) fn give_back_overdraft(&self, bytes: usize) {
        {
            let mut held = self.all.held.lock();
            held.overdrawn -= bytes;
            self.overdrawn.fetch_sub(bytes, Relaxed);
        }
        self.note_returned();
    }

    /// Bytes of the peer were given back. Those that wait for room hear of it, and calls of peers
    /// that wait until they are not overdrawn: how much one may have depends on what all have.
    pub(super) fn note_returned(&self) {
        if self.all.waiting.load(Relaxed) > 0 {
            self.all.released.notify_waiters();
        }
    }

    /// Whether replies are held beyond the share of the peer, and what it holds in all does not fit
    /// its share.
    pub(crate) fn is_overdrawn(&self) -> bool {
        if self.overdrawn.load(Relaxed) == 0 {
            return false;
        }
        let held = self.all.held.lock();
        let overdrawn = self.overdrawn.load(Relaxed);
        let own = self.bytes.load(Relaxed) + overdrawn;
        overdrawn > 0 && !self.all.bytes.allows(own, held.bytes + overdrawn, 0)
    }

    /// Waits until the peer is not [overdrawn](Self::is_overdrawn), behind those that wait already.
    ///
    /// Replies that are held leave without any further room, so that the wait ends.
    ///
    /// # Errors
    ///
    /// [`Stalled`] if the peer takes too little for too long.
    pub(crate) async fn settled(&self, patience: &Patience) -> Result<(), Stalled> {
        let wait = async {
            let _first = self.settling.acquire().await;
            self.within_share().await;
        };
        self.while_sending(patience, wait).await
    }

    /// Waits as long as QUIC goes on sending to the peer, over all of its connections. What QUIC
    /// has taken says less: it takes much at once, and nothing until that is acknowledged.
    async fn while_sending<T>(
        &self,
        patience: &Patience,
        wait: impl Future<Output = T>,
    ) -> Result<T, Stalled> {
        patience.wait_by(|| self.sent_bytes(), wait).await
    }

    /// Bytes that were sent to the peer by now, or a moment ago.
    fn sent_bytes(&self) -> u64 {
        let mut sent = self.sent.lock();
        let now = Instant::now();
        let is_recent = |at: Instant| now.saturating_duration_since(at) < SAMPLE_INTERVAL_MIN;
        if !sent.sampled_at.is_some_and(is_recent) {
            *sent = Sent {
                bytes: self.windows.lock().bytes_sent(),
                sampled_at: Some(now),
            };
        }
        sent.bytes
    }

    async fn within_share(&self) {
        let _waiting = Waiting::enter(&self.all.waiting);
        loop {
            let mut released = pin!(self.all.released.notified());
            // From here on nothing that is given back is missed.
            released.as_mut().enable();
            if !self.is_overdrawn() {
                return;
            }
            released.await;
        }
    }
}

/// How much was sent to a peer, at a time.
#[derive(Debug, Default)]
pub(super) struct Sent {
    bytes: u64,
    sampled_at: Option<Instant>,
}

/// Many calls may wait, and a peer may have many connections: their counts are not read for each.
const SAMPLE_INTERVAL_MIN: Duration = Duration::from_millis(100);
