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

use super::{gone, way::Way};

/// What there is of connections to the process of that epoch at that address: at least one, made or being made.
pub(super) struct Slot {
    pub(super) epoch: u64,
    pub(super) addr: SocketAddr,
    /// Where calls find the connection without looking here.
    way: Option<Arc<Way>>,
    /// Those that stand, the oldest first.
    ready: Vec<RpcClient>,
    connecting: Option<Connecting>,
    /// Surplus ones, which end with their last call.
    retired: Vec<RpcClient>,
    /// Somebody looks whether it stays saturated.
    pub(super) is_watched: bool,
    /// Somebody looks whether there is a connection too many.
    pub(super) is_tended: bool,
    /// No further connection is asked for before: the last one could not be made.
    pub(super) no_more_until: Option<Instant>,
    /// Calls on a connection when it was saturated, the fewest seen.
    calls_when_full: usize,
    /// When all connections were last of use.
    needed: Instant,
}

struct Connecting {
    ticket: u64,
    pending: Pending,
    task: AbortHandle,
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.hide();
    }
}

/// A connection that is being made, for all who wait for it.
pub(in crate::client) type Pending = Shared<BoxFuture<'static, Result<RpcClient, ConnectError>>>;

/// Where a call goes.
pub(super) enum Route {
    Over(RpcClient),
    Wait(Pending),
    /// All connections are dead.
    Nowhere,
}

impl Slot {
    pub(super) fn new(epoch: u64, addr: SocketAddr, way: Option<Arc<Way>>) -> Self {
        Self {
            epoch,
            addr,
            way,
            ready: Vec::new(),
            connecting: None,
            retired: Vec::new(),
            is_watched: false,
            is_tended: false,
            no_more_until: None,
            calls_when_full: usize::MAX,
            needed: Instant::now(),
        }
    }

    /// A connection is being made. Who waits for it waits for what is returned.
    pub(super) fn connect(
        &mut self,
        ticket: u64,
        task: JoinHandle<Result<RpcClient, ConnectError>>,
    ) -> Pending {
        let addr = self.addr;
        let abort = task.abort_handle();
        let pending = task
            .map(move |ended| ended.unwrap_or_else(|_| Err(gone(addr))))
            .boxed()
            .shared();
        self.connecting = Some(Connecting {
            ticket,
            pending: pending.clone(),
            task: abort,
        });
        pending
    }

    /// An attempt to connect has ended. `false` if it was given up meanwhile.
    pub(super) fn settle(&mut self, ticket: u64, result: &Result<RpcClient, ConnectError>) -> bool {
        if self.connecting.as_ref().map(|one| one.ticket) != Some(ticket) {
            return false;
        }
        self.connecting = None;
        if let Ok(client) = result {
            self.ready.push(client.clone());
            self.needed = Instant::now();
            self.publish();
        }
        true
    }

    /// Looks whether all connections stand. `false` if none does and none is being made.
    pub(super) fn look(&mut self) -> bool {
        self.survey();
        self.publish();
        !self.is_dead()
    }

    /// Shows calls the connection, if there is no choice.
    fn publish(&self) {
        if let Some(way) = &self.way {
            let alone = match &self.ready[..] {
                [client] => Some(client),
                _ => None,
            };
            way.set(self.addr, alone);
        }
    }

    /// Shows calls no connection from now on.
    pub(super) fn hide(&mut self) {
        if let Some(way) = self.way.take() {
            way.set(self.addr, None);
        }
    }

    /// The least busy connection.
    pub(super) fn route(&mut self) -> Route {
        match (self.survey(), &self.connecting) {
            (Some((index, _)), _) => Route::Over(self.ready[index].clone()),
            (None, Some(connecting)) => Route::Wait(connecting.pending.clone()),
            (None, None) => Route::Nowhere,
        }
    }

    /// Whether a further call would have to wait, whatever connection it takes.
    pub(super) fn is_saturated(&mut self) -> bool {
        self.survey().is_some_and(|(_, saturated)| saturated)
    }

    /// Whether every connection that may be made has been, or cannot be for now.
    pub(super) fn is_at_limit(&self, connections_max: usize) -> bool {
        self.connecting.is_some()
            || self.ready.len() >= connections_max
            || self
                .no_more_until
                .is_some_and(|until| Instant::now() < until)
    }

    /// Gives up the latest connection if for so long the others would have been enough. `false` when there is one alone.
    pub(super) fn retire(&mut self, quiet: Duration) -> bool {
        self.survey();
        if self.ready.len() > 1 && self.needed.elapsed() >= quiet {
            // One at a time: for the next, it has to stay quiet.
            self.needed = Instant::now();
            self.retired.extend(self.ready.pop());
            self.publish();
        }
        self.retired.retain(|client| client.in_flight() > 0);
        self.ready.len() > 1 || !self.retired.is_empty()
    }

    /// How many connections there are, those being made included.
    pub(super) fn len(&self) -> usize {
        self.ready.len() + self.retired.len() + usize::from(self.connecting.is_some())
    }

    pub(super) fn is_dead(&self) -> bool {
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
    pub(super) fn leave(mut self) {
        self.stop_connecting();
    }

    pub(super) fn close(mut self, reason: &str) {
        self.stop_connecting();
        for client in self.ready.iter().chain(&self.retired) {
            client.close(reason);
        }
    }

    /// Looks at all connections that stand: which one is best, and whether it is saturated. Notes whether all are needed.
    fn survey(&mut self) -> Option<(usize, bool)> {
        let stood = self.ready.len();
        self.ready.retain(|client| !client.is_closed());
        if self.ready.len() != stood {
            self.publish();
        }
        let (mut best, mut calls) = (None, 0);
        for (index, client) in self.ready.iter().enumerate() {
            let (in_flight, is_saturated) = (client.in_flight(), client.is_saturated());
            calls += in_flight;
            if is_saturated {
                self.calls_when_full = self.calls_when_full.min(in_flight.max(1));
            }
            let rank = (client.is_draining(), is_saturated, in_flight);
            if best.is_none_or(|(_, least)| rank < least) {
                best = Some((index, rank));
            }
        }
        let best = best.map(|(index, (_, is_saturated, _))| (index, is_saturated));
        if self.ready.len() > 1 {
            // With some room to spare, so that one that is given up is not missed at once.
            let others = self.calls_when_full.saturating_mul(self.ready.len() - 1);
            let is_needed = calls >= others - others / 4;
            if is_needed || best.is_some_and(|(_, is_saturated)| is_saturated) {
                self.needed = Instant::now();
            }
        }
        best
    }
}
