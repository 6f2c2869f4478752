//! Hub of the network: delivers every datagram to its receiver, or loses it.

use std::{
    collections::{HashMap, HashSet, hash_map::Entry},
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

use parking_lot::Mutex;
use quinn::udp::EcnCodepoint;
use tokio::time::Instant;

use super::{
    MemoryStats,
    inbox::{Datagram, Inbox},
    link::{DelayRange, Link, LinkFault, LinkRate, SplitMix},
};
use crate::BindError;

#[derive(Default)]
pub(super) struct Hub {
    pub(super) state: Mutex<HubState>,
}

/// Endpoints, links and settings of the network. A link is sender and receiver.
#[derive(Default)]
pub(super) struct HubState {
    pub(super) inboxes: HashMap<SocketAddr, Arc<Inbox>>,
    links: HashMap<(SocketAddr, SocketAddr), Link>,
    /// Links with settings of their own.
    faults: HashMap<(SocketAddr, SocketAddr), LinkFault>,
    pub(super) isolated: HashSet<SocketAddr>,
    pub(super) delay: DelayRange,
    rate: Option<LinkRate>,
    pub(super) loss_per_mille: u16,
    /// Seed of the links.
    link_seed: u64,
    /// Seed of QUIC on each endpoint, if there is one.
    quic_seed: Option<u64>,
    /// Number of endpoints that were opened with a seed.
    seeded: u64,
    /// Number of addresses and ports that were chosen.
    addrs_chosen: u32,
    pub(super) stats: MemoryStats,
}

impl Hub {
    /// Adds an endpoint; returns its address and the seed of its QUIC.
    pub(super) fn add(
        &self,
        wanted: SocketAddr,
        inbox: &Arc<Inbox>,
    ) -> Result<(SocketAddr, Option<[u8; 32]>), BindError> {
        let mut state = self.state.lock();
        let addr = state.add(wanted, inbox)?;
        Ok((addr, state.next_quic_seed(addr)))
    }

    pub(super) fn remove(&self, addr: SocketAddr) {
        self.state.lock().inboxes.remove(&addr);
    }

    pub(super) fn isolate(&self, addr: SocketAddr) {
        let mut state = self.state.lock();
        state.isolated.insert(addr);
        let lost = state.inboxes.get(&addr).map_or(0, |inbox| inbox.clear());
        state.stats.partitioned += lost;
    }

    /// Delivers one datagram to its receiver, or loses it.
    pub(super) fn deliver(
        &self,
        from: SocketAddr,
        to: SocketAddr,
        ecn: Option<EcnCodepoint>,
        bytes: &[u8],
    ) {
        let mut state = self.state.lock();
        // Under the lock, so that datagrams arrive in the order in which they were sent.
        let (count, reader) = match state.route(from, to, ecn, bytes) {
            Ok(reader) => (&mut state.stats.delivered, reader),
            Err(Loss::Partition) => (&mut state.stats.partitioned, None),
            Err(Loss::Random) => (&mut state.stats.lost, None),
            Err(Loss::Unreachable) => (&mut state.stats.unreachable, None),
            Err(Loss::NoRoom) => (&mut state.stats.dropped, None),
        };
        *count += 1;
        drop(state);
        if let Some(reader) = reader {
            reader.wake();
        }
    }
}

/// Why a datagram does not arrive.
enum Loss {
    Partition,
    Random,
    Unreachable,
    NoRoom,
}

impl HubState {
    pub(super) fn set_seed(&mut self, seed: u64) {
        self.quic_seed = Some(seed);
        self.set_link_seed(seed);
    }

    pub(super) fn set_link_seed(&mut self, seed: u64) {
        self.link_seed = seed;
        self.links.clear();
    }

    pub(super) fn set_rate(&mut self, rate: Option<LinkRate>) {
        self.rate = rate;
        self.links
            .values_mut()
            .for_each(|link| link.busy_until = None);
    }

    pub(super) fn change_fault(
        &mut self,
        from: SocketAddr,
        to: SocketAddr,
        change: impl FnOnce(&mut LinkFault),
    ) {
        let fault = self.faults.entry((from, to)).or_default();
        change(fault);
        if *fault == LinkFault::default() {
            self.faults.remove(&(from, to));
        }
    }

    fn add(&mut self, wanted: SocketAddr, inbox: &Arc<Inbox>) -> Result<SocketAddr, BindError> {
        if !wanted.ip().is_unspecified() && wanted.port() != 0 {
            return match self.inboxes.entry(wanted) {
                Entry::Occupied(_) => Err(BindError::AddressInUse(wanted)),
                Entry::Vacant(vacant) => {
                    vacant.insert(Arc::clone(inbox));
                    Ok(wanted)
                }
            };
        }
        for _ in 0..CHOICES_MAX {
            self.addrs_chosen = self.addrs_chosen.wrapping_add(1);
            let addr = choose_addr(wanted, self.addrs_chosen);
            if let Entry::Vacant(vacant) = self.inboxes.entry(addr) {
                vacant.insert(Arc::clone(inbox));
                return Ok(addr);
            }
        }
        Err(BindError::Io {
            addr: wanted,
            source: io::Error::new(io::ErrorKind::AddrNotAvailable, "no free address"),
        })
    }

    /// Seed of the next endpoint: another one each time, also at the same address.
    fn next_quic_seed(&mut self, addr: SocketAddr) -> Option<[u8; 32]> {
        let seed = self.quic_seed?.wrapping_add(self.seeded);
        self.seeded += 1;
        let mut rng = SplitMix::of_addrs(seed, &[addr]);
        let mut bytes = [0; 32];
        for chunk in bytes.chunks_exact_mut(8) {
            chunk.copy_from_slice(&rng.next().to_le_bytes());
        }
        Some(bytes)
    }

    /// Puts a datagram into the queue of its receiver; returns the waker of its reader.
    fn route(
        &mut self,
        from: SocketAddr,
        to: SocketAddr,
        ecn: Option<EcnCodepoint>,
        bytes: &[u8],
    ) -> Result<Option<std::task::Waker>, Loss> {
        let fault = self.faults.get(&(from, to));
        let is_isolated = self.isolated.contains(&from) || self.isolated.contains(&to);
        if is_isolated || fault.is_some_and(|fault| fault.is_partitioned) {
            return Err(Loss::Partition);
        }
        let loss = fault.and_then(|fault| fault.loss_per_mille);
        let loss = loss.unwrap_or(self.loss_per_mille);
        let delay = fault.and_then(|fault| fault.delay).unwrap_or(self.delay);
        let new_link = || Link::new(self.link_seed, from, to);
        let link = self.links.entry((from, to)).or_insert_with(new_link);
        if link.draw_loss(loss) {
            return Err(Loss::Random);
        }
        let inbox = self.inboxes.get(&to).ok_or(Loss::Unreachable)?;
        let mut sent_at = Instant::now();
        if let Some(rate) = self.rate {
            let sent = rate.sent_at(sent_at, link.busy_until, bytes.len() + HEADER_BYTES);
            sent_at = sent.ok_or(Loss::NoRoom)?;
            link.busy_until = Some(sent_at);
        }
        if bytes.len() > DATAGRAM_BYTES_MAX {
            return Err(Loss::NoRoom);
        }
        let datagram = Datagram {
            due: link.draw_due(sent_at, &delay),
            from,
            ecn,
            bytes: bytes.into(),
        };
        inbox.push(datagram).map_err(|_| Loss::NoRoom)
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
pub(super) const DATAGRAM_BYTES_MAX: usize = 65_507;

/// First of the dynamic ports (RFC 6335 section 6).
pub(super) const PORT_FIRST: u16 = 49_152;

/// Twice the number of dynamic ports, so that a free one is found if there is any.
const CHOICES_MAX: u32 = 2 * (u16::MAX - PORT_FIRST + 1) as u32;

/// fd00::, unique local addresses (RFC 4193).
const FIRST_IPV6: u128 = 0xfd00 << 112;
