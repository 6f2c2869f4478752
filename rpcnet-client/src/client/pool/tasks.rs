//! What goes on beside the calls.

use std::{sync::Weak, time::Duration};

use rpcnet_balance::{Outcome, OutcomeKind};
use rpcnet_registry::{Events, NodeId, Worker};
use rpcnet_transport::{ConnectError, RpcClient};
use tokio::time::{Instant, sleep, timeout};

use super::{ConnectTarget, PendingConnection, PoolShared, target_gone_error};

/// Goes by what happens in the cluster.
pub(super) async fn follow(pool: Weak<PoolShared>, mut events: Events) {
    while let Some(event) = events.recv().await {
        let Some(pool) = pool.upgrade() else { return };
        pool.on_event(&event);
    }
}

/// Makes a connection.
pub(super) async fn connect(
    pool: Weak<PoolShared>,
    goal: ConnectTarget,
    ticket: u64,
) -> Result<RpcClient, ConnectError> {
    let Some(inner) = pool.upgrade() else {
        return Err(ConnectError::EndpointClosed);
    };
    let node = &goal.node;
    let addr = node.addr;
    // If that is heard of later, the connection is there to be closed. If it was heard of before, nobody would close it.
    let (name, epoch) = (&node.id.name, node.id.epoch);
    if !inner.is_current(name, epoch) || inner.has_moved(name, epoch, addr) {
        inner.cancel_connect(node, ticket);
        return Err(target_gone_error(addr));
    }
    let (endpoint, after) = (inner.endpoint.clone(), inner.connect_timeout);
    drop(inner);
    let result = timeout(after, endpoint.connect(addr, &node.id.name))
        .await
        .unwrap_or(Err(ConnectError::Timeout { addr, after }));
    let pool = pool.upgrade();
    if let (Err(error), Some(pool)) = (&result, &pool) {
        pool.log_failure(&goal, error);
    }
    match pool {
        // Nobody would close it when the node fails, so nobody may use it.
        Some(pool) if !pool.on_connect_result(&goal, ticket, &result) => {
            Err(target_gone_error(addr))
        }
        _ => result,
    }
}

impl PoolShared {
    /// Certificates, names and versions do not mend themselves: an operator is told of them, now and then.
    fn log_failure(&self, goal: &ConnectTarget, error: &ConnectError) {
        let node = &goal.node.id.name;
        let is_final = !error.is_retryable() && !error.is_local();
        let is_due = || {
            let (now, mut last) = (Instant::now(), self.warned_at.lock());
            let due = last.is_none_or(|last| now.duration_since(last) >= WARNING_INTERVAL_MIN);
            if due {
                *last = Some(now);
            }
            due
        };
        if is_final && is_due() {
            tracing::warn!(%node, %error, "cannot connect to a worker; calls go to other workers");
        } else {
            tracing::debug!(%node, %error, "cannot connect to a worker");
        }
    }
}

/// Makes one more connection to a worker whose connections stay saturated.
pub(super) async fn scale_up(pool: Weak<PoolShared>, goal: ConnectTarget) {
    for _ in 0..SATURATION_CHECKS {
        sleep(SCALE_UP_AFTER / SATURATION_CHECKS).await;
        let Some(pool) = pool.upgrade() else { return };
        if !pool.is_still_saturated(&goal.node.id) {
            return;
        }
    }
    if let Some(pool) = pool.upgrade() {
        pool.scale_up(&goal);
    }
}

/// Finds out whether there is a way to a worker again. If there is, whoever makes the connection says so.
pub(super) async fn probe(worker: Worker, pending: PendingConnection) {
    let began = Instant::now();
    match pending.await {
        Ok(_) => {}
        Err(error) if error.is_local() => {}
        Err(_) => worker.report(&Outcome::new(OutcomeKind::Unreachable, began.elapsed())),
    }
}

/// Gives up connections to a worker, one after the other, when they are not needed.
pub(super) async fn scale_down(pool: Weak<PoolShared>, id: NodeId, interval: Duration) {
    loop {
        sleep(interval.max(SCALE_DOWN_INTERVAL_MIN)).await;
        let Some(pool) = pool.upgrade() else { return };
        if !pool.scale_down(&id) {
            return;
        }
    }
}

/// Least time between two warnings of workers that cannot be connected to.
const WARNING_INTERVAL_MIN: Duration = Duration::from_secs(10);

/// How long calls have to wait for places until another connection is made.
const SCALE_UP_AFTER: Duration = Duration::from_millis(100);

/// How often it is looked in that time. A connection that was not saturated once is not saturated.
const SATURATION_CHECKS: u32 = 4;

/// However short the time until a connection is given up.
const SCALE_DOWN_INTERVAL_MIN: Duration = Duration::from_millis(10);
