//! A network in memory, for tests without sockets.

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

/// A network in memory: its endpoints are like all others, with real QUIC and TLS, but their datagrams never leave the
/// process. For tests that should run anywhere, at any time and side by side, with the trouble of their choice: delay, loss,
/// partitions.
///
/// Networks do not know each other. Cheap to clone; clones are the same network. All of it works with tokio's paused time
/// too, where an hour of waiting takes no time, if all endpoints live in one runtime.
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

/// What a [`MemoryNetwork`] did with the datagrams that it was given. Numbers only grow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemoryStats {
    /// Datagrams put into the queue of their receiver.
    pub delivered: u64,
    /// Datagrams lost because of [`MemoryNetwork::set_loss`].
    pub lost: u64,
    /// Datagrams lost because the way was cut.
    pub partitioned: u64,
    /// Datagrams to an address that nobody has.
    pub unreachable: u64,
    /// Datagrams lost because the queue of their receiver or of the link was full, or larger than UDP carries.
    pub dropped: u64,
}

impl MemoryNetwork {
    /// A network without delay, loss or members.
    pub fn new() -> Self {
        Self::default()
    }

    /// Opens an endpoint on this network. Any address will do; for an unspecified one the network chooses of 10.0.0.0/8 or
    /// fd00::/64, for port 0 a free port. Endpoints reach those of their own address family.
    ///
    /// The queue of datagrams that came and were not read holds the config's
    /// [`socket_buffer_bytes`](TransportConfig::with_socket_buffer_bytes); further ones are lost, as they would be by a socket.
    ///
    /// # Errors
    ///
    /// [`BindError`] if the address is in use on this network, if the config contradicts itself, or outside of a
    /// tokio runtime.
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

    /// How long datagrams that are sent from now on are under way; at first no time. They do not overtake each other.
    pub fn set_delay(&self, one_way: Duration) {
        self.0.state.lock().delay = one_way;
    }

    /// Limits the rate of each direction between two addresses, as a link with a queue in front of it: at most
    /// `bytes_per_second`, and at most `queue_bytes` that wait for it; further datagrams are lost. A datagram counts with the
    /// headers of UDP and IPv4. It holds for datagrams that are sent from now on, `None` for no limit, as at first. Such a link
    /// adds the time in its queue to the [delay](Self::set_delay). With tokio's paused time only the link takes time, so that what
    /// a test measures there does not depend on the machine.
    pub fn set_rate(&self, bytes_per_second: Option<NonZeroU64>, queue_bytes: usize) {
        let mut state = self.0.state.lock();
        state.rate = bytes_per_second.map(|rate| LinkRate { rate, queue_bytes });
        state.links_busy_until.clear();
    }

    /// How many of a thousand datagrams that are sent from now on are lost; at first none. Which ones is drawn from the
    /// seed, so a test whose tasks run in the same order loses the same ones again.
    pub fn set_loss(&self, per_mille: u16, seed: u64) {
        let mut state = self.0.state.lock();
        state.loss_per_mille = per_mille;
        state.random = seed;
    }

    /// Loses everything that is sent between two addresses from now on, in both directions.
    pub fn partition(&self, a: SocketAddr, b: SocketAddr) {
        let mut state = self.0.state.lock();
        state.partitions.insert((a, b));
        state.partitions.insert((b, a));
    }

    /// Ends what [`partition`](Self::partition) began. What was lost stays lost.
    pub fn heal(&self, a: SocketAddr, b: SocketAddr) {
        let mut state = self.0.state.lock();
        state.partitions.remove(&(a, b));
        state.partitions.remove(&(b, a));
    }

    /// What became of the datagrams.
    pub fn stats(&self) -> MemoryStats {
        self.0.state.lock().stats
    }
}

impl fmt::Debug for MemoryNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.0.state.lock();
        f.debug_struct("MemoryNetwork")
            .field("members", &state.inboxes.len())
            .field("delay", &state.delay)
            .field("loss_per_mille", &state.loss_per_mille)
            .field("stats", &state.stats)
            .finish_non_exhaustive()
    }
}

/// Where all datagrams pass.
#[derive(Default)]
struct Hub {
    state: Mutex<HubState>,
}

#[derive(Default)]
struct HubState {
    inboxes: HashMap<SocketAddr, Arc<Inbox>>,
    /// From whom to whom nothing gets.
    partitions: HashSet<(SocketAddr, SocketAddr)>,
    delay: Duration,
    rate: Option<LinkRate>,
    /// By sender and receiver, when the link has sent what it was given.
    links_busy_until: HashMap<(SocketAddr, SocketAddr), Instant>,
    loss_per_mille: u16,
    random: u64,
    /// How many addresses and ports were chosen.
    addrs_chosen: u32,
    stats: MemoryStats,
}

/// The limit of a link; see [`MemoryNetwork::set_rate`].
#[derive(Debug, Clone, Copy)]
struct LinkRate {
    rate: NonZeroU64,
    queue_bytes: usize,
}

impl LinkRate {
    /// When a link that is busy until `idle_at` has sent a datagram of so many bytes; `None` if its queue is full.
    fn sent_at(&self, now: Instant, idle_at: Option<Instant>, bytes: usize) -> Option<Instant> {
        let idle_at = idle_at.map_or(now, |at| at.max(now));
        let rate = self.rate.get() as f64;
        let waiting = (idle_at - now).as_secs_f64() * rate;
        // As of a socket: one datagram gets in whatever the bound.
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
                Entry::Vacant(place) => {
                    place.insert(Arc::clone(inbox));
                    Ok(wanted)
                }
            };
        }
        for _ in 0..CHOICES_MAX {
            state.addrs_chosen = state.addrs_chosen.wrapping_add(1);
            let addr = choose_addr(wanted, state.addrs_chosen);
            if let Entry::Vacant(place) = state.inboxes.entry(addr) {
                place.insert(Arc::clone(inbox));
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

    /// Takes one datagram to its receiver, or loses it.
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
        // In the order in which they passed here.
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

/// The `n`th choice where the wanted address leaves one.
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

/// Of IPv4 (RFC 791 section 3.1) and UDP (RFC 768).
const HEADER_BYTES: usize = 20 + 8;

/// What one IPv4 datagram carries over UDP.
const DATAGRAM_BYTES_MAX: usize = 65_507;

/// RFC 6335 section 6: from here on ports belong to nobody.
const PORT_FIRST: u16 = 49_152;

/// Twice the ports that may be chosen: one of an address that has a free one is found.
const CHOICES_MAX: u32 = 2 * (u16::MAX - PORT_FIRST + 1) as u32;

/// fd00::, RFC 4193: addresses for private use.
const FIRST_IPV6: u128 = 0xfd00 << 112;

#[cfg(test)]
mod tests;
