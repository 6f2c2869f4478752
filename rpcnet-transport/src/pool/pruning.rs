//! Pruning: connections that are closed leave the pool.

use super::{ConnectionPool, PoolShared, TargetId, target_connections::TargetConnections};

impl<C: Clone + Send + Sync + 'static> ConnectionPool<C> {
    /// Forgets connections to the process that are closed. `false` if there is none left, and none
    /// is being made.
    pub fn prune_closed(&self, id: TargetId<'_>) -> bool {
        self.shared.prune_closed(id)
    }
}

impl<C> PoolShared<C> {
    pub(super) fn prune_closed(&self, id: TargetId<'_>) -> bool {
        let mut table = self.table.lock();
        let is_connected = table
            .of_process(id)
            .is_some_and(TargetConnections::prune_closed);
        if !is_connected && table.of_process(id).is_some() {
            table.remove(id.key);
        }
        is_connected
    }
}
