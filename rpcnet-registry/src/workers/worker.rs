//! A worker that was selected.

use std::{fmt, net::SocketAddr, sync::Arc};

use rpcnet_balance::{Endpoint, InFlight, Outcome, PickContext, ReportedLoad, Time};
use xxhash_rust::xxh3::xxh3_64;

use super::group::Tier;
use crate::{Node, NodeId, Tags};

/// The worker for a call: where it is, and the count of that call.
///
/// The call counts as in flight at the worker until this is dropped; so keep it for as long as the call runs.
pub struct Worker {
    /// What to call it before people: its tag `label`, or else the node's name.
    pub label: Arc<str>,
    /// Where it is reached.
    pub addr: SocketAddr,
    tier: Arc<Tier>,
    index: usize,
    call: InFlight,
}

impl Worker {
    pub(super) fn pick(tier: &Arc<Tier>, cx: &PickContext<'_>) -> Option<Self> {
        if tier.view.is_empty() {
            return None;
        }
        tier.balancer
            .pick(&tier.view, cx)
            .and_then(|index| Self::at(tier, index, cx.now()))
    }

    pub(super) fn all(tier: &Arc<Tier>) -> impl Iterator<Item = Self> {
        (0..tier.members.len()).filter_map(|index| Self::at(tier, index, Time::ZERO))
    }

    /// `None` past the end: the balancer may be anybody's.
    fn at(tier: &Arc<Tier>, index: usize, now: Time) -> Option<Self> {
        let member = tier.members.get(index)?;
        Some(Self {
            label: Arc::clone(&member.label),
            addr: member.node.addr,
            call: member.endpoint.begin_at(now),
            tier: Arc::clone(tier),
            index,
        })
    }

    /// The node, as it was known when it was selected.
    #[must_use]
    pub fn node(&self) -> &Arc<Node> {
        &self.tier.members[self.index].node
    }

    /// Which process it is.
    #[must_use]
    pub fn id(&self) -> &NodeId {
        &self.node().id
    }

    /// What it says about itself.
    #[must_use]
    pub fn tags(&self) -> &Tags {
        &self.node().tags
    }

    /// Its id to balancers and in [`PickContext::with_excluded`]: a hash of its name.
    #[must_use]
    pub fn endpoint_id(&self) -> u64 {
        self.call.endpoint().id()
    }

    /// Whether it takes long to answer, as it is known now. A balancer sees it in [`Endpoint::is_slow`].
    #[must_use]
    pub fn is_slow(&self) -> bool {
        self.call.endpoint().is_slow()
    }

    /// How many calls of this process are in flight at the worker, this one included.
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        self.call.endpoint().in_flight()
    }

    /// What it last said about its load; `None` if it never did.
    #[must_use]
    pub fn reported_load(&self) -> Option<ReportedLoad> {
        self.call.endpoint().reported_load()
    }

    /// Tells the balancer how the call went, and notes for later picks what the worker said about its load. Leave it out
    /// for a call that was given up without an outcome.
    pub fn report(&self, outcome: &Outcome) {
        if let Some(load) = outcome.reported_load {
            self.call
                .endpoint()
                .note_reported_load_at(load, outcome.now);
        }
        self.tier
            .balancer
            .on_outcome(&self.tier.view, self.index, outcome);
    }
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker")
            .field("node", self.node())
            .field("in_flight", &self.in_flight())
            .finish_non_exhaustive()
    }
}

/// A worker and how busy it is.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct WorkerStatus {
    /// What to call it before people: its tag `label`, or else the node's name.
    pub label: Arc<str>,
    /// The node, with its state.
    pub node: Arc<Node>,
    /// How many calls of this process are in flight there.
    pub in_flight: u32,
}

/// A node as the registry keeps it. The endpoint outlives changes of the node.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) node: Arc<Node>,
    pub(super) label: Arc<str>,
    pub(super) endpoint: Arc<Endpoint>,
}

impl Member {
    /// The member for `node` in place of the one of that name. Another process is another endpoint: the calls that its
    /// former self had will never end there.
    pub(super) fn successor(before: Option<&Arc<Self>>, node: &Arc<Node>) -> Self {
        let name = &node.id.name;
        let label = node.label();
        let label = if label == name.as_ref() {
            Arc::clone(name)
        } else {
            label.into()
        };
        let endpoint = match before {
            Some(before) if before.node.id == node.id => Arc::clone(&before.endpoint),
            _ => Arc::new(Endpoint::new(xxh3_64(name.as_bytes()))),
        };
        endpoint.note_slow(node.is_slow);
        Self {
            node: Arc::clone(node),
            label,
            endpoint,
        }
    }

    pub(super) fn status(&self) -> WorkerStatus {
        WorkerStatus {
            label: Arc::clone(&self.label),
            node: Arc::clone(&self.node),
            in_flight: self.endpoint.in_flight(),
        }
    }
}
