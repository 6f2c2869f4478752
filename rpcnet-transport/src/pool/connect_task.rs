//! Connect task of a pool: makes one connection.

use std::sync::Weak;

use tokio::time::timeout;

use super::{PoolShared, PoolTarget, membership::has_moved, target::target_gone_error};
use crate::{ConnectError, RpcClient};

/// Opens a connection and reports the result to the pool.
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
    // If the pool is told of the end of the process later, it closes the connection, which is in
    // the table. If it was told before, nothing would close it.
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
    /// Logs a failed attempt: as a warning, as often as the limiter allows, if only an operator can
    /// help (certificates, names, versions).
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
