//! Accept loop: handshakes, their limits, and what the log says of those that fail.

use std::{net::IpAddr, sync::Arc};

use parking_lot::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{
    accepted_connection::AcceptedConnection,
    authorization::{HandshakeOutcome, complete_handshake},
    handshake_limiter::{HandshakeId, HandshakeLimiter},
};
use crate::{
    TransportConfig, connections::PendingHandshake, endpoint::EndpointShared, quic,
    warning_limiter::WarningLimiter,
};

/// Limits of the accept loop, to handshakes in progress. Connections are counted once their peer is
/// known, so that handshakes that never end do not count as connections.
pub(crate) struct AcceptLimits {
    handshakes: Arc<Mutex<HandshakeLimiter<CancellationToken>>>,
    epoch: Instant,
    /// Above this many handshakes callers have to validate their address (Retry, RFC 9000 section
    /// 8.1.2).
    retry_threshold: usize,
    /// Limits the warnings about refused connections.
    warnings: Arc<WarningLimiter>,
}

impl AcceptLimits {
    pub(crate) fn new(config: &TransportConfig) -> Self {
        let handshakes = config.limits.handshakes_max.get();
        Self {
            handshakes: Arc::new(Mutex::new(HandshakeLimiter::new(handshakes))),
            epoch: Instant::now(),
            retry_threshold: handshakes / 2,
            warnings: Arc::default(),
        }
    }

    /// Counts a handshake, which may end an older one. `None` if the limit is reached.
    fn begin_handshake(&self, from: IpAddr, pending: PendingHandshake) -> Option<HandshakeGuard> {
        let dropped = CancellationToken::new();
        let now = self.epoch.elapsed();
        let (number, older) = self.handshakes.lock().begin(now, from, dropped.clone());
        if let Some(older) = older {
            older.cancel();
        }
        Some(HandshakeGuard {
            handshakes: Arc::clone(&self.handshakes),
            id: number?,
            dropped,
            pending,
        })
    }
}

/// A counted handshake, until the guard is dropped.
struct HandshakeGuard {
    handshakes: Arc<Mutex<HandshakeLimiter<CancellationToken>>>,
    id: HandshakeId,
    /// Cancelled when a newer handshake replaces it.
    dropped: CancellationToken,
    /// The handshake in the registry. Its peer may not be known yet.
    pending: PendingHandshake,
}

impl Drop for HandshakeGuard {
    fn drop(&mut self) {
        self.handshakes.lock().end(self.id);
    }
}

/// Accepts connections until the endpoint stops, and refuses them while it does not serve.
pub(crate) async fn serve_connections(shared: Arc<EndpointShared>, limits: AcceptLimits) {
    loop {
        let incoming = tokio::select! {
            biased;
            () = shared.lifecycle.stopped.cancelled() => break,
            incoming = shared.dialer.quinn.accept() => incoming,
        };
        let Some(incoming) = incoming else { break };
        if !shared.lifecycle.accepts_connections() {
            shared.counters.handshakes_refused.add_one();
            incoming.refuse();
            continue;
        }
        let asks_for_retry = limits.handshakes.lock().len() > limits.retry_threshold;
        if asks_for_retry && !incoming.remote_address_validated() && incoming.may_retry() {
            shared.counters.handshakes_retried.add_one();
            if let Err(e) = incoming.retry() {
                e.into_incoming().refuse();
            }
            continue;
        }
        let from = incoming.remote_address().ip();
        // Checked first: an older handshake is not ended for one that cannot become a connection.
        let handshake = match shared.accounts.has_connection_left() {
            true => limits.begin_handshake(from, shared.dialer.registry.begin_handshake()),
            false => None,
        };
        let Some(handshake) = handshake else {
            shared.counters.handshakes_refused.add_one();
            incoming.refuse();
            continue;
        };
        let task_shared = Arc::clone(&shared);
        let warnings = Arc::clone(&limits.warnings);
        shared.connections.spawn(async move {
            let shared = task_shared;
            let handshake_end = tokio::select! {
                biased;
                () = shared.lifecycle.stopped.cancelled() => return,
                // Dropping the handshake refuses it, so that its caller learns of it.
                () = handshake.dropped.cancelled() => AcceptOutcome::Failed,
                end = accept_connection(
                    &shared,
                    incoming,
                    &handshake.pending,
                    &warnings,
                ) => end,
            };
            drop(handshake);
            match handshake_end {
                AcceptOutcome::Accepted(accepted) => accepted.serve(shared).await,
                AcceptOutcome::Denied => {}
                AcceptOutcome::Failed => shared.counters.handshakes_failed.add_one(),
            }
        });
    }
    // Connections that this endpoint made may live on; no new ones are accepted.
    shared.dialer.tls.close(&shared.dialer.quinn);
}

/// End of a handshake.
enum AcceptOutcome {
    Failed,
    /// The certificate of the caller is valid, and the caller is denied.
    Denied,
    Accepted(AcceptedConnection),
}

/// Completes a handshake.
async fn accept_connection(
    shared: &Arc<EndpointShared>,
    incoming: quinn::Incoming,
    pending: &PendingHandshake,
    warnings: &WarningLimiter,
) -> AcceptOutcome {
    let from = incoming.remote_address();
    let connecting = incoming
        .accept()
        .map_err(quic::with_printable_reason)
        .inspect_err(|e| tracing::debug!(%from, %e, "handshake not accepted"));
    let Ok(connecting) = connecting else {
        return AcceptOutcome::Failed;
    };
    match complete_handshake(shared, connecting, pending).await {
        Ok(HandshakeOutcome::Denied { peer, reason }) => {
            // A denied node may connect again and again, so the warning is rate-limited.
            if warnings.take() {
                tracing::warn!(%peer, reason, "connection denied");
            } else {
                tracing::debug!(%peer, reason, "connection denied");
            }
            AcceptOutcome::Denied
        }
        Ok(HandshakeOutcome::Accepted(accepted)) => {
            shared.counters.connections_accepted.add_one();
            tracing::debug!(peer = %accepted.caller.peer, "connection accepted");
            AcceptOutcome::Accepted(accepted)
        }
        Err(error) => {
            let error = quic::with_printable_reason(error);
            // Any host may connect, so warnings are limited to certificates, and in rate.
            if quic::is_certificate_failure(&error) && warnings.take() {
                let what = match quic::is_local_tls_failure(&error) {
                    true => "this node does not accept the certificate of the caller",
                    false => "the caller does not accept the certificate of this node",
                };
                tracing::warn!(%from, %error, "handshake failed: {what}");
            } else {
                tracing::debug!(%from, %error, "handshake failed");
            }
            AcceptOutcome::Failed
        }
    }
}
