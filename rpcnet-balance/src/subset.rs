//! Subsetting: each client uses some of many endpoints.

use std::sync::Arc;

use crate::{
    Balancer, Outcome, PickContext, SuccessBatch, View, balancer::rebuild_or_keep, rng::mix,
};

/// Deterministic subsetting (the rule of gRPC's A68): each client uses a different subset of the
/// endpoints, and picks within it by another balancer.
///
/// For many clients of many servers: each client keeps connections to `size` of them, not to all.
/// Every server is in the subset of about as many clients, and when a server comes or goes, at most
/// one changes in each subset.
///
/// If no endpoint of the subset may be picked, all others are used.
///
/// Adds next to nothing to a pick. Needs `rebuild`; without it all endpoints are used.
#[derive(Debug)]
pub struct Subset {
    inner: Arc<dyn Balancer>,
    size: usize,
    client: u64,
    /// `None` until it is rebuilt for a view, and for a view that is small enough.
    subset: Option<ActiveSubset>,
}

/// The subset in use, and the view that it was made for.
#[derive(Debug)]
struct ActiveSubset {
    view: View,
    /// Indices of its endpoints in the whole view, in order.
    indices: Box<[usize]>,
    balancer: Arc<dyn Balancer>,
    view_len: usize,
}

impl Subset {
    /// A subset of at most `size` endpoints, at least one; which ones depends on their ids and
    /// `client_seed`, which should differ from client to client.
    #[must_use]
    pub fn new(inner: Arc<dyn Balancer>, size: usize, client_seed: u64) -> Self {
        Self {
            inner,
            size: size.max(1),
            client: mix(client_seed),
            subset: None,
        }
    }

    fn current_subset(&self, view: &View) -> Option<&ActiveSubset> {
        let fits = |subset: &&ActiveSubset| {
            subset.view_len == view.len() && subset.view.generation() == view.generation()
        };
        self.subset.as_ref().filter(fits)
    }

    /// The balancer that picks endpoint `index` of `view`, and its place there.
    fn responsible<'a>(
        &'a self,
        view: &'a View,
        index: usize,
    ) -> (&'a dyn Balancer, &'a View, usize) {
        if let Some(subset) = self.current_subset(view)
            && let Ok(index) = subset.indices.binary_search(&index)
        {
            return (&*subset.balancer, &subset.view, index);
        }
        (&*self.inner, view, index)
    }

    fn choose_indices(&self, view: &View) -> Box<[usize]> {
        let rank = |&index: &usize| {
            let id = view[index].id();
            (mix(mix(id) ^ self.client), id)
        };
        let mut indices: Vec<usize> = (0..view.len()).collect();
        indices.sort_unstable_by_key(rank);
        indices.truncate(self.size);
        indices.sort_unstable();
        indices.into()
    }
}

impl Balancer for Subset {
    fn pick(&self, view: &View, cx: &PickContext<'_>) -> Option<usize> {
        let within = self.current_subset(view).and_then(|subset| {
            let picked = subset.balancer.pick(&subset.view, cx)?;
            subset.indices.get(picked).copied()
        });
        within.or_else(|| self.inner.pick(view, cx))
    }

    fn on_outcome(&self, view: &View, index: usize, outcome: &Outcome) {
        let (balancer, view, index) = self.responsible(view, index);
        balancer.on_outcome(view, index, outcome);
    }

    fn on_successes(&self, view: &View, index: usize, batch: &SuccessBatch) {
        let (balancer, view, index) = self.responsible(view, index);
        balancer.on_successes(view, index, batch);
    }

    fn rebuild(&self, view: &View) -> Option<Arc<dyn Balancer>> {
        let inner = rebuild_or_keep(&self.inner, view);
        let subset = (view.len() > self.size).then(|| {
            let indices = self.choose_indices(view);
            let subset = view.subset(&indices);
            let before = self
                .subset
                .as_ref()
                .map_or(&self.inner, |subset| &subset.balancer);
            ActiveSubset {
                balancer: rebuild_or_keep(before, &subset),
                view: subset,
                indices,
                view_len: view.len(),
            }
        });
        Some(Arc::new(Self {
            inner,
            subset,
            ..*self
        }))
    }
}
