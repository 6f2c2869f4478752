//! In-memory network for tests without sockets.

mod inbox;
mod socket;

use std::{
    collections::{HashMap, HashSet, hash_map::Entry},
    fmt, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    num::NonZeroU64,
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use quinn::udp::EcnCodepoint;
use tokio::time::Instant;

use self::{
    inbox::{Datagram, Inbox},
    socket::MemorySocket,
};
use crate::{BindError, Endpoint, SocketBuffers, Tls, TransportConfig, socket::OpenPort};

/// In-memory network: its endpoints use real QUIC and TLS, but their datagrams never leave the
/// process. For tests that run anywhere, at any time and in parallel, with the faults of their
/// choice: delay, loss, limited rates, partitions.
///
/// Networks are isolated from each other. Cheap to clone; clones are the same network. It works
/// with tokio's paused time too, where an hour of waiting takes no time, if all endpoints live in
/// one runtime.
///
/// ```
/// use std::{net::Ipv4Addr, time::Duration};
///
/// use rpcnet_transport::{DevCa, MemoryNetwork, Router, TransportConfig};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let network = MemoryNetwork::new();
/// let ca = DevCa::new("example");
/// let any = (Ipv4Addr::UNSPECIFIED, 0).into();
///
/// let server = network
///     .bind(any, TransportConfig::lan(), ca.issue("server")?)?
///     .serve(Router::new().typed("double", |n: u32| async move { 2 * n }));
/// let node = network.bind(any, TransportConfig::lan(), ca.issue("client")?)?;
///
/// network.set_delay(Duration::from_millis(2));
/// let client = node.connect(server.local_addr(), "server").await?;
/// assert_eq!(client.call_typed::<_, u32>("double", &21u32).await?, 42);
/// assert!(client.rtt() >= Duration::from_millis(4));
///
/// // A partition, and its end.
/// network.partition(node.local_addr(), server.local_addr());
/// network.heal(node.local_addr(), server.local_addr());
/// assert_eq!(client.call_typed::<_, u32>("double", &4u32).await?, 8);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Default)]
pub struct MemoryNetwork(Arc<Hub>);

/// Counters of the datagrams of a [`MemoryNetwork`]. They only grow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemoryStats {
    /// Datagrams put into the queue of their receiver.
    pub delivered: u64,
    /// Datagrams lost by [`MemoryNetwork::set_loss`].
    pub lost: u64,
    /// Datagrams lost by [`MemoryNetwork::partition`].
    pub partitioned: u64,
    /// Datagrams to an unused address.
    pub unreachable: u64,
    /// Datagrams lost because the queue of their receiver or of the link was full, or larger than
    /// UDP carries.
    pub dropped: u64,
}

impl MemoryNetwork {
    /// Network without delay, loss or endpoints.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Opens an endpoint on this network, at any address. For an unspecified address the network
    /// chooses one in 10.0.0.0/8 or fd00::/64, for port 0 a free port. Endpoints reach those of
    /// their own address family.
    ///
    /// The queue of datagrams that arrived and were not read holds
    /// [`socket_buffer_bytes`](TransportConfig::with_socket_buffer_bytes); further ones are lost,
    /// as with a socket.
    ///
    /// # Errors
    ///
    /// [`BindError`] if the address is in use on this network, if the config contradicts itself, or
    /// outside of a tokio runtime.
    pub fn bind(
        &self,
        addr: SocketAddr,
        config: TransportConfig,
        tls: Tls,
    ) -> Result<Endpoint, BindError> {
        Endpoint::check_bind(&config)?;
        let inbox = Arc::new(Inbox::new(config.socket_buffer_bytes));
        let local_addr = self.0.add(addr, &inbox)?;
        let socket = Arc::new(MemorySocket::new(Arc::clone(&self.0), inbox, local_addr));
        let buffers = SocketBuffers::all_granted(config.socket_buffer_bytes);
        let port = OpenPort {
            udp: Arc::clone(&socket) as _,
            direct: None,
            close: socket,
            buffers,
        };
        Endpoint::bind_on(port, 0, addr, config, tls)
    }

    /// Sets the one-way delay of datagrams sent from now on; initially none. Datagrams do not
    /// overtake each other.
    pub fn set_delay(&self, one_way: Duration) {
        self.0.state.lock().delay = one_way;
    }

    /// Limits the rate of each direction between two addresses, as a link with a queue in front of
    /// it: at most `bytes_per_second`, and at most `queue_bytes` that wait; further datagrams are
    /// lost. A datagram counts with the headers of UDP and IPv4. The limit holds for datagrams sent
    /// from now on; `None`, the initial value, is no limit. Such a link adds the time in its queue
    /// to the [delay](Self::set_delay). With tokio's paused time only the link takes time, so that
    /// a measurement does not depend on the machine.
    pub fn set_rate(&self, bytes_per_second: Option<NonZeroU64>, queue_bytes: usize) {
        let mut state = self.0.state.lock();
        state.rate = bytes_per_second.map(|rate| LinkRate { rate, queue_bytes });
        state.links_busy_until.clear();
    }

    /// Sets the loss per mille of datagrams sent from now on; initially none. Losses are drawn from
    /// the seed, so a test whose tasks run in the same order loses the same datagrams again.
    pub fn set_loss(&self, per_mille: u16, seed: u64) {
        let mut state = self.0.state.lock();
        state.loss_per_mille = per_mille;
        state.random = seed;
    }

    /// Partitions two addresses: everything sent between them from now on is lost, in both
    /// directions.
    pub fn partition(&self, a: SocketAddr, b: SocketAddr) {
        let mut state = self.0.state.lock();
        state.partitions.insert((a, b));
        state.partitions.insert((b, a));
    }

    /// Ends a [`partition`](Self::partition). What was lost stays lost.
    pub fn heal(&self, a: SocketAddr, b: SocketAddr) {
        let mut state = self.0.state.lock();
        state.partitions.remove(&(a, b));
        state.partitions.remove(&(b, a));
    }

    /// Snapshot of the counters.
    #[must_use]
    pub fn stats(&self) -> MemoryStats {
        self.0.state.lock().stats
    }
}

impl fmt::Debug for MemoryNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.0.state.lock();
        f.debug_struct("MemoryNetwork")
            .field("endpoints", &state.inboxes.len())
            .field("delay", &state.delay)
            .field("loss_per_mille", &state.loss_per_mille)
            .field("stats", &state.stats)
            .finish_non_exhaustive()
    }
}

/// Hub of the network: delivers every datagram to its receiver, or loses it.
#[derive(Default)]
struct Hub {
    state: Mutex<HubState>,
}

#[derive(Default)]
struct HubState {
    inboxes: HashMap<SocketAddr, Arc<Inbox>>,
    /// Partitioned pairs of sender and receiver.
    partitions: HashSet<(SocketAddr, SocketAddr)>,
    delay: Duration,
    rate: Option<LinkRate>,
    /// Time until which the link is busy, by sender and receiver.
    links_busy_until: HashMap<(SocketAddr, SocketAddr), Instant>,
    loss_per_mille: u16,
    random: u64,
    /// Number of addresses and ports that were chosen.
    addrs_chosen: u32,
    stats: MemoryStats,
}

/// Rate limit of a link; see [`MemoryNetwork::set_rate`].
#[derive(Debug, Clone, Copy)]
struct LinkRate {
    rate: NonZeroU64,
    queue_bytes: usize,
}

impl LinkRate {
    /// Time at which a link that is busy until `idle_at` has sent a datagram of this size; `None`
    /// if its queue is full.
    fn sent_at(&self, now: Instant, idle_at: Option<Instant>, bytes: usize) -> Option<Instant> {
        let idle_at = idle_at.map_or(now, |at| at.max(now));
        let rate = self.rate.get() as f64;
        let waiting = (idle_at - now).as_secs_f64() * rate;
        // As with a socket, one datagram fits whatever the bound.
        if waiting > 0.0 && waiting + bytes as f64 > self.queue_bytes as f64 {
            return None;
        }
        idle_at.checked_add(Duration::from_secs_f64(bytes as f64 / rate))
    }
}

impl Hub {
    fn add(&self, wanted: SocketAddr, inbox: &Arc<Inbox>) -> Result<SocketAddr, BindError> {
        let mut state = self.state.lock();
        if !wanted.ip().is_unspecified() && wanted.port() != 0 {
            return match state.inboxes.entry(wanted) {
                Entry::Occupied(_) => Err(BindError::AddressInUse(wanted)),
                Entry::Vacant(vacant) => {
                    vacant.insert(Arc::clone(inbox));
                    Ok(wanted)
                }
            };
        }
        for _ in 0..CHOICES_MAX {
            state.addrs_chosen = state.addrs_chosen.wrapping_add(1);
            let addr = choose_addr(wanted, state.addrs_chosen);
            if let Entry::Vacant(vacant) = state.inboxes.entry(addr) {
                vacant.insert(Arc::clone(inbox));
                return Ok(addr);
            }
        }
        Err(BindError::Io {
            addr: wanted,
            source: io::Error::new(io::ErrorKind::AddrNotAvailable, "no free address"),
        })
    }

    fn remove(&self, addr: SocketAddr) {
        self.state.lock().inboxes.remove(&addr);
    }

    /// Delivers one datagram to its receiver, or loses it.
    fn deliver(&self, from: SocketAddr, to: SocketAddr, ecn: Option<EcnCodepoint>, bytes: &[u8]) {
        let mut state = self.state.lock();
        if state.partitions.contains(&(from, to)) {
            state.stats.partitioned += 1;
            return;
        }
        if state.draw_loss() {
            state.stats.lost += 1;
            return;
        }
        let Some(inbox) = state.inboxes.get(&to).map(Arc::clone) else {
            state.stats.unreachable += 1;
            return;
        };
        let mut sent_at = Instant::now();
        if let Some(rate) = state.rate {
            let link = (from, to);
            let idle_at = state.links_busy_until.get(&link).copied();
            let Some(at) = rate.sent_at(sent_at, idle_at, bytes.len() + HEADER_BYTES) else {
                state.stats.dropped += 1;
                return;
            };
            state.links_busy_until.insert(link, at);
            sent_at = at;
        }
        let datagram = Datagram {
            due: sent_at + state.delay,
            from,
            ecn,
            bytes: bytes.into(),
        };
        let fits = bytes.len() <= DATAGRAM_BYTES_MAX;
        // Under the lock, so that datagrams arrive in the order in which they were sent.
        let reader = match fits.then(|| inbox.push(datagram)) {
            Some(Ok(reader)) => {
                state.stats.delivered += 1;
                reader
            }
            Some(Err(_)) | None => {
                state.stats.dropped += 1;
                None
            }
        };
        drop(state);
        if let Some(reader) = reader {
            reader.wake();
        }
    }
}

impl HubState {
    fn draw_loss(&mut self) -> bool {
        if self.loss_per_mille == 0 {
            return false;
        }
        // SplitMix64 (Steele, Lea, Flood, 2014, figure 10).
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % 1_000 < u64::from(self.loss_per_mille)
    }
}

/// The `n`th candidate for the parts of an address that were left open.
fn choose_addr(wanted: SocketAddr, n: u32) -> SocketAddr {
    let ip = match wanted.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => {
            let [_, b, c, d] = n.to_be_bytes();
            Ipv4Addr::new(10, b, c, d).into()
        }
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::from(FIRST_IPV6 | u128::from(n)).into(),
        given => given,
    };
    let port = match wanted.port() {
        0 => PORT_FIRST + (n % (u32::from(u16::MAX - PORT_FIRST) + 1)) as u16,
        given => given,
    };
    SocketAddr::new(ip, port)
}

/// Headers of IPv4 (RFC 791 section 3.1) and UDP (RFC 768).
const HEADER_BYTES: usize = 20 + 8;

/// Largest payload of one IPv4 datagram over UDP.
const DATAGRAM_BYTES_MAX: usize = 65_507;

/// First of the dynamic ports (RFC 6335 section 6).
const PORT_FIRST: u16 = 49_152;

/// Twice the number of dynamic ports, so that a free one is found if there is any.
const CHOICES_MAX: u32 = 2 * (u16::MAX - PORT_FIRST + 1) as u32;

/// fd00::, unique local addresses (RFC 4193).
const FIRST_IPV6: u128 = 0xfd00 << 112;

#[cfg(test)]
mod tests;
