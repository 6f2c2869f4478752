//! Registry link: a registry that is not kept alive, and what calls found out about its workers.

use std::{
    net::SocketAddr,
    sync::{Arc, Weak},
};

use rpcnet_balance::Endpoint;
use rpcnet_registry::{
    NodeId, NodeInfo, NodeState, WorkerRegistry,
    rejections::{MethodOfTypes, RejectedMethods},
    schemas::ServiceSchemas,
};
use rpcnet_transport::{
    CloseReason,
    pool::{PoolListener, PoolTarget, ProcessState, TargetId},
};

/// A registry that is not kept alive, the methods that its workers rejected, and whose types fit.
#[derive(Clone)]
pub(super) struct RegistryLink {
    registry: Weak<WorkerRegistry>,
    pub(super) rejected_methods: Arc<RejectedMethods>,
    pub(super) schemas: Arc<ServiceSchemas>,
}

impl RegistryLink {
    pub(super) fn new(registry: &Arc<WorkerRegistry>) -> Self {
        Self {
            registry: Arc::downgrade(registry),
            rejected_methods: Arc::default(),
            schemas: Arc::default(),
        }
    }

    /// Whether anything is recorded that a served call may change. Nearly always nothing is.
    #[inline]
    pub(super) fn has_records(&self) -> bool {
        !self.rejected_methods.is_empty() || self.schemas.is_learning()
    }

    /// The worker has rejected the method: later calls of it pass the worker over.
    pub(super) fn record_rejection(
        &self,
        method: MethodOfTypes<'_>,
        id: u64,
        node: &Arc<NodeInfo>,
    ) {
        self.with_registry(|registry| {
            let is_current = |node: &NodeInfo| registry.is_as_known(node);
            let rejected = &self.rejected_methods;
            rejected.record_rejection(method, (id, node), registry.now(), is_current);
        });
    }

    /// Forgets the records of nodes that are not as they were known any more.
    pub(super) fn retain_nodes(&self, mut is_current: impl FnMut(&NodeInfo) -> bool) {
        self.rejected_methods.retain_nodes(&mut is_current);
        self.with_registry(|registry| self.schemas.retain_nodes(registry.now(), is_current));
    }

    /// Whether the cluster still has the node as it was known.
    pub(super) fn is_as_known(&self, known: &NodeInfo) -> bool {
        self.with_registry(|registry| registry.is_as_known(known))
            .unwrap_or(false)
    }

    fn node(&self, process: TargetId<'_>) -> Option<Arc<NodeInfo>> {
        self.with_registry(|registry| registry.node(process.key))?
    }

    pub(super) fn with_registry<T>(&self, ask: impl FnOnce(&WorkerRegistry) -> T) -> Option<T> {
        self.registry.upgrade().map(|registry| ask(&registry))
    }
}

/// Gives the pool what the registry knows, and reports connections to the registry.
impl PoolListener<Arc<Endpoint>> for RegistryLink {
    fn process_state(&self, process: TargetId<'_>) -> ProcessState {
        let Some(node) = self.node(process) else {
            return ProcessState::Left;
        };
        match node.state {
            _ if node.id.epoch != process.generation => ProcessState::Failed,
            NodeState::Failed => ProcessState::Failed,
            NodeState::Left => ProcessState::Left,
            _ => ProcessState::Current,
        }
    }

    fn current_addr(&self, process: TargetId<'_>) -> Option<SocketAddr> {
        let node = self.node(process)?;
        (node.id.epoch == process.generation).then_some(node.addr)
    }

    fn on_reachable(&self, target: &PoolTarget<Arc<Endpoint>>) {
        self.with_registry(|registry| registry.on_reachable(target.context()));
    }

    fn on_unreachable(&self, target: &PoolTarget<Arc<Endpoint>>) {
        self.with_registry(|registry| registry.on_unreachable(target.context()));
    }

    fn on_disconnected(&self, target: &PoolTarget<Arc<Endpoint>>) {
        self.with_registry(|registry| registry.on_disconnected(target.context()));
    }

    fn on_draining(&self, target: &PoolTarget<Arc<Endpoint>>, draining: bool) {
        self.with_registry(|registry| registry.set_draining(target.context(), draining));
    }

    /// Forgets rejected methods: the process may be another one, though its epoch is the same.
    fn on_lost(&self, target: &PoolTarget<Arc<Endpoint>>, _: &CloseReason) {
        let lost = target.id();
        self.rejected_methods
            .retain_nodes(|node| process(&node.id) != lost);
    }
}

/// Identity of a node in the pool.
pub(super) fn process(id: &NodeId) -> TargetId<'_> {
    TargetId {
        key: &id.name,
        generation: id.epoch,
    }
}
