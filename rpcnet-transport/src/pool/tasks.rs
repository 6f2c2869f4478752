//! Tasks of a pool: connecting, scaling up, scaling down.

use std::{sync::Weak, time::Duration};

use tokio::time::{sleep, timeout};

use super::{PoolShared, PoolTarget, process_state::has_moved, target::target_gone_error};
use crate::{ConnectError, RpcClient};

/// Makes a connection.
pub(super) async fn connect<C: Clone + Send + Sync + 'static>(
    pool: Weak<PoolShared<C>>,
    target: PoolTarget<C>,
    connect_id: u64,
) -> Result<RpcClient, ConnectError> {
    let Some(shared) = pool.upgrade() else {
        return Err(ConnectError::EndpointClosed);
    };
    let (id, addr) = (target.id(), target.addr);
    // Also if the listener panics: the next call connects anew.
    let _cancel_on_drop = CancelOnDrop {
        pool: pool.clone(),
        target: &target,
        connect_id,
    };
    // If the end of the process is heard of later, the connection is in the table to be closed. If
    // it was heard of before, nothing would close it.
    if !shared.is_current(id.key, id.generation) || has_moved(&*shared.listener, id, addr) {
        return Err(target_gone_error(addr));
    }
    let (endpoint, after) = (shared.endpoint.clone(), shared.config.connect_timeout);
    drop(shared);
    let result = timeout(after, endpoint.connect(addr, &target.name))
        .await
        .unwrap_or(Err(ConnectError::Timeout { addr, after }));
    let pool = pool.upgrade();
    if let (Err(error), Some(pool)) = (&result, &pool) {
        pool.log_failure(&target, error);
    }
    match pool {
        // Nothing would close it when the process fails, so no call may use it.
        Some(pool) if !pool.on_connect_result(&target, connect_id, &result) => {
            Err(target_gone_error(addr))
        }
        _ => result,
    }
}

/// Cancels an attempt to connect that has no result when its task ends.
struct CancelOnDrop<'a, C> {
    pool: Weak<PoolShared<C>>,
    target: &'a PoolTarget<C>,
    connect_id: u64,
}

impl<C> Drop for CancelOnDrop<'_, C> {
    fn drop(&mut self) {
        if let Some(pool) = self.pool.upgrade() {
            pool.cancel_connect(self.target, self.connect_id);
        }
    }
}

impl<C> PoolShared<C> {
    /// Certificates, names and versions do not mend themselves: the log warns an operator, as often
    /// as the limiter allows.
    fn log_failure(&self, target: &PoolTarget<C>, error: &ConnectError) {
        let node = &*target.key;
        let needs_operator = !error.is_retryable() && !error.is_local();
        if needs_operator && self.warnings.take() {
            tracing::warn!(%node, %error, "cannot connect; a retry alone will not help");
        } else {
            tracing::debug!(%node, %error, "cannot connect");
        }
    }
}

/// Makes one more connection to a target whose connections stay saturated.
pub(super) async fn scale_up<C: Clone + Send + Sync + 'static>(
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

/// Gives up connections to a target, one after the other, when they are not needed.
pub(super) async fn scale_down<C>(pool: Weak<PoolShared<C>>, target: PoolTarget<C>) {
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

/// Time for which connections must be saturated until another one is made.
const SCALE_UP_AFTER: Duration = Duration::from_millis(100);

/// Checks in that time. A connection that was not saturated at one of them is not saturated.
const SATURATION_CHECKS: u32 = 4;

/// Time for which no further connection is made after one could not be made.
pub(super) const SCALE_UP_BACKOFF: Duration = Duration::from_secs(10);

/// Shortest time between two looks for a surplus connection, however short its idle timeout.
const SCALE_DOWN_INTERVAL_MIN: Duration = Duration::from_millis(10);
