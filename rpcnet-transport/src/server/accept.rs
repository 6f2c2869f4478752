//! Accept loop: handshakes, authorization, and the streams of accepted connections.

use std::{net::IpAddr, sync::Arc, time::Duration};

use bytes::{Buf, BytesMut};
use parking_lot::Mutex;
use quinn::ConnectionError;
use rustls_pki_types::CertificateDer;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use super::{
    caller::Caller,
    early_data,
    handshake_limiter::{self, HandshakeLimiter},
    stream_dispatch::spawn_stream,
};
use crate::{
    Peer, PeerIdentity, TransportConfig,
    client::DRAINING_INTERVAL_MIN,
    close::{
        CLOSE_DENIED, CLOSE_DISCONNECTED, CLOSE_DONE, CLOSE_NO_NAME, CLOSE_SHUTDOWN,
        CLOSE_TOO_MANY, CLOSE_UNTRUSTED, close_at_once,
    },
    connections::PendingHandshake,
    endpoint::EndpointShared,
    quic,
    runtime::CloseOnRuntimeEnd,
    send_priority, tls,
    wire::{self, Hello, Preface, StreamKind},
};

/// Limits of the accept loop: handshakes in progress. Connections are counted once their peer is
/// known, so that handshakes that never end take no place of a connection.
pub(crate) struct AcceptLoop {
    handshakes: Arc<Mutex<HandshakeLimiter<CancellationToken>>>,
    epoch: Instant,
    /// Above this many handshakes callers have to validate their address (Retry, RFC 9000 section
    /// 8.1.2).
    retry_threshold: usize,
    warnings: Arc<WarningLimiter>,
}

/// Rate limit of warnings about rejected connections.
#[derive(Default)]
struct WarningLimiter(Mutex<Option<Instant>>);

impl WarningLimiter {
    /// Whether a warning may be logged now.
    fn take(&self) -> bool {
        let (now, mut last) = (Instant::now(), self.0.lock());
        let is_due = last.is_none_or(|last| now.duration_since(last) >= WARNING_INTERVAL_MIN);
        if is_due {
            *last = Some(now);
        }
        is_due
    }
}

impl AcceptLoop {
    pub(crate) fn new(config: &TransportConfig) -> Self {
        let handshakes = config.limits.handshakes_max.get();
        Self {
            handshakes: Arc::new(Mutex::new(HandshakeLimiter::new(handshakes))),
            epoch: Instant::now(),
            retry_threshold: handshakes / 2,
            warnings: Arc::default(),
        }
    }
}

impl AcceptLoop {
    /// Counts a handshake, which may end an older one. `None` if there is no room for it.
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
    id: handshake_limiter::HandshakeId,
    /// Cancelled when a newer handshake takes its place.
    dropped: CancellationToken,
    /// The handshake in the registry. Its peer may not be known yet.
    pending: PendingHandshake,
}

impl Drop for HandshakeGuard {
    fn drop(&mut self) {
        self.handshakes.lock().end(self.id);
    }
}

/// Stream on which the server announces its state to a connection.
struct ControlStream {
    stream: quinn::SendStream,
    /// The draining state that the other side knows.
    announced_draining: bool,
}

/// A connection whose caller is authorized.
struct AcceptedConnection {
    caller: Arc<Caller>,
    control: ControlStream,
    /// Streams of the connection that were accepted already.
    streams_taken: u64,
}

/// Outcome of a handshake with a valid certificate.
enum HandshakeOutcome {
    Accepted(AcceptedConnection),
    Denied { peer: Peer, reason: String },
}

/// Accepts connections until the endpoint stops, and refuses them while it does not serve.
pub(crate) async fn serve_connections(shared: Arc<EndpointShared>, bounds: AcceptLoop) {
    loop {
        let incoming = tokio::select! {
            biased;
            () = shared.lifecycle.stopped.cancelled() => break,
            incoming = shared.dialer.quinn.accept() => incoming,
        };
        let Some(incoming) = incoming else { break };
        if !shared.is_open() {
            shared.counters.handshakes_refused.add_one();
            incoming.refuse();
            continue;
        }
        let asks_for_retry = bounds.handshakes.lock().len() > bounds.retry_threshold;
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
            true => bounds.begin_handshake(from, shared.dialer.registry.begin_handshake()),
            false => None,
        };
        let Some(handshake) = handshake else {
            shared.counters.handshakes_refused.add_one();
            incoming.refuse();
            continue;
        };
        let task_shared = Arc::clone(&shared);
        let warnings = Arc::clone(&bounds.warnings);
        shared.connections.spawn(async move {
            let shared = task_shared;
            let accepted = tokio::select! {
                biased;
                () = shared.lifecycle.stopped.cancelled() => return,
                // Dropping the handshake refuses it, so that its caller learns of it.
                () = handshake.dropped.cancelled() => None,
                accepted = accept_connection(
                    &shared,
                    incoming,
                    &handshake.pending,
                    &warnings,
                ) => accepted,
            };
            drop(handshake);
            match accepted {
                Some(Some(accepted)) => serve_streams(shared, accepted).await,
                Some(None) => {}
                None => shared.counters.handshakes_failed.add_one(),
            }
        });
    }
    // Connections that this endpoint made may live on; no new ones are accepted.
    shared.dialer.tls.close(&shared.dialer.quinn);
}

/// Completes a handshake. `None` if the handshake failed, `Some(None)` if the caller is denied.
async fn accept_connection(
    shared: &Arc<EndpointShared>,
    incoming: quinn::Incoming,
    pending: &PendingHandshake,
    warnings: &WarningLimiter,
) -> Option<Option<AcceptedConnection>> {
    let from = incoming.remote_address();
    let connecting = incoming
        .accept()
        .map_err(quic::with_printable_reason)
        .inspect_err(|e| tracing::debug!(%from, %e, "handshake not accepted"))
        .ok()?;
    match complete_handshake(shared, connecting, pending).await {
        Ok(HandshakeOutcome::Denied { peer, reason }) => {
            // A denied node may connect again and again, so the warning is rate-limited.
            if warnings.take() {
                tracing::warn!(%peer, reason, "connection denied");
            } else {
                tracing::debug!(%peer, reason, "connection denied");
            }
            Some(None)
        }
        Ok(HandshakeOutcome::Accepted(accepted)) => {
            shared.counters.connections_accepted.add_one();
            tracing::debug!(peer = %accepted.caller.peer, "connection accepted");
            Some(Some(accepted))
        }
        Err(error) => {
            let error = quic::with_printable_reason(error);
            // Any host may connect, so warnings are limited to certificates, and in rate.
            if quic::is_certificate_failure(&error) && warnings.take() {
                let what = match quic::is_local_tls_failure(&error) {
                    true => "the certificate of the caller is not trusted by this node",
                    false => "the certificate of this node is not trusted by the caller",
                };
                tracing::warn!(%from, %error, "handshake failed: {what}");
            } else {
                tracing::debug!(%from, %error, "handshake failed");
            }
            None
        }
    }
}

/// Sends the hello: the caller is accepted, and with which limits.
async fn send_hello(
    shared: &EndpointShared,
    connection: &quinn::Connection,
) -> Option<ControlStream> {
    let draining = shared.is_draining();
    let mut hello = BytesMut::new();
    hello.extend_from_slice(
        &Preface {
            kind: StreamKind::Control,
        }
        .encode(),
    );
    wire::encode_hello(
        &mut hello,
        &Hello {
            draining,
            message_bytes_max: u32::try_from(shared.config.message_bytes_max).unwrap_or(u32::MAX),
            streams_max: shared.config.quic.streams_max.get(),
            lanes_max: shared.config.lane.lanes.get(),
            lane_calls_max: u16::try_from(shared.config.lane.lane_calls_max.get())
                .unwrap_or(u16::MAX),
            lane_body_bytes_max: u16::try_from(shared.config.lane.lane_body_bytes_max)
                .unwrap_or(u16::MAX),
        },
    );
    let said = timeout(shared.config.connect_timeout, async {
        let mut stream = connection.open_uni().await.ok()?;

        stream.set_priority(send_priority::CONTROL).ok()?;
        stream.write_all(&hello).await.ok()?;
        Some(ControlStream {
            stream,
            announced_draining: draining,
        })
    });
    said.await.ok().flatten()
}

/// Accepts the streams of one connection until the connection or the endpoint ends, and announces
/// draining.
async fn serve_streams(shared: Arc<EndpointShared>, accepted: AcceptedConnection) {
    let mut draining_changed = shared.lifecycle.drain_changed.subscribe();
    let AcceptedConnection {
        caller,
        control:
            ControlStream {
                mut stream,
                mut announced_draining,
            },
        mut streams_taken,
    } = accepted;
    let mut guard = CloseOnRuntimeEnd::new(caller.connection.clone(), shared.runtime.clone());
    let mut unsent = BytesMut::new();
    let mut tell_from = Instant::now();
    let code = loop {
        // One frame at a time: if the state changes faster than it is sent, the last state counts.
        let has_news = unsent.is_empty() && announced_draining != shared.is_draining();
        if has_news && tell_from <= Instant::now() {
            announced_draining = !announced_draining;
            wire::encode_draining(&mut unsent, announced_draining);
            tell_from = Instant::now() + DRAINING_INTERVAL_MIN;
        }
        tokio::select! {
            biased;
            () = shared.lifecycle.stopped.cancelled() => break CLOSE_SHUTDOWN,
            () = caller.disconnected() => break CLOSE_DISCONNECTED,
            Ok(()) = draining_changed.changed() => {}
            () = sleep_until(tell_from), if has_news && unsent.is_empty() => {}
            written = stream.write(&unsent), if !unsent.is_empty() => match written {
                Ok(bytes) => unsent.advance(bytes),
                Err(e) => {
                    // The caller does not read the stream. It learns of the drain when its calls
                    // are refused.
                    let peer = &caller.peer;
                    tracing::debug!(%peer, error = %e, "draining state not sent");
                    unsent.clear();
                }
            },
            stream = caller.connection.accept_bi() => match stream {
                Ok(stream) => {
                    streams_taken += 1;
                    spawn_stream(&shared, &caller, stream, None);
                }
                Err(e) => {
                    let error = quic::with_printable_reason(e);
                    tracing::debug!(peer = %caller.peer, %error, "connection ended");
                    guard.disarm();
                    return;
                }
            },
        }
    };
    // The count tells the caller which of its streams were never accepted.
    close_at_once(&caller.connection, code, &streams_taken.to_le_bytes());
    // After the close, so that the calls end with its reason and not with that of a stream reset.
    caller.abort();
    let _ = timeout(STREAM_END_TIMEOUT, caller.streams.wait_for_zero()).await;
    guard.disarm();
}

/// Waits for the end of a handshake, and meanwhile serves early data if it is enabled.
async fn complete_handshake(
    shared: &Arc<EndpointShared>,
    mut connecting: quinn::Connecting,
    pending: &PendingHandshake,
) -> Result<HandshakeOutcome, ConnectionError> {
    let deadline = Instant::now() + shared.config.connect_timeout;
    let late = |_| ConnectionError::TimedOut;
    // The first flight of the caller decides whether a session is resumed.
    timeout_at(deadline, connecting.handshake_data())
        .await
        .map_err(late)??;
    let Ok((connection, completed)) = connecting.into_0rtt() else {
        unreachable!("a server may always write before the handshake is over");
    };
    let mut unfinished = CloseOnDrop(Some(connection.clone()));
    let outcome = authorize(shared, connection, completed, pending, deadline).await?;
    unfinished.0 = None;
    Ok(outcome)
}

/// Closes a connection whose handshake is abandoned: early calls may still hold it.
struct CloseOnDrop(Option<quinn::Connection>);

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        if let Some(connection) = &self.0 {
            close_at_once(connection, CLOSE_DONE, b"the handshake was abandoned");
        }
    }
}

/// Decides whether a caller may connect, once its certificate is known.
async fn authorize(
    shared: &Arc<EndpointShared>,
    connection: quinn::Connection,
    completed: quinn::ZeroRttAccepted,
    pending: &PendingHandshake,
    deadline: Instant,
) -> Result<HandshakeOutcome, ConnectionError> {
    let late = |_| ConnectionError::TimedOut;
    // Certificates that are known by now are those of a resumed session, which TLS does not verify
    // again.
    let known = certificate_chain(&connection);
    let tls = shared.dialer.tls.current();
    let trusts = |chain: &Vec<_>| tls.verifies_caller(chain, tls.now());
    let is_trusted = known.as_ref().is_none_or(trusts);
    let known = known.filter(|_| is_trusted && shared.config.early_data);
    let known =
        known.and_then(|chain| VerifiedCaller::new(shared, &connection, &chain, pending).ok());
    let mut early = None;
    if let Some(VerifiedCaller { caller, denial }) = known {
        if let Err(denial) = denial {
            // A close before the end of the handshake carries no reason.
            timeout_at(deadline, completed).await.map_err(late)?;
            return Ok(deny(shared, &caller, denial));
        }
        let control = send_hello(shared, &connection).await;
        let control = control.ok_or(ConnectionError::TimedOut)?;
        let streams_taken =
            early_data::serve_early_streams(shared, &caller, completed, deadline).await;
        early = Some(AcceptedConnection {
            caller,
            control,
            streams_taken,
        });
    } else {
        timeout_at(deadline, completed).await.map_err(late)?;
    }
    if !is_trusted {
        let reason = b"the certificate is not trusted";
        close_at_once(&connection, CLOSE_UNTRUSTED, reason);
    }
    if let Some(reason) = connection.close_reason() {
        return Err(reason);
    }
    if let Some(accepted) = early {
        return Ok(HandshakeOutcome::Accepted(accepted));
    }
    let chain = certificate_chain(&connection).unwrap_or_default();
    let verified = VerifiedCaller::new(shared, &connection, &chain, pending).map_err(|fault| {
        let reason = fault.reason().as_bytes();
        close_at_once(&connection, CLOSE_NO_NAME, reason);
        ConnectionError::LocallyClosed
    });
    let VerifiedCaller { caller, denial } = verified?;
    if let Err(denial) = denial {
        return Ok(deny(shared, &caller, denial));
    }
    let control = send_hello(shared, &connection).await;
    Ok(HandshakeOutcome::Accepted(AcceptedConnection {
        control: control.ok_or(ConnectionError::TimedOut)?,
        caller,
        streams_taken: 0,
    }))
}

/// A caller with a verified certificate, and whether it may connect.
struct VerifiedCaller {
    caller: Arc<Caller>,
    denial: Result<(), Denial>,
}

/// Reason for which a caller with a valid certificate is denied.
enum Denial {
    /// The authorizer denied it.
    Unauthorized(String),
    /// Its node has as many connections as one node may have, or all nodes together have.
    TooManyConnections,
    /// Its node was disconnected since the handshake began.
    Disconnected,
}

impl VerifiedCaller {
    fn new(
        shared: &EndpointShared,
        connection: &quinn::Connection,
        chain: &[CertificateDer<'_>],
        pending: &PendingHandshake,
    ) -> Result<Self, tls::CertificateNameError> {
        let certificate = chain.first().ok_or(tls::CertificateNameError::NoName)?;
        let peer = peer_of(connection, certificate)?;
        // Registered before it is checked: a caller that is disconnected meanwhile is caught by one
        // of the two.
        let caller = Arc::new(Caller::new(shared, connection.clone(), peer));
        let identity = PeerIdentity {
            peer: &caller.peer,
            certificate,
        };
        let authorizer = shared.config.authorizer.as_ref();
        let mut denial = match authorizer.map_or(Ok(()), |authorizer| authorizer.check(&identity)) {
            Ok(()) => Ok(()),
            Err(reason) => Err(Denial::Unauthorized(reason)),
        };
        if denial.is_ok() && !caller.is_counted() {
            denial = Err(Denial::TooManyConnections);
        }
        if denial.is_ok() && pending.is_refused(caller.peer.name()) {
            denial = Err(Denial::Disconnected);
        }
        if let (Ok(()), Some(admission)) = (&denial, &caller.admission) {
            admission.note_connected();
        }
        Ok(Self { caller, denial })
    }
}

/// Closes the connection of a denied caller, with the reason.
fn deny(shared: &EndpointShared, caller: &Caller, denial: Denial) -> HandshakeOutcome {
    let (counter, code, reason) = match denial {
        Denial::Unauthorized(reason) => (&shared.counters.connections_denied, CLOSE_DENIED, reason),
        Denial::TooManyConnections => (
            &shared.counters.connections_refused,
            CLOSE_TOO_MANY,
            match shared.accounts.has_connection_left() {
                true => "too many connections of this node",
                false => "too many connections of all nodes",
            }
            .to_owned(),
        ),
        Denial::Disconnected => (
            &shared.counters.connections_disconnected,
            CLOSE_DISCONNECTED,
            "disconnected during the handshake".to_owned(),
        ),
    };
    counter.add_one();
    close_at_once(&caller.connection, code, reason.as_bytes());
    HandshakeOutcome::Denied {
        peer: caller.peer.clone(),
        reason,
    }
}

/// The peer that a certificate names.
fn peer_of(
    connection: &quinn::Connection,
    certificate: &CertificateDer<'_>,
) -> Result<Peer, tls::CertificateNameError> {
    let name = tls::node_name(certificate)?;
    let addr = crate::addr::canonical(connection.remote_address());
    Ok(Peer::new(name, addr))
}

/// The certificates that the other side showed, in this handshake or in that of the resumed
/// session.
fn certificate_chain(connection: &quinn::Connection) -> Option<Vec<CertificateDer<'static>>> {
    let chain = connection.peer_identity()?.downcast().ok()?;
    Some(*chain)
}

/// How long the tasks of the streams of a closed connection may take to end. A handler may block.
const STREAM_END_TIMEOUT: Duration = Duration::from_millis(100);

/// Least time between two warnings.
const WARNING_INTERVAL_MIN: Duration = Duration::from_secs(10);
