//! Selected workers, and the calls that they count.

use std::{any::Any, fmt, ops::Deref, sync::Arc, thread, time::Duration};

use rpcnet_balance::{
    Endpoint, ExclusionFlags, InFlight, LatencyScale, Outcome, OutcomeKind, PickContext,
    ReportedLoad, Time,
};
use xxhash_rust::xxh3::xxh3_64;

use super::{
    health_probe::ProbeGuard,
    shared_tier::{SharedTier, TierHandle},
    worker_entry::{WorkerAddress, WorkerEntry},
};
use crate::{NodeId, NodeInfo, Tags};

/// Worker that was selected for a call: its address, and the count of that call.
///
/// The call counts as in flight at the worker until this value is dropped; keep it for as long as
/// the call runs. Its label and its address are those of its [`WorkerAddress`].
pub struct Worker {
    call: InFlight<TierMember>,
    kind: CallKind,
    probe: Option<Box<ProbeGuard>>,
}

/// One worker of a tier, which it keeps: all that a selected worker shares is counted once.
#[derive(Clone)]
struct TierMember {
    tier: TierHandle,
    /// Always within the tier.
    index: usize,
}

impl TierMember {
    /// `None` past the end: a custom balancer may return any index.
    #[inline]
    fn new(tier: &SharedTier, index: usize) -> Option<Self> {
        (index < tier.entries.len()).then(|| Self {
            tier: tier.handle(),
            index,
        })
    }

    #[inline]
    fn entry(&self) -> &Arc<WorkerEntry> {
        &self.tier.entries[self.index]
    }

    #[inline]
    fn endpoint(&self) -> &Arc<Endpoint> {
        &self.tier.view[self.index]
    }

    /// Records the replies that were only counted so far.
    #[inline]
    fn report_covered(&self) {
        if self.entry().last_reply.has_covered() {
            self.report_batch();
        }
    }

    #[inline(never)]
    fn report_batch(&self) {
        let Some((kind, batch)) = self.entry().last_reply.take_covered() else {
            return;
        };
        let (tier, health) = (&self.tier, &self.tier.health);
        let batch = health.normalizer.record_successes(kind, batch);
        health.on_successes(self.endpoint(), &batch);
        tier.balancer().on_successes(&tier.view, self.index, &batch);
    }
}

impl Drop for TierMember {
    /// The call was counted as ended before, so that of the calls to a worker the last one to end
    /// finds what all have left.
    #[inline]
    fn drop(&mut self) {
        let is_last = self.is_idle() && self.entry().last_reply.has_covered();
        // A balancer that panics too would abort the process.
        if is_last && !thread::panicking() {
            self.report_batch();
        }
    }
}

impl Deref for TierMember {
    type Target = Endpoint;

    #[inline]
    fn deref(&self) -> &Endpoint {
        self.endpoint()
    }
}

/// Kind of a call: what its latency is compared with.
#[derive(Debug, Clone, Copy)]
enum CallKind {
    /// A call of unknown method: its latency counts as measured.
    Unnamed,
    /// A call of the method whose name has this hash: its latency is compared with the usual one.
    Method(u64),
    /// A stream: its latency does not count.
    Stream,
}

/// Worker that may be called, without a call to count. [`begin`](Self::begin) makes it the
/// [`Worker`] of a call. Cheap to clone.
#[derive(Clone)]
pub struct Candidate(TierMember);

impl Candidate {
    pub(super) fn all(tier: &Arc<SharedTier>) -> impl Iterator<Item = Self> {
        let is_there = |index: &usize| !tier.view[*index].flags().contains(ExclusionFlags::GONE);
        let all = (0..tier.entries.len()).filter(is_there);
        all.filter_map(|index| TierMember::new(tier, index).map(Self))
    }

    /// The node, as it was known when the list was made.
    #[must_use]
    pub fn node(&self) -> &Arc<NodeInfo> {
        &self.0.entry().node
    }

    /// The identity of the worker.
    #[must_use]
    pub fn id(&self) -> &NodeId {
        &self.node().id
    }

    /// The id for balancers: see [`Worker::endpoint_id`].
    #[must_use]
    pub fn endpoint_id(&self) -> u64 {
        self.endpoint().id()
    }

    pub(crate) fn endpoint(&self) -> &Arc<Endpoint> {
        self.0.endpoint()
    }

    /// Begins a call: the worker, and the count of that call.
    #[must_use]
    pub fn begin(&self) -> Worker {
        self.begin_at(Some(self.0.tier.health.now()))
    }

    pub(super) fn begin_at(&self, now: Option<Time>) -> Worker {
        Worker::new(self.0.clone(), now)
    }
}

impl fmt::Debug for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Candidate").field(self.node()).finish()
    }
}

impl Worker {
    pub(super) fn pick(tier: &SharedTier, cx: &PickContext<'_>) -> Option<Self> {
        if tier.view.is_empty() {
            return None;
        }
        tier.balancer()
            .pick(&tier.view, cx)
            .and_then(|index| Self::from_index(tier, index, cx.now()))
    }

    /// The worker that the next call probes, if the time of one has come.
    pub(super) fn probe(tier: &SharedTier, cx: &PickContext<'_>) -> Option<Self> {
        let guard = ProbeGuard::claim(tier.tier(), cx)?;
        let mut worker = Self::from_index(tier, guard.index, cx.now())?;
        worker.probe = Some(Box::new(guard));
        Some(worker)
    }

    pub(super) fn by_name(tier: &SharedTier, name: &str, now: Time) -> Option<Self> {
        let mut entries = tier.entries.iter();
        let index = entries.position(|entry| &*entry.node.id.name == name)?;
        let is_gone = tier.view[index].flags().contains(ExclusionFlags::GONE);
        if is_gone {
            return None;
        }
        Self::from_index(tier, index, Some(now))
    }

    /// `None` past the end.
    #[inline]
    fn from_index(tier: &SharedTier, index: usize, now: Option<Time>) -> Option<Self> {
        TierMember::new(tier, index).map(|member| Self::new(member, now))
    }

    #[inline]
    fn new(member: TierMember, now: Option<Time>) -> Self {
        Self {
            call: InFlight::begin(member, now),
            kind: CallKind::Unnamed,
            probe: None,
        }
    }

    #[inline]
    fn member(&self) -> &TierMember {
        self.call.endpoint()
    }

    #[inline]
    pub(super) fn is_of(&self, tier: &SharedTier) -> bool {
        self.member().tier.is_of(tier)
    }

    /// Its index in the tier.
    #[inline]
    pub(super) fn index(&self) -> usize {
        self.member().index
    }

    /// The node, as it was known when it was selected.
    #[must_use]
    pub fn node(&self) -> &Arc<NodeInfo> {
        &self.member().entry().node
    }

    /// The identity of the worker.
    #[must_use]
    pub fn id(&self) -> &NodeId {
        &self.node().id
    }

    /// The tags of the worker.
    #[must_use]
    pub fn tags(&self) -> &Tags {
        &self.node().tags
    }

    /// The id for balancers and in [`PickContext::with_excluded`]: a hash of the name.
    #[must_use]
    pub fn endpoint_id(&self) -> u64 {
        self.call.endpoint().id()
    }

    /// Whether it takes long to reply, as known now. A balancer sees it in [`Endpoint::is_slow`].
    #[must_use]
    pub fn is_slow(&self) -> bool {
        self.call.endpoint().is_slow()
    }

    /// The number of calls of this process in flight at the worker, including this one.
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        self.call.endpoint().in_flight()
    }

    /// The endpoint of the worker, which balancers see. It stays the same for as long as the
    /// process of the worker is known, whatever else changes.
    #[must_use]
    pub fn endpoint(&self) -> &Arc<Endpoint> {
        self.member().endpoint()
    }

    /// Whether this call is a probe: the worker is flagged, and the [outcome](Self::report) of this
    /// call decides whether it has recovered. Dropped without an outcome, the next call is the
    /// probe.
    #[must_use]
    pub const fn is_probe(&self) -> bool {
        self.probe.is_some()
    }

    /// A value that the caller keeps with the worker, such as a connection to it, for as long as
    /// the process of the worker is known: created when it is first requested. `None` if a value of
    /// another type is kept there already.
    pub fn extension<T: Any + Send + Sync>(&self, make: impl FnOnce() -> T) -> Option<&T> {
        let entry = self.member().entry();
        let kept = entry.extension.get_or_init(|| Box::new(make()));
        // The content of the box, not the box.
        (**kept).downcast_ref()
    }

    /// Sets the method of the call, which begins at `now`. The latency of the call is compared with
    /// the usual latency of the method over all workers of the registry
    /// ([`rpcnet_balance::LatencyNormalizer`]), so that a worker does not look slow because it
    /// serves a method that takes long. Default: the latency counts as measured. To be called
    /// before the call is made.
    pub fn set_method(&mut self, method: &str, now: Time) {
        let kind = xxh3_64(method.as_bytes());
        self.kind = CallKind::Method(kind);
        let scale = self.member().tier.health.normalizer.scale(kind);
        self.call.set_scale(now, scale);
    }

    /// Sets that the call, which begins at `now`, is a stream: its duration says nothing about the
    /// worker. To be called before the call is made.
    pub fn set_stream(&mut self, now: Time) {
        self.kind = CallKind::Stream;
        self.call.set_scale(now, LatencyScale::UNKNOWN);
    }

    /// Records that the call has succeeded, with a reply that was read at `now` after `latency`,
    /// and the load that the worker reported with it: what [`report`](Self::report) does, at the
    /// cost of one addition where that would change nothing else. Replies that are read together
    /// have the same time, and usually the same load. Among those of one method the balancer is
    /// told at once of the first, and of each that took longer than those before; of the others
    /// [together](rpcnet_balance::Balancer::on_successes), before anything else is recorded of the
    /// worker, and at the latest when no call to it is in flight. While failures are
    /// [recorded](Endpoint::has_backoff_record), it is told of each at once, and of the first one
    /// after any other outcome. Where filters have balancers of their own
    /// ([`rebuild`](rpcnet_balance::Balancer::rebuild)), the one of the call that is recorded next
    /// is told of those together.
    #[inline]
    pub fn report_reply(&self, now: Time, latency: Duration, load: Option<ReportedLoad>) {
        let member = self.member();
        let (CallKind::Method(kind), None) = (self.kind, &self.probe) else {
            return self.report_success(now, latency, load);
        };
        let is_known = load.is_none_or(|load| member.has_reported(load));
        let changes_little = is_known && !member.has_backoff_record();
        let last_reply = &member.entry().last_reply;
        if !(changes_little && last_reply.cover(now, kind, latency)) {
            member.report_covered();
            last_reply.set(now, kind, latency);
            self.report_success(now, latency, load);
        }
    }

    fn report_success(&self, now: Time, latency: Duration, load: Option<ReportedLoad>) {
        let outcome = Outcome::new(OutcomeKind::Success, latency).with_now(now);
        self.report(&outcome.with_reported_load(load));
    }

    /// Records the outcome of the call for the balancer and for [passive health
    /// checks](super::WorkerRegistry::with_health), and the load that the worker reported for later
    /// picks. Do not call it for a call that was given up without an outcome.
    ///
    /// An outcome without a time is one of now.
    pub fn report(&self, outcome: &Outcome) {
        let member = self.member();
        member.report_covered();
        if outcome.kind != OutcomeKind::Success {
            member.entry().last_reply.cover_no_more();
        }
        let (endpoint, health) = (member.endpoint(), &member.tier.health);
        let now = outcome.now.unwrap_or_else(|| health.now());
        let outcome = outcome.with_now(now);
        let outcome = match self.kind {
            CallKind::Unnamed => outcome,
            CallKind::Method(kind) => health.normalizer.record(kind, outcome),
            CallKind::Stream => LatencyScale::UNKNOWN.apply(outcome),
        };
        if let Some(load) = outcome.reported_load {
            endpoint.set_reported_load_at(load, now);
        }
        let probe = self.probe.as_ref().map(|guard| &guard.probe);
        health.on_outcome(now, endpoint, &outcome, probe);
        let tier = &member.tier;
        let balancer = tier.balancer();
        balancer.on_outcome(&tier.view, member.index, &outcome);
    }
}

impl Deref for Worker {
    type Target = WorkerAddress;

    fn deref(&self) -> &WorkerAddress {
        &self.member().entry().address
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
