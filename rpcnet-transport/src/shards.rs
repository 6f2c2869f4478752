//! Sharded server: one port served by several threads, each with its own runtime and socket.

use std::{
    fmt, io,
    net::{SocketAddr, UdpSocket},
    num::NonZeroUsize,
    sync::{Arc, mpsc},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use futures::future::join_all;
use parking_lot::Mutex;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio_util::sync::CancellationToken;

use crate::{
    BindError, Endpoint, Router, ShutdownReport, SideChannel, SocketBuffers, Tls, TransportConfig,
    TransportStats,
    endpoint::EndpointShared,
    socket::{self, OpenPort},
};

/// Server on one port with several threads, each with a runtime, a socket and connections of its
/// own, so that a call shares nothing between threads. Linux and Android only. Cheap to clone.
///
/// Compared with an [`Endpoint`] on a multi-thread runtime it spends less on passing work between
/// threads, and needs many callers to use them. The operating system chooses the shard of a caller
/// by its address and port, once for the life of a connection:
///
/// - One connection is served by one thread. A caller that wants more throughput than one thread
///   gives opens several connections from several endpoints; so does one whose own threads should
///   share nothing: an [`Endpoint`] with a port of its own on each of its runtimes, and calls over
///   all of them.
/// - With few callers some shards have none while others have several.
/// - Handlers run on the thread of their connection. A handler that computes for long delays the
///   other calls of that shard: move such work to `tokio::task::spawn_blocking`.
///
/// The config's limits (calls, connections, handshakes) hold for each shard. A shard only serves:
/// replies to calls made from a shared port would reach any of the shards, so a node that also
/// calls opens an [`Endpoint`] for that.
///
/// **Port.** A socket that joins or leaves the port would move callers to shards that do not know
/// their connections. So the port is exclusive: [`bind`](Self::bind) fails with
/// [`BindError::AddressInUse`] if another socket has the port, even one that would share it, and a
/// later bind without `SO_REUSEPORT` (that of every [`Endpoint`] and `Shards`) is refused while
/// this server lives. One gap is left: another program of the same user that sets `SO_REUSEPORT` is
/// let in silently and takes a part of the callers. Run a service under a user of its own.
///
/// **Restart.** Callers of a server that was killed learn of it at once, as with an [`Endpoint`],
/// if it comes back with the same number of shards; with another number, callers that are moved to
/// another shard wait for their idle timeout. Each shard has a reset key of its own, since a shard
/// that answered for the connections of another could be made to reset them (RFC 9000 section
/// 21.11).
///
/// When the last handle is dropped the server stops at once, like an [`Endpoint`]. The drop waits
/// for the threads, at most a second, but not where it would block an async runtime.
/// [`shutdown`](Self::shutdown) ends it gracefully.
///
/// ```
/// use std::{num::NonZeroUsize, time::Duration};
///
/// use rpcnet_transport::{DevCa, Method, Router, RpcClient, Shards, TransportConfig};
///
/// const DOUBLE: Method<u32, u32> = Method::new("double");
///
/// # #[cfg(target_os = "linux")]
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let ca = DevCa::new("example");
/// let shards = NonZeroUsize::new(2).unwrap();
/// let any = "127.0.0.1:0".parse()?;
/// let server = Shards::bind(any, TransportConfig::lan(), ca.issue("server")?, shards)?;
/// server.serve(Router::new().method(DOUBLE, |n| async move { 2 * n }));
///
/// let client = RpcClient::connect(server.local_addr(), "server", &ca.issue("client")?).await?;
/// assert_eq!(DOUBLE.call(&client, &21).await?, 42);
/// assert_eq!(server.shutdown(Duration::from_secs(5)).await.cancelled, 0);
/// # Ok(())
/// # }
/// # #[cfg(not(target_os = "linux"))]
/// # fn main() {}
/// ```
#[derive(Clone)]
pub struct Shards(Arc<Inner>);

struct Inner {
    /// Endpoints in the order in which their sockets were opened; cleared by the drop.
    endpoints: Vec<Endpoint>,
    local_addr: SocketAddr,
    threads: Vec<JoinHandle<()>>,
    /// Disconnected when all threads have ended.
    running: Mutex<mpsc::Receiver<()>>,
    stop: CancellationToken,
}

impl Shards {
    /// Opens a port for this many shards and starts their threads; one shard per serving core is a
    /// good choice. Port 0 lets the operating system choose: see [`local_addr`](Self::local_addr).
    /// Needs no runtime.
    ///
    /// # Errors
    ///
    /// [`BindError`] if the address is in use or does not belong to this host, if the config
    /// contradicts itself, if a thread could not be started, and [`BindError::ShardsUnsupported`]
    /// for more than one shard on other systems than Linux and Android.
    pub fn bind(
        addr: SocketAddr,
        config: TransportConfig,
        tls: Tls,
        shards: NonZeroUsize,
    ) -> Result<Self, BindError> {
        config.validate()?;
        let sockets = socket::open_shared(addr, config.socket_buffer_bytes, shards.get())?;
        let failed = |source| BindError::Io { addr, source };
        let stop = CancellationToken::new();
        let (runs, running) = mpsc::sync_channel(0);
        let (opened, results) = mpsc::sync_channel(shards.get());
        // From here on a failure ends the threads that were started: it cancels their token.
        let guard = stop.clone().drop_guard();
        let mut threads = Vec::with_capacity(shards.get());
        for (shard, socket) in sockets.into_iter().enumerate() {
            let setup = ShardSetup {
                shard,
                socket,
                addr,
                config: config.clone(),
                tls: tls.clone(),
            };
            let (stop, opened, runs) = (stop.clone(), opened.clone(), runs.clone());
            let thread = thread::Builder::new()
                .name(format!("rpcnet-shard-{shard}"))
                .spawn(move || {
                    run_shard(setup, &stop, opened);
                    drop(runs);
                })
                .map_err(failed)?;
            threads.push(thread);
        }
        drop(opened);
        let mut endpoints = results
            .iter()
            .collect::<Result<Vec<(usize, Endpoint)>, BindError>>()?;
        endpoints.sort_by_key(|(shard, _)| *shard);
        let endpoints: Vec<_> = endpoints.into_iter().map(|(_, e)| e).collect();
        if endpoints.len() < shards.get() {
            return Err(failed(io::Error::other("the thread of a shard panicked")));
        }
        guard.disarm();
        Ok(Self(Arc::new(Inner {
            local_addr: endpoints[0].local_addr(),
            endpoints,
            threads,
            running: Mutex::new(running),
            stop,
        })))
    }

    /// Serves the methods of a router on all shards. A second call adds methods.
    ///
    /// # Panics
    ///
    /// If a method of the same name is already served.
    #[track_caller]
    pub fn serve(&self, router: Router) {
        for endpoint in &self.0.endpoints {
            endpoint.serve(router.clone());
        }
    }

    /// Address of the port that the shards share.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.0.local_addr
    }

    /// Number of shards.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.endpoints.len()
    }

    /// Counters of all shards together.
    #[must_use]
    pub fn stats(&self) -> TransportStats {
        self.shard_stats().into_iter().sum()
    }

    /// Counters of each shard, which show how evenly the callers are spread.
    #[must_use]
    pub fn shard_stats(&self) -> Vec<TransportStats> {
        self.0.endpoints.iter().map(Endpoint::stats).collect()
    }

    /// Socket buffers that the operating system granted to each shard.
    #[must_use]
    pub fn socket_buffers(&self) -> Vec<SocketBuffers> {
        let endpoints = self.0.endpoints.iter();
        endpoints.map(Endpoint::socket_buffers).collect()
    }

    /// Takes the side channels of this port, one for each shard. The datagrams of one sender always
    /// arrive on the same one; each can send to any address. `None` if they were taken before.
    #[must_use]
    pub fn side_channels(&self) -> Option<Vec<SideChannel>> {
        self.0
            .endpoints
            .iter()
            .map(Endpoint::side_channel)
            .collect()
    }

    /// Calls being served.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.0.endpoints.iter().map(Endpoint::in_flight).sum()
    }

    /// Waits until no shard serves a call. Unless they [drain](Self::set_draining), another call
    /// may begin at once.
    pub async fn idle(&self) {
        join_all(self.0.endpoints.iter().map(Endpoint::idle)).await;
    }

    /// Advertises on all shards that they drain, and goes on accepting calls. See
    /// [`Endpoint::advertise_draining`].
    pub fn advertise_draining(&self, draining: bool) {
        for endpoint in &self.0.endpoints {
            endpoint.advertise_draining(draining);
        }
    }

    /// Starts or ends a drain on all shards. See [`Endpoint::set_draining`].
    pub fn set_draining(&self, draining: bool) {
        for endpoint in &self.0.endpoints {
            endpoint.set_draining(draining);
        }
    }

    /// Whether any shard advertises that it drains.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.0.endpoints.iter().any(Endpoint::is_draining)
    }

    /// Closes all connections with a node, on all shards. See [`Endpoint::disconnect`].
    #[must_use]
    pub fn disconnect(&self, name: &str) -> usize {
        let endpoints = self.0.endpoints.iter();
        endpoints.map(|endpoint| endpoint.disconnect(name)).sum()
    }

    /// Shuts down all shards concurrently, and returns by the deadline whatever happens, even if a
    /// handler blocks the thread of its shard. See [`Endpoint::shutdown`]; the report sums all
    /// shards. The threads end with the last handle. Callers of a shard whose thread is blocked
    /// learn of the end by the idle timeout.
    ///
    /// Needs a tokio runtime with timers, which must not be that of a shard.
    pub async fn shutdown(&self, within: Duration) -> ShutdownReport {
        let endpoints = self.0.endpoints.iter();
        let reports = join_all(endpoints.map(|endpoint| endpoint.shutdown(within))).await;
        let mut all = ShutdownReport::default();
        for report in reports {
            all.completed += report.completed;
            all.cancelled += report.cancelled;
            all.rejected += report.rejected;
        }
        all
    }
}

impl Inner {
    /// Whether this thread may block: not inside a runtime, nor on a thread of a shard.
    fn may_block(&self) -> bool {
        let me = thread::current().id();
        Handle::try_current().is_err() && self.threads.iter().all(|t| t.thread().id() != me)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // Closes the connections; the threads flush the closes before they end.
        self.endpoints.clear();
        self.stop.cancel();
        if !self.may_block() {
            return;
        }
        let deadline = Instant::now() + JOIN_TIMEOUT;
        let ended = loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.running.get_mut().recv_timeout(left) {
                Err(mpsc::RecvTimeoutError::Disconnected) => break true,
                Err(mpsc::RecvTimeoutError::Timeout) => break false,
                Ok(()) => {}
            }
        };
        if !ended {
            tracing::warn!(addr = %self.local_addr, "a handler blocks its thread, so the shard cannot shut down");
        }
        for thread in self.threads.drain(..) {
            if ended || thread.is_finished() {
                let _ = thread.join();
            }
        }
    }
}

impl fmt::Debug for Shards {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shards")
            .field("local_addr", &self.0.local_addr)
            .field("count", &self.count())
            .field("in_flight", &self.in_flight())
            .finish_non_exhaustive()
    }
}

/// Parts of which a thread builds its shard.
struct ShardSetup {
    shard: usize,
    socket: (UdpSocket, SocketBuffers),
    addr: SocketAddr,
    config: TransportConfig,
    tls: Tls,
}

/// Main function of a shard's thread.
fn run_shard(
    setup: ShardSetup,
    stop: &CancellationToken,
    opened: mpsc::SyncSender<Result<(usize, Endpoint), BindError>>,
) {
    let shard = setup.shard;
    match open_shard(setup) {
        Ok((runtime, endpoint)) => {
            let shared: Arc<EndpointShared> = endpoint.shared();
            // The channel has room for one message of each shard.
            let _ = opened.try_send(Ok((shard, endpoint)));
            // `bind` waits until no thread has a sender left.
            drop(opened);
            runtime.block_on(async {
                stop.cancelled().await;
                shared.flush_closes().await;
            });
            // Blocking tasks that handlers started may go on.
            runtime.shutdown_background();
        }
        Err(e) => {
            let _ = opened.try_send(Err(e));
        }
    }
}

fn open_shard(setup: ShardSetup) -> Result<(Runtime, Endpoint), BindError> {
    let ShardSetup {
        shard,
        socket,
        addr,
        config,
        tls,
    } = setup;
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| BindError::Io { addr, source })?;
    let endpoint = {
        let _inside = runtime.enter();
        Endpoint::bind_on(OpenPort::new(addr, socket)?, shard, addr, config, tls)?
    };
    Ok((runtime, endpoint))
}

/// Longest time for which the drop of the last handle waits for the threads.
const JOIN_TIMEOUT: Duration = Duration::from_secs(1);

#[cfg(all(test, any(target_os = "linux", target_os = "android")))]
mod tests;
