//! Overdraft: replies that exist already and find no room in the share of their peer.

use std::{
    pin::pin,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use tokio::time::Instant;

use super::{BufferReservation, PeerAccount, UNCHARGED_BYTES_MAX, WaiterGuard};
use crate::stream::{StallTimer, Stalled};

impl PeerAccount {
    /// Room for a reply that is to be sent, in the share of the peer or beyond it. `None` if the
    /// peer has as much again as its share beyond it already.
    ///
    /// A reply beyond the share is sent on like others: it exists, so that waiting would free
    /// nothing. What waits is the peer's next call, see [`settled`](Self::settled).
    pub(crate) fn reserve_reply(self: &Arc<Self>, bytes: usize) -> Option<BufferReservation> {
        if bytes <= UNCHARGED_BYTES_MAX {
            return Some(BufferReservation::none());
        }
        let mut held = self.accounts.total.lock();
        if self.try_charge(&mut held, bytes) {
            return Some(BufferReservation::of_peer(Arc::clone(self), bytes));
        }
        let own = self.overdrawn.load(Relaxed);
        if !self.accounts.bytes.allows(own, held.overdrawn, bytes) {
            return None;
        }
        held.overdrawn += bytes;
        self.overdrawn.store(own + bytes, Relaxed);
        Some(BufferReservation::overdraft(Arc::clone(self), bytes))
    }

    /// Room for a message of a stream, when the peer is not overdrawn. `None` if it takes too
    /// little for too long.
    pub(crate) async fn reserve_message(
        self: &Arc<Self>,
        bytes: usize,
        patience: &StallTimer,
    ) -> Option<BufferReservation> {
        let is_charged = bytes > UNCHARGED_BYTES_MAX;
        if is_charged && self.is_overdrawn() {
            // Not in the line of calls: a handler may keep this future without polling it.
            self.while_sending(patience, self.wait_within_share())
                .await
                .ok()?;
        }
        self.reserve_reply(bytes)
    }

    pub(super) fn release_overdraft(&self, bytes: usize) {
        {
            let mut held = self.accounts.total.lock();
            held.overdrawn -= bytes;
            self.overdrawn.fetch_sub(bytes, Relaxed);
        }
        self.wake_waiters();
    }

    /// Bytes of the peer were given back. Those that wait for room hear of it, and calls of peers
    /// that wait until they are not overdrawn: how much one may have depends on what all have.
    pub(super) fn wake_waiters(&self) {
        if self.accounts.waiter_count.load(Relaxed) > 0 {
            self.accounts.released.notify_waiters();
        }
    }

    /// Whether replies are held beyond the share of the peer, and what it holds in all does not fit
    /// its share.
    pub(crate) fn is_overdrawn(&self) -> bool {
        if self.overdrawn.load(Relaxed) == 0 {
            return false;
        }
        let held = self.accounts.total.lock();
        let overdrawn = self.overdrawn.load(Relaxed);
        let own = self.bytes.load(Relaxed) + overdrawn;
        overdrawn > 0 && !self.accounts.bytes.allows(own, held.bytes + overdrawn, 0)
    }

    /// Waits until the peer is not [overdrawn](Self::is_overdrawn), behind those that wait already.
    ///
    /// Replies that are held leave without any further room, so that the wait ends.
    ///
    /// # Errors
    ///
    /// [`Stalled`] if the peer takes too little for too long.
    pub(crate) async fn wait_overdraft_cleared(
        &self,
        patience: &StallTimer,
    ) -> Result<(), Stalled> {
        let wait = async {
            let _first = self.overdraft_queue.acquire().await;
            self.wait_within_share().await;
        };
        self.while_sending(patience, wait).await
    }

    /// Waits as long as QUIC goes on sending to the peer, over all of its connections. What QUIC
    /// has taken says less: it takes much at once, and nothing until that is acknowledged.
    async fn while_sending<T>(
        &self,
        patience: &StallTimer,
        wait: impl Future<Output = T>,
    ) -> Result<T, Stalled> {
        patience
            .wait_with_progress(|| self.sent_bytes(), wait)
            .await
    }

    /// Bytes that were sent to the peer by now, or a moment ago.
    fn sent_bytes(&self) -> u64 {
        let mut sent = self.sent_sample.lock();
        let now = Instant::now();
        let is_recent = |at: Instant| now.saturating_duration_since(at) < SAMPLE_INTERVAL_MIN;
        if !sent.sampled_at.is_some_and(is_recent) {
            *sent = SentSample {
                bytes: self.windows.lock().bytes_sent(),
                sampled_at: Some(now),
            };
        }
        sent.bytes
    }

    async fn wait_within_share(&self) {
        let _waiting = WaiterGuard::enter(&self.accounts.waiter_count);
        loop {
            let mut released = pin!(self.accounts.released.notified());
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
pub(super) struct SentSample {
    bytes: u64,
    sampled_at: Option<Instant>,
}

/// Many calls may wait, and a peer may have many connections: their counts are not read for each.
const SAMPLE_INTERVAL_MIN: Duration = Duration::from_millis(100);
