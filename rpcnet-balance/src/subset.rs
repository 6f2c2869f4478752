//! A part of many endpoints.

use std::sync::Arc;

use crate::{Balancer, Outcome, PickContext, View, balancer::rebuild_or_keep, rng::mix};

/// Uses a part of the endpoints only, another one in every client, and picks within it by another balancer.
///
/// For many clients of many servers: each client keeps connections to `size` of them, not to all (the rule of gRPC's A68).
/// Every server is in the part of about as many clients, and when one comes or goes, at most one changes in each part.
///
/// If none of the part may be picked, all others are there.
///
/// Adds next to nothing to a pick. Needs `rebuild`; without it all endpoints are used.
#[derive(Debug)]
pub struct Subset {
    inner: Arc<dyn Balancer>,
    size: usize,
    client: u64,
    /// `None` until it is rebuilt for a view, and for one that is small enough.
    subset: Option<ActiveSubset>,
}

/// The part in use of the view that it was made for.
#[derive(Debug)]
struct ActiveSubset {
    view: View,
    /// Of its endpoints in the whole view, in order.
    indices: Box<[usize]>,
    balancer: Arc<dyn Balancer>,
    view_len: usize,
}

impl Subset {
    /// At most `size` endpoints, at least one; which ones depends on their ids and `client_seed`, which should differ from
    /// client to client.
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
        let fits = |part: &&ActiveSubset| {
            part.view_len == view.len() && part.view.generation() == view.generation()
        };
        self.subset.as_ref().filter(fits)
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
        let within = self.current_subset(view).and_then(|part| {
            let picked = part.balancer.pick(&part.view, cx)?;
            part.indices.get(picked).copied()
        });
        within.or_else(|| self.inner.pick(view, cx))
    }

    fn on_outcome(&self, view: &View, index: usize, outcome: &Outcome) {
        if let Some(part) = self.current_subset(view)
            && let Ok(index) = part.indices.binary_search(&index)
        {
            part.balancer.on_outcome(&part.view, index, outcome);
        } else {
            self.inner.on_outcome(view, index, outcome);
        }
    }

    fn rebuild(&self, view: &View) -> Option<Arc<dyn Balancer>> {
        let inner = rebuild_or_keep(&self.inner, view);
        let part = (view.len() > self.size).then(|| {
            let indices = self.choose_indices(view);
            let part = view.subset(&indices);
            let before = self
                .subset
                .as_ref()
                .map_or(&self.inner, |part| &part.balancer);
            ActiveSubset {
                balancer: rebuild_or_keep(before, &part),
                view: part,
                indices,
                view_len: view.len(),
            }
        });
        Some(Arc::new(Self {
            inner,
            subset: part,
            ..*self
        }))
    }
}
