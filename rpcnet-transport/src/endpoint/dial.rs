//! Dialling: the handshake of an outgoing connection and the server's hello.

use std::{net::SocketAddr, sync::Arc};

use quinn::ConnectionError;
use tokio::time::timeout;

use super::{Endpoint, EndpointShared, canonical};
use crate::{
    ConnectError, Peer,
    accounts::{ConnectionAccount, StreamBudget},
    client::OpenedConnection,
    close::{CLOSE_PROTOCOL, close_at_once},
    connections::RegisteredConnection,
    quic,
    runtime::RuntimeEnded,
    stream::RecvHalf,
    tls::{PeerTls, VerifyFailure, canonical_name},
    wire::{Decoder, Frame, StreamKind},
};

/// Node that a connection is opened to.
pub(crate) struct DialTarget {
    pub(crate) peer: Peer,
    pub(crate) known: Arc<PeerTls>,
    /// Registered before the handshake, so that a disconnect also ends a connection that is being
    /// opened.
    pub(crate) registered: Arc<RegisteredConnection>,
}

impl Endpoint {
    /// Closes all connections with a node, in both directions, and drops what is served for it;
    /// returns their number. The name may be in any case and may end with a dot. The node learns
    /// the reason ([`CloseReason::Disconnected`](crate::CloseReason::Disconnected)) and may connect
    /// again unless an [authorizer](crate::TransportConfig::with_authorizer) denies it: let the
    /// authorizer deny it first.
    ///
    /// Connections that are being opened end too, in both directions. Those that are opened from
    /// here count, and end with [`ConnectError::Disconnected`]; those of the node are closed as
    /// soon as the handshake shows its name. Connections begun after this call are not affected.
    pub fn disconnect(&self, name: &str) -> usize {
        let shared = &self.0.shared;
        let count = canonical_name(name).map_or(0, |name| shared.registry.disconnect(&name));
        shared.counters.connections_disconnected.add(count as u64);
        tracing::info!(node = name, connections = count, "disconnected");
        count
    }

    /// Tokio runtime that the endpoint was bound in. All tasks and timers of its connections run
    /// there, whichever thread uses them. When the runtime ends, the connections end, and
    /// everything that waits for them fails with [`ConnectError::RuntimeEnded`].
    pub fn runtime(&self) -> &tokio::runtime::Handle {
        self.0.shared.runtime.handle()
    }

    /// Polls a future in the context of the endpoint's [runtime](Self::runtime), so that its spawns
    /// and timers use that runtime on any thread.
    ///
    /// # Errors
    ///
    /// [`ConnectError::RuntimeEnded`] if the runtime has ended; the future is not polled any
    /// further.
    pub async fn in_runtime<F: Future>(&self, future: F) -> Result<F::Output, ConnectError> {
        let inside = self.0.shared.runtime.in_runtime(future).await;
        inside.map_err(|RuntimeEnded| ConnectError::RuntimeEnded)
    }

    /// Whether the endpoint's [runtime](Self::runtime) has ended.
    pub fn has_runtime_ended(&self) -> bool {
        self.0.shared.runtime.probe_ended()
    }

    pub(crate) async fn connect_within_timeout(
        &self,
        addr: SocketAddr,
        name: &str,
    ) -> Result<OpenedConnection, ConnectError> {
        let shared = &self.0.shared;
        let after = shared.config.connect_timeout;
        let opened = shared.until_runtime_ends(async {
            timeout(after, shared.connect(addr, name))
                .await
                .unwrap_or(Err(ConnectError::Timeout { addr, after }))
        });
        opened
            .await
            .inspect(|opened| tracing::debug!(peer = %opened.peer, "connection opened"))
    }
}

impl EndpointShared {
    /// Waits for a handshake on the timers of the endpoint's runtime, at most until that runtime
    /// ends.
    pub(crate) async fn until_runtime_ends<T>(
        &self,
        handshake: impl Future<Output = Result<T, ConnectError>>,
    ) -> Result<T, ConnectError> {
        let until = async {
            tokio::select! {
                biased;
                () = self.runtime.ended() => Err(ConnectError::RuntimeEnded),
                made = handshake => made,
            }
        };
        match self.runtime.in_runtime(until).await {
            Ok(Err(ConnectError::EndpointClosed)) if self.runtime.probe_ended() => {
                Err(ConnectError::RuntimeEnded)
            }
            Ok(made) => made,
            Err(RuntimeEnded) => Err(ConnectError::RuntimeEnded),
        }
    }

    async fn connect(
        &self,
        addr: SocketAddr,
        name: &str,
    ) -> Result<OpenedConnection, ConnectError> {
        let (target, connecting) = self.dial(addr, name, false)?;
        self.complete_handshake(&target, connecting).await
    }

    /// Starts a handshake; with `early`, calls may be sent before it completes.
    pub(crate) fn dial(
        &self,
        addr: SocketAddr,
        name: &str,
        early: bool,
    ) -> Result<(DialTarget, quinn::Connecting), ConnectError> {
        let bad_name = || ConnectError::InvalidName(name.to_owned());
        let name = &*canonical_name(name).map_err(|_| bad_name())?;
        let addr = canonical(addr);
        // The operating system would refuse each datagram, and the caller would learn it by the
        // timeout only.
        if let Ok(bound) = self.quinn.local_addr()
            && !can_reach(bound, addr)
        {
            let reason = other_family(bound, addr);
            return Err(ConnectError::InvalidAddress { addr, reason });
        }
        let known = self.tls.sessions().peer(addr, name);
        let crypto = if early {
            &known.early_crypto
        } else {
            &known.crypto
        };
        let peer = Peer::new(name, addr);
        let registered = Arc::new(self.registry.register(peer.shared_name(), None));
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
        let target = DialTarget {
            peer,
            known,
            registered,
        };
        Ok((target, connecting))
    }

    /// Waits for the end of the handshake and for the server's hello.
    pub(crate) async fn complete_handshake(
        &self,
        target: &DialTarget,
        connecting: quinn::Connecting,
    ) -> Result<OpenedConnection, ConnectError> {
        let opened = async {
            let connection = connecting.await;
            let connection = connection.map_err(|e| self.connect_error(target, e))?;
            self.read_hello(target, connection).await
        };
        target.or_disconnected(opened).await
    }

    /// Waits for the server's hello. On this side the handshake completes before the server has
    /// verified our certificate; its hello confirms that it has.
    pub(crate) async fn read_hello(
        &self,
        target: &DialTarget,
        connection: quinn::Connection,
    ) -> Result<OpenedConnection, ConnectError> {
        let failed = |e| self.connect_error(target, e);
        let hello = async {
            let stream = connection.accept_uni().await.map_err(failed)?;
            let decoder = Decoder::new(StreamKind::Control, HELLO_BYTES_MAX);
            let mut stream = RecvHalf::new(stream, decoder, StreamBudget::unlimited());
            let frame = std::future::poll_fn(|cx| stream.poll_frame(cx)).await;
            match frame {
                Ok(Some(Frame::Hello(hello))) => Ok((hello, stream)),
                Err(crate::stream::ReadFailure::Lost(e)) => Err(failed(e)),
                other => Err(ConnectError::Protocol {
                    addr: target.peer.addr(),
                    reason: format!("no hello frame: {other:?}"),
                }),
            }
        };
        let (hello, control) = hello.await.inspect_err(|_| {
            close_at_once(&connection, CLOSE_PROTOCOL, b"no hello frame");
        })?;
        target.known.set_message_limit(hello.message_bytes_max);
        target.registered.set_established(&connection);
        self.counters.connections_opened.add_one();
        let account = self.server_accounts.account(target.peer.shared_name());
        Ok(OpenedConnection {
            account: ConnectionAccount::new(account, Some(connection.clone())),
            connection,
            peer: target.peer.clone(),
            hello,
            control,
            runtime: self.runtime.clone(),
            registered: Arc::clone(&target.registered),
            outgoing: self.outgoing.clone(),
            busy_poll: Arc::clone(&self.busy_poll),
        })
    }

    /// Error for a connection that was not established.
    pub(crate) fn connect_error(
        &self,
        target: &DialTarget,
        error: ConnectionError,
    ) -> ConnectError {
        let addr = target.peer.addr();
        let refusal = quic::is_local_tls_failure(&error).then(|| target.known.verify_failure());
        match refusal.flatten() {
            Some(VerifyFailure::WrongName { presented }) => ConnectError::WrongNode {
                addr,
                expected: target.peer.name().to_owned(),
                presented,
            },
            Some(VerifyFailure::Untrusted { reason }) => ConnectError::Untrusted { addr, reason },
            None => quic::connect_error(addr, self.config.connect_timeout, error),
        }
    }
}

/// Whether a socket bound to one address can send to the other. A socket bound to all IPv6
/// addresses reaches IPv4 too.
fn can_reach(bound: SocketAddr, addr: SocketAddr) -> bool {
    let is_ipv4 = |addr: SocketAddr| canonical(addr).is_ipv4();
    (bound.is_ipv6() && bound.ip().is_unspecified()) || is_ipv4(bound) == is_ipv4(addr)
}

fn other_family(bound: SocketAddr, addr: SocketAddr) -> String {
    let (ours, theirs) = match canonical(addr).is_ipv4() {
        true => ("IPv6", "IPv4"),
        false => ("IPv4", "IPv6"),
    };
    format!(
        "this endpoint is bound to {bound}, which reaches {ours} alone: bind it to an {theirs} address, or to [::] for both"
    )
}

/// A hello frame has no body.
const HELLO_BYTES_MAX: usize = 0;
