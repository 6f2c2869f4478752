//! The UDP port that serves and calls.

mod handle;

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU8, Ordering::SeqCst},
    },
    time::Duration,
};

use parking_lot::{Mutex, RwLock};
use quinn::{AsyncUdpSocket, ConnectionError, TokioRuntime};
use rustls_pki_types::ServerName;
use tokio::{
    sync::watch,
    time::{Instant, sleep_until, timeout, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    AdmissionState, BindError, ConnectError, Peer, Router, RpcClient, RpcServer, SideChannel,
    SocketBuffers, Tls, TransportConfig, TransportStats,
    busy_poll::BusyPoll,
    client::{Opened, answer},
    gauge::Gauge,
    quic,
    reload::CurrentTls,
    server::{AcceptLoop, Gate, QueueDelay, serve_connections},
    socket::{self, Port, SharedSocket, SideQueue},
    stats::{Counter, Counters},
    stream::RecvHalf,
    tls::{KnownPeer, Refusal},
    wire::{Decoder, Frame, LoadReport, StreamKind},
};

/// One UDP port: it serves calls, makes connections, and carries datagrams of another protocol. Cheap to clone.
///
/// When the last handle (this, its clones, its [`RpcServer`]) is dropped it stops serving at once; connections that it
/// made live on with their [`RpcClient`]s. [`shutdown`](Self::shutdown) is the gentle way.
#[derive(Clone)]
pub struct Endpoint(pub(crate) Arc<Handle>);

/// What the handles share; its drop ends the serving.
pub(crate) struct Handle {
    pub(crate) shared: Arc<Shared>,
    local_addr: SocketAddr,
    buffers: SocketBuffers,
    side_channel: Mutex<Option<SideChannel>>,
    pub(crate) tls_watch: Mutex<Option<CancellationToken>>,
}

/// What the tasks of an endpoint share.
pub(crate) struct Shared {
    pub(crate) quinn: quinn::Endpoint,
    pub(crate) config: TransportConfig,
    pub(crate) counters: Arc<Counters>,
    pub(crate) cancelled_by_shutdown: Counter,
    /// Calls being served.
    pub(crate) in_flight: Gauge,
    /// Calls whose reply its caller may not have yet; a call enters here first and leaves last.
    pub(crate) unacknowledged: Gauge,
    /// Calls being made.
    pub(crate) outgoing: Gauge,
    /// One task for each stream that somebody opened here.
    pub(crate) calls: TaskTracker,
    /// The task that accepts connections, and one for each connection.
    pub(crate) connections: TaskTracker,
    /// New connections are refused.
    pub(crate) closing: CancellationToken,
    /// Handlers are dropped.
    pub(crate) cancel_calls: CancellationToken,
    /// Connections are closed, nothing is accepted any more.
    pub(crate) stopped: CancellationToken,
    /// Whether new calls are refused, as asked or because of a shutdown, or it is said that they soon will be.
    draining: AtomicU8,
    /// Until when calls are taken after that was said.
    lame_duck_until: Mutex<Option<Instant>>,
    /// Tells the connections when that changes.
    pub(crate) draining_changed: watch::Sender<()>,
    pub(crate) queue_delay: QueueDelay,
    /// What calls have to pass, if their number is limited.
    pub(crate) gate: Option<Arc<Gate>>,
    pub(crate) busy_poll: Arc<BusyPoll>,
    serving: AtomicBool,
    router: RwLock<Arc<Router>>,
    node_name: Box<str>,
    pub(crate) tls: CurrentTls,
}

/// The node that a connection is made to.
pub(crate) struct Target {
    pub(crate) peer: Peer,
    pub(crate) known: Arc<KnownPeer>,
}

/// What became of the calls while a shutdown went on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ShutdownReport {
    /// Calls whose handler's answer was sent in whole, and acknowledged if the caller lived to do so.
    pub completed: u64,
    /// Calls cut because the deadline came.
    pub cancelled: u64,
    /// New calls that were refused.
    pub rejected: u64,
}

impl Endpoint {
    /// Opens a port. Port 0 lets the system choose: see [`local_addr`](Self::local_addr).
    ///
    /// # Errors
    ///
    /// [`BindError`] if the address is in use or not ours, if the config contradicts itself, or outside of a
    /// tokio runtime.
    pub fn bind(addr: SocketAddr, config: TransportConfig, tls: Tls) -> Result<Self, BindError> {
        Self::check_bind(&config)?;
        let (udp, buffers) = socket::open(addr, config.socket_buffer_bytes)?;
        Self::bind_shard(udp, buffers, 0, addr, config, tls)
    }

    /// Makes an endpoint of one of the sockets that were opened on `addr`.
    pub(crate) fn bind_shard(
        udp: std::net::UdpSocket,
        buffers: SocketBuffers,
        shard: usize,
        addr: SocketAddr,
        config: TransportConfig,
        tls: Tls,
    ) -> Result<Self, BindError> {
        let port = Port::new(udp, buffers).map_err(|source| BindError::Io { addr, source })?;
        Self::bind_on(port, shard, addr, config, tls)
    }

    /// Whether an endpoint with this config can be opened here.
    pub(crate) fn check_bind(config: &TransportConfig) -> Result<(), BindError> {
        config.check()?;
        match tokio::runtime::Handle::try_current() {
            Ok(_) => Ok(()),
            Err(_) => Err(BindError::NoRuntime),
        }
    }

    /// Makes an endpoint of a socket that was opened on `addr`, after [`check_bind`](Self::check_bind).
    pub(crate) fn bind_on(
        Port {
            udp,
            direct,
            buffers,
        }: Port,
        shard: usize,
        addr: SocketAddr,
        config: TransportConfig,
        tls: Tls,
    ) -> Result<Self, BindError> {
        let failed = |source| BindError::Io { addr, source };
        let local_addr = udp.local_addr().map_err(failed)?;
        let counters = Arc::new(Counters::default());
        let side = Arc::new(SideQueue::new(
            config.side_channel_len.get(),
            config.side_datagram_bytes_max,
            Arc::clone(&counters),
        ));
        let busy_poll = Arc::new(BusyPoll::new(config.busy_poll));
        let port: Arc<dyn AsyncUdpSocket> = Arc::new(SharedSocket::new(
            Arc::clone(&udp),
            Arc::clone(&side),
            Arc::clone(&busy_poll),
            config.mtu_max,
            quic::receive_bytes_max(&config),
        ));
        let node_name = tls.node_name().into();
        let key = tls.derived_key(local_addr, shard);
        let (tls, server) = CurrentTls::new(tls, &config, &counters);
        let quinn = quinn::Endpoint::new_with_abstract_socket(
            // Of the first key for as long as the endpoint lives: peers hold tokens made with it.
            quic::endpoint_config(&config, key),
            Some(server),
            port,
            Arc::new(TokioRuntime),
        )
        .map_err(failed)?;
        let gate = config.admission.as_ref().map(|a| Arc::new(Gate::new(a)));
        let stopped = CancellationToken::new();
        busy_poll.start(stopped.clone());
        let shared = Shared {
            quinn,
            config,
            counters,
            cancelled_by_shutdown: Counter::default(),
            in_flight: Gauge::default(),
            unacknowledged: Gauge::default(),
            outgoing: Gauge::default(),
            calls: TaskTracker::new(),
            connections: TaskTracker::new(),
            closing: CancellationToken::new(),
            cancel_calls: CancellationToken::new(),
            stopped,
            draining: AtomicU8::new(0),
            lame_duck_until: Mutex::default(),
            draining_changed: watch::Sender::new(()),
            queue_delay: QueueDelay::default(),
            gate,
            busy_poll,
            serving: AtomicBool::new(false),
            router: RwLock::default(),
            node_name,
            tls,
        };
        let shared = Arc::new(shared);
        // From the beginning, so that those who call before it serves are told so.
        let gate = AcceptLoop::new(&shared.config);
        shared
            .connections
            .spawn(serve_connections(Arc::clone(&shared), gate));
        Ok(Self(Arc::new(Handle {
            shared,
            local_addr,
            buffers,
            side_channel: Mutex::new(Some(SideChannel::new(side, udp, direct, local_addr))),
            tls_watch: Mutex::default(),
        })))
    }

    /// Serves these methods. Called again, it adds to them.
    ///
    /// # Panics
    ///
    /// If it serves a method of the same name already.
    #[track_caller]
    pub fn serve(&self, router: Router) -> RpcServer {
        self.add_methods(router);
        self.0.shared.serving.store(true, SeqCst);
        RpcServer::new(self.clone())
    }

    /// Connects to the node `name` at `addr`. Each call makes a connection of its own.
    ///
    /// # Errors
    ///
    /// [`ConnectError`] if nobody answers, if somebody else answers, or if one side does not trust the other.
    pub async fn connect(&self, addr: SocketAddr, name: &str) -> Result<RpcClient, ConnectError> {
        let opened = self.open(addr, name).await?;
        Ok(RpcClient::new(opened, self.config(), None))
    }

    /// The datagrams of another protocol on this port. `None` if it was taken before; until then they are dropped.
    pub fn side_channel(&self) -> Option<SideChannel> {
        let taken = self.0.side_channel.lock().take();
        taken.inspect(SideChannel::open)
    }

    /// Address of the port.
    pub fn local_addr(&self) -> SocketAddr {
        self.0.local_addr
    }

    /// Name of this node, as its certificates have it.
    pub fn node_name(&self) -> &str {
        &self.0.shared.node_name
    }

    /// The settings it was opened with.
    pub fn config(&self) -> &TransportConfig {
        &self.0.shared.config
    }

    /// What the system holds for the socket, which may be less than the config asked for.
    pub fn socket_buffers(&self) -> SocketBuffers {
        self.0.buffers
    }

    /// What was counted.
    pub fn stats(&self) -> TransportStats {
        self.0.shared.counters.snapshot()
    }

    /// Calls being served. A lane that is being read at this moment may count as one more.
    pub fn in_flight(&self) -> usize {
        self.0.shared.in_flight.count()
    }

    /// How many calls run and wait; `None` if their number is not [limited](TransportConfig::with_admission).
    pub fn admission(&self) -> Option<AdmissionState> {
        self.0.shared.gate.as_ref().map(|gate| gate.state())
    }

    /// Waits until no call is being served. Unless it [drains](Self::set_draining), the next one may begin at once.
    pub async fn idle(&self) {
        self.0.shared.in_flight.none().await;
    }

    /// Says that it takes no new calls, and goes on taking them: on every connection, in the hello of new ones, and with
    /// every reply. Callers that have heard go elsewhere, and what those sent who have not is served. A server that is about
    /// to [refuse calls](Self::set_draining) begins with this. `false` takes it back, but no refusal.
    pub fn announce_draining(&self, draining: bool) {
        self.0.shared.note_draining(DRAINING_ANNOUNCED, draining);
    }

    /// Says to all callers that no more calls are wanted, and refuses them [shortly after](TransportConfig::with_lame_duck), or takes them
    /// again. Calls being served go on, and connections stay: callers go elsewhere, and those that have not heard it learn that
    /// nothing was done. A node that is about to leave its cluster begins with this. A shutdown cannot be
    /// taken back.
    pub fn set_draining(&self, draining: bool) {
        let bits = if draining {
            DRAINING_ASKED
        } else {
            DRAINING_ASKED | DRAINING_ANNOUNCED
        };
        self.0.shared.note_draining(bits, draining);
    }

    /// Whether it says that it takes no new calls.
    pub fn is_draining(&self) -> bool {
        self.0.shared.is_draining()
    }

    /// Stops, and is back by the deadline whatever happens.
    ///
    /// Callers are told, and [a moment later](TransportConfig::with_lame_duck) new connections and calls are refused. Calls being served may end and their replies arrive; so may calls
    /// being made, which handlers may need. Shortly before the deadline (a tenth, at most 250 ms) the
    /// handlers that still run are dropped, and their callers told so. Then all connections are closed.
    ///
    /// A shutdown whose future is dropped goes no further; another one takes it up. So a handler that stops its own server
    /// spawns this: the shutdown would wait for the handler, and be dropped with it.
    pub async fn shutdown(&self, within: Duration) -> ShutdownReport {
        let shared = &self.0.shared;
        let deadline = Instant::now() + within.min(SHUTDOWN_MAX);
        let cancel_at = deadline - (within / 10).min(CANCEL_AHEAD_MAX);
        let before = shared.report();
        let accepted_until = shared.announce(within / 4);
        // The task that accepts connections is always there.
        if shared.connections.len() > 1 {
            sleep_until(accepted_until).await;
        }
        shared.close();
        let idle = async {
            shared.outgoing.none().await;
            shared.unacknowledged.none().await;
        };
        let _ = timeout_at(cancel_at, idle).await;
        shared.cancel_calls.cancel();
        // On a busy machine the deadline may have passed by now: what was cut is to be counted all the same.
        for _ in 0..CANCEL_TURNS {
            tokio::task::yield_now().await;
        }
        let _ = timeout_at(deadline, shared.unacknowledged.none()).await;
        // Refusals that are still on their way are worth a moment, not the whole time.
        shared.calls.close();
        let moment = deadline.min(Instant::now() + CANCEL_AHEAD_MAX);
        let _ = timeout_at(moment, shared.calls.wait()).await;
        shared.stopped.cancel();
        shared.connections.close();
        // The task of each connection closes it with a reason of its own.
        let _ = timeout_at(deadline, shared.connections.wait()).await;
        shared.quinn.close(answer::CLOSE_SHUTDOWN, b"");
        let _ = timeout_at(deadline, shared.quinn.wait_idle()).await;
        let after = shared.report();
        ShutdownReport {
            completed: after.completed - before.completed,
            cancelled: after.cancelled - before.cancelled,
            rejected: after.rejected - before.rejected,
        }
    }

    /// What its tasks share, which does not keep it open.
    pub(crate) fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.0.shared)
    }

    #[track_caller]
    pub(crate) fn add_methods(&self, router: Router) {
        let mut current = self.0.shared.router.write();
        *current = Arc::new(Router::clone(&current).merge(router));
    }

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
    pub(crate) fn router(&self) -> Arc<Router> {
        Arc::clone(&self.router.read())
    }

    /// Whether it says that it takes no new calls.
    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(SeqCst) != 0
    }

    /// Whether new calls are refused: the server drains, and who could hear it has.
    pub(crate) fn refuses_calls(&self) -> bool {
        let draining = self.draining.load(SeqCst);
        draining & DRAINING_TO_STOP != 0
            || draining & (DRAINING_ASKED | DRAINING_LEAVING) != 0 && self.is_lame_duck_over()
    }

    fn is_lame_duck_over(&self) -> bool {
        let until = *self.lame_duck_until.lock();
        until.is_none_or(|until| until <= Instant::now())
    }

    /// Whether a shutdown has begun.
    pub(crate) fn is_closing(&self) -> bool {
        self.draining.load(SeqCst) & DRAINING_TO_STOP != 0
    }

    /// What replies say of the server now.
    pub(crate) fn load(&self) -> LoadReport {
        let in_flight = self.in_flight.count();
        LoadReport {
            in_flight: u16::try_from(in_flight).unwrap_or(u16::MAX),
            draining: self.is_draining(),
            busy: in_flight >= self.config.calls_max.get().saturating_mul(4) / 5
                || self.gate.as_ref().is_some_and(|gate| gate.is_busy()),
            queue_delay: self.queue_delay.smoothed(),
        }
    }

    /// Tells the callers that a shutdown has begun. Says until when they may take to hear it, at most so long from now.
    fn announce(&self, at_most: Duration) -> Instant {
        let now = Instant::now();
        self.note_draining(DRAINING_LEAVING, true);
        let until = self.lame_duck_until.lock().unwrap_or(now);
        until.min(now + at_most)
    }

    fn note_draining(&self, bits: u8, draining: bool) {
        if draining {
            let mut until = self.lame_duck_until.lock();
            // Unless the callers were told before.
            if self.draining.fetch_or(bits, SeqCst) == 0 {
                *until = Some(Instant::now() + self.config.lame_duck);
            }
        } else {
            self.draining.fetch_and(!bits, SeqCst);
        }
        self.draining_changed.send_replace(());
    }

    /// Begins a shutdown.
    fn close(&self) {
        self.draining.fetch_or(DRAINING_TO_STOP, SeqCst);
        self.draining_changed.send_replace(());
        self.closing.cancel();
    }

    /// Whether new connections are taken.
    pub(crate) fn is_open(&self) -> bool {
        self.serving.load(SeqCst) && !self.closing.is_cancelled()
    }

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

    /// Waits until those at the other ends were told that the endpoint is gone, after its last handle is. Not for long.
    pub(crate) async fn farewell(&self) {
        self.connections.close();
        let farewell = async {
            self.connections.wait().await;
            self.quinn.close(answer::CLOSE_SHUTDOWN, b"");
            self.quinn.wait_idle().await;
        };
        let _ = timeout(FAREWELL_MAX, farewell).await;
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

/// An IPv4 address that an IPv6 socket shows in its mapped form, as IPv4.
pub(crate) fn canonical(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip().to_canonical(), addr.port())
}

const DRAINING_ASKED: u8 = 1;
const DRAINING_TO_STOP: u8 = 2;
const DRAINING_ANNOUNCED: u8 = 4;

/// A shutdown has begun and still takes calls.
const DRAINING_LEAVING: u8 = 8;

/// Nobody waits longer for a shutdown, and a deadline has to be a point in time.
const SHUTDOWN_MAX: Duration = Duration::from_secs(365 * 24 * 3600);

/// How long before the deadline of a shutdown handlers are dropped at the most, so that callers can be told.
const CANCEL_AHEAD_MAX: Duration = Duration::from_millis(250);

/// So often others of its thread have their turn between that and the report.
const CANCEL_TURNS: usize = 4;

/// What is sent to close a connection leaves at once; waiting for what comes back is not worth more.
const FAREWELL_MAX: Duration = Duration::from_millis(20);

/// A hello has no body.
const HELLO_BYTES_MAX: usize = 0;
