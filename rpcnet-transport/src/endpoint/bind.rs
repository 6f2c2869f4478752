//! Binding: from an address or a socket to a running endpoint.

use std::{net::SocketAddr, sync::Arc};

use parking_lot::{Mutex, RwLock};
use quinn::AsyncUdpSocket;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{Endpoint, EndpointHandle, EndpointShared, lifecycle::Lifecycle, shared::PortParts};
use crate::{
    BindError, SideChannel, Tls, TransportConfig,
    accounts::PeerAccounts,
    busy_poll::BusyPoll,
    current_tls::CurrentTls,
    dial::Dialer,
    gauge::Gauge,
    quic,
    runtime::EndpointRuntime,
    server::{AcceptLimits, AdmissionGate, QueueDelay, serve_connections},
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
        OpenPort {
            udp,
            direct,
            close,
            buffers,
        }: OpenPort,
        shard: usize,
        addr: SocketAddr,
        config: TransportConfig,
        tls: Tls,
    ) -> Result<Self, BindError> {
        let failed = |source| BindError::Io { addr, source };
        let runtime = EndpointRuntime::current().ok_or(BindError::NoRuntime)?;
        let local_addr = udp.local_addr().map_err(failed)?;
        let counters = Arc::new(Counters::default());
        let side = Arc::new(SideQueue::new(
            config.side_channel_len.get(),
            config.side_datagram_bytes_max,
            Arc::clone(&counters),
        ));
        let busy_poll = Arc::new(BusyPoll::new(config.busy_poll));
        let port: Arc<dyn AsyncUdpSocket> = Arc::new(DemuxSocket::new(
            Arc::clone(&udp),
            Arc::clone(&side),
            Arc::clone(&busy_poll),
            config.quic.mtu_max,
            quic::receive_bytes_max(&config),
        ));
        let node_name = tls.node_name().into();
        let key = tls.reset_key(local_addr, shard);
        let (tls, server) = CurrentTls::new(tls, &config, &counters);
        let quinn = quinn::Endpoint::new_with_abstract_socket(
            // The key of the first identity, for the life of the endpoint: peers hold reset tokens
            // made with it.
            quic::endpoint_config(&config, key),
            Some(server),
            port,
            Arc::new(runtime.clone()),
        )
        .map_err(failed)?;
        let admission = config
            .limits
            .admission
            .as_ref()
            .map(|a| Arc::new(AdmissionGate::new(a)));
        let stopped = CancellationToken::new();
        busy_poll.start(stopped.clone());
        runtime.on_end({
            let side = Arc::clone(&side);
            move || side.close()
        });
        let config = Arc::new(config);
        let dialer = Dialer {
            quinn,
            runtime: runtime.clone(),
            config: Arc::clone(&config),
            counters: Arc::clone(&counters),
            tls: Arc::new(tls),
            registry: Arc::default(),
            server_accounts: PeerAccounts::new(&config),
            outgoing: Gauge::default(),
            busy_poll: Arc::clone(&busy_poll),
        };
        let shared = EndpointShared {
            dialer: Arc::new(dialer),
            lifecycle: Lifecycle::new(config.limits.drain_grace, stopped),
            port: PortParts {
                closer: close,
                side_queue: Arc::clone(&side),
            },
            runtime,
            counters,
            served: Arc::default(),
            accounts: PeerAccounts::new(&config),
            connections: TaskTracker::new(),
            queue_delay: QueueDelay::default(),
            admission,
            busy_poll,
            router: RwLock::default(),
            node_name,
            config,
        };
        let shared = Arc::new(shared);
        // Started at once, so that callers are refused with a reason before the endpoint serves.
        let accept_limits = AcceptLimits::new(&shared.config);
        shared
            .connections
            .spawn(serve_connections(Arc::clone(&shared), accept_limits));
        // Shards share one identity, so one of them warns of its expiry.
        if shard == 0 {
            tls_reload::warn_of_expiry(&shared);
        }
        Ok(Self(Arc::new(EndpointHandle {
            shared,
            local_addr,
            buffers,
            side_channel: Mutex::new(Some(SideChannel::new(side, udp, direct, local_addr))),
            tls_watch: Mutex::default(),
        })))
    }
}
