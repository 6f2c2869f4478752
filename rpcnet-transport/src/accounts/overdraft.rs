//! Overdraft: replies that exist already and do not fit into the share of their peer.

use std::{
    pin::pin,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use tokio::time::Instant;

use super::{
    BufferReservation, PeerAccount, WaiterGuard,
    peer_account::SentSample,
    reservation::{ChargedTo, UNCHARGED_BYTES_MAX},
};
use crate::stream::{StallTimer, Stalled};

impl PeerAccount {
    /// Reserves bytes for a reply, within the share of the peer or beyond it. `None` if the peer
    /// already holds as much again as its share beyond it.
    ///
    /// A reply beyond the share is sent like others: it exists already, so waiting would free
    /// nothing. The next call of the peer waits instead, see
    /// [`wait_overdraft_cleared`](Self::wait_overdraft_cleared).
    pub(crate) fn reserve_reply(self: &Arc<Self>, bytes: usize) -> Option<BufferReservation> {
        if bytes <= UNCHARGED_BYTES_MAX {
            return Some(BufferReservation::new(ChargedTo::None, 0));
        }
        let mut total = self.accounts.total.lock();
        if self.try_charge(&mut total, bytes) {
            let charged_to = ChargedTo::Peer(Arc::clone(self));
            return Some(BufferReservation::new(charged_to, bytes));
        }
        let own = self.overdrawn.load(Relaxed);
        if !self.accounts.bytes.allows(own, total.overdrawn, bytes) {
            return None;
        }
        total.overdrawn += bytes;
        self.overdrawn.store(own + bytes, Relaxed);
        let charged_to = ChargedTo::Overdraft(Arc::clone(self));
        Some(BufferReservation::new(charged_to, bytes))
    }

    /// Reserves bytes for a message of a stream, once the peer is not overdrawn. `None` if the peer
    /// reads too little for too long.
    pub(crate) async fn reserve_message(
        self: &Arc<Self>,
        bytes: usize,
        stall_timer: &StallTimer,
    ) -> Option<BufferReservation> {
        let is_charged = bytes > UNCHARGED_BYTES_MAX;
        if is_charged && self.is_overdrawn() {
            // Not in the queue of the calls: a handler may keep this future without polling it.
            self.while_sending(stall_timer, self.wait_within_share())
                .await
                .ok()?;
        }
        self.reserve_reply(bytes)
    }

    pub(super) fn release_overdraft(&self, bytes: usize) {
        {
            let mut total = self.accounts.total.lock();
            total.overdrawn -= bytes;
            self.overdrawn.fetch_sub(bytes, Relaxed);
        }
        self.wake_waiters();
    }

    /// Wakes the tasks that wait for bytes: messages that wait for a reservation and calls that
    /// wait for the end of an overdraft. What one peer may hold depends on what all peers hold.
    pub(super) fn wake_waiters(&self) {
        if self.accounts.waiter_count.load(Relaxed) > 0 {
            self.accounts.released.notify_waiters();
        }
    }

    /// Whether the peer holds replies beyond its share, and all that it holds does not fit into its
    /// share.
    pub(crate) fn is_overdrawn(&self) -> bool {
        if self.overdrawn.load(Relaxed) == 0 {
            return false;
        }
        let total = self.accounts.total.lock();
        let overdrawn = self.overdrawn.load(Relaxed);
        let own = self.bytes.load(Relaxed) + overdrawn;
        overdrawn > 0 && !self.accounts.bytes.allows(own, total.bytes + overdrawn, 0)
    }

    /// Waits until the peer is not [overdrawn](Self::is_overdrawn), behind calls that wait already.
    ///
    /// Replies that were reserved are sent without any further reservation, so the wait ends.
    ///
    /// # Errors
    ///
    /// [`Stalled`] if the peer reads too little for too long.
    pub(crate) async fn wait_overdraft_cleared(
        &self,
        stall_timer: &StallTimer,
    ) -> Result<(), Stalled> {
        let wait = async {
            let _first = self.overdraft_queue.acquire().await;
            self.wait_within_share().await;
        };
        self.while_sending(stall_timer, wait).await
    }

    /// Waits as long as QUIC goes on sending to the peer, over all of its connections. The bytes
    /// that QUIC has accepted say less: it accepts many at once, and none until these are
    /// acknowledged.
    async fn while_sending<T>(
        &self,
        stall_timer: &StallTimer,
        wait: impl Future<Output = T>,
    ) -> Result<T, Stalled> {
        stall_timer
            .wait_with_progress(|| self.sent_bytes(), wait)
            .await
    }

    /// Bytes that were sent to the peer, at most [`SAMPLE_INTERVAL_MIN`] ago.
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
            // From here on no release is missed.
            released.as_mut().enable();
            if !self.is_overdrawn() {
                return;
            }
            released.await;
        }
    }
}

/// Least time between two samples: many calls may wait, and a peer may have many connections.
const SAMPLE_INTERVAL_MIN: Duration = Duration::from_millis(100);
