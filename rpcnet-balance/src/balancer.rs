//! The trait `Balancer` and the context of a pick.

use std::{fmt::Debug, sync::Arc};

use crate::{Endpoint, ExclusionFlags, Outcome, SuccessBatch, Time, View};

/// Picks one endpoint of a view for each attempt of a call.
///
/// One value serves many threads at once. [`pick`](Self::pick) runs once for every attempt of a
/// call and must not block, lock or allocate; state belongs into atomics, tables into a value made
/// by [`rebuild`](Self::rebuild).
pub trait Balancer: Debug + Send + Sync {
    /// Picks the endpoint for the next attempt: its index in `view`.
    ///
    /// `None` exactly when there is nothing to choose from: the view is empty or
    /// [`PickContext::allows`] none of it. An endpoint that is excluded, or has a respected
    /// exclusion flag, is never picked, not even as the last one: whether to try again where the
    /// call failed before is the caller's decision, who can ask again without the exclusion or with
    /// fewer respected flags.
    ///
    /// The view may differ from that of the last pick, also without a
    /// [`rebuild`](Self::rebuild) in between: callers that still hold an older view finish with it.
    fn pick(&self, view: &View, cx: &PickContext<'_>) -> Option<usize>;

    /// Records how an attempt at endpoint `index` of `view` ended. The default does nothing.
    ///
    /// Need not be called for attempts that the caller gave up without an outcome. Runs
    /// concurrently with picks, and is as cheap as they are.
    fn on_outcome(&self, view: &View, index: usize, outcome: &Outcome) {
        let _ = (view, index, outcome);
    }

    /// Records several successes of attempts at endpoint `index` of `view`.
    ///
    /// The default calls [`on_outcome`](Self::on_outcome) for each of the
    /// [outcomes](SuccessBatch::outcomes) that amount to the batch. Worth overriding where the
    /// whole batch can be recorded at once, as the balancers of this crate do, and needed in one
    /// that wraps another.
    fn on_successes(&self, view: &View, index: usize, batch: &SuccessBatch) {
        for outcome in batch.outcomes() {
            self.on_outcome(view, index, &outcome);
        }
    }

    /// Builds a balancer for `view`; `None` (the default) keeps this one.
    ///
    /// Called before the first pick from a group of endpoints and before the first pick after a
    /// change of the group, once for any number of changes; not on the path of other calls. This is
    /// the place to allocate and compute. It is called on the balancer that served the group so
    /// far, so state can be carried over; meanwhile that one may continue to serve picks from the
    /// view before. With `None` one balancer serves any number of groups.
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

    fn on_successes(&self, view: &View, index: usize, batch: &SuccessBatch) {
        (**self).on_successes(view, index, batch);
    }

    fn rebuild(&self, view: &View) -> Option<Arc<dyn Balancer>> {
        (**self).rebuild(view)
    }
}

/// The balancer for `view` in place of `before`: rebuilt, or the same one.
pub(crate) fn rebuild_or_keep(before: &Arc<dyn Balancer>, view: &View) -> Arc<dyn Balancer> {
    before.rebuild(view).unwrap_or_else(|| Arc::clone(before))
}

/// Context of a pick: time, key of the call, exclusions.
#[derive(Debug, Clone, Copy)]
pub struct PickContext<'a> {
    excluded: &'a [u64],
    incompatible: &'a [u64],
    key: Option<u64>,
    now: Option<Time>,
    respected_flags: ExclusionFlags,
}

impl Default for PickContext<'_> {
    fn default() -> Self {
        Self::new()
    }
}

impl<'a> PickContext<'a> {
    /// A context without exclusions and key, with all flags respected, without a time.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            excluded: &[],
            incompatible: &[],
            key: None,
            now: None,
            respected_flags: ExclusionFlags::ALL,
        }
    }

    /// Sets the time of the pick. Balancers that compare the age of what they know need it; default
    /// none: then everything counts as new, and no endpoint as in backoff.
    #[must_use]
    pub const fn with_now(mut self, now: Time) -> Self {
        self.now = Some(now);
        self
    }

    /// Sets the exclusion flags that keep an endpoint from being picked. Default all: a caller that
    /// prefers a degraded endpoint to none asks again with fewer.
    #[must_use]
    pub const fn with_respected_flags(mut self, flags: ExclusionFlags) -> Self {
        self.respected_flags = flags;
        self
    }

    /// Sets the ids of the endpoints that must not be picked because this call was tried there
    /// already. Default none.
    ///
    /// Meant for the few attempts of one call: every look-up walks the list.
    #[must_use]
    pub const fn with_excluded(mut self, ids: &'a [u64]) -> Self {
        self.excluded = ids;
        self
    }

    /// Sets the ids, in ascending order, of the endpoints that must not be picked because they do
    /// not serve calls of this kind: they do not know the method, for example. Default none.
    ///
    /// Meant for many ids: a look-up is a binary search.
    #[must_use]
    pub const fn with_incompatible(mut self, ids: &'a [u64]) -> Self {
        self.incompatible = ids;
        self
    }

    /// The same context with other exclusions, whose lifetime is shorter.
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

    /// Sets a hash of the key of the call, for balancers that send equal keys to the same endpoint.
    /// Default none.
    #[must_use]
    pub const fn with_key(mut self, key: u64) -> Self {
        self.key = Some(key);
        self
    }

    /// The ids of the endpoints that must not be picked because the call was tried there.
    #[must_use]
    pub const fn excluded(&self) -> &'a [u64] {
        self.excluded
    }

    /// The ids of the endpoints that do not serve calls of this kind, in ascending order.
    #[must_use]
    pub const fn incompatible(&self) -> &'a [u64] {
        self.incompatible
    }

    /// The hash of the key of the call.
    #[must_use]
    pub const fn key(&self) -> Option<u64> {
        self.key
    }

    /// The time of the pick; `None` if it is not known.
    #[must_use]
    pub const fn now(&self) -> Option<Time> {
        self.now
    }

    /// The exclusion flags that keep an endpoint from being picked.
    #[must_use]
    pub const fn respected_flags(&self) -> ExclusionFlags {
        self.respected_flags
    }

    /// Whether the endpoint with this id may be picked, whatever its flags.
    #[must_use]
    #[inline(never)]
    pub fn allows_id(&self, id: u64) -> bool {
        !self.excluded.contains(&id)
            && (self.incompatible.is_empty() || self.incompatible.binary_search(&id).is_err())
    }

    /// Whether `endpoint` may be picked.
    #[must_use]
    #[inline]
    pub fn allows(&self, endpoint: &Endpoint) -> bool {
        endpoint.flags().and(self.respected_flags).is_empty()
            && (!self.has_exclusions() || self.allows_id(endpoint.id()))
    }

    /// Whether some endpoints may not be picked because of their ids, which are on cache lines of
    /// their own.
    #[inline]
    pub(crate) const fn has_exclusions(&self) -> bool {
        !self.excluded.is_empty() | !self.incompatible.is_empty()
    }
}
