//! One port served by several threads.

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
    TransportStats, endpoint::EndpointShared, socket,
};

/// A server on one port with several threads, each with a runtime, a socket and connections of its own, so that they share
/// nothing on the way of a call. Linux and Android. Cheap to clone.
///
/// Beside an [`Endpoint`] on a runtime of many threads it spends less on passing work between them, and needs what those
/// do not: many callers. The system chooses the shard of a caller by its address and port, once for the life of a connection:
///
/// - One connection is served by one thread. A caller that wants more than a thread's worth makes several connections, from
///   several endpoints; so does one whose own threads should not share anything: an [`Endpoint`] on each of its
///   runtimes, of its own port, and calls over all of them.
/// - With few callers some shards have none while others have several.
/// - Handlers run on the thread of their connection. One that computes for long holds up the other calls of that shard: give such
///   work to `tokio::task::spawn_blocking`.
///
/// The config's limits (calls, connections, handshakes) hold for each shard. A shard serves only: replies to calls that were
/// made from a shared port would reach any of the shards, so a node that also calls opens an [`Endpoint`] for that.
///
/// **The port.** A shard that is added or taken away would move callers from one shard to another, where they are not known. So
/// nobody is let in: [`bind`](Self::bind) fails with [`BindError::AddressInUse`] if anybody has the port, other shards
/// and programs that would share it included, and whoever binds it without asking to share it (all [`Endpoint`]s and `Shards`
/// do) is refused while this lives. What is left is another program of the same user that asks for
/// `SO_REUSEPORT`: the system lets it in without a word, and it takes its part of the callers. Give a service a user of its own.
///
/// **After a restart** callers of a server that was killed learn of it at once, as of an [`Endpoint`], if it comes back with as
/// many shards; of those that another number of shards moves elsewhere some wait for their idle timeout. Each shard
/// has a secret of its own for that, since one that answers for the connections of another could be made to end them
/// (RFC 9000 section 21.11).
///
/// When the last handle is dropped it stops at once, like an [`Endpoint`]; the drop waits for the threads, a second at the most, but
/// not where it would block an async runtime. [`shutdown`](Self::shutdown) is the gentle way.
///
/// ```
/// use std::{num::NonZeroUsize, time::Duration};
///
/// use rpcnet_transport::{DevCa, Router, RpcClient, Shards, TransportConfig};
///
/// # #[cfg(target_os = "linux")]
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let ca = DevCa::new("example");
/// let shards = NonZeroUsize::new(2).unwrap();
/// let any = "127.0.0.1:0".parse()?;
/// let server = Shards::bind(any, TransportConfig::lan(), ca.issue("server")?, shards)?;
/// server.serve(Router::new().typed("double", |n: u32| async move { 2 * n }));
///
/// let client = RpcClient::connect(server.local_addr(), "server", &ca.issue("client")?).await?;
/// assert_eq!(client.call_typed::<_, u32>("double", &21u32).await?, 42);
/// assert_eq!(server.shutdown(Duration::from_secs(5)).await.cancelled, 0);
/// # Ok(())
/// # }
/// # #[cfg(not(target_os = "linux"))]
/// # fn main() {}
/// ```
#[derive(Clone)]
pub struct Shards(Arc<Inner>);

struct Inner {
    /// In the order in which their sockets were opened; taken by the drop.
    endpoints: Vec<Endpoint>,
    local_addr: SocketAddr,
    threads: Vec<JoinHandle<()>>,
    /// Ends when all threads have.
    running: Mutex<mpsc::Receiver<()>>,
    stop: CancellationToken,
}

impl Shards {
    /// Opens a port for this many shards and starts their threads; as many shards as cores that serve are a good choice. Port 0
    /// lets the system choose: see [`local_addr`](Self::local_addr). Needs no runtime.
    ///
    /// # Errors
    ///
    /// [`BindError`] if anybody has the address or it is not ours, if the config contradicts itself, if a thread could not
    /// be started, and [`BindError::ShardsUnsupported`] for more than one on other systems than Linux and Android.
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
        let (runs, running) = mpsc::channel();
        let (opened, results) = mpsc::sync_channel(shards.get());
        // From here on a failure ends the threads that were started: their token is cancelled.
        let guard = stop.clone().drop_guard();
        let mut threads = Vec::with_capacity(shards.get());
        for (shard, (udp, buffers)) in sockets.into_iter().enumerate() {
            let seed = ShardSetup {
                shard,
                udp,
                buffers,
                addr,
                config: config.clone(),
                tls: tls.clone(),
            };
            let (stop, opened, runs) = (stop.clone(), opened.clone(), runs.clone());
            let thread = thread::Builder::new()
                .name(format!("rpcnet-shard-{shard}"))
                .spawn(move || {
                    run_shard(seed, &stop, opened);
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

    /// Serves these methods, on all shards. Called again, it adds to them.
    ///
    /// # Panics
    ///
    /// If it serves a method of the same name already.
    #[track_caller]
    pub fn serve(&self, router: Router) {
        for endpoint in &self.0.endpoints {
            endpoint.serve(router.clone());
        }
    }

    /// Address of the port.
    pub fn local_addr(&self) -> SocketAddr {
        self.0.local_addr
    }

    /// How many shards there are.
    pub fn count(&self) -> usize {
        self.0.endpoints.len()
    }

    /// What all shards have counted together.
    pub fn stats(&self) -> TransportStats {
        self.shard_stats().into_iter().sum()
    }

    /// What each shard has counted: how evenly the callers are spread.
    pub fn shard_stats(&self) -> Vec<TransportStats> {
        self.0.endpoints.iter().map(Endpoint::stats).collect()
    }

    /// What the system holds for each shard's socket.
    pub fn socket_buffers(&self) -> Vec<SocketBuffers> {
        let endpoints = self.0.endpoints.iter();
        endpoints.map(Endpoint::socket_buffers).collect()
    }

    /// The datagrams of another protocol on this port, a channel for each shard: what a sender sends comes on one of them, always on
    /// the same. Each of them sends to anybody. `None` if they were taken before.
    pub fn side_channels(&self) -> Option<Vec<SideChannel>> {
        self.0
            .endpoints
            .iter()
            .map(Endpoint::side_channel)
            .collect()
    }

    /// Calls being served.
    pub fn in_flight(&self) -> usize {
        self.0.endpoints.iter().map(Endpoint::in_flight).sum()
    }

    /// Waits until no shard serves a call. Unless they [drain](Self::set_draining), the next one may begin at once.
    pub async fn idle(&self) {
        join_all(self.0.endpoints.iter().map(Endpoint::idle)).await;
    }

    /// Says on all shards that they take no new calls, and goes on taking them. See [`Endpoint::advertise_draining`].
    pub fn advertise_draining(&self, draining: bool) {
        for endpoint in &self.0.endpoints {
            endpoint.advertise_draining(draining);
        }
    }

    /// Refuses new calls on all shards, or takes them again. See [`Endpoint::set_draining`].
    pub fn set_draining(&self, draining: bool) {
        for endpoint in &self.0.endpoints {
            endpoint.set_draining(draining);
        }
    }

    /// Whether they say that they take no new calls.
    pub fn is_draining(&self) -> bool {
        self.0.endpoints.iter().any(Endpoint::is_draining)
    }

    /// Closes all connections with the node of this name, on all shards. See [`Endpoint::disconnect`].
    pub fn disconnect(&self, name: &str) -> usize {
        let endpoints = self.0.endpoints.iter();
        endpoints.map(|endpoint| endpoint.disconnect(name)).sum()
    }

    /// Stops all shards at a time, and is back by the deadline whatever happens, even if a handler blocks the thread of its shard.
    /// See [`Endpoint::shutdown`]; the report is of all shards. The threads end with the last handle. Callers of a shard whose thread is
    /// blocked find out by the idle timeout.
    ///
    /// Needs a tokio runtime with time, like all that waits for a deadline; not one of a shard's threads.
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
    /// Whether waiting here would hold up tasks, or wait for itself.
    fn may_block(&self) -> bool {
        let me = thread::current().id();
        Handle::try_current().is_err() && self.threads.iter().all(|t| t.thread().id() != me)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // Closes the connections; the threads say so to the other ends before they stop.
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

/// What a shard is made of.
struct ShardSetup {
    shard: usize,
    udp: UdpSocket,
    buffers: SocketBuffers,
    addr: SocketAddr,
    config: TransportConfig,
    tls: Tls,
}

/// The life of a shard's thread.
fn run_shard(
    seed: ShardSetup,
    stop: &CancellationToken,
    opened: mpsc::SyncSender<Result<(usize, Endpoint), BindError>>,
) {
    let shard = seed.shard;
    match open_shard(seed) {
        Ok((runtime, endpoint)) => {
            let shared: Arc<EndpointShared> = endpoint.shared();
            // It has room for one of each shard.
            let _ = opened.try_send(Ok((shard, endpoint)));
            // Who waits for all shards waits until none has anything more to say.
            drop(opened);
            runtime.block_on(async {
                stop.cancelled().await;
                shared.flush_closes().await;
            });
            // Blocking work that handlers gave away may go on.
            runtime.shutdown_background();
        }
        Err(e) => {
            let _ = opened.try_send(Err(e));
        }
    }
}

fn open_shard(seed: ShardSetup) -> Result<(Runtime, Endpoint), BindError> {
    let ShardSetup {
        shard,
        udp,
        buffers,
        addr,
        config,
        tls,
    } = seed;
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| BindError::Io { addr, source })?;
    let endpoint = {
        let _inside = runtime.enter();
        Endpoint::bind_shard(udp, buffers, shard, addr, config, tls)?
    };
    Ok((runtime, endpoint))
}

/// How long the drop of the last handle waits for the threads.
const JOIN_TIMEOUT: Duration = Duration::from_secs(1);

#[cfg(all(test, any(target_os = "linux", target_os = "android")))]
mod tests;
