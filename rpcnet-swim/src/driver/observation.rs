//! Observations: registrations of observers, which end when they are dropped.

use std::fmt;
use std::sync::Arc;

use super::observer::MembershipObserver;
use super::shared::DriverShared;

/// Registration of a [`MembershipObserver`], which ends when it is dropped.
///
/// It does not keep the node running: that takes a [`ClusterMembership`](crate::ClusterMembership).
/// Once it is dropped, no call of the observer under the lock of the engine is under way and none
/// follows; so dropping it within such a call deadlocks.
#[must_use = "dropping an observation ends it"]
pub struct Observation {
    shared: Arc<DriverShared>,
    id: u64,
}

impl Observation {
    pub(super) fn new(shared: Arc<DriverShared>, observer: Arc<dyn MembershipObserver>) -> Self {
        let id = shared.add_observer(observer);
        Self { shared, id }
    }
}

impl Drop for Observation {
    fn drop(&mut self) {
        let observer = self.shared.remove_observer(self.id);
        // Dropped without the lock: it may own another observation of this node.
        drop(observer);
    }
}

impl fmt::Debug for Observation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Observation").finish_non_exhaustive()
    }
}
