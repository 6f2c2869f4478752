//! One UDP port for QUIC and for datagrams of another protocol.
//!
//! They are told apart by QUIC's fixed bit (RFC 9000 section 17.2; RFC 9443 on sharing a port): set in the first
//! byte of every QUIC packet, as its greasing (RFC 9287) is off here, and clear in that of every other datagram.

mod shared;
mod side_channel;
mod split;

pub(crate) use self::shared::SharedSocket;
pub use self::side_channel::SideChannel;
pub(crate) use self::side_channel::SideQueue;

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
pub(crate) fn open(addr: SocketAddr, buffer_bytes: usize) -> Result<UdpSocket, BindError> {
    let opened = || -> io::Result<Socket> {
        let socket = Socket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP))?;
        if addr.is_ipv6() {
            socket.set_only_v6(false)?;
        }
        // The system may grant less or refuse; a smaller buffer is slower, not wrong.
        let _ = socket.set_recv_buffer_size(buffer_bytes);
        let _ = socket.set_send_buffer_size(buffer_bytes);
        socket.set_nonblocking(true)?;
        socket.bind(&addr.into())?;
        Ok(socket)
    };
    let socket = opened().map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => BindError::AddressInUse(addr),
        _ => BindError::Io { addr, source },
    })?;
    tracing::debug!(
        %addr,
        recv_buffer_bytes = socket.recv_buffer_size().ok(),
        send_buffer_bytes = socket.send_buffer_size().ok(),
        "socket opened"
    );
    Ok(socket.into())
}

const QUIC_FIXED_BIT: u8 = 0x40;
