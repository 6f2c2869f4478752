//! Accounts of peers: the calls, connections and bytes that each one holds of this endpoint.
//!
//! A peer is an identity, the node name in its certificate, however many connections it has. Every limit of the endpoint is
//! [shared](FairShare) among peers, so that none of them can take all of it.

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

/// The accounts of all peers of an endpoint. Cheap to clone.
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
    /// Told when bytes are given back, if a peer waits for them.
    released: Notify,
    waiter_count: AtomicUsize,
}

/// What all peers hold together.
#[derive(Debug, Default)]
struct TotalHeld {
    connections: usize,
    bytes: usize,
    /// Of replies beyond the shares of their peers, which takes no room from others.
    overdrawn: usize,
}

/// The account of one peer.
pub(crate) struct PeerAccount {
    name: Arc<str>,
    accounts: Arc<Inner>,
    /// Calls being served, those that outlive their callers included.
    calls: AtomicUsize,
    /// Changed under the lock of what all hold.
    connections: AtomicUsize,
    bytes: AtomicUsize,
    /// Bytes of replies beyond its share.
    overdrawn: AtomicUsize,
    /// What was sent to it, by the last sample.
    sent_sample: Mutex<SentSample>,
    /// The call that waits for the end of an overdraft is first, others behind it.
    overdraft_queue: Semaphore,
    windows: Mutex<ConnectionWindows>,
    /// The connection whose message waits for what is given back is first, others behind it.
    reserve_queue: Semaphore,
}

/// What one connection of a peer holds.
#[derive(Debug)]
pub(crate) struct ConnectionAccount {
    pub(crate) peer: Arc<PeerAccount>,
    /// Of messages that are being read.
    bytes: AtomicUsize,
    /// The message that waits for room is first, others behind it.
    reserve_queue: Semaphore,
    /// Told when the connection gives bytes back.
    released: Notify,
    /// Bytes that were read of its streams.
    received: Arc<Progress>,
    /// So that a message that waits for room learns of its end.
    connection: Option<quinn::Connection>,
}

/// One connection of a peer, until it is dropped.
#[derive(Debug)]
pub(crate) struct ConnectionGuard {
    account: Arc<PeerAccount>,
    /// Among those of the account that have windows.
    number: u64,
    /// Most calls with streams of their own that the connection had at a time.
    calls: AtomicUsize,
}

/// A call being served, counted for the endpoint and for its peer.
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

    /// Bytes held for all peers.
    pub(crate) fn bytes(&self) -> usize {
        let held = self.0.total.lock();
        held.bytes + held.overdrawn
    }

    /// Whether there is room for one more connection of any peer.
    pub(crate) fn has_connection_left(&self) -> bool {
        self.0.total.lock().connections < self.0.connections.max()
    }

    /// The account of the peer of this name.
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
    /// Counts one more connection and sets its windows, unless the peer has as many as it may.
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

    /// Counts a call being served; `endpoint` counts those of all peers.
    pub(crate) fn begin_call(self: &Arc<Self>, endpoint: &Gauge) -> (InFlightGuard, usize) {
        let (total, in_flight) = endpoint.enter();
        self.calls.fetch_add(1, Relaxed);
        let guard = InFlightGuard {
            _endpoint: total,
            peer: Arc::clone(self),
        };
        (guard, in_flight)
    }

    /// Whether a call that is counted in `in_flight` is more than the endpoint or this peer may have. `is_own` says whether
    /// the peer's count has it too.
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
    /// Of a connection, if there is one whose end is of interest to messages that wait for room.
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

    /// Bytes that are held of messages that are being read.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Relaxed)
    }

    /// Ends with the connection.
    fn closed(&self) -> impl Future<Output = ConnectionError> + Send + Sync + 'static {
        let connection = self.connection.clone();
        async move {
            match connection {
                Some(connection) => connection.closed().await,
                None => pending().await,
            }
        }
    }

    /// How much was read of the connection's streams.
    pub(crate) fn received(&self) -> &Arc<Progress> {
        &self.received
    }

    /// Whether messages of the connection, or of its peer, wait for room already.
    fn has_waiters(&self) -> bool {
        self.reserve_queue.available_permits() == 0
            || self.peer.reserve_queue.available_permits() == 0
    }

    /// Room for a message that is to be read.
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

    /// Waits for room for a message that is to be read, behind those of the same connection that wait already.
    ///
    /// Only the first of a connection waits for what its connection gives back, and only the first of these of a peer for what
    /// any peer gives back: so each time few are woken, however many wait.
    async fn reserve(self: Arc<Self>, bytes: usize) -> BufferReservation {
        let _first = self.reserve_queue.acquire().await;
        loop {
            let mut released = std::pin::pin!(self.released.notified());
            // From here on nothing that is given back is missed.
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

    /// Waits while the peer, or all peers, hold too much. `None` if by then the connection does.
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

    /// A message that was read is not the connection's any more.
    fn release_from_connection(&self, bytes: usize) {
        {
            let _held = self.peer.accounts.total.lock();
            self.bytes.fetch_sub(bytes, Relaxed);
        }
        self.released.notify_one();
    }
}

/// What has no room for a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ReserveError {
    ConnectionFull,
    /// The peer, or all peers together.
    PeerFull,
}

/// One that waits, counted until it is dropped.
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
    /// The connection has so many calls with streams of their own at a time.
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
        // A new one may have come in between.
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

/// Calls, and connections, that each peer may have whatever the others have, if the limit is that large.
pub(crate) const SHARE_FLOOR: usize = 16;

/// Messages up to this size are not counted: they come in a few packets, and the number of streams bounds them.
const UNCHARGED_BYTES_MAX: usize = 16 * 1024;

#[cfg(test)]
mod tests;
