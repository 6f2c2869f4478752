//! Connections to workers: one for each, shared by all calls.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, OnceLock, Weak},
    time::Duration,
};

use futures::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use parking_lot::Mutex;
use rpcnet_registry::{ClusterEvent, Events, Node, NodeId, NodeState, Worker, WorkerRegistry};
use rpcnet_transport::{ConnectError, Endpoint, RpcClient};
use tokio::{task::AbortHandle, time::timeout};

use super::{ClusterClientConfig, down::DownList, retry::Jitter};

/// One connection for each worker: opened when it is first needed, once however many calls wait for it, replaced when it has
/// died, and given up when the cluster holds the worker for gone.
pub(super) struct Pool {
    shared: Arc<Inner>,
    /// The task that follows the cluster. Begun by the first call, since a client may be made outside of a runtime.
    watcher: OnceLock<AbortHandle>,
}

struct Inner {
    endpoint: Endpoint,
    connect_timeout: Duration,
    down_time: (Duration, Duration),
    jitter: Jitter,
    slots: Mutex<Slots>,
    down: DownList,
}

#[derive(Default)]
struct Slots {
    by_name: HashMap<Arc<str>, Slot>,
    /// Tells one attempt to connect from the next.
    ticket: u64,
}

/// What there is of the connection to the process of that epoch.
struct Slot {
    epoch: u64,
    state: State,
}

enum State {
    Connecting {
        ticket: u64,
        pending: Pending,
        task: AbortHandle,
    },
    Ready(RpcClient),
}

/// A connection that is being made, for all who wait for it.
pub(super) type Pending = Shared<BoxFuture<'static, Result<RpcClient, ConnectError>>>;

/// The connection to a worker, or the wait for it.
pub(super) enum Connection {
    Ready(RpcClient),
    Pending(Pending),
}

impl Pool {
    pub(super) fn new(config: &ClusterClientConfig) -> Self {
        let inner = Inner {
            endpoint: config.endpoint.clone(),
            connect_timeout: config.connect_timeout,
            down_time: config.down_time,
            jitter: Jitter::new(),
            slots: Mutex::default(),
            down: DownList::new(config.down_time.1),
        };
        Self {
            shared: Arc::new(inner),
            watcher: OnceLock::new(),
        }
    }

    /// Begins to follow the cluster, if that has not begun. In a runtime.
    pub(super) fn follow(&self, registry: &Arc<WorkerRegistry>) {
        self.watcher.get_or_init(|| {
            let pool = Arc::downgrade(&self.shared);
            let task = follow(pool, Arc::downgrade(registry), registry.subscribe());
            tokio::spawn(task).abort_handle()
        });
    }

    pub(super) fn connection(&self, worker: &Worker) -> Connection {
        let node = worker.node();
        let (name, epoch) = (&node.id.name, node.id.epoch);
        let mut slots = self.shared.slots.lock();
        match slots.by_name.get(name) {
            // A later process of that name: the worker was selected just before it was heard of.
            Some(slot) if slot.epoch >= epoch => match &slot.state {
                State::Ready(client) if !client.is_closed() => {
                    return Connection::Ready(client.clone());
                }
                State::Ready(_) => {}
                State::Connecting { pending, .. } => return Connection::Pending(pending.clone()),
            },
            _ => {}
        }
        // Of nodes that nobody calls any more nobody else finds out.
        slots.by_name.retain(|_, slot| !slot.is_dead());
        slots.ticket += 1;
        let ticket = slots.ticket;
        // A task of its own: the connection is made also if all who wait for it give up.
        let connect = connect(
            Arc::downgrade(&self.shared),
            Arc::clone(node),
            worker.endpoint_id(),
            ticket,
        );
        let task = tokio::spawn(connect);
        let abort = task.abort_handle();
        let addr = node.addr;
        let pending = task
            .map(move |ended| ended.unwrap_or_else(|_| Err(gone(addr))))
            .boxed()
            .shared();
        let state = State::Connecting {
            ticket,
            pending: pending.clone(),
            task: abort,
        };
        let before = slots
            .by_name
            .insert(Arc::clone(name), Slot { epoch, state });
        drop(slots);
        if let Some(before) = before {
            before.close("another process has taken its place");
        }
        Connection::Pending(pending)
    }

    /// Calls avoid the worker for a while, as after a failure to connect.
    pub(super) fn avoid(&self, worker: &Worker) {
        self.shared.avoid(&worker.id().name, worker.endpoint_id());
    }

    pub(super) fn down(&self) -> &DownList {
        &self.shared.down
    }

    /// How many connections there are, those being made included.
    pub(super) fn len(&self) -> usize {
        self.shared.slots.lock().by_name.len()
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        if let Some(watcher) = self.watcher.get() {
            watcher.abort();
        }
        for slot in self.shared.slots.lock().by_name.values() {
            if let State::Connecting { task, .. } = &slot.state {
                task.abort();
            }
        }
    }
}

impl Inner {
    fn avoid(&self, name: &Arc<str>, endpoint_id: u64) {
        self.down.add(name, endpoint_id, |failures| {
            self.jitter.pause(self.down_time, failures)
        });
    }

    /// An attempt to connect has ended. `false` if it was given up meanwhile.
    fn settle(
        &self,
        id: &NodeId,
        endpoint_id: u64,
        ticket: u64,
        result: &Result<RpcClient, ConnectError>,
    ) -> bool {
        let mut slots = self.slots.lock();
        let current = slots.by_name.get_mut(&id.name).filter(
            |slot| matches!(slot.state, State::Connecting { ticket: of, .. } if of == ticket),
        );
        let Some(slot) = current else {
            return false;
        };
        match result {
            Ok(client) => {
                slot.state = State::Ready(client.clone());
                self.down.remove(&id.name);
            }
            Err(error) => {
                slots.by_name.remove(&id.name);
                // Of an endpoint that is closed here, no worker is to blame.
                if !matches!(error, ConnectError::EndpointClosed) {
                    self.avoid(&id.name, endpoint_id);
                }
            }
        }
        true
    }

    /// Gives up the connection to a process that has ended.
    fn dismiss(&self, id: &NodeId, how: Ending) {
        self.down.remove(&id.name);
        let mut slots = self.slots.lock();
        if slots
            .by_name
            .get(&id.name)
            .is_none_or(|slot| slot.epoch > id.epoch)
        {
            return;
        }
        let slot = slots.by_name.remove(&id.name);
        drop(slots);
        if let (Some(slot), Ending::Dead) = (slot, how) {
            slot.close("the cluster holds the node for dead");
        }
    }

    fn on_event(&self, event: &ClusterEvent, registry: &Weak<WorkerRegistry>) {
        match event {
            ClusterEvent::NodeFailed(node) => self.dismiss(&node.id, Ending::Dead),
            // What it still has to say may arrive: the connection ends with the last call on it.
            ClusterEvent::NodeLeft(node) => self.dismiss(&node.id, Ending::Left),
            ClusterEvent::NodeJoined(node) => {
                self.down.remove(&node.id.name);
                self.replace(node);
            }
            ClusterEvent::NodeRecovered(node) | ClusterEvent::NodeUpdated(node) => {
                self.down.remove(&node.id.name);
            }
            ClusterEvent::Lagged(_) => self.reconcile(registry),
            _ => {}
        }
    }

    /// A new process of that name has begun, so the one before has ended.
    fn replace(&self, node: &Node) {
        if let Some(before) = node.id.epoch.checked_sub(1) {
            let ended = NodeId::new(Arc::clone(&node.id.name), before);
            self.dismiss(&ended, Ending::Dead);
        }
    }

    /// Events were missed: goes by where things stand.
    fn reconcile(&self, registry: &Weak<WorkerRegistry>) {
        let Some(registry) = registry.upgrade() else {
            return;
        };
        let Ok(workers) = registry.workers(None) else {
            return;
        };
        let is_known = |name: &Arc<str>| workers.iter().any(|one| one.node.id.name == *name);
        // As of one that left: its connection ends with the last call on it.
        let forgotten: Vec<_> = {
            let mut slots = self.slots.lock();
            slots
                .by_name
                .extract_if(|name, _| !is_known(name))
                .collect()
        };
        drop(forgotten);
        for worker in workers {
            match worker.node.state {
                NodeState::Failed => self.dismiss(&worker.node.id, Ending::Dead),
                NodeState::Left => self.dismiss(&worker.node.id, Ending::Left),
                _ => self.replace(&worker.node),
            }
        }
    }
}

/// How a process ended.
enum Ending {
    /// Calls under way get no answer any more.
    Dead,
    /// By its own will; they may.
    Left,
}

impl Slot {
    fn is_dead(&self) -> bool {
        matches!(&self.state, State::Ready(client) if client.is_closed())
    }

    fn close(self, reason: &str) {
        match self.state {
            State::Connecting { task, .. } => task.abort(),
            State::Ready(client) => client.close(reason),
        }
    }
}

async fn connect(
    pool: Weak<Inner>,
    node: Arc<Node>,
    endpoint_id: u64,
    ticket: u64,
) -> Result<RpcClient, ConnectError> {
    let Some((endpoint, after)) = pool
        .upgrade()
        .map(|pool| (pool.endpoint.clone(), pool.connect_timeout))
    else {
        return Err(ConnectError::EndpointClosed);
    };
    let addr = node.addr;
    let result = timeout(after, endpoint.connect(addr, &node.id.name))
        .await
        .unwrap_or(Err(ConnectError::Timeout { addr, after }));
    match pool.upgrade() {
        // Nobody would close it when the node fails, so nobody may use it.
        Some(pool) if !pool.settle(&node.id, endpoint_id, ticket, &result) => Err(gone(addr)),
        _ => result,
    }
}

fn gone(addr: SocketAddr) -> ConnectError {
    ConnectError::Refused {
        addr,
        reason: "the node is gone from the cluster".to_owned(),
    }
}

async fn follow(pool: Weak<Inner>, registry: Weak<WorkerRegistry>, mut events: Events) {
    while let Some(event) = events.recv().await {
        let Some(pool) = pool.upgrade() else { return };
        pool.on_event(&event, &registry);
    }
}
