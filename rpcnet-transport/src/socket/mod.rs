//! One UDP port for QUIC and for datagrams of another protocol.
//!
//! They are told apart by QUIC's fixed bit (RFC 9000 section 17.2; RFC 9443 on sharing a port): set in the first
//! byte of every QUIC packet, as its greasing (RFC 9287) is off here, and clear in that of every other datagram.

mod buffers;
mod shared;
mod side_channel;
mod split;

pub(crate) use self::shared::SharedSocket;
pub(crate) use self::side_channel::SideQueue;
pub use self::{buffers::SocketBuffers, side_channel::SideChannel};

use std::{
    io,
    net::{SocketAddr, UdpSocket},
};

use socket2::{Domain, Protocol, Socket, Type};

use crate::BindError;

/// Whether a datagram that begins with this byte is QUIC's.
pub(crate) const fn is_quic(first: u8) -> bool {
    first & QUIC_FIXED_BIT != 0
}

/// Opens the port, with buffers as large as the system grants up to `buffer_bytes`.
pub(crate) fn open(
    addr: SocketAddr,
    buffer_bytes: usize,
) -> Result<(UdpSocket, SocketBuffers), BindError> {
    let opened = || -> io::Result<(Socket, SocketBuffers)> {
        let socket = Socket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP))?;
        if addr.is_ipv6() {
            socket.set_only_v6(false)?;
        }
        let buffers = SocketBuffers::request(&socket, buffer_bytes);
        socket.set_nonblocking(true)?;
        socket.bind(&addr.into())?;
        Ok((socket, buffers))
    };
    let (socket, buffers) = opened().map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => BindError::AddressInUse(addr),
        _ => BindError::Io { addr, source },
    })?;
    let SocketBuffers {
        asked,
        receive,
        send,
    } = buffers;
    if buffers.is_short() {
        tracing::warn!(
            %addr, asked, receive, send,
            "the system grants smaller socket buffers than asked for: bursts may be lost"
        );
    } else {
        tracing::debug!(%addr, receive, send, "socket opened");
    }
    Ok((socket.into(), buffers))
}

const QUIC_FIXED_BIT: u8 = 0x40;
