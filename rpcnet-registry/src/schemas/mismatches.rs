//! Schema mismatches: the workers whose types of one method are not known to fit.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use rpcnet_balance::Time;
use xxhash_rust::xxh3::xxh3_64;

use super::check::{CheckSchedule, SchemaCheck};
use crate::NodeInfo;

/// The workers that announce other types of a service than those of a caller, as far as they are
/// not known to fit a method of it. Immutable: made anew after a change.
#[derive(Debug)]
pub struct SchemaMismatches {
    /// Version of what they were made of.
    pub(super) version: SchemaVersion,
    /// Endpoint ids of the incompatible workers, in ascending order.
    incompatible_ids: Box<[u64]>,
    incompatible: Box<[Arc<NodeInfo>]>,
    /// Endpoint ids of all of them, in ascending order.
    ids: Box<[u64]>,
    unchecked: Box<[CheckTarget]>,
    /// Targets of the checks of whether incompatible workers are so.
    rechecks: Box<[CheckTarget]>,
    in_flight: Arc<AtomicUsize>,
    /// Counter of the rotation that applies when all workers are incompatible.
    rotation: AtomicUsize,
}

/// Version of what workers announce and of what is known about it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct SchemaVersion {
    /// Number of the changes of tags; 0 if no worker announces a schema.
    pub(super) tags: u64,
    /// Number of the changes of what is known about pairs.
    pub(super) knowledge: u64,
}

/// Workers of a hash, one of which a check asks.
#[derive(Debug)]
pub(super) struct CheckTarget {
    pub(super) workers: Vec<Arc<NodeInfo>>,
    pub(super) schedule: Arc<CheckSchedule>,
}

impl SchemaMismatches {
    pub(super) fn new(
        version: SchemaVersion,
        incompatible: (Vec<Arc<NodeInfo>>, Vec<CheckTarget>),
        unchecked: Vec<CheckTarget>,
        in_flight: &Arc<AtomicUsize>,
    ) -> Self {
        let (incompatible, rechecks) = incompatible;
        let unchecked_ids = unchecked.iter().flat_map(|one| one.workers.iter());
        Self {
            version,
            ids: sorted_ids(incompatible.iter().chain(unchecked_ids)),
            incompatible_ids: sorted_ids(&incompatible),
            incompatible: incompatible.into(),
            unchecked: unchecked.into(),
            rechecks: rechecks.into(),
            in_flight: Arc::clone(in_flight),
            rotation: AtomicUsize::new(0),
        }
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// Endpoint ids of all workers whose types are not known to fit, in ascending order.
    #[must_use]
    pub const fn ids(&self) -> &[u64] {
        &self.ids
    }

    /// Endpoint ids of the workers whose types are known not to fit, in ascending order.
    #[must_use]
    pub const fn incompatible_ids(&self) -> &[u64] {
        &self.incompatible_ids
    }

    /// Whether it is not known that the types of the worker with this endpoint id fit.
    #[must_use]
    pub fn contains(&self, id: u64) -> bool {
        self.ids.binary_search(&id).is_ok()
    }

    /// Whether the types of the worker with this endpoint id are known not to fit.
    #[must_use]
    pub fn is_incompatible(&self, id: u64) -> bool {
        self.incompatible_ids.binary_search(&id).is_ok()
    }

    /// Whether it is unknown of some whether their types fit.
    #[must_use]
    pub const fn has_unchecked(&self) -> bool {
        !self.unchecked.is_empty()
    }

    /// Claims a check, if one is due, of a worker of whose types it is not known whether they fit,
    /// or of one that is incompatible by what another worker with the same hash has answered. At
    /// most 8 checks are under way, and one for each method and hash.
    #[must_use]
    pub fn claim_check(&self, now: Time) -> Option<SchemaCheck> {
        let mut targets = self.unchecked.iter().chain(&self.rechecks);
        targets
            .find_map(|one| SchemaCheck::claim(&one.workers, &one.schedule, &self.in_flight, now))
    }

    /// One of the incompatible workers, in rotation: for a call that no worker can serve.
    pub(crate) fn next_in_rotation(&self) -> Option<&Arc<NodeInfo>> {
        let turn = self.rotation.fetch_add(1, Relaxed);
        let index = turn.checked_rem(self.incompatible.len())?;
        self.incompatible.get(index)
    }
}

fn sorted_ids<'a>(nodes: impl IntoIterator<Item = &'a Arc<NodeInfo>>) -> Box<[u64]> {
    let nodes = nodes.into_iter();
    let ids = nodes.map(|node| xxh3_64(node.id.name.as_bytes()));
    let mut ids: Vec<_> = ids.collect();
    ids.sort_unstable();
    ids.into()
}
