//! Sticky sessions: calls with a key stay at one endpoint.

use std::sync::Arc;

use crate::{
    Balancer, Outcome, PickContext, SuccessBatch, View,
    balancer::rebuild_or_keep,
    rendezvous_table::{self, RendezvousTable},
};

/// Sticky sessions: calls with a key go to the endpoint that the key prefers, as long as it may be
/// picked and is not in backoff; all others go by another balancer.
///
/// For sessions, and caches where a miss costs little. Keys prefer the endpoints of
/// [`Rendezvous`](crate::Rendezvous), but without a bound: a hot key stays where it is.
///
/// Whether an endpoint is in backoff is known if the inner balancer records it, as
/// [`PeakEwma`](crate::PeakEwma) and [`PowerOfTwo`](crate::PowerOfTwo) do.
///
/// Adds a table look-up to a pick. Needs [`PickContext::with_key`] and `rebuild`; without `rebuild`
/// a pick with a key looks at all endpoints.
#[derive(Debug)]
pub struct Sticky {
    inner: Arc<dyn Balancer>,
    /// `None` until it is rebuilt for a view.
    table: Option<RendezvousTable>,
}

impl Sticky {
    /// A balancer that leaves calls without a key, and those whose endpoint may not be picked, to
    /// `inner`.
    #[must_use]
    pub const fn new(inner: Arc<dyn Balancer>) -> Self {
        Self { inner, table: None }
    }
}

impl Balancer for Sticky {
    fn pick(&self, view: &View, cx: &PickContext<'_>) -> Option<usize> {
        let preferred = cx.key().and_then(|key| match &self.table {
            Some(table) if table.is_for(view) => table.preferred(key).next(),
            _ => rendezvous_table::scan_preferred(view, key, |_| true),
        });
        let usable = |&index: &usize| cx.allows(&view[index]) && !view[index].in_backoff(cx.now());
        preferred
            .filter(usable)
            .or_else(|| self.inner.pick(view, cx))
    }

    fn on_outcome(&self, view: &View, index: usize, outcome: &Outcome) {
        self.inner.on_outcome(view, index, outcome);
    }

    fn on_successes(&self, view: &View, index: usize, batch: &SuccessBatch) {
        self.inner.on_successes(view, index, batch);
    }

    fn rebuild(&self, view: &View) -> Option<Arc<dyn Balancer>> {
        Some(Arc::new(Self {
            inner: rebuild_or_keep(&self.inner, view),
            table: Some(RendezvousTable::new(view)),
        }))
    }
}
