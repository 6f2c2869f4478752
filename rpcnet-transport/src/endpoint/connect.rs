//! Connecting: clients of other nodes, and disconnecting them.

use std::{net::SocketAddr, sync::Arc};

use super::Endpoint;
use crate::{ConnectError, RpcClient, Tls, TransportConfig, tls::canonical_name};

impl Endpoint {
    /// Connects to the node `name` at `addr`. Each call opens a connection of its own.
    ///
    /// `name` is one of the DNS names of the node's certificate, normally its [node
    /// name](Tls::node_name). Case and a final dot are ignored; a wildcard of the certificate does
    /// not count.
    ///
    /// # Errors
    ///
    /// [`ConnectError`] if no node or another node answers, or if one side does not trust the
    /// other. It fails at once if the name cannot be a node name, or if `addr` is of an address
    /// family that the bound address does not reach.
    pub async fn connect(&self, addr: SocketAddr, name: &str) -> Result<RpcClient, ConnectError> {
        let dialer = &self.0.shared.dialer;
        let opened = dialer.connect(addr, name).await?;
        Ok(RpcClient::new(opened, dialer, None))
    }

    /// Connects to a node that this endpoint was connected to before, without waiting for the
    /// handshake (0-RTT).
    ///
    /// If there is a [session](TransportConfig::with_session_lifetime) of this node at this
    /// address, and the server [accepts early data](TransportConfig::with_early_data), the client
    /// is returned at once. Unary calls on it that are
    /// [replay-safe](crate::CallOptions::with_replay_safe) are sent with the first packets, each on
    /// a stream of its own, and may be answered after one round trip. All other calls wait for the
    /// end of the handshake. Calls that the server rejects as early data, which it has not
    /// processed, are sent again after the handshake, within their deadlines. If the connection
    /// cannot be established, the calls and [`RpcClient::confirmed`] fail.
    ///
    /// Otherwise this is [`connect`](Self::connect).
    ///
    /// Only the right server can read early calls, and only this node can make them, but a host on
    /// the path can replay them. A session is good for one connection, and only its server has it,
    /// so a copy of first packets that were accepted is not accepted again, nor are packets older
    /// than the server. One attack is left (RFC 8446 section 8): the attacker delivers the copy and
    /// holds the original back until the caller repeats the call, which then runs twice. Hence both
    /// sides must declare that a call is replay-safe.
    ///
    /// # Errors
    ///
    /// As for [`connect`](Self::connect).
    pub async fn connect_early(
        &self,
        addr: SocketAddr,
        name: &str,
    ) -> Result<RpcClient, ConnectError> {
        let dialer = Arc::clone(&self.0.shared.dialer);
        let (target, mut connecting) = dialer.dial(addr, name, true)?;
        if let Some(request_bytes_max) = target.known.message_limit() {
            match connecting.into_0rtt() {
                Ok(early) => {
                    let client = RpcClient::new_early(dialer, target, early, request_bytes_max);
                    return Ok(client);
                }
                Err(without_session) => connecting = without_session,
            }
        }
        let opened = dialer.finish(&target, connecting).await?;
        Ok(RpcClient::new(opened, &dialer, None))
    }

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
        let count = canonical_name(name).map_or(0, |name| shared.dialer.registry.disconnect(&name));
        shared.counters.connections_disconnected.add(count as u64);
        tracing::info!(node = name, connections = count, "disconnected");
        count
    }
}

impl RpcClient {
    /// Connects to the node `name` at `addr` from a port of its own, with default settings. A
    /// program that also serves, or opens several connections, calls [`Endpoint::connect`] instead.
    ///
    /// # Errors
    ///
    /// [`ConnectError`] as for [`Endpoint::connect`], and [`ConnectError::Bind`].
    pub async fn connect(addr: SocketAddr, name: &str, tls: &Tls) -> Result<Self, ConnectError> {
        let any: SocketAddr = if addr.is_ipv6() {
            (std::net::Ipv6Addr::UNSPECIFIED, 0).into()
        } else {
            (std::net::Ipv4Addr::UNSPECIFIED, 0).into()
        };
        let endpoint = Endpoint::bind(any, TransportConfig::default(), tls.clone())
            .map_err(|e| ConnectError::Bind(Arc::new(e)))?;
        let dialer = Arc::clone(&endpoint.0.shared.dialer);
        let opened = dialer.connect(addr, name).await?;
        Ok(Self::new(opened, &dialer, Some(endpoint)))
    }
}
