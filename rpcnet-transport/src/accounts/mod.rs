//! Per-peer accounts: calls, connections and buffered bytes of each peer of an endpoint.
//!
//! A peer is an identity, the node name in its certificate, however many connections it has. Every
//! limit of the endpoint is a [`FairShare`] among peers, so that no peer can take all of it.

mod fair_share;
mod overdraft;
mod stream_budget;
mod windows;

pub(crate) use self::{
    fair_share::FairShare,
    stream_budget::{BufferReservation, StreamBudget},
    windows::{WINDOW_FLOOR, WindowedConnection},
};

use std::{
    collections::HashMap,
    fmt,
    future::pending,
    sync::{
        Arc, Weak,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use parking_lot::Mutex;
use quinn::ConnectionError;
use tokio::sync::{Notify, Semaphore};

use self::{
    overdraft::SentSample,
    windows::{ConnectionWindows, WindowConfig},
};
use crate::{
    TransportConfig,
    gauge::{Gauge, GaugeGuard},
    stream::Progress,
};

/// Accounts of all peers of an endpoint. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct PeerAccounts(Arc<Inner>);

struct Inner {
    calls: FairShare,
    connections: FairShare,
    bytes: FairShare,
    connection_bytes_max: usize,
    window_rules: WindowConfig,
    total: Mutex<TotalHeld>,
    by_peer: Mutex<HashMap<Arc<str>, Weak<PeerAccount>>>,
    /// Notified when bytes are released while a peer waits for them.
    released: Notify,
    waiter_count: AtomicUsize,
}

/// Sums over all peers.
#[derive(Debug, Default)]
struct TotalHeld {
    connections: usize,
    bytes: usize,
    /// Bytes of replies beyond the shares of their peers. They take no room from other peers.
    overdrawn: usize,
}

/// Account of one peer.
pub(crate) struct PeerAccount {
    name: Arc<str>,
    accounts: Arc<Inner>,
    /// Calls being served, including those that outlive their callers.
    calls: AtomicUsize,
    /// Changed under the lock of the totals.
    connections: AtomicUsize,
    bytes: AtomicUsize,
    /// Bytes of replies beyond the share of the peer.
    overdrawn: AtomicUsize,
    /// Bytes that were sent to the peer, as last sampled.
    sent_sample: Mutex<SentSample>,
    /// Order in which calls wait for the end of an overdraft: the first holds the permit.
    overdraft_queue: Semaphore,
    windows: Mutex<ConnectionWindows>,
    /// Order in which connections wait for bytes that any peer releases: the first holds the
    /// permit.
    reserve_queue: Semaphore,
}

/// Account of one connection of a peer.
#[derive(Debug)]
pub(crate) struct ConnectionAccount {
    pub(crate) peer: Arc<PeerAccount>,
    /// Bytes of messages that are being read.
    bytes: AtomicUsize,
    /// Order in which messages wait for a reservation: the first holds the permit.
    reserve_queue: Semaphore,
    /// Notified when the connection releases bytes.
    released: Notify,
    /// Bytes that were read from its streams.
    received: Arc<Progress>,
    /// The connection whose end also ends the wait of a message for a reservation.
    connection: Option<quinn::Connection>,
}

/// A counted connection of a peer, until the guard is dropped.
#[derive(Debug)]
pub(crate) struct ConnectionGuard {
    account: Arc<PeerAccount>,
    /// Number of the connection among those of the peer whose windows are managed.
    number: u64,
    /// Most calls with streams of their own that the connection had at a time.
    calls: AtomicUsize,
}

/// A call being served, counted for the endpoint and for its peer until the guard is dropped.
#[derive(Debug)]
pub(crate) struct InFlightGuard {
    _endpoint: GaugeGuard,
    peer: Arc<PeerAccount>,
}

impl PeerAccounts {
    pub(crate) fn new(config: &TransportConfig) -> Self {
        let message = config.message_bytes_max;
        let bytes = FairShare::new(config.buffered_bytes_max.max(message), message);
        Self(Arc::new(Inner {
            calls: FairShare::new(config.calls_max.get(), SHARE_FLOOR),
            connections: FairShare::new(config.connections_max.get(), SHARE_FLOOR),
            bytes,
            window_rules: WindowConfig::new(config, bytes.max()),
            connection_bytes_max: config.connection_buffered_bytes_max.max(message),
            total: Mutex::default(),
            by_peer: Mutex::default(),
            released: Notify::new(),
            waiter_count: AtomicUsize::new(0),
        }))
    }

    /// Bytes that all peers hold.
    pub(crate) fn bytes(&self) -> usize {
        let held = self.0.total.lock();
        held.bytes + held.overdrawn
    }

    /// Whether the endpoint may have one more connection.
    pub(crate) fn has_connection_left(&self) -> bool {
        self.0.total.lock().connections < self.0.connections.max()
    }

    /// The account of the peer with this name.
    pub(crate) fn account(&self, name: Arc<str>) -> Arc<PeerAccount> {
        let mut by_peer = self.0.by_peer.lock();
        if let Some(account) = by_peer.get(&name).and_then(Weak::upgrade) {
            return account;
        }
        let account = Arc::new(PeerAccount {
            name: Arc::clone(&name),
            accounts: Arc::clone(&self.0),
            calls: AtomicUsize::new(0),
            connections: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            overdrawn: AtomicUsize::new(0),
            sent_sample: Mutex::default(),
            overdraft_queue: Semaphore::new(1),
            windows: Mutex::new(ConnectionWindows::new(self.0.window_rules)),
            reserve_queue: Semaphore::new(1),
        });
        by_peer.insert(name, Arc::downgrade(&account));
        account
    }
}

impl PeerAccount {
    /// Counts one more connection and sets its windows. `None` if the peer, or the endpoint, has as
    /// many connections as it may.
    pub(crate) fn connect(
        self: &Arc<Self>,
        connection: impl WindowedConnection + 'static,
    ) -> Option<ConnectionGuard> {
        {
            let mut held = self.accounts.total.lock();
            let own = self.connections.load(Relaxed);
            if !self.accounts.connections.allows(own, held.connections, 1) {
                return None;
            }
            held.connections += 1;
            self.connections.store(own + 1, Relaxed);
        }
        Some(ConnectionGuard {
            account: Arc::clone(self),
            number: self.windows.lock().add(Box::new(connection)),
            calls: AtomicUsize::new(0),
        })
    }

    /// Counts a call being served. `endpoint` counts the calls of all peers.
    pub(crate) fn begin_call(self: &Arc<Self>, endpoint: &Gauge) -> (InFlightGuard, usize) {
        let (total, in_flight) = endpoint.enter();
        self.calls.fetch_add(1, Relaxed);
        let guard = InFlightGuard {
            _endpoint: total,
            peer: Arc::clone(self),
        };
        (guard, in_flight)
    }

    /// Whether a call that is counted in `in_flight` exceeds the limit of the endpoint or the share
    /// of this peer. `is_own` says whether the count of the peer includes the call too.
    pub(crate) fn exceeds_call_limit(&self, in_flight: usize, is_own: bool) -> bool {
        let own = self.calls.load(Relaxed).saturating_sub(usize::from(is_own));
        !self
            .accounts
            .calls
            .allows(own, in_flight.saturating_sub(1), 1)
    }

    /// Bytes that the peer holds.
    #[cfg(test)]
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Relaxed)
    }

    fn try_charge(&self, held: &mut TotalHeld, bytes: usize) -> bool {
        let own = self.bytes.load(Relaxed);
        let allowed = self.accounts.bytes.allows(own, held.bytes, bytes);
        if allowed {
            held.bytes += bytes;
            self.bytes.store(own + bytes, Relaxed);
        }
        allowed
    }

    fn release(&self, bytes: usize) {
        {
            let mut held = self.accounts.total.lock();
            held.bytes -= bytes;
            self.bytes.fetch_sub(bytes, Relaxed);
        }
        self.wake_waiters();
    }
}

impl ConnectionAccount {
    /// Creates the account of a connection. Messages that wait for a reservation fail when
    /// `connection` ends.
    pub(crate) fn new(peer: Arc<PeerAccount>, connection: Option<quinn::Connection>) -> Arc<Self> {
        Arc::new(Self {
            peer,
            connection,
            bytes: AtomicUsize::new(0),
            reserve_queue: Semaphore::new(1),
            released: Notify::new(),
            received: Arc::default(),
        })
    }

    /// Bytes that are reserved for messages that are being read.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Relaxed)
    }

    /// Completes when the connection ends.
    fn closed(&self) -> impl Future<Output = ConnectionError> + Send + Sync + 'static {
        let connection = self.connection.clone();
        async move {
            match connection {
                Some(connection) => connection.closed().await,
                None => pending().await,
            }
        }
    }

    /// Bytes that were read from the streams of the connection.
    pub(crate) fn received(&self) -> &Arc<Progress> {
        &self.received
    }

    /// Whether messages of the connection, or of its peer, already wait for a reservation.
    fn has_waiters(&self) -> bool {
        self.reserve_queue.available_permits() == 0
            || self.peer.reserve_queue.available_permits() == 0
    }

    /// Reserves bytes for a message that is to be read, if there is room now.
    fn try_reserve(self: &Arc<Self>, bytes: usize) -> Result<BufferReservation, ReserveError> {
        let all = &self.peer.accounts;
        let mut held = all.total.lock();
        let own = self.bytes.load(Relaxed);
        if own > 0 && own.saturating_add(bytes) > all.connection_bytes_max {
            return Err(ReserveError::ConnectionFull);
        }
        if !self.peer.try_charge(&mut held, bytes) {
            return Err(ReserveError::PeerFull);
        }
        self.bytes.store(own + bytes, Relaxed);
        Ok(BufferReservation::of_connection(Arc::clone(self), bytes))
    }

    /// Waits until bytes for a message can be reserved, behind earlier messages of the same
    /// connection.
    ///
    /// Only the first message of a connection waits for bytes that the connection releases, and
    /// only the first of these for bytes that any peer releases. So each release wakes few waiters,
    /// however many there are.
    async fn reserve(self: Arc<Self>, bytes: usize) -> BufferReservation {
        let _first = self.reserve_queue.acquire().await;
        loop {
            let mut released = std::pin::pin!(self.released.notified());
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
    async fn reserve_from_peer(self: &Arc<Self>, bytes: usize) -> Option<BufferReservation> {
        let _first = self.peer.reserve_queue.acquire().await;
        let all = &self.peer.accounts;
        let _waiting = WaiterGuard::enter(&all.waiter_count);
        loop {
            let mut released = std::pin::pin!(all.released.notified());
            released.as_mut().enable();
            match self.try_reserve(bytes) {
                Ok(reservation) => return Some(reservation),
                Err(ReserveError::ConnectionFull) => return None,
                Err(ReserveError::PeerFull) => released.await,
            }
        }
    }

    /// Takes a message that was read off the account of the connection. The peer still holds it.
    fn release_from_connection(&self, bytes: usize) {
        {
            let _held = self.peer.accounts.total.lock();
            self.bytes.fetch_sub(bytes, Relaxed);
        }
        self.released.notify_one();
    }
}

/// Account that has no room for a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ReserveError {
    ConnectionFull,
    /// The peer, or all peers together.
    PeerFull,
}

/// A counted waiter, until the guard is dropped.
pub(crate) struct WaiterGuard<'a>(&'a AtomicUsize);

impl<'a> WaiterGuard<'a> {
    pub(crate) fn enter(waiting: &'a AtomicUsize) -> Self {
        waiting.fetch_add(1, Relaxed);
        Self(waiting)
    }
}

impl Drop for WaiterGuard<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

impl Drop for InFlightGuard {
    fn drop(&mut self) {
        self.peer.calls.fetch_sub(1, Relaxed);
    }
}

impl ConnectionGuard {
    /// Records the number of calls with streams of their own that the connection has now.
    pub(crate) fn note_calls(&self, calls: usize) {
        if calls > self.calls.load(Relaxed) && self.calls.fetch_max(calls, Relaxed) < calls {
            let mut windows = self.account.windows.lock();
            windows.note_calls(self.number, calls);
        }
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        {
            let mut held = self.account.accounts.total.lock();
            held.connections -= 1;
            self.account.connections.fetch_sub(1, Relaxed);
        }
        self.account.windows.lock().remove(self.number);
    }
}

impl Drop for PeerAccount {
    fn drop(&mut self) {
        let mut by_peer = self.accounts.by_peer.lock();
        // A new account may have been created in between.
        let is_gone = by_peer
            .get(&self.name)
            .is_some_and(|account| account.strong_count() == 0);
        if is_gone {
            by_peer.remove(&self.name);
        }
    }
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerAccounts")
            .field("held", &self.total)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for PeerAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerAccount")
            .field("name", &self.name)
            .field("calls", &self.calls)
            .field("connections", &self.connections)
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

/// Calls, and connections, that each peer may have whatever other peers have, if the limit is that
/// large.
pub(crate) const SHARE_FLOOR: usize = 16;

/// Largest message that is not charged to an account. Such messages come in a few packets, and the
/// limit of streams bounds their number.
const UNCHARGED_BYTES_MAX: usize = 16 * 1024;

#[cfg(test)]
mod tests;
