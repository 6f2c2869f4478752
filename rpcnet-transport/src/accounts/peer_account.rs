//! Accounts of peers and of their connections, and the guards that keep their counts.

use std::{
    fmt,
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use parking_lot::Mutex;
use quinn::ConnectionError;
use tokio::{
    sync::{Notify, Semaphore},
    time::Instant,
};

use super::{
    FairShare, PeerMap,
    fair_share::SHARE_FLOOR,
    windows::{ConnectionWindows, WindowConfig, WindowedConnection},
};
use crate::{
    TransportConfig,
    gauge::{Gauge, GaugeGuard},
    stream::Progress,
};

/// Accounts of all peers of an endpoint. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct PeerAccounts(pub(super) Arc<Inner>);

pub(super) struct Inner {
    calls: FairShare,
    connections: FairShare,
    pub(super) bytes: FairShare,
    pub(super) connection_bytes_max: usize,
    window_config: WindowConfig,
    pub(super) total: Mutex<TotalHeld>,
    pub(super) by_peer: PeerMap<PeerAccount>,
    /// Notified when bytes are released while a peer waits for them.
    pub(super) released: Notify,
    pub(super) waiter_count: AtomicUsize,
}

/// Sums over all peers.
#[derive(Debug, Default)]
pub(super) struct TotalHeld {
    connections: usize,
    pub(super) bytes: usize,
    /// Bytes of replies beyond the shares of their peers. They take no room from other peers.
    pub(super) overdrawn: usize,
}

/// Account of one peer.
pub(crate) struct PeerAccount {
    name: Arc<str>,
    pub(super) accounts: Arc<Inner>,
    /// Calls being served, including those that outlive their callers.
    calls: AtomicUsize,
    /// Changed under the lock of the totals.
    connections: AtomicUsize,
    pub(super) bytes: AtomicUsize,
    /// Bytes of replies beyond the share of the peer.
    pub(super) overdrawn: AtomicUsize,
    /// Bytes that were sent to the peer, as last sampled.
    pub(super) sent_sample: Mutex<SentSample>,
    /// Order in which calls wait for the end of an overdraft: the first holds the permit.
    pub(super) overdraft_queue: Semaphore,
    pub(super) windows: Mutex<ConnectionWindows>,
    /// Order in which connections wait for bytes that any peer releases: the first holds the
    /// permit.
    pub(super) reserve_queue: Semaphore,
}

/// Account of one connection of a peer.
#[derive(Debug)]
pub(crate) struct ConnectionAccount {
    pub(crate) peer: Arc<PeerAccount>,
    /// Bytes of messages that are being read.
    pub(super) bytes: AtomicUsize,
    /// Order in which messages wait for a reservation: the first holds the permit.
    pub(super) reserve_queue: Semaphore,
    /// Notified when the connection releases bytes.
    pub(super) released: Notify,
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
        let bytes = FairShare::new(config.limits.buffered_bytes_max.max(message), message);
        Self(Arc::new(Inner {
            calls: FairShare::new(config.limits.calls_max.get(), SHARE_FLOOR),
            connections: FairShare::new(config.limits.connections_max.get(), SHARE_FLOOR),
            bytes,
            window_config: WindowConfig::new(config, bytes.max()),
            connection_bytes_max: config.limits.connection_buffered_bytes_max.max(message),
            total: Mutex::default(),
            by_peer: PeerMap::default(),
            released: Notify::new(),
            waiter_count: AtomicUsize::new(0),
        }))
    }

    /// Bytes that all peers hold.
    pub(crate) fn bytes(&self) -> usize {
        let total = self.0.total.lock();
        total.bytes + total.overdrawn
    }

    /// Whether the endpoint may have one more connection.
    pub(crate) fn has_connection_left(&self) -> bool {
        self.0.total.lock().connections < self.0.connections.max()
    }

    /// The account of the peer with this name.
    pub(crate) fn account(&self, name: Arc<str>) -> Arc<PeerAccount> {
        self.0.by_peer.get_or_create(name, |name| PeerAccount {
            name,
            accounts: Arc::clone(&self.0),
            calls: AtomicUsize::new(0),
            connections: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            overdrawn: AtomicUsize::new(0),
            sent_sample: Mutex::default(),
            overdraft_queue: Semaphore::new(1),
            windows: Mutex::new(ConnectionWindows::new(self.0.window_config)),
            reserve_queue: Semaphore::new(1),
        })
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
            let mut total = self.accounts.total.lock();
            let own = self.connections.load(Relaxed);
            if !self.accounts.connections.allows(own, total.connections, 1) {
                return None;
            }
            total.connections += 1;
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

    pub(super) fn try_charge(&self, total: &mut TotalHeld, bytes: usize) -> bool {
        let own = self.bytes.load(Relaxed);
        let allowed = self.accounts.bytes.allows(own, total.bytes, bytes);
        if allowed {
            total.bytes += bytes;
            self.bytes.store(own + bytes, Relaxed);
        }
        allowed
    }

    pub(super) fn release(&self, bytes: usize) {
        {
            let mut total = self.accounts.total.lock();
            total.bytes -= bytes;
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
    pub(super) fn closed(&self) -> impl Future<Output = ConnectionError> + Send + Sync + 'static {
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

    /// Takes a message that was read off the account of the connection. The peer still holds it.
    pub(super) fn release_from_connection(&self, bytes: usize) {
        {
            let _total = self.peer.accounts.total.lock();
            self.bytes.fetch_sub(bytes, Relaxed);
        }
        self.released.notify_one();
    }
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
    pub(crate) fn record_calls(&self, calls: usize) {
        if calls > self.calls.load(Relaxed) && self.calls.fetch_max(calls, Relaxed) < calls {
            let mut windows = self.account.windows.lock();
            windows.record_calls(self.number, calls);
        }
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        {
            let mut total = self.account.accounts.total.lock();
            total.connections -= 1;
            self.account.connections.fetch_sub(1, Relaxed);
        }
        self.account.windows.lock().remove(self.number);
    }
}

impl Drop for PeerAccount {
    fn drop(&mut self) {
        self.accounts.by_peer.remove_dropped(&self.name);
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

/// Bytes that were sent to a peer up to a point in time.
#[derive(Debug, Default)]
pub(super) struct SentSample {
    pub(super) bytes: u64,
    pub(super) sampled_at: Option<Instant>,
}
