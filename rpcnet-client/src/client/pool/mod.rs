//! Connections to workers, shared by all calls.

mod process_state;
mod slot;
mod slots;
mod tasks;
mod way;

use std::{
    net::SocketAddr,
    num::NonZeroUsize,
    sync::{Arc, OnceLock, Weak},
    time::Duration,
};

use parking_lot::Mutex;
use rpcnet_balance::Endpoint as Balanced;
use rpcnet_registry::{Node, NodeId, Worker, WorkerRegistry};
use rpcnet_transport::{CloseReason, ConnectError, ConnectionNews, Endpoint, RpcClient};
use tokio::{task::AbortHandle, time::Instant};

pub(super) use self::{
    process_state::{is_as_known, is_unchanged},
    slot::Pending,
};
use self::{
    slot::{Route, Slot},
    slots::Slots,
    way::{Goal, Way},
};
use super::{ClusterClientConfig, RefusedMethods};

/// Connections to each worker: one that is opened when it is first needed, once however many calls wait for it, and
/// replaced when it has died; more while that one is saturated; all given up when the cluster holds the worker for gone.
pub(super) struct Pool {
    shared: Arc<Inner>,
    /// The task that follows the cluster. Begun by the first call, since a client may be made outside of a runtime.
    watcher: OnceLock<AbortHandle>,
}

struct Inner {
    endpoint: Endpoint,
    registry: Weak<WorkerRegistry>,
    /// What is forgotten of a worker that is another process now.
    refused_methods: Arc<RefusedMethods>,
    connect_timeout: Duration,
    connections_max: NonZeroUsize,
    quiet_time: Duration,
    slots: Mutex<Slots>,
    /// Time of the last warning that a worker cannot be connected to.
    warned_at: Mutex<Option<Instant>>,
}

/// The connection to a worker, or the wait for it.
pub(super) enum Connection {
    Ready(RpcClient),
    Pending(Pending),
}

impl Connection {
    /// Whether the worker says that it takes no calls.
    pub(super) fn is_draining(&self) -> bool {
        matches!(self, Self::Ready(client) if client.is_draining() && !client.is_closed())
    }
}

impl Pool {
    pub(super) fn new(
        config: &ClusterClientConfig,
        registry: &Arc<WorkerRegistry>,
        refused_methods: &Arc<RefusedMethods>,
    ) -> Self {
        let inner = Inner {
            endpoint: config.endpoint.clone(),
            registry: Arc::downgrade(registry),
            refused_methods: Arc::clone(refused_methods),
            connect_timeout: config.connect_timeout,
            connections_max: config.connections_max,
            quiet_time: config.quiet_time,
            slots: Mutex::default(),
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
    pub(super) fn connection(&self, worker: &Worker) -> Connection {
        let way = Way::of(&self.shared, worker);
        match way.and_then(|way| way.client(worker.addr)) {
            Some(client) => Connection::Ready(client),
            None => self.choose(worker),
        }
    }

    fn choose(&self, worker: &Worker) -> Connection {
        let (node, pool) = (worker.node(), &self.shared);
        let (name, epoch) = (&node.id.name, node.id.epoch);
        let mut slots = pool.slots.lock();
        let (mut replaced, mut moved) = (None, None);
        let has_moved =
            |slot: &Slot| slot.addr != node.addr && pool.has_moved(name, epoch, slot.addr);
        if slots.of(&node.id).is_some_and(|slot| has_moved(slot)) {
            moved = slots.remove(name);
        }
        if let Some(slot) = slots.get(name) {
            // The worker may have been selected just before its successor was heard of.
            if slot.epoch == epoch || pool.is_current(name, slot.epoch) {
                match slot.route() {
                    Route::Over(client) => return Connection::Ready(client),
                    Route::Wait(pending) => return Connection::Pending(pending),
                    Route::Nowhere => {}
                }
            } else {
                replaced = slots.remove(name);
            }
        }
        // Of nodes that nobody calls any more nobody else finds out.
        slots.remove_where(|other, slot| other != &**name && slot.is_dead());
        let pending = pool.connect(&mut slots, &Goal::of(pool, worker));
        drop(slots);
        if let Some(replaced) = replaced {
            replaced.close(REPLACED);
        }
        if let Some(moved) = moved {
            moved.leave();
        }
        Connection::Pending(pending)
    }

    /// A call waits for a place on its connection: looks whether another one is needed.
    pub(super) fn watch(&self, worker: &Worker) {
        let pool = &self.shared;
        let mut slots = pool.slots.lock();
        let limit = pool.connections_max.get();
        let Some(slot) = slots.at(worker.node()) else {
            return;
        };
        if !slot.is_watched && !slot.is_at_limit(limit) && slot.is_saturated() {
            slot.is_watched = true;
            let goal = Goal::of(pool, worker);
            let relief = tasks::relieve(Arc::downgrade(pool), goal);
            pool.endpoint.runtime().spawn(relief);
        }
    }

    /// The connection to a marked worker is being made to see whether there is a way to it; nobody waits for it.
    pub(super) fn probe(&self, worker: Worker, pending: Pending) {
        let runtime = self.shared.endpoint.runtime();
        runtime.spawn(tasks::probe(worker, pending));
    }

    /// A connection to the worker was lost: those that stand are looked for.
    pub(super) fn look_at(&self, worker: &Worker) {
        self.shared.look_at(worker.id());
    }

    /// Whether the worker is known to be at another address than this one.
    pub(super) fn has_moved(&self, id: &NodeId, addr: SocketAddr) -> bool {
        self.shared.has_moved(&id.name, id.epoch, addr)
    }

    /// How many connections there are, those being made included.
    pub(super) fn len(&self) -> usize {
        self.shared.slots.lock().connections()
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        if let Some(watcher) = self.watcher.get() {
            watcher.abort();
        }
        self.shared.slots.lock().stop_connecting();
    }
}

impl Inner {
    /// Forgets connections to that process that are gone. `false` if there is none left, and none is being made.
    fn look_at(&self, id: &NodeId) -> bool {
        let mut slots = self.slots.lock();
        let stands = slots.of(id).is_some_and(Slot::look);
        if !stands && slots.of(id).is_some() {
            slots.remove(&id.name);
        }
        stands
    }

    /// Something has become of a connection.
    fn on_connection_news(&self, node: &Node, endpoint: &Balanced, news: &ConnectionNews) {
        let Some(registry) = self.registry.upgrade() else {
            return;
        };
        let id = &node.id;
        // What happens at an address that it has left says nothing about it.
        if self.has_moved(&id.name, id.epoch, node.addr) {
            return;
        }
        let is_lost =
            matches!(news, ConnectionNews::Closed(reason) if *reason != CloseReason::ClosedHere);
        if is_lost {
            // Its process may be another one, though the list has the same epoch for it.
            self.refused_methods.retain_nodes(|node| node.id != *id);
        }
        match news {
            ConnectionNews::Draining(draining) => registry.note_draining(endpoint, *draining),
            ConnectionNews::Closed(CloseReason::ClosedHere | CloseReason::RuntimeEnded) => {}
            ConnectionNews::Closed(_) if !self.look_at(id) => {
                registry.note_unreachable(endpoint);
                // Nobody would say that it takes calls again; the next connection says if not.
                registry.note_draining(endpoint, false);
            }
            _ => {}
        }
    }

    /// Begins a connection to a node, in a task of its own: it is made also if all who wait for it give up.
    fn connect(self: &Arc<Self>, slots: &mut Slots, goal: &Goal) -> Pending {
        let (node, ticket) = (&goal.node, slots.next_ticket());
        let making = tasks::connect(Arc::downgrade(self), goal.clone(), ticket);
        let slot = slots.get_or_insert(&node.id.name, || {
            Slot::new(node.id.epoch, node.addr, goal.way.clone())
        });
        slot.connect(ticket, self.endpoint.runtime().spawn(making))
    }

    /// An attempt to connect has ended. `false` if it was given up meanwhile.
    fn settle(
        self: &Arc<Self>,
        goal: &Goal,
        ticket: u64,
        result: &Result<RpcClient, ConnectError>,
    ) -> bool {
        let id = &goal.node.id;
        let mut slots = self.slots.lock();
        let Some(slot) = slots.get(&id.name) else {
            return false;
        };
        if !slot.settle(ticket, result) {
            return false;
        }
        let is_lost = match result {
            Ok(_) => {
                if slot.has_several() && !slot.is_tended {
                    slot.is_tended = true;
                    let tending =
                        tasks::tend(Arc::downgrade(self), id.clone(), self.quiet_time / 4);
                    self.endpoint.runtime().spawn(tending);
                }
                false
            }
            Err(_) if !slot.is_dead() => {
                slot.no_more_until = Instant::now().checked_add(NO_MORE_FOR);
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
                Ok(_) => registry.note_reachable(&goal.endpoint),
                Err(_) if is_lost => registry.note_unreachable(&goal.endpoint),
                Err(_) => {}
            }
        }
        if let Ok(client) = result {
            let (pool, endpoint) = (Arc::downgrade(self), Arc::clone(&goal.endpoint));
            let node = Arc::clone(&goal.node);
            client.on_news(move |news| {
                if let Some(pool) = pool.upgrade() {
                    pool.on_connection_news(&node, &endpoint, &news);
                }
            });
        }
        true
    }

    /// Gives up an attempt to connect to a process that has ended: it was picked just before that was heard.
    fn abandon(&self, node: &Node, ticket: u64) {
        let mut slots = self.slots.lock();
        let Some(slot) = slots.get(&node.id.name) else {
            return;
        };
        if slot.settle(ticket, &Err(gone(node.addr))) && slot.is_dead() {
            slots.remove(&node.id.name);
        }
    }

    /// Whether all connections to that process are saturated. If not, nobody looks at it any more.
    fn is_still_saturated(&self, id: &NodeId) -> bool {
        let mut slots = self.slots.lock();
        slots.of(id).is_some_and(|slot| {
            slot.is_watched = slot.is_saturated();
            slot.is_watched
        })
    }

    /// One more connection to that process, unless there are enough.
    fn relieve(self: &Arc<Self>, goal: &Goal) {
        let mut slots = self.slots.lock();
        let Some(slot) = slots.at(&goal.node) else {
            return;
        };
        slot.is_watched = false;
        if !slot.is_at_limit(self.connections_max.get()) {
            // Nobody waits for it; the task goes on all the same.
            drop(self.connect(&mut slots, goal));
        }
    }

    /// Gives up a connection to that process if there is one too many. `false` if there cannot be any more.
    fn retire(&self, id: &NodeId) -> bool {
        let mut slots = self.slots.lock();
        slots.of(id).is_some_and(|slot| {
            slot.is_tended = slot.retire(self.quiet_time);
            slot.is_tended
        })
    }
}

fn gone(addr: SocketAddr) -> ConnectError {
    ConnectError::Refused {
        addr,
        reason: "the node is gone from this address".to_owned(),
    }
}

/// Why connections are closed, for the other side.
const REPLACED: &str = "a newer process has the name of this node";

/// For how long no further connection is asked for after one could not be made.
const NO_MORE_FOR: Duration = Duration::from_secs(10);
