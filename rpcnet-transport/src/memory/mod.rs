//! In-memory network for tests without sockets.

mod hub;
mod inbox;
mod link;
mod socket;

use std::{fmt, net::SocketAddr, num::NonZeroU64, ops::RangeInclusive, sync::Arc, time::Duration};

use self::{
    hub::Hub,
    inbox::Inbox,
    link::{LinkFault, LinkRate},
    socket::MemorySocket,
};
use crate::{BindError, Endpoint, SocketBuffers, Tls, TransportConfig, socket::OpenPort};

/// In-memory network: its endpoints use real QUIC and TLS, but their datagrams never leave the
/// process. For tests that run anywhere, at any time and in parallel, with the faults of their
/// choice: delay, loss, limited rates, partitions, isolated endpoints.
///
/// Networks are isolated from each other. Cheap to clone; clones are the same network. It works
/// with tokio's paused time too, where an hour of waiting takes no time, if all endpoints live in
/// one runtime.
///
/// ```
/// use std::{net::Ipv4Addr, time::Duration};
///
/// use rpcnet_transport::{DevCa, MemoryNetwork, Method, Router, TransportConfig};
///
/// const DOUBLE: Method<u32, u32> = Method::new("double");
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let network = MemoryNetwork::new();
/// let ca = DevCa::new("example");
/// let any = (Ipv4Addr::UNSPECIFIED, 0).into();
///
/// let server = network
///     .bind(any, TransportConfig::lan(), ca.issue("server")?)?
///     .serve(Router::new().method(DOUBLE, |n| async move { 2 * n }));
/// let node = network.bind(any, TransportConfig::lan(), ca.issue("client")?)?;
///
/// network.set_delay(Duration::from_millis(2));
/// let client = node.connect(server.local_addr(), "server").await?;
/// assert_eq!(DOUBLE.call(&client, &21).await?, 42);
/// assert!(client.rtt() >= Duration::from_millis(4));
///
/// // A partition, and its end.
/// network.partition(node.local_addr(), server.local_addr());
/// network.heal(node.local_addr(), server.local_addr());
/// assert_eq!(DOUBLE.call(&client, &4).await?, 8);
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
    /// Datagrams lost by [`MemoryNetwork::partition`], in one direction or both, and by
    /// [`MemoryNetwork::isolate`].
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

    /// Network whose random choices, and those of QUIC on its endpoints, come from this seed: lost
    /// datagrams and the delays of a [range](Self::set_delay_range). With tokio's paused time, and
    /// endpoints that are opened in the same order, a run can be repeated. The keys of TLS stay
    /// random.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        let network = Self::new();
        network.0.state.lock().set_seed(seed);
        network
    }

    /// Opens an endpoint on this network, at any address. For an unspecified address the network
    /// chooses one in 10.0.0.0/8 or fd00::/64, for port 0 a free port. Endpoints reach those of
    /// their own address family.
    ///
    /// There is no [busy polling](TransportConfig::with_busy_poll) on it. The queue of datagrams
    /// that arrived and were not read holds
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
        mut config: TransportConfig,
        tls: Tls,
    ) -> Result<Endpoint, BindError> {
        Endpoint::check_bind(&config)?;
        // Nothing arrives from outside of the process, and spinning goes by the real clock.
        config.busy_poll = Duration::ZERO;
        let inbox = Arc::new(Inbox::new(config.socket_buffer_bytes));
        let (local_addr, rng_seed) = self.0.add(addr, &inbox)?;
        let socket = Arc::new(MemorySocket::new(Arc::clone(&self.0), inbox, local_addr));
        let buffers = SocketBuffers::all_granted(config.socket_buffer_bytes);
        let port = OpenPort {
            udp: Arc::clone(&socket) as _,
            direct: None,
            close: socket,
            buffers,
            rng_seed,
        };
        Endpoint::bind_on(port, 0, addr, config, tls)
    }

    /// Sets the one-way delay of datagrams sent from now on; initially none. Datagrams between two
    /// addresses do not overtake each other.
    pub fn set_delay(&self, one_way: Duration) {
        self.set_delay_range(one_way..=one_way);
    }

    /// Sets the range of the one-way delay of datagrams sent from now on: that of each is drawn
    /// from the [seed](Self::seeded). Datagrams between two addresses do not overtake each other.
    pub fn set_delay_range(&self, one_way: RangeInclusive<Duration>) {
        self.0.state.lock().delay = one_way.into();
    }

    /// Sets the range of the one-way delay of datagrams from one address to another, in place of
    /// that of the network; `None` is that of the network again.
    pub fn set_link_delay(
        &self,
        from: SocketAddr,
        to: SocketAddr,
        one_way: Option<RangeInclusive<Duration>>,
    ) {
        let change = |fault: &mut LinkFault| fault.delay = one_way.map(Into::into);
        self.0.state.lock().change_fault(from, to, change);
    }

    /// Limits the rate of each direction between two addresses, as a link with a queue in front of
    /// it: at most `bytes_per_second`, and at most `queue_bytes` that wait; further datagrams are
    /// lost. A datagram counts with the headers of UDP and IPv4. The limit holds for datagrams sent
    /// from now on; `None`, the initial value, is no limit. Such a link adds the time in its queue
    /// to the [delay](Self::set_delay). With tokio's paused time only the link takes time, so that
    /// a measurement does not depend on the machine.
    pub fn set_rate(&self, bytes_per_second: Option<NonZeroU64>, queue_bytes: usize) {
        let rate = bytes_per_second.map(|rate| LinkRate { rate, queue_bytes });
        self.0.state.lock().set_rate(rate);
    }

    /// Sets the loss per mille of datagrams sent from now on; initially none. Losses are drawn from
    /// the seed, for each direction between two addresses apart, so a test whose tasks run in the
    /// same order loses the same datagrams again.
    pub fn set_loss(&self, per_mille: u16, seed: u64) {
        let mut state = self.0.state.lock();
        state.loss_per_mille = per_mille;
        state.set_link_seed(seed);
    }

    /// Sets the loss per mille of datagrams from one address to another, in place of that of the
    /// network; `None` is that of the network again.
    pub fn set_link_loss(&self, from: SocketAddr, to: SocketAddr, per_mille: Option<u16>) {
        let change = |fault: &mut LinkFault| fault.loss_per_mille = per_mille;
        self.0.state.lock().change_fault(from, to, change);
    }

    /// Partitions two addresses: everything sent between them from now on is lost, in both
    /// directions.
    pub fn partition(&self, a: SocketAddr, b: SocketAddr) {
        self.partition_one_way(a, b);
        self.partition_one_way(b, a);
    }

    /// One-way partition: everything sent from the first address to the second one from now on is
    /// lost.
    pub fn partition_one_way(&self, from: SocketAddr, to: SocketAddr) {
        let change = |fault: &mut LinkFault| fault.is_partitioned = true;
        self.0.state.lock().change_fault(from, to, change);
    }

    /// Ends a [`partition`](Self::partition), in both directions. What was lost stays lost.
    pub fn heal(&self, a: SocketAddr, b: SocketAddr) {
        let mut state = self.0.state.lock();
        for (from, to) in [(a, b), (b, a)] {
            state.change_fault(from, to, |fault| fault.is_partitioned = false);
        }
    }

    /// Isolates an address: everything sent from it and to it from now on is lost, and so is what
    /// is on the way to it, as if its host had stopped. The endpoint does not learn of it: its
    /// timers go on.
    pub fn isolate(&self, addr: SocketAddr) {
        self.0.isolate(addr);
    }

    /// Ends an [isolation](Self::isolate). What was lost stays lost.
    pub fn reconnect(&self, addr: SocketAddr) {
        self.0.state.lock().isolated.remove(&addr);
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

#[cfg(test)]
mod tests;
