//! Scaling: more connections to a saturated target, fewer when they are not needed.

use std::{
    net::SocketAddr,
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::time::sleep;

use super::{
    ConnectionPool, PoolShared, PoolTarget, TargetId, target_connections::TargetConnections,
};

impl<C: Clone + Send + Sync + 'static> ConnectionPool<C> {
    /// Reports that a call waits for capacity on its connection. If all connections to the target
    /// stay saturated for 100 ms, another one is made, up to the
    /// [limit](super::PoolConfig::with_connections_per_target_max). For calls whose connection did
    /// not come from [`connection`](Self::connection) just before. `target` runs under the lock of
    /// the pool: it must be quick, and must not call the pool.
    pub fn on_saturated(
        &self,
        id: TargetId<'_>,
        addr: SocketAddr,
        target: impl FnOnce() -> PoolTarget<C>,
    ) {
        let pool = &self.shared;
        let mut table = pool.table.lock();
        if let Some(known) = table.of_process_at_addr(id, addr)
            && known.is_saturated()
        {
            pool.watch_saturation(known, target);
        }
    }
}

impl<C> PoolShared<C> {
    /// Whether all connections to the target are saturated. If not, they are no longer watched.
    fn is_still_saturated(&self, target: &PoolTarget<C>) -> bool {
        let mut table = self.table.lock();
        let known = table.of_process_at_addr(target.id(), target.addr);
        known.is_some_and(|known| {
            known.is_scaling_up = known.is_saturated();
            known.is_scaling_up
        })
    }

    /// Retires a connection to the process if there is one too many. `false` if only one is left.
    fn scale_down(&self, id: TargetId<'_>) -> bool {
        let mut table = self.table.lock();
        table.of_process(id).is_some_and(|known| {
            known.is_scaling_down = known.scale_down(self.config.surplus_idle_timeout);
            known.is_scaling_down
        })
    }
}

impl<C: Clone + Send + Sync + 'static> PoolShared<C> {
    /// Starts the task that opens another connection if these stay saturated.
    pub(super) fn watch_saturation(
        self: &Arc<Self>,
        known: &mut TargetConnections,
        target: impl FnOnce() -> PoolTarget<C>,
    ) {
        let limit = self.config.connections_per_target_max.get();
        if !known.is_scaling_up && !known.is_at_limit(limit) {
            let mut target = target();
            target.addr = known.addr;
            let scale_up = scale_up_task(Arc::downgrade(self), target);
            self.spawn_until_dropped(scale_up);
            known.is_scaling_up = true;
        }
    }

    /// Opens one more connection to the process, unless there are enough.
    fn scale_up(self: &Arc<Self>, target: &PoolTarget<C>) {
        let mut table = self.table.lock();
        let Some(known) = table.of_process_at_addr(target.id(), target.addr) else {
            return;
        };
        known.is_scaling_up = false;
        if !known.is_at_limit(self.config.connections_per_target_max.get()) {
            // The task goes on though no call waits for it.
            drop(self.connect(&mut table, target));
        }
    }
}

/// Opens one more connection to a target whose connections stay saturated.
async fn scale_up_task<C: Clone + Send + Sync + 'static>(
    pool: Weak<PoolShared<C>>,
    target: PoolTarget<C>,
) {
    for _ in 0..SATURATION_CHECKS {
        sleep(SCALE_UP_AFTER / SATURATION_CHECKS).await;
        let Some(pool) = pool.upgrade() else { return };
        if !pool.is_still_saturated(&target) {
            return;
        }
    }
    if let Some(pool) = pool.upgrade() {
        pool.scale_up(&target);
    }
}

/// Retires connections to a target, one after the other, when they are not needed.
pub(super) async fn scale_down_task<C>(pool: Weak<PoolShared<C>>, target: PoolTarget<C>) {
    loop {
        let Some(interval) = pool
            .upgrade()
            .map(|pool| pool.config.surplus_idle_timeout / 4)
        else {
            return;
        };
        sleep(interval.max(SCALE_DOWN_INTERVAL_MIN)).await;
        let Some(pool) = pool.upgrade() else { return };
        if !pool.scale_down(target.id()) {
            return;
        }
    }
}

/// Time for which connections must be saturated until another one is opened.
const SCALE_UP_AFTER: Duration = Duration::from_millis(100);

/// Checks in that time. A connection that was not saturated at one of them is not saturated.
const SATURATION_CHECKS: u32 = 4;

/// Time for which no further connection is opened after an attempt failed.
pub(super) const SCALE_UP_BACKOFF: Duration = Duration::from_secs(10);

/// Shortest interval between two checks for a surplus connection.
const SCALE_DOWN_INTERVAL_MIN: Duration = Duration::from_millis(10);
