//! Calls with a key stay where they are.

use std::sync::Arc;

use crate::{
    Balancer, Outcome, PickContext, View,
    balancer::rebuild_or_keep,
    rendezvous_table::{self, RendezvousTable},
};

/// Sends calls with a key to the endpoint that the key prefers, as long as it may be picked and has not failed a moment ago;
/// all others go by another balancer.
///
/// For sessions, and caches where a miss costs little. Homes are those of [`Rendezvous`](crate::Rendezvous), but without a
/// bound: a key that everybody wants stays where it is.
///
/// That one has failed a moment ago is known if the inner balancer notes it, as [`PeakEwma`](crate::PeakEwma) and
/// [`PowerOfTwo`](crate::PowerOfTwo) do.
///
/// Adds a look into a table to a pick. Needs [`PickContext::with_key`] and `rebuild`; without `rebuild` a pick with a key looks
/// at all endpoints.
#[derive(Debug)]
pub struct Sticky {
    inner: Arc<dyn Balancer>,
    /// `None` until it is rebuilt for a view.
    table: Option<RendezvousTable>,
}

impl Sticky {
    /// Leaves calls without a key, and those whose home may not be picked, to `inner`.
    #[must_use]
    pub const fn new(inner: Arc<dyn Balancer>) -> Self {
        Self { inner, table: None }
    }
}

impl Balancer for Sticky {
    fn pick(&self, view: &View, cx: &PickContext<'_>) -> Option<usize> {
        let home = cx.key().and_then(|key| match &self.table {
            Some(homes) if homes.is_for(view) => homes.preferred(key).next(),
            _ => rendezvous_table::scan_preferred(view, key, |_| true),
        });
        let usable = |&index: &usize| cx.allows(&view[index]) && !view[index].in_backoff(cx.now());
        home.filter(usable).or_else(|| self.inner.pick(view, cx))
    }

    fn on_outcome(&self, view: &View, index: usize, outcome: &Outcome) {
        self.inner.on_outcome(view, index, outcome);
    }

    fn rebuild(&self, view: &View) -> Option<Arc<dyn Balancer>> {
        Some(Arc::new(Self {
            inner: rebuild_or_keep(&self.inner, view),
            table: Some(RendezvousTable::new(view)),
        }))
    }
}
