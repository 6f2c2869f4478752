//! Reservations of buffer bytes, charged to connections and peers.

use std::{
    fmt,
    pin::pin,
    sync::{Arc, atomic::Ordering::Relaxed},
};

use super::{ConnectionAccount, PeerAccount, WaiterGuard};

/// Bytes that are charged to a peer, until the reservation is dropped.
pub(crate) struct BufferReservation {
    charged_to: ChargedTo,
    bytes: usize,
}

/// Account that a reservation is charged to.
pub(super) enum ChargedTo {
    /// The message is too small to be charged.
    None,
    Peer(Arc<PeerAccount>),
    /// A reply that did not fit into the share of its peer.
    Overdraft(Arc<PeerAccount>),
    Connection(Arc<ConnectionAccount>),
}

impl BufferReservation {
    pub(super) fn new(charged_to: ChargedTo, bytes: usize) -> Self {
        Self { charged_to, bytes }
    }

    /// Moves the charge from the connection to its peer.
    pub(super) fn move_to_peer(&mut self) {
        if let ChargedTo::Connection(connection) = &self.charged_to {
            let peer = Arc::clone(&connection.peer);
            connection.release_from_connection(self.bytes);
            self.charged_to = ChargedTo::Peer(peer);
        }
    }
}

impl Drop for BufferReservation {
    fn drop(&mut self) {
        match &self.charged_to {
            ChargedTo::None => {}
            ChargedTo::Peer(peer) => peer.release(self.bytes),
            ChargedTo::Overdraft(peer) => peer.release_overdraft(self.bytes),
            ChargedTo::Connection(connection) => {
                connection.release_from_connection(self.bytes);
                connection.peer.release(self.bytes);
            }
        }
    }
}

impl ConnectionAccount {
    /// Whether messages of the connection, or of its peer, already wait for a reservation.
    pub(super) fn has_waiters(&self) -> bool {
        self.reserve_queue.available_permits() == 0
            || self.peer.reserve_queue.available_permits() == 0
    }

    /// Reserves bytes for a message that is to be read, if there is room now.
    pub(super) fn try_reserve(
        self: &Arc<Self>,
        bytes: usize,
    ) -> Result<BufferReservation, ReserveError> {
        let all = &self.peer.accounts;
        let mut total = all.total.lock();
        let own = self.bytes.load(Relaxed);
        if own > 0 && own.saturating_add(bytes) > all.connection_bytes_max {
            return Err(ReserveError::ConnectionFull);
        }
        if !self.peer.try_charge(&mut total, bytes) {
            return Err(ReserveError::PeerFull);
        }
        self.bytes.store(own + bytes, Relaxed);
        let charged_to = ChargedTo::Connection(Arc::clone(self));
        Ok(BufferReservation::new(charged_to, bytes))
    }

    /// Waits until bytes for a message can be reserved, behind earlier messages of the same
    /// connection.
    ///
    /// Only the first message of a connection waits for bytes that the connection releases, and
    /// only the first of these for bytes that any peer releases. So each release wakes few waiters,
    /// however many there are.
    pub(super) async fn reserve(self: Arc<Self>, bytes: usize) -> BufferReservation {
        let _first = self.reserve_queue.acquire().await;
        loop {
            let mut released = pin!(self.released.notified());
            // From here on no release is missed.
            released.as_mut().enable();
            match self.try_reserve(bytes) {
                Ok(reservation) => return reservation,
                Err(ReserveError::ConnectionFull) => released.await,
                Err(ReserveError::PeerFull) => {
                    if let Some(reservation) = self.reserve_from_peer(bytes).await {
                        return reservation;
                    }
                }
            }
        }
    }

    /// Waits while the peer, or all peers together, hold too much. `None` if the connection itself
    /// holds too much by then.
    pub(super) async fn reserve_from_peer(
        self: &Arc<Self>,
        bytes: usize,
    ) -> Option<BufferReservation> {
        let _first = self.peer.reserve_queue.acquire().await;
        let all = &self.peer.accounts;
        let _waiting = WaiterGuard::enter(&all.waiter_count);
        loop {
            let mut released = pin!(all.released.notified());
            released.as_mut().enable();
            match self.try_reserve(bytes) {
                Ok(reservation) => return Some(reservation),
                Err(ReserveError::ConnectionFull) => return None,
                Err(ReserveError::PeerFull) => released.await,
            }
        }
    }
}

/// Account that has no room for a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ReserveError {
    ConnectionFull,
    /// The peer, or all peers together.
    PeerFull,
}

impl fmt::Debug for BufferReservation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("BufferReservation")
            .field(&self.bytes)
            .finish()
    }
}

/// Largest message that is not charged to an account. Such messages come in a few packets, and the
/// limit of streams bounds their number.
pub(super) const UNCHARGED_BYTES_MAX: usize = 16 * 1024;
