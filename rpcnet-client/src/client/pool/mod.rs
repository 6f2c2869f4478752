//! Connections to workers, shared by all calls.

mod cached_connection;
mod connection_table;
mod process_state;
mod tasks;
mod worker_connections;

use std::{
    net::SocketAddr,
    num::NonZeroUsize,
    sync::{Arc, OnceLock, Weak},
    time::Duration,
};

use parking_lot::Mutex;
use rpcnet_balance::Endpoint as Balanced;
use rpcnet_registry::{NodeId, NodeInfo, Worker, WorkerRegistry};
use rpcnet_transport::{CloseReason, ConnectError, ConnectionEvent, Endpoint, RpcClient};
use tokio::{task::AbortHandle, time::Instant};

use self::{
    cached_connection::{CachedConnection, ConnectTarget},
    connection_table::ConnectionTable,
    worker_connections::{Route, WorkerConnections},
};
pub(super) use self::{
    process_state::{is_as_known, is_unchanged},
    worker_connections::PendingConnection,
};
use super::{ClusterClientConfig, RefusedMethods};

/// Connections to each worker: one that is opened when it is first needed, once however many calls wait for it, and
/// replaced when it has died; more while that one is saturated; all given up when the cluster holds the worker for gone.
pub(super) struct ConnectionPool {
    shared: Arc<PoolShared>,
    /// The task that follows the cluster. Begun by the first call, since a client may be made outside of a runtime.
    watcher: OnceLock<AbortHandle>,
}

struct PoolShared {
    endpoint: Endpoint,
    registry: Weak<WorkerRegistry>,
    /// What is forgotten of a worker that is another process now.
    refused_methods: Arc<RefusedMethods>,
    connect_timeout: Duration,
    connections_max: NonZeroUsize,
    surplus_idle_timeout: Duration,
    connections: Mutex<ConnectionTable>,
    /// Time of the last warning that a worker cannot be connected to.
    warned_at: Mutex<Option<Instant>>,
}

/// The connection to a worker, or the wait for it.
pub(super) enum PooledConnection {
    Ready(RpcClient),
    Pending(PendingConnection),
}

impl PooledConnection {
    /// Whether the worker says that it takes no calls.
    pub(super) fn is_draining(&self) -> bool {
        matches!(self, Self::Ready(client) if client.is_draining() && !client.is_closed())
    }
}

impl ConnectionPool {
    pub(super) fn new(
        config: &ClusterClientConfig,
        registry: &Arc<WorkerRegistry>,
        refused_methods: &Arc<RefusedMethods>,
    ) -> Self {
        let inner = PoolShared {
            endpoint: config.endpoint.clone(),
            registry: Arc::downgrade(registry),
            refused_methods: Arc::clone(refused_methods),
            connect_timeout: config.connect_timeout,
            connections_max: config.connections_max,
            surplus_idle_timeout: config.surplus_idle_timeout,
            connections: Mutex::default(),
            warned_at: Mutex::default(),
        };
        Self {
            shared: Arc::new(inner),
            watcher: OnceLock::new(),
        }
    }

    /// The endpoint that its connections are made from.
    pub(super) fn endpoint(&self) -> &Endpoint {
        &self.shared.endpoint
    }

    /// Begins to follow the cluster, if that has not begun.
    pub(super) fn follow(&self, registry: &WorkerRegistry) {
        self.watcher.get_or_init(|| {
            let task = tasks::follow(Arc::downgrade(&self.shared), registry.subscribe());
            self.shared.endpoint.runtime().spawn(task).abort_handle()
        });
    }

    /// The least busy connection to a worker, if there is one. Without a lock if there is one alone.
    pub(super) fn connection(&self, worker: &Worker) -> PooledConnection {
        let way = CachedConnection::of(&self.shared, worker);
        match way.and_then(|way| way.client(worker.addr)) {
            Some(client) => PooledConnection::Ready(client),
            None => self.route_call(worker),
        }
    }

    fn route_call(&self, worker: &Worker) -> PooledConnection {
        let (node, pool) = (worker.node(), &self.shared);
        let (name, epoch) = (&node.id.name, node.id.epoch);
        let mut slots = pool.connections.lock();
        let (mut replaced, mut moved) = (None, None);
        let has_moved = |slot: &WorkerConnections| {
            slot.addr != node.addr && pool.has_moved(name, epoch, slot.addr)
        };
        if slots
            .of_process(&node.id)
            .is_some_and(|slot| has_moved(slot))
        {
            moved = slots.remove(name);
        }
        if let Some(slot) = slots.get(name) {
            // The worker may have been selected just before its successor was heard of.
            if slot.epoch == epoch || pool.is_current(name, slot.epoch) {
                match slot.route() {
                    Route::Ready(client) => return PooledConnection::Ready(client),
                    Route::Pending(pending) => return PooledConnection::Pending(pending),
                    Route::Disconnected => {}
                }
            } else {
                replaced = slots.remove(name);
            }
        }
        // Of nodes that nobody calls any more nobody else finds out.
        slots.remove_where(|other, slot| other != &**name && slot.are_all_closed());
        let pending = pool.connect(&mut slots, &ConnectTarget::of(pool, worker));
        drop(slots);
        if let Some(replaced) = replaced {
            replaced.close(REPLACED_REASON);
        }
        if let Some(moved) = moved {
            moved.retire();
        }
        PooledConnection::Pending(pending)
    }

    /// A call waits for a place on its connection: looks whether another one is needed.
    pub(super) fn on_saturated(&self, worker: &Worker) {
        let pool = &self.shared;
        let mut slots = pool.connections.lock();
        let limit = pool.connections_max.get();
        let Some(slot) = slots.of_process_at_addr(worker.node()) else {
            return;
        };
        if !slot.is_scaling_up && !slot.is_at_limit(limit) && slot.is_saturated() {
            slot.is_scaling_up = true;
            let goal = ConnectTarget::of(pool, worker);
            let relief = tasks::scale_up(Arc::downgrade(pool), goal);
            pool.endpoint.runtime().spawn(relief);
        }
    }

    /// The connection to a marked worker is being made to see whether there is a way to it; nobody waits for it.
    pub(super) fn probe(&self, worker: Worker, pending: PendingConnection) {
        let runtime = self.shared.endpoint.runtime();
        runtime.spawn(tasks::probe(worker, pending));
    }

    /// A connection to the worker was lost: those that stand are looked for.
    pub(super) fn prune_closed(&self, worker: &Worker) {
        self.shared.prune_closed(worker.id());
    }

    /// Whether the worker is known to be at another address than this one.
    pub(super) fn has_moved(&self, id: &NodeId, addr: SocketAddr) -> bool {
        self.shared.has_moved(&id.name, id.epoch, addr)
    }

    /// How many connections there are, those being made included.
    pub(super) fn len(&self) -> usize {
        self.shared.connections.lock().connections()
    }
}

impl Drop for ConnectionPool {
    fn drop(&mut self) {
        if let Some(watcher) = self.watcher.get() {
            watcher.abort();
        }
        self.shared.connections.lock().stop_connecting();
    }
}

impl PoolShared {
    /// Forgets connections to that process that are gone. `false` if there is none left, and none is being made.
    fn prune_closed(&self, id: &NodeId) -> bool {
        let mut slots = self.connections.lock();
        let stands = slots
            .of_process(id)
            .is_some_and(WorkerConnections::prune_closed);
        if !stands && slots.of_process(id).is_some() {
            slots.remove(&id.name);
        }
        stands
    }

    /// Something has become of a connection.
    fn on_connection_news(&self, node: &NodeInfo, endpoint: &Balanced, news: &ConnectionEvent) {
        let Some(registry) = self.registry.upgrade() else {
            return;
        };
        let id = &node.id;
        // What happens at an address that it has left says nothing about it.
        if self.has_moved(&id.name, id.epoch, node.addr) {
            return;
        }
        let is_lost =
            matches!(news, ConnectionEvent::Closed(reason) if *reason != CloseReason::ClosedHere);
        if is_lost {
            // Its process may be another one, though the list has the same epoch for it.
            self.refused_methods.retain_nodes(|node| node.id != *id);
        }
        match news {
            ConnectionEvent::Draining(draining) => registry.set_draining(endpoint, *draining),
            ConnectionEvent::Closed(CloseReason::ClosedHere | CloseReason::RuntimeEnded) => {}
            ConnectionEvent::Closed(_) if !self.prune_closed(id) => {
                registry.on_unreachable(endpoint);
                // Nobody would say that it takes calls again; the next connection says if not.
                registry.set_draining(endpoint, false);
            }
            _ => {}
        }
    }

    /// Begins a connection to a node, in a task of its own: it is made also if all who wait for it give up.
    fn connect(
        self: &Arc<Self>,
        slots: &mut ConnectionTable,
        goal: &ConnectTarget,
    ) -> PendingConnection {
        let (node, ticket) = (&goal.node, slots.next_connect_id());
        let making = tasks::connect(Arc::downgrade(self), goal.clone(), ticket);
        let slot = slots.get_or_insert(&node.id.name, || {
            WorkerConnections::new(node.id.epoch, node.addr, goal.cached.clone())
        });
        slot.connect(ticket, self.endpoint.runtime().spawn(making))
    }

    /// An attempt to connect has ended. `false` if it was given up meanwhile.
    fn on_connect_result(
        self: &Arc<Self>,
        goal: &ConnectTarget,
        ticket: u64,
        result: &Result<RpcClient, ConnectError>,
    ) -> bool {
        let id = &goal.node.id;
        let mut slots = self.connections.lock();
        let Some(slot) = slots.get(&id.name) else {
            return false;
        };
        if !slot.on_connect_result(ticket, result) {
            return false;
        }
        let is_lost = match result {
            Ok(_) => {
                if slot.has_several() && !slot.is_scaling_down {
                    slot.is_scaling_down = true;
                    let tending = tasks::scale_down(
                        Arc::downgrade(self),
                        id.clone(),
                        self.surplus_idle_timeout / 4,
                    );
                    self.endpoint.runtime().spawn(tending);
                }
                false
            }
            Err(_) if !slot.are_all_closed() => {
                slot.scale_up_after = Instant::now().checked_add(SCALE_UP_BACKOFF);
                false
            }
            Err(error) => {
                slots.remove(&id.name);
                // Of an endpoint that is closed here, no worker is to blame.
                !error.is_local()
            }
        };
        drop(slots);
        if let Some(registry) = self.registry.upgrade() {
            match result {
                Ok(_) => registry.on_reachable(&goal.endpoint),
                Err(_) if is_lost => registry.on_unreachable(&goal.endpoint),
                Err(_) => {}
            }
        }
        if let Ok(client) = result {
            let (pool, endpoint) = (Arc::downgrade(self), Arc::clone(&goal.endpoint));
            let node = Arc::clone(&goal.node);
            client.on_event(move |news| {
                if let Some(pool) = pool.upgrade() {
                    pool.on_connection_news(&node, &endpoint, &news);
                }
            });
        }
        true
    }

    /// Gives up an attempt to connect to a process that has ended: it was picked just before that was heard.
    fn cancel_connect(&self, node: &NodeInfo, ticket: u64) {
        let mut slots = self.connections.lock();
        let Some(slot) = slots.get(&node.id.name) else {
            return;
        };
        if slot.on_connect_result(ticket, &Err(target_gone_error(node.addr)))
            && slot.are_all_closed()
        {
            slots.remove(&node.id.name);
        }
    }

    /// Whether all connections to that process are saturated. If not, nobody looks at it any more.
    fn is_still_saturated(&self, id: &NodeId) -> bool {
        let mut slots = self.connections.lock();
        slots.of_process(id).is_some_and(|slot| {
            slot.is_scaling_up = slot.is_saturated();
            slot.is_scaling_up
        })
    }

    /// One more connection to that process, unless there are enough.
    fn scale_up(self: &Arc<Self>, goal: &ConnectTarget) {
        let mut slots = self.connections.lock();
        let Some(slot) = slots.of_process_at_addr(&goal.node) else {
            return;
        };
        slot.is_scaling_up = false;
        if !slot.is_at_limit(self.connections_max.get()) {
            // Nobody waits for it; the task goes on all the same.
            drop(self.connect(&mut slots, goal));
        }
    }

    /// Gives up a connection to that process if there is one too many. `false` if there cannot be any more.
    fn scale_down(&self, id: &NodeId) -> bool {
        let mut slots = self.connections.lock();
        slots.of_process(id).is_some_and(|slot| {
            slot.is_scaling_down = slot.scale_down(self.surplus_idle_timeout);
            slot.is_scaling_down
        })
    }
}

fn target_gone_error(addr: SocketAddr) -> ConnectError {
    ConnectError::Refused {
        addr,
        reason: "the node is gone from this address".to_owned(),
    }
}

/// Why connections are closed, for the other side.
const REPLACED_REASON: &str = "a newer process has the name of this node";

/// For how long no further connection is asked for after one could not be made.
const SCALE_UP_BACKOFF: Duration = Duration::from_secs(10);
