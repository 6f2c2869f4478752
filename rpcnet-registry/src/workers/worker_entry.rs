//! Entries of workers: node, endpoint and status.

use std::{
    any::Any,
    net::SocketAddr,
    sync::{Arc, OnceLock},
    time::Duration,
};

use rpcnet_balance::{Endpoint, ExclusionFlags, ReportedLoad, Time};
use xxhash_rust::xxh3::xxh3_64;

use super::{last_reply::LastReply, weight};
use crate::{NodeInfo, NodeState, snapshot::NodeEntry};

/// Status of a worker.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct WorkerStatus {
    /// The name to display: its tag `label`, or else the node's name.
    pub label: Arc<str>,
    /// The node, with its state.
    pub node: Arc<NodeInfo>,
    /// The number of calls of this process in flight there.
    pub in_flight: u32,
    /// Reasons why the worker is avoided, by the outcomes of calls of this process; usually empty.
    pub flags: ExclusionFlags,
    /// Capacity relative to others, from the tag `weight`; 0 if the worker is to take no calls.
    pub weight: f32,
    /// The load that it last reported.
    pub reported_load: Option<ReportedLoad>,
    /// The latency of a typical call, as recorded by a balancer that compares latencies; see
    /// [`Endpoint::latency`].
    pub latency: Option<Duration>,
}

/// Label and address of a worker, as they were known when it was selected.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct WorkerAddress {
    /// The name to display: its tag `label`, or else the node's name.
    pub label: Arc<str>,
    /// The address.
    pub addr: SocketAddr,
}

/// Entry of a worker in the registry. The endpoint outlives changes of the node.
#[derive(Debug)]
pub(super) struct WorkerEntry {
    pub(super) node: Arc<NodeInfo>,
    pub(super) address: WorkerAddress,
    pub(super) endpoint: Arc<Endpoint>,
    pub(super) is_local: bool,
    /// Whether it serves methods, which is the default.
    pub(super) serves_methods: bool,
    /// Last reply that was recorded. It outlives changes of the node.
    pub(super) last_reply: Arc<LastReply>,
    pub(super) extension: Arc<OnceLock<Box<dyn Any + Send + Sync>>>,
}

impl NodeEntry for Arc<WorkerEntry> {
    /// An endpoint whose process is gone is flagged at once, so that older views do not pick it.
    fn successor(before: Option<&Self>, node: &Arc<NodeInfo>) -> Self {
        let entry = WorkerEntry::successor(before, node);
        if let Some(before) = before
            && !Arc::ptr_eq(&before.endpoint, &entry.endpoint)
        {
            before.endpoint.set_flags(ExclusionFlags::GONE);
        }
        match node.state {
            NodeState::Alive | NodeState::Suspect | NodeState::Unreachable => {
                entry.endpoint.clear_flags(ExclusionFlags::GONE)
            }
            NodeState::Draining | NodeState::Left | NodeState::Failed => {
                entry.endpoint.set_flags(ExclusionFlags::GONE)
            }
        };
        Self::new(entry)
    }

    fn node(&self) -> &Arc<NodeInfo> {
        &self.node
    }

    fn on_removed(&self) {
        self.endpoint.set_flags(ExclusionFlags::GONE);
    }
}

impl WorkerEntry {
    /// The entry for `node` in place of the previous one of that name. Another process is another
    /// endpoint: calls at its former process will never end there.
    fn successor(before: Option<&Arc<Self>>, node: &Arc<NodeInfo>) -> Self {
        let name = &node.id.name;
        let label = node.label();
        let label = if label == name.as_ref() {
            Arc::clone(name)
        } else {
            label.into()
        };
        let same = before.filter(|before| before.node.id == node.id);
        let endpoint = same.map_or_else(
            || Arc::new(Endpoint::new(xxh3_64(name.as_bytes()))),
            |before| Arc::clone(&before.endpoint),
        );
        let last_reply = same.map(|before| Arc::clone(&before.last_reply));
        let attachment = same.map(|before| Arc::clone(&before.extension));
        endpoint.set_slow(node.is_slow);
        endpoint.set_weight(weight::parse_weight(&node.tags).0);
        Self {
            node: Arc::clone(node),
            address: WorkerAddress {
                label,
                addr: node.addr,
            },
            endpoint,
            is_local: node.is_local,
            serves_methods: !node.serves_nothing(),
            last_reply: last_reply.unwrap_or_else(|| Arc::new(LastReply::none())),
            extension: attachment.unwrap_or_default(),
        }
    }

    /// Whether the two are the same to a balancer.
    pub(super) fn is_equivalent(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.endpoint, &other.endpoint)
            && (Arc::ptr_eq(&self.node, &other.node) || self.node.tags == other.node.tags)
    }

    pub(super) fn status(&self, now: Time) -> WorkerStatus {
        WorkerStatus {
            label: Arc::clone(&self.address.label),
            node: Arc::clone(&self.node),
            in_flight: self.endpoint.in_flight(),
            flags: self.endpoint.flags(),
            weight: weight::parse_weight(&self.node.tags).0,
            reported_load: self.endpoint.reported_load(),
            latency: self.endpoint.latency(now, LATENCY_DECAY),
        }
    }
}

/// The default of the balancers that record latencies.
const LATENCY_DECAY: Duration = Duration::from_secs(10);
