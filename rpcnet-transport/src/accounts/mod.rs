//! Accounts of peers: the calls, connections and bytes that each one holds of this endpoint.
//!
//! A peer is an identity, the node name in its certificate, however many connections it has. Every limit of the endpoint is
//! [shared](Share) among peers, so that none of them can take all of it.

mod overdraft;
mod room;
mod share;
mod windows;

pub(crate) use self::{
    room::{Reservation, Room},
    share::Share,
    windows::{PeerConnection, WINDOW_FLOOR},
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
    overdraft::Sent,
    windows::{WindowRules, Windows},
};
use crate::{
    TransportConfig,
    gauge::{Gauge, GaugeGuard},
    stream::Progress,
};

/// The accounts of all peers of an endpoint. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Accounts(Arc<Inner>);

struct Inner {
    calls: Share,
    connections: Share,
    bytes: Share,
    connection_bytes_max: usize,
    window_rules: WindowRules,
    held: Mutex<Held>,
    by_peer: Mutex<HashMap<Arc<str>, Weak<Account>>>,
    /// Told when bytes are given back, if a peer waits for them.
    released: Notify,
    waiting: AtomicUsize,
}

/// What all peers hold together.
#[derive(Debug, Default)]
struct Held {
    connections: usize,
    bytes: usize,
    /// Of replies beyond the shares of their peers, which takes no room from others.
    overdrawn: usize,
}

/// The account of one peer.
pub(crate) struct Account {
    name: Arc<str>,
    all: Arc<Inner>,
    /// Calls being served, those that outlive their callers included.
    calls: AtomicUsize,
    /// Changed under the lock of what all hold.
    connections: AtomicUsize,
    bytes: AtomicUsize,
    /// Bytes of replies beyond its share.
    overdrawn: AtomicUsize,
    /// What was sent to it, by the last sample.
    sent: Mutex<Sent>,
    /// The call that waits for the end of an overdraft is first, others behind it.
    settling: Semaphore,
    windows: Mutex<Windows>,
    /// The connection whose message waits for what is given back is first, others behind it.
    line: Semaphore,
}

/// What one connection of a peer holds.
#[derive(Debug)]
pub(crate) struct ConnectionAccount {
    pub(crate) peer: Arc<Account>,
    /// Of messages that are being read.
    bytes: AtomicUsize,
    /// The message that waits for room is first, others behind it.
    line: Semaphore,
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
    account: Arc<Account>,
    /// Among those of the account that have windows.
    number: u64,
    /// Most calls with streams of their own that the connection had at a time.
    calls: AtomicUsize,
}

/// A call being served, counted for the endpoint and for its peer.
#[derive(Debug)]
pub(crate) struct InFlight {
    _endpoint: GaugeGuard,
    peer: Arc<Account>,
}

impl Accounts {
    pub(crate) fn new(config: &TransportConfig) -> Self {
        let message = config.message_bytes_max;
        let bytes = Share::new(config.buffered_bytes_max.max(message), message);
        Self(Arc::new(Inner {
            calls: Share::new(config.calls_max.get(), PLACES_FLOOR),
            connections: Share::new(config.connections_max.get(), PLACES_FLOOR),
            bytes,
            window_rules: WindowRules::new(config, bytes.max()),
            connection_bytes_max: config.connection_buffered_bytes_max.max(message),
            held: Mutex::default(),
            by_peer: Mutex::default(),
            released: Notify::new(),
            waiting: AtomicUsize::new(0),
        }))
    }

    /// Bytes held for all peers.
    pub(crate) fn bytes(&self) -> usize {
        let held = self.0.held.lock();
        held.bytes + held.overdrawn
    }

    /// Whether there is room for one more connection of any peer.
    pub(crate) fn has_connection_left(&self) -> bool {
        self.0.held.lock().connections < self.0.connections.max()
    }

    /// The account of the peer of this name.
    pub(crate) fn of(&self, name: Arc<str>) -> Arc<Account> {
        let mut by_peer = self.0.by_peer.lock();
        if let Some(account) = by_peer.get(&name).and_then(Weak::upgrade) {
            return account;
        }
        let account = Arc::new(Account {
            name: Arc::clone(&name),
            all: Arc::clone(&self.0),
            calls: AtomicUsize::new(0),
            connections: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            overdrawn: AtomicUsize::new(0),
            sent: Mutex::default(),
            settling: Semaphore::new(1),
            windows: Mutex::new(Windows::new(self.0.window_rules)),
            line: Semaphore::new(1),
        });
        by_peer.insert(name, Arc::downgrade(&account));
        account
    }
}

impl Account {
    /// Counts one more connection and sets its windows, unless the peer has as many as it may.
    pub(crate) fn connect(
        self: &Arc<Self>,
        connection: impl PeerConnection + 'static,
    ) -> Option<ConnectionGuard> {
        {
            let mut held = self.all.held.lock();
            let own = self.connections.load(Relaxed);
            if !self.all.connections.allows(own, held.connections, 1) {
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
    pub(crate) fn enter(self: &Arc<Self>, endpoint: &Gauge) -> (InFlight, usize) {
        let (total, in_flight) = endpoint.enter();
        self.calls.fetch_add(1, Relaxed);
        let guard = InFlight {
            _endpoint: total,
            peer: Arc::clone(self),
        };
        (guard, in_flight)
    }

    /// Whether a call that is counted in `in_flight` is more than the endpoint or this peer may have. `is_own` says whether
    /// the peer's count has it too.
    pub(crate) fn is_full(&self, in_flight: usize, is_own: bool) -> bool {
        let own = self.calls.load(Relaxed).saturating_sub(usize::from(is_own));
        !self.all.calls.allows(own, in_flight.saturating_sub(1), 1)
    }

    /// Bytes that the peer holds.
    #[cfg(test)]
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Relaxed)
    }

    fn take(&self, held: &mut Held, bytes: usize) -> bool {
        let own = self.bytes.load(Relaxed);
        let allowed = self.all.bytes.allows(own, held.bytes, bytes);
        if allowed {
            held.bytes += bytes;
            self.bytes.store(own + bytes, Relaxed);
        }
        allowed
    }

    fn give_back(&self, bytes: usize) {
        {
            let mut held = self.all.held.lock();
            held.bytes -= bytes;
            self.bytes.fetch_sub(bytes, Relaxed);
        }
        self.note_returned();
    }
}

impl ConnectionAccount {
    /// Of a connection, if there is one whose end is of interest to messages that wait for room.
    pub(crate) fn new(peer: Arc<Account>, connection: Option<quinn::Connection>) -> Arc<Self> {
        Arc::new(Self {
            peer,
            connection,
            bytes: AtomicUsize::new(0),
            line: Semaphore::new(1),
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
    fn has_line(&self) -> bool {
        self.line.available_permits() == 0 || self.peer.line.available_permits() == 0
    }

    /// Room for a message that is to be read.
    fn try_reserve(self: &Arc<Self>, bytes: usize) -> Result<Reservation, Full> {
        let all = &self.peer.all;
        let mut held = all.held.lock();
        let own = self.bytes.load(Relaxed);
        if own > 0 && own.saturating_add(bytes) > all.connection_bytes_max {
            return Err(Full::Connection);
        }
        if !self.peer.take(&mut held, bytes) {
            return Err(Full::Peer);
        }
        self.bytes.store(own + bytes, Relaxed);
        Ok(Reservation::of_connection(Arc::clone(self), bytes))
    }

    /// Waits for room for a message that is to be read, behind those of the same connection that wait already.
    ///
    /// Only the first of a connection waits for what its connection gives back, and only the first of these of a peer for what
    /// any peer gives back: so each time few are woken, however many wait.
    async fn reserve(self: Arc<Self>, bytes: usize) -> Reservation {
        let _first = self.line.acquire().await;
        loop {
            let mut released = std::pin::pin!(self.released.notified());
            // From here on nothing that is given back is missed.
            released.as_mut().enable();
            match self.try_reserve(bytes) {
                Ok(reservation) => return reservation,
                Err(Full::Connection) => released.await,
                Err(Full::Peer) => {
                    if let Some(reservation) = self.reserve_of_peer(bytes).await {
                        return reservation;
                    }
                }
            }
        }
    }

    /// Waits while the peer, or all peers, hold too much. `None` if by then the connection does.
    async fn reserve_of_peer(self: &Arc<Self>, bytes: usize) -> Option<Reservation> {
        let _first = self.peer.line.acquire().await;
        let all = &self.peer.all;
        let _waiting = Waiting::enter(&all.waiting);
        loop {
            let mut released = std::pin::pin!(all.released.notified());
            released.as_mut().enable();
            match self.try_reserve(bytes) {
                Ok(reservation) => return Some(reservation),
                Err(Full::Connection) => return None,
                Err(Full::Peer) => released.await,
            }
        }
    }

    /// A message that was read is not the connection's any more.
    fn leave(&self, bytes: usize) {
        {
            let _held = self.peer.all.held.lock();
            self.bytes.fetch_sub(bytes, Relaxed);
        }
        self.released.notify_one();
    }
}

/// What has no room for a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Full {
    Connection,
    /// The peer, or all peers together.
    Peer,
}

/// One that waits, counted until it is dropped.
pub(crate) struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    pub(crate) fn enter(waiting: &'a AtomicUsize) -> Self {
        waiting.fetch_add(1, Relaxed);
        Self(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

impl Drop for InFlight {
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
            let mut held = self.account.all.held.lock();
            held.connections -= 1;
            self.account.connections.fetch_sub(1, Relaxed);
        }
        self.account.windows.lock().remove(self.number);
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        let mut by_peer = self.all.by_peer.lock();
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
        f.debug_struct("Accounts")
            .field("held", &self.held)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Account")
            .field("name", &self.name)
            .field("calls", &self.calls)
            .field("connections", &self.connections)
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

/// Calls, and connections, that each peer may have whatever the others have, if the limit is that large.
pub(crate) const PLACES_FLOOR: usize = 16;

/// Messages up to this size are not counted: they come in a few packets, and the number of streams bounds them.
const UNCHARGED_BYTES_MAX: usize = 16 * 1024;

#[cfg(test)]
mod tests;
