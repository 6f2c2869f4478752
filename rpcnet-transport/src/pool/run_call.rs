//! Call on a pooled connection: waits for the connection, then for capacity on it.

use std::{future::poll_fn, pin::Pin, time::Instant};

use tokio::time::timeout_at;

use super::PendingConnection;
use crate::{ConnectError, RpcClient};

impl PendingConnection {
    /// Waits for the connection until `deadline`, on any thread; `None` if the deadline passes
    /// first.
    pub async fn until(self, deadline: Option<Instant>) -> Option<Result<RpcClient, ConnectError>> {
        let Some(deadline) = deadline else {
            return Some(self.await);
        };
        let endpoint = self.endpoint().clone();
        let connected = async { timeout_at(deadline.into(), self).await };
        match endpoint.in_runtime(connected).await {
            Ok(connected) => connected.ok(),
            Err(error) => Some(Err(error)),
        }
    }
}

/// Runs a call on a connection. If the call has to wait for capacity there, `on_saturated` is
/// called once: for [`ConnectionPool::on_saturated`](super::ConnectionPool::on_saturated), which
/// may open another connection.
#[inline]
pub fn run_call<'a, T>(
    client: &'a RpcClient,
    mut call: Pin<&'a mut impl Future<Output = T>>,
    on_saturated: impl Fn() + 'a,
) -> impl Future<Output = T> {
    let mut is_first_poll = true;
    poll_fn(move |cx| {
        let reply = call.as_mut().poll(cx);
        if is_first_poll && reply.is_pending() && client.is_saturated() {
            on_saturated();
        }
        is_first_poll = false;
        reply
    })
}
