//! Binding: from an address or a socket to a running endpoint.

use std::{net::SocketAddr, sync::Arc};

use parking_lot::Mutex;
use quinn::AsyncUdpSocket;

use super::{Endpoint, EndpointHandle, EndpointShared, shared::PortParts};
use crate::{
    BindError, SideChannel, Tls, TransportConfig,
    accounts::PeerAccounts,
    busy_poll::{BusyPoll, QuicRuntime},
    current_tls::CurrentTls,
    dial::Dialer,
    gauge::Gauge,
    quic,
    runtime::EndpointRuntime,
    server::{AcceptLimits, serve_connections},
    socket::{self, DemuxSocket, OpenPort, SideQueue},
    stats::Counters,
    tls_reload,
};

impl Endpoint {
    /// Opens a port. Port 0 lets the operating system choose: see [`local_addr`](Self::local_addr).
    ///
    /// # Errors
    ///
    /// [`BindError`] if the address is in use or does not belong to this host, if the config
    /// contradicts itself, or outside of a tokio runtime.
    pub fn bind(addr: SocketAddr, config: TransportConfig, tls: Tls) -> Result<Self, BindError> {
        Self::check_bind(&config)?;
        let port = OpenPort::new(addr, socket::open(addr, config.socket_buffer_bytes)?)?;
        Self::bind_on(port, 0, addr, config, tls)
    }

    /// Checks whether an endpoint with this config can be opened here.
    pub(crate) fn check_bind(config: &TransportConfig) -> Result<(), BindError> {
        config.validate()?;
        match tokio::runtime::Handle::try_current() {
            Ok(_) => Ok(()),
            Err(_) => Err(BindError::NoRuntime),
        }
    }

    /// Creates the endpoint of a socket that was opened on `addr`, after
    /// [`check_bind`](Self::check_bind).
    pub(crate) fn bind_on(
        port: OpenPort,
        shard: usize,
        addr: SocketAddr,
        config: TransportConfig,
        tls: Tls,
    ) -> Result<Self, BindError> {
        let failed = |source| BindError::Io { addr, source };
        let runtime = EndpointRuntime::current().ok_or(BindError::NoRuntime)?;
        let local_addr = port.udp.local_addr().map_err(failed)?;
        let counters = Arc::new(Counters::default());
        let side = Arc::new(SideQueue::new(
            config.side_channel_len.get(),
            config.side_datagram_bytes_max,
            Arc::clone(&counters),
        ));
        let busy_poll = Arc::new(BusyPoll::new(config.busy_poll, Arc::clone(&counters)));
        let socket = demux_socket(&port, &side, &busy_poll, &config);
        let node_name = tls.node_name().into();
        // The key of the first identity, for the life of the endpoint: peers hold reset tokens made
        // with it.
        let key = tls.reset_key(local_addr, shard);
        let (tls, server) = CurrentTls::new(tls, &config, &counters);
        let mut quic_config = quic::endpoint_config(&config, key);
        quic_config.rng_seed(port.rng_seed);
        let quinn = quinn::Endpoint::new_with_abstract_socket(
            quic_config,
            Some(server),
            socket,
            Arc::new(QuicRuntime::new(
                runtime.clone(),
                &busy_poll,
                port.direct.as_ref(),
            )),
        )
        .map_err(failed)?;
        let dialer = Dialer {
            quinn,
            runtime,
            server_accounts: PeerAccounts::new(&config),
            config: Arc::new(config),
            counters,
            tls: Arc::new(tls),
            registry: Arc::default(),
            outgoing: Gauge::default(),
            busy_poll,
        };
        let port_parts = PortParts {
            closer: port.close,
            side_queue: Arc::clone(&side),
        };
        let shared = Arc::new(EndpointShared::new(dialer, port_parts, node_name));
        start_tasks(&shared, shard);
        Ok(Self(Arc::new(EndpointHandle {
            shared,
            local_addr,
            buffers: port.buffers,
            side_channel: Mutex::new(Some(SideChannel::new(
                side,
                port.udp,
                port.direct,
                local_addr,
            ))),
            tls_watch: Mutex::default(),
        })))
    }
}

/// Socket that QUIC reads: the port, less the datagrams of the side channel.
fn demux_socket(
    port: &OpenPort,
    side: &Arc<SideQueue>,
    busy_poll: &Arc<BusyPoll>,
    config: &TransportConfig,
) -> Arc<dyn AsyncUdpSocket> {
    Arc::new(DemuxSocket::new(
        Arc::clone(&port.udp),
        Arc::clone(side),
        Arc::clone(busy_poll),
        config.quic.mtu_max,
        quic::receive_bytes_max(config),
    ))
}

/// Starts the tasks that an endpoint has from its beginning to its end.
fn start_tasks(shared: &Arc<EndpointShared>, shard: usize) {
    shared.busy_poll.start(shared.lifecycle.stopped.clone());
    let side = Arc::clone(&shared.port.side_queue);
    shared.runtime.on_end(move || side.close());
    // Started at once, so that callers are refused with a reason before the endpoint serves.
    let accept_limits = AcceptLimits::new(&shared.config);
    shared
        .connections
        .spawn(serve_connections(Arc::clone(shared), accept_limits));
    // Shards share one identity, so one of them warns of its expiry.
    if shard == 0 {
        tls_reload::warn_of_expiry(shared);
    }
}
