//! Node registry: a snapshot of all nodes and their events.

use std::{fmt, future::Future, sync::Arc};

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use crate::{
    ClusterEvent, Events, Filter, Membership, NodeInfo, Observer, Snapshot, WaitError, Watch,
    event::{EVENT_CAPACITY, EVENT_CAPACITY_MAX, EventBroadcast},
    snapshot::NodeTable,
    wait::{self, Wanted},
};

/// Registry of all nodes of a cluster: a snapshot to read, events to follow.
///
/// ```
/// use rpcnet_registry::{ClusterEvent, NodeInfo, NodeId, NodeRegistry, StaticMembership};
///
/// # futures::executor::block_on(async {
/// let cluster = StaticMembership::new();
/// let registry = NodeRegistry::new(cluster.clone());
/// let mut events = registry.subscribe();
/// registry.start().await;
///
/// cluster.insert(NodeInfo::new(NodeId::new("red", 1), ([127, 0, 0, 1], 7001).into()));
/// let Some(ClusterEvent::NodeJoined(node)) = events.recv().await else { panic!() };
/// assert_eq!(node.id.to_string(), "red");
/// assert_eq!(registry.nodes().await.len(), 1);
/// # });
/// ```
pub struct NodeRegistry {
    source: Box<dyn Membership>,
    watch: Mutex<Option<Watch>>,
    shared: Arc<NodeObserver>,
}

impl NodeRegistry {
    /// A registry of the nodes of `cluster`. Empty until it is [started](Self::start).
    pub fn new(cluster: impl Membership) -> Self {
        let shared = NodeObserver {
            table: Mutex::new(NodeTable::new()),
            snapshot: ArcSwap::default(),
            events: EventBroadcast::new(EVENT_CAPACITY),
        };
        Self {
            source: Box::new(cluster),
            watch: Mutex::default(),
            shared: Arc::new(shared),
        }
    }

    /// Sets how many events are kept for a slow subscriber before it loses the oldest. Default 256;
    /// less than 1 counts as 1, more than 65,536 as 65,536.
    ///
    /// A larger value covers longer bursts, and takes more memory while a subscriber lags. Without
    /// effect once the registry has been started or subscribed to.
    #[must_use]
    pub fn with_event_capacity(mut self, events: usize) -> Self {
        if let Some(shared) = Arc::get_mut(&mut self.shared) {
            let capacity = events.clamp(1, EVENT_CAPACITY_MAX);
            shared.events.set_capacity(capacity);
        }
        self
    }

    /// Starts to follow the source. When it returns, the nodes known by then are in the snapshot. A
    /// second call does nothing.
    pub async fn start(&self) {
        let observer = Arc::clone(&self.shared);
        let watch = || self.source.watch(observer);
        self.watch.lock().get_or_insert_with(watch);
    }

    /// The present snapshot of all nodes.
    pub async fn nodes(&self) -> Arc<Snapshot> {
        self.snapshot()
    }

    /// The present snapshot of all nodes, and whether the source [is live](Snapshot::source). Never
    /// waits.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.shared.snapshot.load_full()
    }

    /// Waits until the source lists at least `count` nodes that match `filter` as alive, the local
    /// one included. No connection is tried.
    ///
    /// The deadline is a future, such as `tokio::time::sleep(Duration::from_secs(10))`: the crate
    /// has no timer, so that it needs no runtime.
    ///
    /// # Errors
    ///
    /// When the deadline is exceeded; at once when the filter cannot be parsed, the registry was
    /// not started or its source has ended.
    pub async fn wait_for(
        &self,
        filter: Option<&str>,
        count: usize,
        deadline: impl Future,
    ) -> Result<Arc<Snapshot>, WaitError> {
        let wanted = Wanted {
            filter,
            count,
            is_started: self.watch.lock().is_some(),
        };
        let look = |filter: &Filter| {
            let snapshot = self.snapshot();
            if snapshot.source().is_terminal() {
                let state = snapshot.source().clone();
                return Err(WaitError::SourceEnded { state });
            }
            let alive = snapshot.alive();
            let present = alive.filter(|node| filter.matches(&node.tags)).count();
            Ok((present, (present >= count).then_some(snapshot)))
        };
        wait::until(wanted, self.subscribe(), deadline, look).await
    }

    /// Subscribes to the events from now on. Subscribed before [`start`](Self::start), the nodes
    /// known by then are reported as joined.
    ///
    /// When an event arrives, the [snapshot](Self::snapshot) of this registry already includes it.
    /// Other registries of the same source, such as a [`WorkerRegistry`](crate::WorkerRegistry),
    /// may receive it later.
    #[must_use]
    pub fn subscribe(&self) -> Events {
        self.shared.events.subscribe()
    }
}

impl fmt::Debug for NodeRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeRegistry")
            .field("nodes", &self.snapshot())
            .finish_non_exhaustive()
    }
}

struct NodeObserver {
    table: Mutex<NodeTable>,
    snapshot: ArcSwap<Snapshot>,
    events: EventBroadcast,
}

impl Observer for NodeObserver {
    fn on_snapshot(&self, nodes: Vec<NodeInfo>) {
        let mut table = self.table.lock();
        let (events, _) = table.replace(nodes);
        self.snapshot.store(Arc::new(table.snapshot()));
        events.into_iter().for_each(|event| self.events.send(event));
    }

    fn on_event(&self, event: ClusterEvent) {
        self.on_events(vec![event]);
    }

    /// One snapshot for all of them: building it takes time for each node.
    fn on_events(&self, events: Vec<ClusterEvent>) {
        let mut table = self.table.lock();
        let (mut applied, mut is_changed) = (Vec::with_capacity(events.len()), false);
        for event in events {
            let is_news = table.apply_source_event(&event);
            if is_news == Some(false) {
                continue;
            }
            let (event, changes) = table.apply(event);
            is_changed |= is_news.is_some() || !changes.is_empty();
            applied.push(event);
        }
        if is_changed {
            self.snapshot.store(Arc::new(table.snapshot()));
        }
        applied
            .into_iter()
            .for_each(|event| self.events.send(event));
    }
}
