//! Connections to one target: choice by load, scaling, retirement.

use std::{
    fmt,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use tokio::{
    task::{AbortHandle, JoinHandle},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use super::{CachedConnection, TargetId, target::target_gone_error};
use crate::{ConnectError, Endpoint, RpcClient};

/// The connections to one process at one address: at least one, established or being opened.
pub(super) struct TargetConnections {
    pub(super) generation: u64,
    pub(super) addr: SocketAddr,
    /// Cache in which calls find the connection without the lock of the pool.
    cache: Option<Arc<CachedConnection>>,
    /// Established connections, the oldest first.
    ready: Vec<RpcClient>,
    connecting: Option<Connecting>,
    /// Surplus connections, which end with their last call.
    retired: Vec<RpcClient>,
    /// A task watches whether the connections stay saturated.
    pub(super) is_scaling_up: bool,
    /// A task watches for a surplus connection.
    pub(super) is_scaling_down: bool,
    /// Time before which no further connection is opened, because the last attempt failed.
    pub(super) scale_up_after: Option<Instant>,
    /// Fewest calls with which a connection was saturated.
    calls_at_saturation: usize,
    /// Time at which all connections were last needed.
    last_needed: Instant,
}

struct Connecting {
    connect_id: u64,
    pending: PendingConnection,
    task: AbortHandle,
}

impl Drop for TargetConnections {
    fn drop(&mut self) {
        self.clear_cache();
    }
}

/// A connection that is being opened, for all calls that wait for it.
#[derive(Clone)]
#[must_use = "a future does nothing until it is polled"]
pub struct PendingConnection {
    endpoint: Endpoint,
    result: Shared<BoxFuture<'static, Result<RpcClient, ConnectError>>>,
}

impl PendingConnection {
    /// The endpoint that the connection is made from.
    pub(super) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }
}

impl Future for PendingConnection {
    type Output = Result<RpcClient, ConnectError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.result.poll_unpin(cx).map(|result| match result {
            // The task that made it ended with its runtime.
            Err(_) if self.endpoint.has_runtime_ended() => Err(ConnectError::RuntimeEnded),
            result => result,
        })
    }
}

impl fmt::Debug for PendingConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PendingConnection").finish_non_exhaustive()
    }
}

/// Connection that was picked for a call.
pub(super) enum ConnectionPick {
    Ready {
        client: RpcClient,
        /// All connections are saturated.
        is_saturated: bool,
    },
    Pending(PendingConnection),
    /// All connections are closed.
    Disconnected,
}

impl TargetConnections {
    pub(super) fn new(
        generation: u64,
        addr: SocketAddr,
        cache: Option<Arc<CachedConnection>>,
    ) -> Self {
        Self {
            generation,
            addr,
            cache,
            ready: Vec::new(),
            connecting: None,
            retired: Vec::new(),
            is_scaling_up: false,
            is_scaling_down: false,
            scale_up_after: None,
            calls_at_saturation: usize::MAX,
            last_needed: Instant::now(),
        }
    }

    /// Identity of the process under this key.
    pub(super) fn process<'a>(&self, key: &'a str) -> TargetId<'a> {
        TargetId {
            key,
            generation: self.generation,
        }
    }

    /// Records the task that opens a connection. Calls that wait for it wait for what is returned.
    /// `pool_dropped` tells why the task was cancelled.
    pub(super) fn connect(
        &mut self,
        connect_id: u64,
        endpoint: &Endpoint,
        pool_dropped: CancellationToken,
        task: JoinHandle<Result<RpcClient, ConnectError>>,
    ) -> PendingConnection {
        let addr = self.addr;
        let abort = task.abort_handle();
        let result = task
            .map(move |ended| match ended {
                Ok(Ok(client)) => Ok(client),
                _ if pool_dropped.is_cancelled() => Err(ConnectError::EndpointClosed),
                Ok(Err(error)) => Err(error),
                Err(error) if error.is_panic() => Err(ConnectError::ListenerPanicked { addr }),
                Err(_) => Err(target_gone_error(addr)),
            })
            .boxed()
            .shared();
        let pending = PendingConnection {
            endpoint: endpoint.clone(),
            result,
        };
        self.connecting = Some(Connecting {
            connect_id,
            pending: pending.clone(),
            task: abort,
        });
        pending
    }

    /// Records the result of an attempt to connect. `false` if it was cancelled meanwhile.
    pub(super) fn on_connect_result(
        &mut self,
        connect_id: u64,
        result: &Result<RpcClient, ConnectError>,
    ) -> bool {
        if self.connecting.as_ref().map(|one| one.connect_id) != Some(connect_id) {
            return false;
        }
        self.connecting = None;
        if let Ok(client) = result {
            self.ready.push(client.clone());
            self.last_needed = Instant::now();
            self.update_cache();
        }
        true
    }

    /// Forgets closed connections. `false` if none is established and none is being opened.
    pub(super) fn prune_closed(&mut self) -> bool {
        self.refresh_load();
        self.update_cache();
        !self.are_all_closed()
    }

    /// Puts the connection into the cache, if there is exactly one.
    fn update_cache(&self) {
        if let Some(cache) = &self.cache {
            let only = match &self.ready[..] {
                [client] => Some(client),
                _ => None,
            };
            cache.set(self.addr, only);
        }
    }

    /// Empties the cache, for good.
    pub(super) fn clear_cache(&mut self) {
        if let Some(cache) = self.cache.take() {
            cache.set(self.addr, None);
        }
    }

    /// Picks the least busy connection.
    pub(super) fn pick(&mut self) -> ConnectionPick {
        match (self.refresh_load(), &self.connecting) {
            (Some((index, is_saturated)), _) => ConnectionPick::Ready {
                client: self.ready[index].clone(),
                is_saturated,
            },
            (None, Some(connecting)) => ConnectionPick::Pending(connecting.pending.clone()),
            (None, None) => ConnectionPick::Disconnected,
        }
    }

    /// Whether a further call would have to wait, whatever connection it takes.
    pub(super) fn is_saturated(&mut self) -> bool {
        self.refresh_load().is_some_and(|(_, saturated)| saturated)
    }

    /// Whether no further connection may be opened now: there are as many as allowed, one is being
    /// opened, or the last attempt failed.
    pub(super) fn is_at_limit(&self, connections_max: usize) -> bool {
        self.connecting.is_some()
            || self.ready.len() >= connections_max
            || self
                .scale_up_after
                .is_some_and(|after| Instant::now() < after)
    }

    /// Retires the latest connection if the others would have been enough for this long. `false`
    /// if only one is left.
    pub(super) fn scale_down(&mut self, idle_timeout: Duration) -> bool {
        self.refresh_load();
        if self.ready.len() > 1 && self.last_needed.elapsed() >= idle_timeout {
            // One at a time: for the next, the idle timeout starts again.
            self.last_needed = Instant::now();
            self.retired.extend(self.ready.pop());
            self.update_cache();
        }
        self.retired.retain(|client| client.in_flight() > 0);
        self.ready.len() > 1 || !self.retired.is_empty()
    }

    /// Number of connections, including those that are being opened.
    pub(super) fn len(&self) -> usize {
        self.ready.len() + self.retired.len() + usize::from(self.connecting.is_some())
    }

    /// Whether a connection is established.
    pub(super) fn is_established(&self) -> bool {
        let mut connections = self.ready.iter().chain(&self.retired);
        connections.any(|client| !client.is_closed())
    }

    /// Whether no connection is established, and none is being opened.
    pub(super) fn are_all_closed(&self) -> bool {
        self.connecting.is_none() && !self.is_established()
    }

    /// Cancels the attempt to connect.
    pub(super) fn stop_connecting(&mut self) {
        if let Some(connecting) = self.connecting.take() {
            connecting.task.abort();
        }
    }

    /// Takes over the surplus connections of the former ones to the same process, which end with
    /// their last call unless the process fails before.
    pub(super) fn adopt_retired(&mut self, mut former: Self) {
        self.retired.append(&mut former.retired);
        self.is_scaling_down = former.is_scaling_down;
    }

    /// Whether more than one connection is established.
    pub(super) fn has_several(&self) -> bool {
        self.ready.len() > 1
    }

    /// Retires the connections: calls in flight go on, and each connection ends with its last call.
    pub(super) fn retire(mut self) {
        self.stop_connecting();
    }

    pub(super) fn close(mut self, reason: &str) {
        self.stop_connecting();
        for client in self.ready.iter().chain(&self.retired) {
            client.close(reason);
        }
    }

    /// Finds the least busy connection, and whether it is saturated. Records whether all are
    /// needed.
    fn refresh_load(&mut self) -> Option<(usize, bool)> {
        let before = self.ready.len();
        self.ready.retain(|client| !client.is_closed());
        if self.ready.len() != before {
            self.update_cache();
        }
        let (mut best, mut calls) = (None, 0);
        for (index, client) in self.ready.iter().enumerate() {
            let (in_flight, is_saturated) = (client.in_flight(), client.is_saturated());
            calls += in_flight;
            if is_saturated {
                self.calls_at_saturation = self.calls_at_saturation.min(in_flight.max(1));
            }
            let rank = (client.is_draining(), is_saturated, in_flight);
            if best.is_none_or(|(_, least)| rank < least) {
                best = Some((index, rank));
            }
        }
        let best = best.map(|(index, (_, is_saturated, _))| (index, is_saturated));
        if self.ready.len() > 1 {
            // A quarter to spare, so that a retired connection is not missed at once.
            let others = self
                .calls_at_saturation
                .saturating_mul(self.ready.len() - 1);
            let are_all_needed = calls >= others - others / 4;
            if are_all_needed || best.is_some_and(|(_, is_saturated)| is_saturated) {
                self.last_needed = Instant::now();
            }
        }
        best
    }
}
