//! Letting connections in, not too many strangers at a time.

use std::{num::NonZeroUsize, sync::Arc};

use bytes::BytesMut;
use rustls_pki_types::CertificateDer;
use tokio::{sync::Semaphore, time::timeout};

use super::call::{self, ServedConnection};
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
                Some(served) => serve_streams(shared, served).await,
                None => shared.counters.handshakes_failed.add_one(),
            }
            drop(connection);
        });
    }
    // Connections that were made from here may live on; nobody takes new ones any more.
    shared.quinn.set_server_config(None);
}

/// Completes a handshake; `None` if it failed, which is nobody's business but the other side's.
async fn shake_hands(shared: &Shared, incoming: quinn::Incoming) -> Option<ServedConnection> {
    let from = incoming.remote_address();
    let connecting = incoming
        .accept()
        .inspect_err(|e| tracing::debug!(%from, %e, "no handshake"))
        .ok()?;
    let connection = match timeout(shared.config.connect_timeout, connecting).await {
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
    let Some(name) = name_of(&connection) else {
        connection.close(answer::CLOSE_NO_NAME, b"the certificate has no DNS name");
        return None;
    };
    let peer = Peer::new(
        name,
        crate::endpoint::canonical(connection.remote_address()),
    );
    say_hello(shared, &connection).await?;
    shared.counters.connections_accepted.add_one();
    tracing::debug!(%peer, "connection accepted");
    Some(ServedConnection { connection, peer })
}

/// Tells the caller that it was let in, and with which limits.
async fn say_hello(shared: &Shared, connection: &quinn::Connection) -> Option<()> {
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
            draining: shared.is_draining(),
            message_bytes_max: u32::try_from(shared.config.message_bytes_max).unwrap_or(u32::MAX),
            streams_max: shared.config.streams_max.get(),
            lanes_max: 0,
            lane_calls_max: 0,
        },
    );
    let said = timeout(shared.config.connect_timeout, async {
        let mut stream = connection.open_uni().await.ok()?;
        stream.write_all(&hello).await.ok()?;
        stream.finish().ok()
    });
    said.await.ok().flatten()
}

/// Takes the streams of one connection, each of which is a call, until the connection or the endpoint ends.
async fn serve_streams(shared: Arc<Shared>, served: ServedConnection) {
    let mut streams_taken: u64 = 0;
    loop {
        tokio::select! {
            biased;
            () = shared.stopped.cancelled() => break,
            stream = served.connection.accept_bi() => match stream {
                Ok((send, recv)) => {
                    streams_taken += 1;
                    let call = call::serve(Arc::clone(&shared), served.peer.clone(), send, recv);
                    shared.calls.spawn(call);
                }
                Err(e) => {
                    tracing::debug!(peer = %served.peer, error = %e, "connection ended");
                    return;
                }
            },
        }
    }
    // Callers whose streams were not taken learn that nothing was done for them.
    served
        .connection
        .close(answer::CLOSE_SHUTDOWN, &streams_taken.to_le_bytes());
}

/// The first DNS name of the certificate that the other side showed.
fn name_of(connection: &quinn::Connection) -> Option<String> {
    let chain = connection
        .peer_identity()?
        .downcast::<Vec<CertificateDer<'static>>>()
        .ok()?;
    tls::node_name(chain.first()?)
}
