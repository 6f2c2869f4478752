//! Endpoint: one UDP port that serves calls, opens connections and carries a side channel.

mod dial;
mod handle;
mod shutdown;

pub(crate) use self::dial::DialTarget;
pub use self::shutdown::ShutdownReport;

use std::{
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU8, Ordering::SeqCst},
    },
};

use parking_lot::{Mutex, RwLock};
use quinn::AsyncUdpSocket;
use tokio::{sync::watch, task::AbortHandle, time::Instant};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    AdmissionState, BindError, ConnectError, Router, RpcClient, RpcServer, SideChannel,
    SocketBuffers, Tls, TransportConfig, TransportStats,
    accounts::PeerAccounts,
    busy_poll::BusyPoll,
    connections::ConnectionRegistry,
    gauge::Gauge,
    quic,
    runtime::EndpointRuntime,
    server::{AcceptLoop, AdmissionGate, QueueDelay, serve_connections},
    socket::{self, ClosePort, DemuxSocket, OpenPort, SideQueue},
    stats::{Counter, Counters},
    tls_reload::{self, CurrentTls},
    wire::LoadReport,
};

/// UDP port that serves calls, opens connections, and carries datagrams of another protocol. Cheap
/// to clone.
///
/// When the last handle (this endpoint, its clones, its [`RpcServer`]) is dropped, the endpoint
/// stops serving at once; connections that it opened live on with their [`RpcClient`]s.
/// [`shutdown`](Self::shutdown) ends it gracefully.
#[derive(Clone)]
pub struct Endpoint(pub(crate) Arc<EndpointHandle>);

/// State that the handles of an endpoint share; its drop stops the serving.
pub(crate) struct EndpointHandle {
    pub(crate) shared: Arc<EndpointShared>,
    local_addr: SocketAddr,
    buffers: SocketBuffers,
    side_channel: Mutex<Option<SideChannel>>,
    pub(crate) tls_watch: Mutex<Option<CancellationToken>>,
}

/// State that the tasks of an endpoint share.
pub(crate) struct EndpointShared {
    pub(crate) quinn: quinn::Endpoint,
    pub(crate) runtime: EndpointRuntime,
    pub(crate) registry: Arc<ConnectionRegistry>,
    port_closer: Arc<dyn ClosePort>,
    side_queue: Arc<SideQueue>,
    pub(crate) config: TransportConfig,
    pub(crate) counters: Arc<Counters>,
    pub(crate) cancelled_by_shutdown: Counter,
    /// Tasks of calls that were counted as cancelled by the shutdown. They may go on if they block
    /// their threads.
    pub(crate) aborted_by_shutdown: Mutex<Vec<AbortHandle>>,
    /// Bytes, calls and connections of each peer as a caller.
    pub(crate) accounts: PeerAccounts,
    /// Bytes of each peer as a server. Kept apart from `accounts`, because a call that is served
    /// may wait for one that its handler makes.
    pub(crate) server_accounts: PeerAccounts,
    /// Calls being served.
    pub(crate) in_flight: Gauge,
    /// Calls whose reply may not have reached the caller yet. A call enters this gauge first and
    /// leaves it last.
    pub(crate) unacknowledged: Gauge,
    /// Calls being made.
    pub(crate) outgoing: Gauge,
    /// Tasks of the streams that peers opened here, one for each stream.
    pub(crate) calls: TaskTracker,
    /// Task that accepts connections, and one task for each connection.
    pub(crate) connections: TaskTracker,
    /// Cancelled when new connections are refused.
    pub(crate) closing: CancellationToken,
    /// Cancelled when handlers are dropped.
    pub(crate) cancel_calls: CancellationToken,
    /// Cancelled when connections are closed and nothing is accepted any more.
    pub(crate) stopped: CancellationToken,
    /// Drain state of the endpoint.
    draining: AtomicU8,
    /// Time until which calls are accepted after the drain was advertised.
    accept_until: Mutex<Option<Instant>>,
    /// Wakes the control streams of the connections when the drain state changes.
    pub(crate) draining_changed: watch::Sender<()>,
    pub(crate) queue_delay: QueueDelay,
    /// Server-wide limit of concurrent calls, if one is configured.
    pub(crate) admission: Option<Arc<AdmissionGate>>,
    pub(crate) busy_poll: Arc<BusyPoll>,
    serving: AtomicBool,
    router: RwLock<Arc<Router>>,
    node_name: Box<str>,
    pub(crate) tls: CurrentTls,
}

impl Endpoint {
    /// Opens a port. Port 0 lets the operating system choose: see [`local_addr`](Self::local_addr).
    ///
    /// # Errors
    ///
    /// [`BindError`] if the address is in use or does not belong to this host, if the config
    /// contradicts itself, or outside of a tokio runtime.
    pub fn bind(addr: SocketAddr, config: TransportConfig, tls: Tls) -> Result<Self, BindError> {
        Self::check_bind(&config)?;
        let (udp, buffers) = socket::open(addr, config.socket_buffer_bytes)?;
        Self::bind_shard(udp, buffers, 0, addr, config, tls)
    }

    /// Creates the endpoint of one of the sockets that were opened on `addr`.
    pub(crate) fn bind_shard(
        udp: std::net::UdpSocket,
        buffers: SocketBuffers,
        shard: usize,
        addr: SocketAddr,
        config: TransportConfig,
        tls: Tls,
    ) -> Result<Self, BindError> {
        let port = OpenPort::new(udp, buffers).map_err(|source| BindError::Io { addr, source })?;
        Self::bind_on(port, shard, addr, config, tls)
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
            config.mtu_max,
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
        let gate = config
            .admission
            .as_ref()
            .map(|a| Arc::new(AdmissionGate::new(a)));
        let (accounts, server_accounts) = (PeerAccounts::new(&config), PeerAccounts::new(&config));
        let stopped = CancellationToken::new();
        busy_poll.start(stopped.clone());
        runtime.on_end({
            let side = Arc::clone(&side);
            move || side.close()
        });
        let shared = EndpointShared {
            quinn,
            runtime,
            registry: Arc::default(),
            port_closer: close,
            side_queue: Arc::clone(&side),
            config,
            counters,
            cancelled_by_shutdown: Counter::default(),
            aborted_by_shutdown: Mutex::default(),
            accounts,
            server_accounts,
            in_flight: Gauge::default(),
            unacknowledged: Gauge::default(),
            outgoing: Gauge::default(),
            calls: TaskTracker::new(),
            connections: TaskTracker::new(),
            closing: CancellationToken::new(),
            cancel_calls: CancellationToken::new(),
            stopped,
            draining: AtomicU8::new(0),
            accept_until: Mutex::default(),
            draining_changed: watch::Sender::new(()),
            queue_delay: QueueDelay::default(),
            admission: gate,
            busy_poll,
            serving: AtomicBool::new(false),
            router: RwLock::default(),
            node_name,
            tls,
        };
        let shared = Arc::new(shared);
        // Started at once, so that callers are refused with a reason before the endpoint serves.
        let gate = AcceptLoop::new(&shared.config);
        shared
            .connections
            .spawn(serve_connections(Arc::clone(&shared), gate));
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

    /// Serves the methods of a router. A second call adds methods.
    ///
    /// # Panics
    ///
    /// If a method of the same name is already served.
    #[track_caller]
    pub fn serve(&self, router: Router) -> RpcServer {
        self.add_methods(router);
        self.0.shared.serving.store(true, SeqCst);
        RpcServer::new(self.clone())
    }

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
        let opened = self.connect_within_timeout(addr, name).await?;
        Ok(RpcClient::new(opened, self.config(), None))
    }

    /// Takes the side channel: the datagrams of another protocol on this port. `None` if it was
    /// taken before. Until it is taken, its datagrams are dropped.
    pub fn side_channel(&self) -> Option<SideChannel> {
        let taken = self.0.side_channel.lock().take();
        taken.inspect(SideChannel::attach_reader)
    }

    /// Address of the port.
    pub fn local_addr(&self) -> SocketAddr {
        self.0.local_addr
    }

    /// Name of this node, from its certificate.
    pub fn node_name(&self) -> &str {
        &self.0.shared.node_name
    }

    /// Settings that the endpoint was opened with.
    pub fn config(&self) -> &TransportConfig {
        &self.0.shared.config
    }

    /// Socket buffers that the operating system granted, which may be smaller than the config asked
    /// for.
    pub fn socket_buffers(&self) -> SocketBuffers {
        self.0.buffers
    }

    /// Snapshot of the counters.
    pub fn stats(&self) -> TransportStats {
        self.0.shared.counters.snapshot()
    }

    /// Calls being served. A lane that is being read at this moment may count as one more.
    pub fn in_flight(&self) -> usize {
        self.0.shared.in_flight.count()
    }

    /// Bytes held for all peers now; see
    /// [`with_buffered_bytes_max`](TransportConfig::with_buffered_bytes_max).
    pub fn buffered_bytes(&self) -> usize {
        let shared = &self.0.shared;
        shared.accounts.bytes() + shared.server_accounts.bytes()
    }

    /// Number of running and queued calls; `None` if calls are not
    /// [limited](TransportConfig::with_admission).
    pub fn admission(&self) -> Option<AdmissionState> {
        self.0.shared.admission.as_ref().map(|gate| gate.state())
    }

    /// State that the tasks of the endpoint share. Holding it does not keep the endpoint open.
    pub(crate) fn shared(&self) -> Arc<EndpointShared> {
        Arc::clone(&self.0.shared)
    }

    #[track_caller]
    pub(crate) fn add_methods(&self, router: Router) {
        let mut current = self.0.shared.router.write();
        *current = Arc::new(Router::clone(&current).merge(router));
    }
}

impl EndpointShared {
    pub(crate) fn router(&self) -> Arc<Router> {
        Arc::clone(&self.router.read())
    }

    /// Load report that replies carry at this moment.
    pub(crate) fn load(&self) -> LoadReport {
        let in_flight = self.in_flight.count();
        LoadReport {
            in_flight: u16::try_from(in_flight).unwrap_or(u16::MAX),
            draining: self.is_draining(),
            busy: in_flight >= self.config.calls_max.get().saturating_mul(4) / 5
                || self.admission.as_ref().is_some_and(|gate| gate.is_busy()),
            queue_delay: self.queue_delay.smoothed(),
        }
    }

    /// Whether new connections are accepted.
    pub(crate) fn is_open(&self) -> bool {
        self.serving.load(SeqCst) && !self.closing.is_cancelled()
    }
}

/// Address in IPv4 form if an IPv6 socket shows it as IPv4-mapped.
pub(crate) fn canonical(addr: SocketAddr) -> SocketAddr {
    match addr.ip().to_canonical() {
        IpAddr::V4(v4) => SocketAddr::new(v4.into(), addr.port()),
        // With its scope, without which a link-local address cannot be reached.
        IpAddr::V6(_) => addr,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canonical_addresses_keep_their_scope() {
        let link_local: SocketAddr = "[fe80::1%3]:7000".parse().unwrap();
        assert_eq!(canonical(link_local), link_local);
        let mapped: SocketAddr = "[::ffff:10.0.0.1]:80".parse().unwrap();
        assert_eq!(canonical(mapped).to_string(), "10.0.0.1:80");
    }
}
