//! Dialling: the handshake of an outgoing connection and the server's hello.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use quinn::ConnectionError;
use tokio::time::timeout;

use crate::{
    ConnectError, Peer, Tls, TransportConfig,
    accounts::{ConnectionAccount, PeerAccounts, StreamBudget},
    addr::{can_reach, canonical, unreachable_family},
    busy_poll::BusyPoll,
    close::{CLOSE_PROTOCOL, close_at_once},
    connections::{ConnectionRegistry, RegisteredConnection},
    current_tls::CurrentTls,
    gauge::Gauge,
    quic,
    runtime::{EndpointRuntime, RuntimeEnded},
    stats::Counters,
    stream::{ReadFailure, RecvHalf},
    tls::{Identity, PeerTls, VerifyFailure, canonical_name},
    wire::{Decoder, Frame, Hello, StreamKind},
};

/// Part of an endpoint that opens connections.
pub(crate) struct Dialer {
    pub(crate) quinn: quinn::Endpoint,
    pub(crate) runtime: EndpointRuntime,
    pub(crate) config: Arc<TransportConfig>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) tls: Arc<CurrentTls>,
    /// Connections of the endpoint, in both directions.
    pub(crate) registry: Arc<ConnectionRegistry>,
    /// Bytes of each peer as a server. Kept apart from those of callers, because a call that is
    /// served may wait for one that its handler makes.
    pub(crate) server_accounts: PeerAccounts,
    /// Calls being made.
    pub(crate) outgoing: Gauge,
    pub(crate) busy_poll: Arc<BusyPoll>,
}

/// Node that a connection is opened to.
pub(crate) struct DialTarget {
    pub(crate) peer: Peer,
    pub(crate) known: Arc<PeerTls>,
    /// Registered before the handshake, so that a disconnect also ends a connection that is being
    /// opened.
    pub(crate) registered: Arc<RegisteredConnection>,
}

/// Established connection, as the dialer hands it to a client.
pub(crate) struct OpenedConnection {
    pub(crate) connection: quinn::Connection,
    pub(crate) peer: Peer,
    /// Account of the bytes held of what the server sends.
    pub(crate) account: Arc<ConnectionAccount>,
    pub(crate) hello: Hello,
    /// Control stream that the hello came on, for the frames that follow it.
    pub(crate) control: RecvHalf,
    pub(crate) registered: Arc<RegisteredConnection>,
}

impl Dialer {
    /// Opens a connection, within the connect timeout.
    pub(crate) async fn connect(
        &self,
        addr: SocketAddr,
        name: &str,
    ) -> Result<OpenedConnection, ConnectError> {
        let (target, connecting) = self.dial(addr, name, false)?;
        self.finish(&target, connecting).await
    }

    /// Completes a handshake that was started by [`dial`](Self::dial), within the connect timeout.
    pub(crate) async fn finish(
        &self,
        target: &DialTarget,
        connecting: quinn::Connecting,
    ) -> Result<OpenedConnection, ConnectError> {
        let after = self.config.connect_timeout;
        let opened = self.until_runtime_ends(async {
            let opened = timeout(after, self.complete_handshake(target, connecting)).await;
            opened.unwrap_or_else(|_| Err(target.timed_out(after)))
        });
        opened
            .await
            .inspect(|opened| tracing::debug!(peer = %opened.peer, "connection opened"))
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
        // The operating system would not send any datagram, and the caller would learn it by the
        // timeout only.
        if let Ok(bound) = self.quinn.local_addr()
            && !can_reach(bound, addr)
        {
            let reason = unreachable_family(bound, addr);
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
                quinn::ConnectError::EndpointStopping if self.runtime.check_ended() => {
                    ConnectError::RuntimeEnded
                }
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
                Err(ReadFailure::Lost(e)) => Err(failed(e)),
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
        target.read_identity(&connection);
        target.registered.set_established(&connection);
        self.counters.connections_opened.add_one();
        let account = self.server_accounts.account(target.peer.shared_name());
        Ok(OpenedConnection {
            account: ConnectionAccount::new(account, Some(connection.clone())),
            connection,
            peer: target.peer.clone(),
            hello,
            control,
            registered: Arc::clone(&target.registered),
        })
    }

    /// Replaces the TLS identity of new connections in both directions; `false` if the endpoint is
    /// closed.
    pub(crate) fn replace_tls(&self, tls: Tls) -> bool {
        let (config, counters) = (&self.config, &self.counters);
        self.tls.replace(tls, &self.quinn, config, counters)
    }

    /// Error for a connection that was not established.
    pub(crate) fn connect_error(
        &self,
        target: &DialTarget,
        error: ConnectionError,
    ) -> ConnectError {
        let addr = target.peer.addr();
        let failure = quic::is_local_tls_failure(&error).then(|| target.known.verify_failure());
        match failure.flatten() {
            Some(VerifyFailure::WrongName { presented }) => ConnectError::WrongNode {
                addr,
                expected: target.peer.name().to_owned(),
                presented,
            },
            Some(VerifyFailure::Untrusted { reason }) => ConnectError::Untrusted { addr, reason },
            None => quic::connect_error(addr, self.config.connect_timeout, error),
        }
    }

    /// Waits for the end of a handshake and for the server's hello.
    async fn complete_handshake(
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

    /// Waits for a handshake on the timers of the endpoint's runtime, at most until that runtime
    /// ends.
    async fn until_runtime_ends<T>(
        &self,
        handshake: impl Future<Output = Result<T, ConnectError>>,
    ) -> Result<T, ConnectError> {
        let until = async {
            tokio::select! {
                biased;
                () = self.runtime.ended() => Err(ConnectError::RuntimeEnded),
                opened = handshake => opened,
            }
        };
        match self.runtime.in_runtime(until).await {
            Ok(Err(ConnectError::EndpointClosed)) if self.runtime.check_ended() => {
                Err(ConnectError::RuntimeEnded)
            }
            Ok(opened) => opened,
            Err(RuntimeEnded) => Err(ConnectError::RuntimeEnded),
        }
    }
}

impl DialTarget {
    /// Sets the identity of the peer: the handshake has verified its certificate, or that of the
    /// resumed session.
    fn read_identity(&self, connection: &quinn::Connection) {
        let chain = quic::certificate_chain(connection).unwrap_or_default();
        let identity = chain.first().map(Identity::read);
        if let Some(Ok(identity)) = identity {
            self.peer.set_identity(identity);
        }
    }

    /// Error for a handshake that has taken too long.
    pub(crate) fn timed_out(&self, after: Duration) -> ConnectError {
        let addr = self.peer.addr();
        ConnectError::Timeout { addr, after }
    }

    /// Waits for a connection to be established, unless its node is disconnected meanwhile.
    pub(crate) async fn or_disconnected<T>(
        &self,
        established: impl Future<Output = Result<T, ConnectError>>,
    ) -> Result<T, ConnectError> {
        let addr = self.peer.addr();
        tokio::select! {
            biased;
            () = self.registered.disconnected() => Err(ConnectError::Disconnected { addr }),
            established = established => established,
        }
    }
}

/// A hello frame has no body.
const HELLO_BYTES_MAX: usize = 0;
