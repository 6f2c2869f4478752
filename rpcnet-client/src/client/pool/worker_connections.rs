//! The connections to one worker.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use futures::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use rpcnet_transport::{ConnectError, RpcClient};
use tokio::{
    task::{AbortHandle, JoinHandle},
    time::Instant,
};

use super::{cached_connection::CachedConnection, target_gone_error};

/// What there is of connections to the process of that epoch at that address: at least one, made or being made.
pub(super) struct WorkerConnections {
    pub(super) epoch: u64,
    pub(super) addr: SocketAddr,
    /// Where calls find the connection without looking here.
    cached: Option<Arc<CachedConnection>>,
    /// Those that stand, the oldest first.
    ready: Vec<RpcClient>,
    connecting: Option<Connecting>,
    /// Surplus ones, which end with their last call.
    retired: Vec<RpcClient>,
    /// Somebody looks whether it stays saturated.
    pub(super) is_scaling_up: bool,
    /// Somebody looks whether there is a connection too many.
    pub(super) is_scaling_down: bool,
    /// No further connection is asked for before: the last one could not be made.
    pub(super) scale_up_after: Option<Instant>,
    /// Calls on a connection when it was saturated, the fewest seen.
    calls_at_saturation: usize,
    /// When all connections were last of use.
    last_needed: Instant,
}

struct Connecting {
    connect_id: u64,
    pending: PendingConnection,
    task: AbortHandle,
}

impl Drop for WorkerConnections {
    fn drop(&mut self) {
        self.clear_cache();
    }
}

/// A connection that is being made, for all who wait for it.
pub(in crate::client) type PendingConnection =
    Shared<BoxFuture<'static, Result<RpcClient, ConnectError>>>;

/// Where a call goes.
pub(super) enum Route {
    Ready(RpcClient),
    Pending(PendingConnection),
    /// All connections are dead.
    Disconnected,
}

impl WorkerConnections {
    pub(super) fn new(epoch: u64, addr: SocketAddr, way: Option<Arc<CachedConnection>>) -> Self {
        Self {
            epoch,
            addr,
            cached: way,
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

    /// A connection is being made. Who waits for it waits for what is returned.
    pub(super) fn connect(
        &mut self,
        ticket: u64,
        task: JoinHandle<Result<RpcClient, ConnectError>>,
    ) -> PendingConnection {
        let addr = self.addr;
        let abort = task.abort_handle();
        let pending = task
            .map(move |ended| ended.unwrap_or_else(|_| Err(target_gone_error(addr))))
            .boxed()
            .shared();
        self.connecting = Some(Connecting {
            connect_id: ticket,
            pending: pending.clone(),
            task: abort,
        });
        pending
    }

    /// An attempt to connect has ended. `false` if it was given up meanwhile.
    pub(super) fn on_connect_result(
        &mut self,
        ticket: u64,
        result: &Result<RpcClient, ConnectError>,
    ) -> bool {
        if self.connecting.as_ref().map(|one| one.connect_id) != Some(ticket) {
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

    /// Looks whether all connections stand. `false` if none does and none is being made.
    pub(super) fn prune_closed(&mut self) -> bool {
        self.refresh_load();
        self.update_cache();
        !self.are_all_closed()
    }

    /// Shows calls the connection, if there is no choice.
    fn update_cache(&self) {
        if let Some(way) = &self.cached {
            let alone = match &self.ready[..] {
                [client] => Some(client),
                _ => None,
            };
            way.set(self.addr, alone);
        }
    }

    /// Shows calls no connection from now on.
    pub(super) fn clear_cache(&mut self) {
        if let Some(way) = self.cached.take() {
            way.set(self.addr, None);
        }
    }

    /// The least busy connection.
    pub(super) fn route(&mut self) -> Route {
        match (self.refresh_load(), &self.connecting) {
            (Some((index, _)), _) => Route::Ready(self.ready[index].clone()),
            (None, Some(connecting)) => Route::Pending(connecting.pending.clone()),
            (None, None) => Route::Disconnected,
        }
    }

    /// Whether a further call would have to wait, whatever connection it takes.
    pub(super) fn is_saturated(&mut self) -> bool {
        self.refresh_load().is_some_and(|(_, saturated)| saturated)
    }

    /// Whether every connection that may be made has been, or cannot be for now.
    pub(super) fn is_at_limit(&self, connections_max: usize) -> bool {
        self.connecting.is_some()
            || self.ready.len() >= connections_max
            || self
                .scale_up_after
                .is_some_and(|until| Instant::now() < until)
    }

    /// Gives up the latest connection if for so long the others would have been enough. `false` when there is one alone.
    pub(super) fn scale_down(&mut self, quiet: Duration) -> bool {
        self.refresh_load();
        if self.ready.len() > 1 && self.last_needed.elapsed() >= quiet {
            // One at a time: for the next, it has to stay quiet.
            self.last_needed = Instant::now();
            self.retired.extend(self.ready.pop());
            self.update_cache();
        }
        self.retired.retain(|client| client.in_flight() > 0);
        self.ready.len() > 1 || !self.retired.is_empty()
    }

    /// How many connections there are, those being made included.
    pub(super) fn len(&self) -> usize {
        self.ready.len() + self.retired.len() + usize::from(self.connecting.is_some())
    }

    pub(super) fn are_all_closed(&self) -> bool {
        let mut connections = self.ready.iter().chain(&self.retired);
        self.connecting.is_none() && connections.all(RpcClient::is_closed)
    }

    pub(super) fn stop_connecting(&mut self) {
        if let Some(connecting) = self.connecting.take() {
            connecting.task.abort();
        }
    }

    /// More connections stand than one.
    pub(super) fn has_several(&self) -> bool {
        self.ready.len() > 1
    }

    /// The worker is at another address now: calls under way end where they are, and the connections with the last of them.
    pub(super) fn retire(mut self) {
        self.stop_connecting();
    }

    pub(super) fn close(mut self, reason: &str) {
        self.stop_connecting();
        for client in self.ready.iter().chain(&self.retired) {
            client.close(reason);
        }
    }

    /// Looks at all connections that stand: which one is best, and whether it is saturated. Notes whether all are needed.
    fn refresh_load(&mut self) -> Option<(usize, bool)> {
        let stood = self.ready.len();
        self.ready.retain(|client| !client.is_closed());
        if self.ready.len() != stood {
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
            // With some room to spare, so that one that is given up is not missed at once.
            let others = self
                .calls_at_saturation
                .saturating_mul(self.ready.len() - 1);
            let is_needed = calls >= others - others / 4;
            if is_needed || best.is_some_and(|(_, is_saturated)| is_saturated) {
                self.last_needed = Instant::now();
            }
        }
        best
    }
}
