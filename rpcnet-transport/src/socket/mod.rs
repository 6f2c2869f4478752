//! One UDP port shared by QUIC and by datagrams of another protocol.
//!
//! They are told apart by QUIC's fixed bit (RFC 9000 section 17.2; RFC 9443 on sharing a port): set
//! in the first byte of every QUIC packet, because its greasing (RFC 9287) is off here, and clear
//! in that of every other datagram.

mod buffers;
mod demux;
mod retain_quic;
mod side_channel;
mod udp;

pub(crate) use self::demux::DemuxSocket;
pub use self::{buffers::SocketBuffers, side_channel::SideChannel};
pub(crate) use self::{side_channel::SideQueue, udp::ClosableUdpSocket};

use std::{
    fmt, io,
    net::{SocketAddr, UdpSocket},
    sync::Arc,
};

use quinn::AsyncUdpSocket;
use socket2::{Domain, Protocol, Socket, Type};

use crate::BindError;

/// Whether a datagram that starts with this byte is QUIC's.
pub(crate) const fn is_quic(first: u8) -> bool {
    first & QUIC_FIXED_BIT != 0
}

/// Open port, as the parts of an endpoint use it.
pub(crate) struct OpenPort {
    pub(crate) udp: Arc<dyn AsyncUdpSocket>,
    /// The same socket, for senders that need the system's error for a datagram. `None` in memory.
    pub(crate) direct: Option<Arc<ClosableUdpSocket>>,
    /// The same socket, to be closed.
    pub(crate) close: Arc<dyn ClosePort>,
    pub(crate) buffers: SocketBuffers,
    /// Seed of QUIC's random choices, for runs that can be repeated; `None` is a random one.
    pub(crate) rng_seed: Option<[u8; 32]>,
}

impl OpenPort {
    /// Creates a port of a socket that was opened on `addr`, on the runtime of the current task.
    pub(crate) fn new(
        addr: SocketAddr,
        (udp, buffers): (UdpSocket, SocketBuffers),
    ) -> Result<Self, BindError> {
        let udp = ClosableUdpSocket::new(udp).map_err(|source| BindError::Io { addr, source })?;
        let udp = Arc::new(udp);
        Ok(Self {
            udp: Arc::clone(&udp) as _,
            direct: Some(Arc::clone(&udp)),
            close: udp,
            buffers,
            rng_seed: None,
        })
    }
}

/// Socket that can be closed while others hold it.
pub(crate) trait ClosePort: fmt::Debug + Send + Sync {
    /// Frees the address before it returns.
    fn close(&self);
}

/// Opens the port, with the largest buffers that the system grants up to `buffer_bytes`.
pub(crate) fn open(
    addr: SocketAddr,
    buffer_bytes: usize,
) -> Result<(UdpSocket, SocketBuffers), BindError> {
    let (socket, buffers) =
        open_socket(addr, buffer_bytes, false).map_err(|source| bind_error(addr, source))?;
    Ok((socket.into(), buffers))
}

/// Opens the port several times; the system chooses among the sockets by the sender's address.
///
/// The first socket takes the port exclusively and shares it afterwards. So a port that another
/// process has is refused, even if that process would share it.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(crate) fn open_shared(
    addr: SocketAddr,
    buffer_bytes: usize,
    count: usize,
) -> Result<Vec<(UdpSocket, SocketBuffers)>, BindError> {
    let opened_all = || -> io::Result<Vec<(UdpSocket, SocketBuffers)>> {
        let (first, buffers) = open_socket(addr, buffer_bytes, false)?;
        let local_addr = first
            .local_addr()?
            .as_socket()
            .ok_or(io::ErrorKind::AddrNotAvailable)?;
        if count > 1 {
            first.set_reuse_port(true)?;
        }
        let mut sockets = vec![(UdpSocket::from(first), buffers)];
        for _ in 1..count {
            let (socket, buffers) = open_socket(local_addr, buffer_bytes, true)?;
            sockets.push((socket.into(), buffers));
        }
        Ok(sockets)
    };
    opened_all().map_err(|source| bind_error(addr, source))
}

/// Other systems let several sockets have one port, but do not spread the datagrams.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(crate) fn open_shared(
    addr: SocketAddr,
    buffer_bytes: usize,
    count: usize,
) -> Result<Vec<(UdpSocket, SocketBuffers)>, BindError> {
    match count {
        1 => Ok(vec![open(addr, buffer_bytes)?]),
        _ => Err(BindError::ShardsUnsupported),
    }
}

fn open_socket(
    addr: SocketAddr,
    buffer_bytes: usize,
    is_shared: bool,
) -> io::Result<(Socket, SocketBuffers)> {
    let socket = Socket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP))?;
    if addr.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    #[cfg(any(target_os = "linux", target_os = "android"))]
    socket.set_reuse_port(is_shared)?;
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    debug_assert!(!is_shared, "no port is shared on this system");
    let buffers = SocketBuffers::request(&socket, buffer_bytes);
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    let SocketBuffers {
        requested,
        receive,
        send,
    } = buffers;
    if buffers.is_short() {
        tracing::warn!(
            %addr, requested, receive, send,
            "the system grants smaller socket buffers than requested: bursts may be lost"
        );
    } else {
        tracing::debug!(%addr, receive, send, "socket opened");
    }
    Ok((socket, buffers))
}

fn bind_error(addr: SocketAddr, source: io::Error) -> BindError {
    match source.kind() {
        io::ErrorKind::AddrInUse => BindError::AddressInUse(addr),
        _ => BindError::Io { addr, source },
    }
}

const QUIC_FIXED_BIT: u8 = 0x40;

const CLOSED: &str = "the endpoint is closed";
