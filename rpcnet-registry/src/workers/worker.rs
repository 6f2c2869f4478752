//! A worker that was selected.

use std::{
    any::Any,
    fmt,
    net::SocketAddr,
    sync::{Arc, OnceLock},
    time::Duration,
};

use rpcnet_balance::{
    Endpoint, ExclusionFlags, InFlight, LatencyScale, Outcome, PickContext, ReportedLoad, Time,
    health::Probe,
};
use xxhash_rust::xxh3::xxh3_64;

use super::{group::HealthTier, weight};
use crate::{NodeId, NodeInfo, Tags};

/// The worker for a call: where it is, and the count of that call.
///
/// The call counts as in flight at the worker until this is dropped; so keep it for as long as the call runs.
pub struct Worker {
    /// What to call it before people: its tag `label`, or else the node's name.
    pub label: Arc<str>,
    /// Where it is reached.
    pub addr: SocketAddr,
    tier: Arc<HealthTier>,
    index: usize,
    call: InFlight,
    kind: CallKind,
    probe: Option<ProbeGuard>,
}

/// What the latency of a call is compared with.
#[derive(Debug, Clone, Copy)]
enum CallKind {
    /// Nothing: it counts as measured.
    Unnamed,
    /// The usual latency of a method, whose name has this hash.
    Method(u64),
    /// Nothing: it does not count.
    Stream,
}

/// A worker that may be called: where it is, without a call to count. [`begin`](Self::begin) makes it the
/// [`Worker`] of a call. Cheap to clone.
#[derive(Clone)]
pub struct Candidate {
    tier: Arc<HealthTier>,
    index: usize,
}

impl Candidate {
    pub(super) fn all(tier: &Arc<HealthTier>) -> impl Iterator<Item = Self> {
        let is_there = |index: &usize| !tier.view[*index].flags().contains(ExclusionFlags::GONE);
        let all = (0..tier.entries.len()).filter(is_there);
        all.map(|index| Self {
            tier: Arc::clone(tier),
            index,
        })
    }

    fn entry(&self) -> &Arc<WorkerEntry> {
        &self.tier.entries[self.index]
    }

    /// The node, as it was known when the list was made.
    #[must_use]
    pub fn node(&self) -> &Arc<NodeInfo> {
        &self.entry().node
    }

    /// Which process it is.
    #[must_use]
    pub fn id(&self) -> &NodeId {
        &self.node().id
    }

    /// Its id to balancers: see [`Worker::endpoint_id`].
    #[must_use]
    pub fn endpoint_id(&self) -> u64 {
        self.entry().endpoint.id()
    }

    /// The worker for a call that begins now, and the count of that call.
    #[must_use]
    pub fn begin(&self) -> Worker {
        self.begin_at(self.tier.health.now())
    }

    pub(super) fn begin_at(&self, now: Time) -> Worker {
        Worker::from_index(&self.tier, self.index, now).expect("a member of the tier")
    }
}

impl fmt::Debug for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Candidate").field(self.node()).finish()
    }
}

impl Worker {
    pub(super) fn pick(tier: &Arc<HealthTier>, cx: &PickContext<'_>) -> Option<Self> {
        if tier.view.is_empty() {
            return None;
        }
        tier.balancer()
            .pick(&tier.view, cx)
            .and_then(|index| Self::from_index(tier, index, cx.now()))
    }

    /// One that is passed over otherwise, if the time has come to see how it does.
    pub(super) fn probe(tier: &Arc<HealthTier>, cx: &PickContext<'_>) -> Option<Self> {
        let (index, probe) = tier.health.detector.probe(&tier.view, cx)?;
        let guard = ProbeGuard {
            probe,
            tier: Arc::clone(tier),
            index,
        };
        let mut worker = Self::from_index(tier, index, cx.now())?;
        worker.probe = Some(guard);
        Some(worker)
    }

    pub(super) fn by_name(tier: &Arc<HealthTier>, name: &str, now: Time) -> Option<Self> {
        let mut members = tier.entries.iter();
        let index = members.position(|member| &*member.node.id.name == name)?;
        let is_gone = tier.view[index].flags().contains(ExclusionFlags::GONE);
        if is_gone {
            return None;
        }
        Self::from_index(tier, index, now)
    }

    /// `None` past the end: the balancer may be one of the user.
    fn from_index(tier: &Arc<HealthTier>, index: usize, now: Time) -> Option<Self> {
        let member = tier.entries.get(index)?;
        Some(Self {
            label: Arc::clone(&member.label),
            addr: member.node.addr,
            call: member.endpoint.begin_at(now),
            tier: Arc::clone(tier),
            index,
            kind: CallKind::Unnamed,
            probe: None,
        })
    }

    /// The node, as it was known when it was selected.
    #[must_use]
    pub fn node(&self) -> &Arc<NodeInfo> {
        &self.tier.entries[self.index].node
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

    /// What a balancer knows of it. The same for as long as the process that it is is known, whatever changes about it.
    #[must_use]
    pub fn endpoint(&self) -> &Arc<Endpoint> {
        self.call.endpoint()
    }

    /// Whether it is passed over otherwise, and this call shall tell how it does. Its [outcome](Self::report) is waited
    /// for; dropped without one, the next call is the probe.
    #[must_use]
    pub const fn is_probe(&self) -> bool {
        self.probe.is_some()
    }

    /// A value that the caller keeps with the worker, such as a connection to it, for as long as
    /// the process that the worker is is known: made when it is first asked for. `None` if a value
    /// of another type is kept there already.
    pub fn extension<T: Any + Send + Sync>(&self, make: impl FnOnce() -> T) -> Option<&T> {
        let member = &self.tier.entries[self.index];
        let kept = member.extension.get_or_init(|| Box::new(make()));
        // Of what is in the box, not of the box.
        (**kept).downcast_ref()
    }

    /// Names the method of the call, which begins at `now`. The latency of the call is compared
    /// with the usual latency of the method over all workers of the registry
    /// ([`rpcnet_balance::LatencyNormalizer`]), so that a worker is not taken for slow because it
    /// serves a method that takes long. Default: the latency counts as measured. To be said before
    /// the call is made.
    pub fn set_method(&mut self, method: &str, now: Time) {
        let kind = xxh3_64(method.as_bytes());
        self.kind = CallKind::Method(kind);
        let scale = self.tier.health.normalizer.scale(kind);
        self.call.set_scale(now, scale);
    }

    /// The call, which begins `now`, is a stream: how long it takes says nothing about the worker.
    /// To be said before the call is made.
    pub fn set_stream(&mut self, now: Time) {
        self.kind = CallKind::Stream;
        self.call.set_scale(now, LatencyScale::UNKNOWN);
    }

    /// Tells the balancer and [passive health](super::WorkerRegistry::with_health) how the call went, and notes for later
    /// picks what the worker said about its load. Leave it out for a call that was given up without an outcome.
    ///
    /// An outcome that does not say when it was is one of now.
    pub fn report(&self, outcome: &Outcome) {
        let (endpoint, care) = (self.call.endpoint(), &self.tier.health);
        let outcome = if outcome.now == Time::ZERO {
            outcome.with_now(care.now())
        } else {
            *outcome
        };
        let outcome = match self.kind {
            CallKind::Unnamed => outcome,
            CallKind::Method(kind) => care.normalizer.record(kind, outcome),
            CallKind::Stream => LatencyScale::UNKNOWN.apply(outcome),
        };
        if let Some(load) = outcome.reported_load {
            endpoint.set_reported_load_at(load, outcome.now);
        }
        let probe = self.probe.as_ref().map(|guard| &guard.probe);
        care.on_outcome(endpoint, &outcome, probe);
        self.tier
            .balancer()
            .on_outcome(&self.tier.view, self.index, &outcome);
    }
}

/// A probe under way. Dropping it lets another one go, unless its outcome was told.
struct ProbeGuard {
    probe: Probe,
    tier: Arc<HealthTier>,
    index: usize,
}

impl Drop for ProbeGuard {
    fn drop(&mut self) {
        let (tier, care) = (&self.tier, &self.tier.health);
        care.detector
            .release_probe(&tier.view[self.index], &self.probe, care.now());
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
    pub node: Arc<NodeInfo>,
    /// How many calls of this process are in flight there.
    pub in_flight: u32,
    /// Why it is passed over, by what calls of this process found out; as a rule empty.
    pub flags: ExclusionFlags,
    /// How much it can take in relation to others, as its tag `weight` says; 0 if it is to take nothing.
    pub weight: f32,
    /// What it last said about its load.
    pub reported_load: Option<ReportedLoad>,
    /// How long it takes to answer a typical call, as a balancer that goes by it has noted; see
    /// [`Endpoint::latency`].
    pub latency: Option<Duration>,
}

/// A node as the registry keeps it. The endpoint outlives changes of the node.
#[derive(Debug)]
pub(super) struct WorkerEntry {
    pub(super) node: Arc<NodeInfo>,
    pub(super) label: Arc<str>,
    pub(super) endpoint: Arc<Endpoint>,
    pub(super) is_local: bool,
    /// Whether it says that it serves methods, as a node does that says nothing.
    pub(super) serves_methods: bool,
    extension: Arc<OnceLock<Box<dyn Any + Send + Sync>>>,
}

impl WorkerEntry {
    /// The member for `node` in place of the one of that name. Another process is another endpoint: the calls that its
    /// former self had will never end there.
    pub(super) fn successor(before: Option<&Arc<Self>>, node: &Arc<NodeInfo>) -> Self {
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
        let attachment = same.map(|before| Arc::clone(&before.extension));
        endpoint.set_slow(node.is_slow);
        endpoint.set_weight(weight::parse_weight(&node.tags).0);
        Self {
            node: Arc::clone(node),
            label,
            endpoint,
            is_local: node.is_local,
            serves_methods: !node.serves_nothing(),
            extension: attachment.unwrap_or_default(),
        }
    }

    /// Whether a balancer would see no difference.
    pub(super) fn is_equivalent(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.endpoint, &other.endpoint)
            && (Arc::ptr_eq(&self.node, &other.node) || self.node.tags == other.node.tags)
    }

    pub(super) fn status(&self, now: Time) -> WorkerStatus {
        WorkerStatus {
            label: Arc::clone(&self.label),
            node: Arc::clone(&self.node),
            in_flight: self.endpoint.in_flight(),
            flags: self.endpoint.flags(),
            weight: weight::parse_weight(&self.node.tags).0,
            reported_load: self.endpoint.reported_load(),
            latency: self.endpoint.latency(now, LATENCY_DECAY),
        }
    }
}

/// The default of the balancers that note latencies.
const LATENCY_DECAY: Duration = Duration::from_secs(10);
