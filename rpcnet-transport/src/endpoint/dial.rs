//! Connections that are made from an endpoint.

use std::{net::SocketAddr, sync::Arc};

use quinn::ConnectionError;
use rustls_pki_types::ServerName;
use tokio::time::timeout;

use super::{Endpoint, Shared};
use crate::{
    ConnectError, Peer,
    client::{Opened, answer},
    quic,
    stream::RecvHalf,
    tls::{KnownPeer, Refusal},
    wire::{Decoder, Frame, StreamKind},
};

/// The node that a connection is made to.
pub(crate) struct Target {
    pub(crate) peer: Peer,
    pub(crate) known: Arc<KnownPeer>,
}

impl Endpoint {
    pub(crate) async fn open(&self, addr: SocketAddr, name: &str) -> Result<Opened, ConnectError> {
        let shared = &self.0.shared;
        let after = shared.config.connect_timeout;
        timeout(after, shared.open(addr, name))
            .await
            .unwrap_or(Err(ConnectError::Timeout { addr, after }))
            .inspect(|opened| tracing::debug!(peer = %opened.peer, "connection opened"))
    }
}

impl Shared {
    async fn open(&self, addr: SocketAddr, name: &str) -> Result<Opened, ConnectError> {
        let (target, connecting) = self.dial(addr, name, false)?;
        self.complete(&target, connecting).await
    }

    /// Begins a handshake, which may begin with calls.
    pub(crate) fn dial(
        &self,
        addr: SocketAddr,
        name: &str,
        early: bool,
    ) -> Result<(Target, quinn::Connecting), ConnectError> {
        let bad_name = || ConnectError::InvalidName(name.to_owned());
        if !matches!(ServerName::try_from(name), Ok(ServerName::DnsName(_))) {
            return Err(bad_name());
        }
        let known = self.tls.sessions().peer(addr, name);
        let crypto = if early {
            &known.early_crypto
        } else {
            &known.crypto
        };
        let config = quic::client_config(&self.config, Arc::clone(crypto));
        let connecting = self
            .quinn
            .connect_with(config, addr, name)
            .map_err(|e| match e {
                quinn::ConnectError::EndpointStopping => ConnectError::EndpointClosed,
                quinn::ConnectError::InvalidServerName(_) => bad_name(),
                other => ConnectError::InvalidAddress {
                    addr,
                    reason: other.to_string(),
                },
            })?;
        let peer = Peer::new(name, addr);
        Ok((Target { peer, known }, connecting))
    }

    /// Waits for the end of a handshake, and what the server says then.
    pub(crate) async fn complete(
        &self,
        target: &Target,
        connecting: quinn::Connecting,
    ) -> Result<Opened, ConnectError> {
        let connection = connecting.await;
        let connection = connection.map_err(|e| self.connect_error(target, e))?;
        self.greet(target, connection).await
    }

    /// Waits for the server's hello. The handshake ends here before the server has judged our certificate; its hello says
    /// that it did.
    pub(crate) async fn greet(
        &self,
        target: &Target,
        connection: quinn::Connection,
    ) -> Result<Opened, ConnectError> {
        let failed = |e| self.connect_error(target, e);
        let hello = async {
            let stream = connection.accept_uni().await.map_err(failed)?;
            let decoder = Decoder::new(StreamKind::Control, HELLO_BYTES_MAX);
            let mut stream = RecvHalf::new(stream, decoder);
            let frame = std::future::poll_fn(|cx| stream.poll_frame(cx)).await;
            match frame {
                Ok(Some(Frame::Hello(hello))) => Ok((hello, stream)),
                Err(crate::stream::ReadFailure::Lost(e)) => Err(failed(e)),
                other => Err(ConnectError::Protocol {
                    addr: target.peer.addr(),
                    reason: format!("no hello: {other:?}"),
                }),
            }
        };
        let (hello, control) = hello.await.inspect_err(|_| {
            connection.close(answer::CLOSE_PROTOCOL, b"no hello");
        })?;
        target.known.note_limit(hello.message_bytes_max);
        self.counters.connections_opened.add_one();
        Ok(Opened {
            connection,
            peer: target.peer.clone(),
            hello,
            control,
            outgoing: self.outgoing.clone(),
            busy_poll: Arc::clone(&self.busy_poll),
        })
    }

    /// Why a connection was not made.
    pub(crate) fn connect_error(&self, target: &Target, error: ConnectionError) -> ConnectError {
        let addr = target.peer.addr();
        let refusal = quic::is_own_refusal(&error).then(|| target.known.refusal());
        match refusal.flatten() {
            Some(Refusal::WrongName { presented }) => ConnectError::WrongNode {
                addr,
                expected: target.peer.name().to_owned(),
                presented,
            },
            Some(Refusal::Untrusted { reason }) => ConnectError::Untrusted { addr, reason },
            None => quic::connect_error(addr, self.config.connect_timeout, error),
        }
    }
}

/// A hello has no body.
const HELLO_BYTES_MAX: usize = 0;
