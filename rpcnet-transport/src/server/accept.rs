//! Letting connections in, not too many strangers at a time.

use std::{num::NonZeroUsize, sync::Arc};

use bytes::BytesMut;
use futures::FutureExt;
use quinn::ConnectionError;
use rustls_pki_types::{CertificateDer, UnixTime};
use tokio::{sync::Semaphore, time::timeout};

use super::first::{Caller, serve_stream};
use crate::{
    Peer, TransportConfig,
    client::answer,
    endpoint::Shared,
    tls,
    wire::{self, Hello, Preface, StreamKind},
};

/// What bounds how many strangers are let in at a time.
pub(crate) struct AcceptLoop {
    handshakes: Arc<Semaphore>,
    connections: Arc<Semaphore>,
    /// Below this many free places callers have to prove their address.
    wary_below: usize,
}

impl AcceptLoop {
    pub(crate) fn new(config: &TransportConfig) -> Self {
        let places = |max: NonZeroUsize| max.get().min(Semaphore::MAX_PERMITS);
        let handshakes = places(config.handshakes_max);
        Self {
            handshakes: Arc::new(Semaphore::new(handshakes)),
            connections: Arc::new(Semaphore::new(places(config.connections_max))),
            wary_below: handshakes.div_ceil(2),
        }
    }
}

/// The stream on which a connection is told about the server.
struct Control {
    stream: quinn::SendStream,
    /// Whether the server drains, as the other side knows it.
    told: bool,
}

/// Takes connections until the endpoint stops, or refuses them while it does not serve.
pub(crate) async fn serve_connections(shared: Arc<Shared>, gate: AcceptLoop) {
    loop {
        let incoming = tokio::select! {
            biased;
            () = shared.stopped.cancelled() => break,
            incoming = shared.quinn.accept() => incoming,
        };
        let Some(incoming) = incoming else { break };
        if !shared.is_open() {
            shared.counters.handshakes_refused.add_one();
            incoming.refuse();
            continue;
        }
        let is_wary = gate.handshakes.available_permits() < gate.wary_below;
        if is_wary && !incoming.remote_address_validated() && incoming.may_retry() {
            shared.counters.handshakes_retried.add_one();
            if let Err(e) = incoming.retry() {
                e.into_incoming().refuse();
            }
            continue;
        }
        let handshake = Arc::clone(&gate.handshakes).try_acquire_owned();
        let connection = Arc::clone(&gate.connections).try_acquire_owned();
        let (Ok(handshake), Ok(connection)) = (handshake, connection) else {
            shared.counters.handshakes_refused.add_one();
            incoming.refuse();
            continue;
        };
        let task_shared = Arc::clone(&shared);
        shared.connections.spawn(async move {
            let shared = task_shared;
            let shaken = tokio::select! {
                biased;
                () = shared.stopped.cancelled() => return,
                shaken = shake_hands(&shared, incoming) => shaken,
            };
            drop(handshake);
            match shaken {
                Some((caller, control)) => serve_streams(shared, Arc::new(caller), control).await,
                None => shared.counters.handshakes_failed.add_one(),
            }
            drop(connection);
        });
    }
    // Connections that were made from here may live on; nobody takes new ones any more.
    shared.tls.close(&shared.quinn);
}

/// Completes a handshake; `None` if it failed, which is nobody's business but the other side's.
async fn shake_hands(shared: &Shared, incoming: quinn::Incoming) -> Option<(Caller, Control)> {
    let from = incoming.remote_address();
    let connecting = incoming
        .accept()
        .inspect_err(|e| tracing::debug!(%from, %e, "no handshake"))
        .ok()?;
    let connection =
        match timeout(shared.config.connect_timeout, complete(shared, connecting)).await {
            Ok(Ok(connection)) => connection,
            Ok(Err(e)) => {
                tracing::debug!(%from, error = %e, "handshake failed");
                return None;
            }
            Err(_) => {
                tracing::debug!(%from, "handshake took too long");
                return None;
            }
        };
    let Some(name) = chain_of(&connection).and_then(|chain| tls::node_name(chain.first()?)) else {
        connection.close(answer::CLOSE_NO_NAME, b"the certificate has no DNS name");
        return None;
    };
    let peer = Peer::new(
        name,
        crate::endpoint::canonical(connection.remote_address()),
    );
    let control = say_hello(shared, &connection).await?;
    shared.counters.connections_accepted.add_one();
    tracing::debug!(%peer, "connection accepted");
    Some((Caller::new(connection, peer), control))
}

/// Tells the caller that it was let in, and with which limits.
async fn say_hello(shared: &Shared, connection: &quinn::Connection) -> Option<Control> {
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
            streams_max: shared.config.streams_max.get(),
            lanes_max: shared.config.lanes.get(),
            lane_calls_max: shared.config.lane_calls_max.get(),
        },
    );
    let said = timeout(shared.config.connect_timeout, async {
        let mut stream = connection.open_uni().await.ok()?;
        stream.write_all(&hello).await.ok()?;
        Some(Control {
            stream,
            told: draining,
        })
    });
    said.await.ok().flatten()
}

/// Takes the streams of one connection, until the connection or the endpoint ends, and tells it when the server drains.
async fn serve_streams(shared: Arc<Shared>, caller: Arc<Caller>, control: Control) {
    let mut draining_changed = shared.draining_changed.subscribe();
    // It may have changed between the hello and here.
    draining_changed.mark_changed();
    let Control {
        mut stream,
        mut told,
    } = control;
    let mut streams_taken: u64 = 0;
    loop {
        tokio::select! {
            biased;
            () = shared.stopped.cancelled() => break,
            stream = caller.connection.accept_bi() => match stream {
                Ok((send, recv)) => {
                    streams_taken += 1;
                    let stream = serve_stream(Arc::clone(&shared), Arc::clone(&caller), send, recv);
                    shared.calls.spawn(stream);
                }
                Err(e) => {
                    tracing::debug!(peer = %caller.peer, error = %e, "connection ended");
                    return;
                }
            },
            Ok(()) = draining_changed.changed() => {
                let draining = shared.is_draining();
                if std::mem::replace(&mut told, draining) == draining {
                    continue;
                }
                let mut frame = BytesMut::new();
                wire::encode_draining(&mut frame, draining);
                // A few bytes: who has no room for them is not there, and else finds out by being refused.
                let said = stream.write_all(&frame).now_or_never();
                if !matches!(said, Some(Ok(()))) {
                    tracing::debug!(peer = %caller.peer, "does not hear whether the server drains");
                }
            }
        }
    }
    // Callers whose streams were not taken learn that nothing was done for them.
    caller
        .connection
        .close(answer::CLOSE_SHUTDOWN, &streams_taken.to_le_bytes());
}

/// Waits for the end of a handshake.
async fn complete(
    shared: &Shared,
    mut connecting: quinn::Connecting,
) -> Result<quinn::Connection, ConnectionError> {
    // Whether a session is resumed is decided by the caller's first flight.
    connecting.handshake_data().await?;
    let (connection, completed) = match connecting.into_0rtt() {
        Ok(begun) => begun,
        Err(connecting) => return connecting.await,
    };
    // Certificates that are known by now are those of a session, at which TLS itself does not look again.
    let trusted = chain_of(&connection)
        .is_none_or(|chain| shared.tls.current().trusts_caller(&chain, UnixTime::now()));
    completed.await;
    if !trusted {
        connection.close(answer::CLOSE_UNTRUSTED, b"the certificate is not trusted");
    }
    match connection.close_reason() {
        Some(reason) => Err(reason),
        None => Ok(connection),
    }
}

/// The certificates that the other side showed, in this handshake or in that of the session.
fn chain_of(connection: &quinn::Connection) -> Option<Vec<CertificateDer<'static>>> {
    let chain = connection.peer_identity()?.downcast().ok()?;
    Some(*chain)
}
