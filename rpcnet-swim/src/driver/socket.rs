//! Datagram socket: what the driver needs of one, and UDP as its implementation.

use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll, ready};

use tokio::io::ReadBuf;
use tokio::net::UdpSocket;

/// A socket for datagrams: a UDP socket of one's own, a port shared with QUIC, or a wrapper that
/// drops and delays for a test.
pub trait DatagramSocket: Send + Sync + 'static {
    /// Receives a datagram into `buf`, and returns its length and sender. A datagram that does not
    /// fit is cut off, and so dropped by the engine.
    ///
    /// # Errors
    /// The error of the socket. The driver counts it and goes on.
    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<(usize, SocketAddr)>>;

    /// Sends a datagram, or registers to be woken when the socket may have room for it. A socket
    /// that was just opened may have none until the runtime has seen it. The driver calls again
    /// with the same datagram, for a bounded time; after it the datagram is lost, as datagrams may
    /// be. A socket bound to an IPv6 address is given IPv4 addresses in their mapped form.
    ///
    /// # Errors
    /// The error of the socket. The datagram is lost; the driver counts it and goes on.
    fn poll_send(
        &self,
        cx: &mut Context<'_>,
        datagram: &[u8],
        to: SocketAddr,
    ) -> Poll<io::Result<()>>;

    /// The address that it is bound to.
    ///
    /// # Errors
    /// The error of the socket.
    fn local_addr(&self) -> io::Result<SocketAddr>;
}

impl DatagramSocket for UdpSocket {
    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<(usize, SocketAddr)>> {
        let mut buf = ReadBuf::new(buf);
        let from = ready!(self.poll_recv_from(cx, &mut buf))?;
        Poll::Ready(Ok((buf.filled().len(), from)))
    }

    fn poll_send(
        &self,
        cx: &mut Context<'_>,
        datagram: &[u8],
        to: SocketAddr,
    ) -> Poll<io::Result<()>> {
        loop {
            match self.try_send_to(datagram, to) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                sent => return Poll::Ready(sent.map(drop)),
            }
            ready!(self.poll_send_ready(cx))?;
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Self::local_addr(self)
    }
}

/// A UDP socket with room for what arrives while the process is stopped.
pub(super) fn bind(addr: SocketAddr) -> io::Result<UdpSocket> {
    let socket = socket2::Socket::new(
        socket2::Domain::for_address(addr),
        socket2::Type::DGRAM,
        Some(socket2::Protocol::UDP),
    )?;
    // The system grants as much as it allows; less works too.
    let _ = socket.set_recv_buffer_size(RECV_BUFFER_BYTES);
    if addr.is_ipv6() && addr.ip().is_unspecified() {
        // All interfaces are those of both families; where that is not supported, IPv6 alone works
        // too.
        let _ = socket.set_only_v6(false);
    }
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    UdpSocket::from_std(socket.into())
}

const RECV_BUFFER_BYTES: usize = 4 << 20;
