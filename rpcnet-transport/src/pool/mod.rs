//! Connection pool: shared connections to many targets, single flight, scaled by load.
//!
//! A [`ConnectionPool`] keeps connections to any number of [targets](PoolTarget). The first call to
//! a target opens one connection, which all calls that wait for it share. A connection that was
//! closed is replaced. The pool opens further connections while all of a target are saturated, and
//! retires them when they are not needed. Users that find the connection in a [`CachedConnection`],
//! or keep it for several calls, have to report that calls wait: see
//! [`ConnectionPool::on_saturated`].
//!
//! The pool works without a cluster: the generation and the address of a target are then those of
//! the last call. In a cluster a [`PoolListener`] tells the pool which processes there are, and the
//! pool reports to it which targets are reachable.
//!
//! A pool is not `Clone`: put it in an [`Arc`] to share it among tasks.
//!
//! ```
//! use std::{net::Ipv4Addr, sync::Arc};
//!
//! use rpcnet_transport::{
//!     DevCa, Endpoint, Method, Router, TransportConfig,
//!     pool::{ConnectionPool, PoolConfig, PoolTarget},
//! };
//!
//! const DOUBLE: Method<u32, u32> = Method::new("double");
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let ca = DevCa::new("example");
//! let any = (Ipv4Addr::LOCALHOST, 0).into();
//! let server = Endpoint::bind(any, TransportConfig::lan(), ca.issue("server")?)?
//!     .serve(Router::new().method(DOUBLE, |n| async move { 2 * n }));
//! let endpoint = Endpoint::bind(any, TransportConfig::lan(), ca.issue("client")?)?;
//!
//! let pool = Arc::new(ConnectionPool::new(endpoint, PoolConfig::new()));
//! let target = PoolTarget::new("server", server.local_addr());
//! for n in 0..3 {
//!     // Asked for each call, the pool notices that its connections are saturated, and opens more.
//!     let client = pool.connect(&target).await?;
//!     assert_eq!(DOUBLE.call(&client, &n).await?, 2 * n);
//! }
//! assert_eq!(pool.len(), 1);
//! # Ok(())
//! # }
//! ```

mod cached_connection;
mod config;
mod connect_task;
mod connection_table;
mod listener;
mod membership;
mod pruning;
mod run_call;
mod scaling;
mod target;
mod target_connections;

use std::{
    fmt,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use parking_lot::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use self::{
    cached_connection::CachedConnection,
    config::PoolConfig,
    listener::{PoolListener, ProcessState},
    run_call::run_call,
    target::{PoolTarget, TargetId},
    target_connections::PendingConnection,
};
use self::{
    connection_table::ConnectionTable,
    membership::{has_left_addr, has_moved, is_same_addr},
    target::target_gone_error,
    target_connections::{ConnectionPick, TargetConnections},
};
use crate::{
    CloseReason, ConnectError, ConnectionEvent, Endpoint, RpcClient,
    warning_limiter::WarningLimiter,
};

/// Connections to many targets, shared by all calls; see the [module](self).
///
/// `C` is what the user keeps with each target, handed to the [`PoolListener`]. All tasks of the
/// pool run on the runtime of its endpoint, and end with the pool: dropping it cancels the attempts
/// to connect ([`ConnectError::EndpointClosed`]); established connections end with the last call on
/// them.
pub struct ConnectionPool<C = ()> {
    shared: Arc<PoolShared<C>>,
}

/// State that the tasks of a pool share with it.
struct PoolShared<C> {
    id: u64,
    endpoint: Endpoint,
    config: PoolConfig,
    listener: Box<dyn PoolListener<C>>,
    table: Mutex<ConnectionTable>,
    /// Cancelled when the pool is dropped, before its attempts to connect are.
    dropped: CancellationToken,
    /// Limits the warnings that a target cannot be connected to.
    warnings: WarningLimiter,
}

/// The connection for a call, or the wait for it.
#[derive(Debug)]
#[must_use]
pub enum PooledConnection {
    /// An established connection.
    Ready(RpcClient),
    /// A connection that is being opened, for all calls that wait for it.
    Pending(PendingConnection),
}

impl PooledConnection {
    /// Whether the server says on this connection that it drains.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        matches!(self, Self::Ready(client) if client.is_draining() && !client.is_closed())
    }
}

impl ConnectionPool {
    /// Pool of connections that are opened from `endpoint`, without a listener.
    #[must_use]
    pub fn new(endpoint: Endpoint, config: PoolConfig) -> Self {
        Self::with_listener(endpoint, config, ())
    }
}

impl<C: Clone + Send + Sync + 'static> ConnectionPool<C> {
    /// Pool that asks `listener` which processes there are, and reports to it which targets are
    /// reachable.
    #[must_use]
    pub fn with_listener(
        endpoint: Endpoint,
        config: PoolConfig,
        listener: impl PoolListener<C>,
    ) -> Self {
        let shared = PoolShared {
            id: NEXT_POOL_ID.fetch_add(1, Relaxed),
            endpoint,
            config,
            listener: Box::new(listener),
            table: Mutex::default(),
            dropped: CancellationToken::new(),
            warnings: WarningLimiter::default(),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Waits for a connection to the target.
    ///
    /// # Errors
    ///
    /// [`ConnectError`] as of [`Endpoint::connect`], or if the process of the target has ended.
    pub async fn connect(&self, target: &PoolTarget<C>) -> Result<RpcClient, ConnectError> {
        match self.connection(target) {
            PooledConnection::Ready(client) => Ok(client),
            PooledConnection::Pending(pending) => pending.await,
        }
    }

    /// The least busy connection to the target, or the wait for the first one. If that is saturated
    /// for 100 ms, another one is made, up to the
    /// [limit](PoolConfig::with_connections_per_target_max). Takes a lock; see [`CachedConnection`]
    /// for calls that take none.
    pub fn connection(&self, target: &PoolTarget<C>) -> PooledConnection {
        self.connection_with(target.id(), target.addr, || target.clone())
    }

    /// Like [`connection`](Self::connection), where the target is made only if a connection is: for
    /// callers that have it in another form. `target` runs under the lock of the pool: it must be
    /// quick, and must not call the pool.
    pub fn connection_with(
        &self,
        id: TargetId<'_>,
        addr: SocketAddr,
        target: impl FnOnce() -> PoolTarget<C>,
    ) -> PooledConnection {
        let pool = &self.shared;
        let listener = &*pool.listener;
        let mut table = pool.table.lock();
        let (mut replaced, mut moved) = (None, None);
        if table
            .of_process(id)
            .is_some_and(|known| has_left_addr(listener, id, known, addr))
        {
            moved = table.remove(id.key);
        }
        let mut closed = None;
        if let Some(known) = table.get(id.key) {
            // The target may have been selected just before the pool was told of its successor.
            if known.generation == id.generation || pool.is_newer(known, id) {
                match known.pick() {
                    ConnectionPick::Ready {
                        client,
                        is_saturated,
                    } => {
                        if is_saturated && known.generation == id.generation {
                            pool.watch_saturation(known, target);
                        }
                        return PooledConnection::Ready(client);
                    }
                    ConnectionPick::Pending(pending) => {
                        return PooledConnection::Pending(pending);
                    }
                    // All are closed: the next ones are those of this target, not of the one
                    // before.
                    ConnectionPick::Disconnected => closed = table.remove(id.key),
                }
            } else {
                replaced = table.remove(id.key);
            }
        }
        // Closed connections that no call uses any more are noticed only here.
        table.remove_where(|other, known| other != id.key && known.are_all_closed());
        let pending = pool.connect(&mut table, &pool.at_current_addr(target()));
        if let (Some(closed), Some(known)) = (closed, table.of_process(id))
            && closed.generation == known.generation
        {
            known.adopt_retired(closed);
        }
        drop(table);
        if let Some(replaced) = replaced {
            replaced.close(membership::REPLACED_REASON);
        }
        if let Some(moved) = moved {
            moved.retire();
        }
        PooledConnection::Pending(pending)
    }
}

impl<C> ConnectionPool<C> {
    /// Empty cache for the connection to one target.
    #[must_use]
    pub fn new_cache(&self) -> CachedConnection {
        CachedConnection::new(self.shared.id)
    }

    /// The connection in the cache, if this pool put it there and it was made to this address.
    #[inline]
    #[must_use]
    pub fn cached(&self, cache: &CachedConnection, addr: SocketAddr) -> Option<RpcClient> {
        cache.is_of(self.shared.id).then(|| cache.client(addr))?
    }

    /// Whether this pool puts connections into the cache.
    #[must_use]
    pub fn owns(&self, cache: &CachedConnection) -> bool {
        cache.is_of(self.shared.id)
    }

    /// Whether the listener knows the process at another address than this one.
    #[must_use]
    pub fn has_moved(&self, process: TargetId<'_>, addr: SocketAddr) -> bool
    where
        C: 'static,
    {
        has_moved(&*self.shared.listener, process, addr)
    }

    /// Endpoint that connections are opened from.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        &self.shared.endpoint
    }

    /// Number of connections, including those that are being opened.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shared.table.lock().connections()
    }

    /// Whether there is no connection.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<C> Drop for ConnectionPool<C> {
    fn drop(&mut self) {
        // The waiters of an attempt get an error that is not the server's fault.
        self.shared.dropped.cancel();
        self.shared.table.lock().stop_connecting();
    }
}

impl<C> fmt::Debug for ConnectionPool<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectionPool")
            .field("connections", &self.len())
            .finish_non_exhaustive()
    }
}

impl<C> PoolShared<C> {
    /// Cancels an attempt to connect that has no result yet.
    fn cancel_connect(&self, target: &PoolTarget<C>, connect_id: u64) {
        let mut table = self.table.lock();
        let Some(known) = table.get(&target.key) else {
            return;
        };
        let gone = Err(target_gone_error(target.addr));
        if known.on_connect_result(connect_id, &gone) && known.are_all_closed() {
            table.remove(&target.key);
        }
    }
}

impl<C: Clone + Send + Sync + 'static> PoolShared<C> {
    /// Begins a connection, in a task of its own: it is opened even if all callers that wait for it
    /// give up.
    fn connect(
        self: &Arc<Self>,
        table: &mut ConnectionTable,
        target: &PoolTarget<C>,
    ) -> PendingConnection {
        let connect_id = table.next_connect_id();
        let connect = connect_task::connect(Arc::downgrade(self), target.clone(), connect_id);
        let known = table.get_or_insert(&target.key, || {
            TargetConnections::new(target.generation, target.addr, target.cache.clone())
        });
        let task = self.endpoint.runtime().spawn(connect);
        known.connect(connect_id, &self.endpoint, self.dropped.clone(), task)
    }

    /// Records the result of an attempt to connect. `false` if it was cancelled meanwhile.
    fn on_connect_result(
        self: &Arc<Self>,
        target: &PoolTarget<C>,
        connect_id: u64,
        result: &Result<RpcClient, ConnectError>,
    ) -> bool {
        let mut table = self.table.lock();
        let Some(known) = table.get(&target.key) else {
            return false;
        };
        if !known.on_connect_result(connect_id, result) {
            return false;
        }
        let is_unreachable = match result {
            Ok(_) => {
                if known.has_several() && !known.is_scaling_down {
                    known.is_scaling_down = true;
                    let scale_down = scaling::scale_down_task(Arc::downgrade(self), target.clone());
                    self.spawn_until_dropped(scale_down);
                }
                false
            }
            Err(_) if !known.are_all_closed() => {
                known.scale_up_after = Instant::now().checked_add(scaling::SCALE_UP_BACKOFF);
                false
            }
            Err(error) => {
                table.remove(&target.key);
                // A fault of this process is not the target's.
                !error.is_local()
            }
        };
        drop(table);
        match result {
            Ok(_) => self.listener.on_reachable(target),
            Err(_) if is_unreachable => self.listener.on_unreachable(target),
            Err(_) => {}
        }
        if let Ok(client) = result {
            let (pool, target) = (Arc::downgrade(self), target.clone());
            client.on_event(move |event| {
                if let Some(pool) = pool.upgrade() {
                    pool.on_connection_event(&target, &event);
                }
            });
        }
        true
    }

    /// Starts a task that ends with the pool.
    fn spawn_until_dropped(&self, task: impl Future<Output = ()> + Send + 'static) {
        let dropped = self.dropped.clone();
        self.endpoint.runtime().spawn(async move {
            dropped.run_until_cancelled(task).await;
        });
    }

    fn on_connection_event(&self, target: &PoolTarget<C>, event: &ConnectionEvent) {
        // Events at an address that the process has left say nothing about the process.
        if has_moved(&*self.listener, target.id(), target.addr) || self.has_replaced_addr(target) {
            return;
        }
        if let ConnectionEvent::Draining(draining) = event {
            self.listener.on_draining(target, *draining);
        } else if let ConnectionEvent::Closed(reason) = event
            && *reason != CloseReason::ClosedHere
        {
            self.listener.on_lost(target, reason);
            if *reason == CloseReason::RuntimeEnded {
                // A fault of this process.
                return;
            }
            if !self.prune_closed(target.id()) {
                self.listener.on_disconnected(target);
            }
            if !self.is_established(target.id()) {
                // The drain is unknown from now on, also while the next connection is being opened.
                // No event would end it if the next process at the address does not drain; if it
                // does, its connection says so.
                self.listener.on_draining(target, false);
            }
        }
    }

    /// Whether there is an established connection to the process.
    fn is_established(&self, id: TargetId<'_>) -> bool {
        let mut table = self.table.lock();
        table
            .of_process(id)
            .is_some_and(|known| known.is_established())
    }

    /// Whether the process is connected to at another address than this one of the target.
    fn has_replaced_addr(&self, target: &PoolTarget<C>) -> bool {
        let mut table = self.table.lock();
        let known = table.of_process(target.id());
        known.is_some_and(|known| !is_same_addr(known.addr, target.addr))
    }

    /// The target at the address that its process has now: it may have moved since it was picked.
    fn at_current_addr(&self, mut target: PoolTarget<C>) -> PoolTarget<C> {
        if let Some(addr) = self.listener.current_addr(target.id()) {
            target.addr = addr;
        }
        target
    }
}

/// Number of the next pool: it tells the caches of one pool from those of another.
static NEXT_POOL_ID: AtomicU64 = AtomicU64::new(0);

#[cfg(test)]
mod tests;
