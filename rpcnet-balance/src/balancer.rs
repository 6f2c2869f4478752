//! The trait, what a pick is told, and what comes back.

use std::{fmt::Debug, sync::Arc, time::Duration};

use crate::{Endpoint, ExclusionFlags, ReportedLoad, Time, View};

/// Chooses one endpoint of a view.
///
/// One value serves many threads at once. [`pick`](Self::pick) runs once for every attempt of a call and must not block,
/// lock or allocate; state belongs into atomics, tables into a value made by [`rebuild`](Self::rebuild).
pub trait Balancer: Debug + Send + Sync {
    /// The index in `view` of the endpoint that shall take the next attempt.
    ///
    /// `None` exactly when there is nothing to choose from: the view is empty or [`PickContext::allows`] none of it. An
    /// endpoint that is excluded or marked is never picked, not even as the last one: whether to try again where it failed
    /// before is the caller's decision, who can ask again without the exclusion, or heeding fewer marks.
    ///
    /// The view may be another than at the last pick, also without a `rebuild` in between: callers that still hold an
    /// older view finish with it.
    fn pick(&self, view: &View, cx: &PickContext<'_>) -> Option<usize>;

    /// An attempt that went to endpoint `index` of `view` has ended. The default does nothing.
    ///
    /// Need not be called for attempts whose caller lost interest. Runs beside picks; as cheap as they are.
    fn on_outcome(&self, view: &View, index: usize, outcome: &Outcome) {
        let _ = (view, index, outcome);
    }

    /// A balancer made for `view`, or `None` (the default) to go on with this one.
    ///
    /// Called before the first pick from a group of endpoints and before the first pick after a change of it, once for
    /// however many changes; not on the path of other calls. This is the place to allocate and compute. It is asked of the
    /// balancer that served the group so far, so state can be carried over; meanwhile that one may go on to serve picks from
    /// the view before. With `None` one balancer serves any number of groups.
    fn rebuild(&self, view: &View) -> Option<Arc<dyn Balancer>> {
        let _ = view;
        None
    }
}

impl<B: Balancer + ?Sized> Balancer for Arc<B> {
    fn pick(&self, view: &View, cx: &PickContext<'_>) -> Option<usize> {
        (**self).pick(view, cx)
    }

    fn on_outcome(&self, view: &View, index: usize, outcome: &Outcome) {
        (**self).on_outcome(view, index, outcome);
    }

    fn rebuild(&self, view: &View) -> Option<Arc<dyn Balancer>> {
        (**self).rebuild(view)
    }
}

/// The balancer for `view` in place of `before`.
pub(crate) fn rebuild_or_keep(before: &Arc<dyn Balancer>, view: &View) -> Arc<dyn Balancer> {
    before.rebuild(view).unwrap_or_else(|| Arc::clone(before))
}

/// What a balancer may know about the call it picks for.
#[derive(Debug, Clone, Copy)]
pub struct PickContext<'a> {
    excluded: &'a [u64],
    incompatible: &'a [u64],
    key: Option<u64>,
    now: Time,
    respected_flags: ExclusionFlags,
}

impl Default for PickContext<'_> {
    fn default() -> Self {
        Self::new()
    }
}

impl<'a> PickContext<'a> {
    /// Nothing excluded, no key, all marks heeded, at [`Time::ZERO`].
    #[must_use]
    pub const fn new() -> Self {
        Self {
            excluded: &[],
            incompatible: &[],
            key: None,
            now: Time::ZERO,
            respected_flags: ExclusionFlags::ALL,
        }
    }

    /// When the pick takes place. Balancers that go by the age of what they know need it; default [`Time::ZERO`], at which
    /// all of it is fresh.
    #[must_use]
    pub const fn with_now(mut self, now: Time) -> Self {
        self.now = now;
        self
    }

    /// The marks for which an endpoint must not be picked. Default all: who would rather have a doubtful endpoint than none
    /// asks again with fewer.
    #[must_use]
    pub const fn with_respected_flags(mut self, marks: ExclusionFlags) -> Self {
        self.respected_flags = marks;
        self
    }

    /// The ids of the endpoints that must not be picked, because this call was tried there already. Default none.
    ///
    /// Meant for the few attempts of one call: every look-up walks the list.
    #[must_use]
    pub const fn with_excluded(mut self, ids: &'a [u64]) -> Self {
        self.excluded = ids;
        self
    }

    /// The ids, in ascending order, of the endpoints that must not be picked because they do not take calls of this kind: they
    /// do not know the method, say. Default none.
    ///
    /// Meant for many: a look-up is a binary search.
    #[must_use]
    pub const fn with_incompatible(mut self, ids: &'a [u64]) -> Self {
        self.incompatible = ids;
        self
    }

    /// The same call with other exclusions, that live for a shorter time.
    pub(crate) const fn excluding<'b>(&self, ids: &'b [u64]) -> PickContext<'b>
    where
        'a: 'b,
    {
        PickContext {
            excluded: ids,
            incompatible: self.incompatible,
            key: self.key,
            now: self.now,
            respected_flags: self.respected_flags,
        }
    }

    /// A hash of what the call is about, for balancers that send equal keys to the same endpoint. Default none.
    #[must_use]
    pub const fn with_key(mut self, key: u64) -> Self {
        self.key = Some(key);
        self
    }

    /// The ids of the endpoints that must not be picked.
    #[must_use]
    pub const fn excluded(&self) -> &'a [u64] {
        self.excluded
    }

    /// The ids of the endpoints that do not take calls of this kind, in ascending order.
    #[must_use]
    pub const fn incompatible(&self) -> &'a [u64] {
        self.incompatible
    }

    /// The hash of what the call is about.
    #[must_use]
    pub const fn key(&self) -> Option<u64> {
        self.key
    }

    /// When the pick takes place.
    #[must_use]
    pub const fn now(&self) -> Time {
        self.now
    }

    /// The marks for which an endpoint must not be picked.
    #[must_use]
    pub const fn respected_flags(&self) -> ExclusionFlags {
        self.respected_flags
    }

    /// Whether `endpoint` may be picked.
    #[must_use]
    pub fn allows(&self, endpoint: &Endpoint) -> bool {
        endpoint.flags().and(self.respected_flags).is_empty()
            && !self.excluded.contains(&endpoint.id())
            && (self.incompatible.is_empty()
                || self.incompatible.binary_search(&endpoint.id()).is_err())
    }
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Outcome {
    /// What the endpoint made of it.
    pub kind: OutcomeKind,
    /// From the start of the attempt to its end. Balancers take more than 60 s for 60 s.
    pub latency: Duration,
    /// The latency of a typical call that is as slow for its kind as this attempt: what the
    /// balancers of this crate compare endpoints by. Default [`latency`](Self::latency); where
    /// calls of different kinds take very different times, a
    /// [`LatencyNormalizer`](crate::LatencyNormalizer) computes it. `None`: how long it took says
    /// nothing about the endpoint.
    pub normalized_latency: Option<Duration>,
    /// What the endpoint said about its load at the end of the attempt; `None`, the default, if it said nothing. By now
    /// [`Endpoint::reported_load`] says the same or something newer.
    pub reported_load: Option<ReportedLoad>,
    /// When it ended. Default [`Time::ZERO`].
    pub now: Time,
    /// For how long the endpoint asks to be left alone, by whatever call; heeded up to 30 s. Default `None`.
    pub retry_after: Option<Duration>,
}

impl Outcome {
    /// An attempt that ended like this after `latency`.
    #[must_use]
    pub const fn new(kind: OutcomeKind, latency: Duration) -> Self {
        Self {
            kind,
            latency,
            normalized_latency: Some(latency),
            reported_load: None,
            now: Time::ZERO,
            retry_after: None,
        }
    }

    /// The latency in terms of a typical call; see
    /// [`normalized_latency`](Self::normalized_latency).
    #[must_use]
    pub const fn with_normalized_latency(mut self, latency: Option<Duration>) -> Self {
        self.normalized_latency = latency;
        self
    }

    /// When it ended, for balancers that go by the age of what they know.
    #[must_use]
    pub const fn with_now(mut self, now: Time) -> Self {
        self.now = now;
        self
    }

    /// For how long the endpoint asks to be left alone, as some do with a refusal.
    #[must_use]
    pub const fn with_retry_after(mut self, retry_after: Option<Duration>) -> Self {
        self.retry_after = retry_after;
        self
    }

    /// What the endpoint said about its load with its answer, a refusal included. Default nothing.
    #[must_use]
    pub const fn with_reported_load(mut self, load: Option<ReportedLoad>) -> Self {
        self.reported_load = load;
        self
    }
}

/// What the endpoint made of an attempt, as far as balancing is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OutcomeKind {
    /// It answered. An error of the application counts: the endpoint did its work.
    Success,
    /// No answer in time, or the endpoint broke down over it.
    Failure,
    /// No connection could be made, or it broke before the answer.
    Unreachable,
    /// It refused for want of capacity.
    Overloaded,
    /// It refused the request before running it: it has no such method, cannot decode the request, or does not let the caller
    /// in. It can be reached; how long that took says nothing about the calls that it serves.
    Refused,
    /// It has begun to answer, and how long that took says nothing about other calls: the first message of a stream.
    StreamStarted,
    /// The caller gave it up without an answer, as the slower one of two attempts: the endpoint takes at least so long, and
    /// nothing else is known.
    Cancelled,
}
