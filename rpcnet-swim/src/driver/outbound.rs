//! Outbound datagrams, and backpressure of a socket that has no room.

use std::io;
use std::net::{Ipv6Addr, SocketAddr};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::Instant;

use super::shared::DriverShared;
use super::socket::DatagramSocket;

/// The datagram that the socket had no room for; the datagrams behind it wait in the engine.
#[derive(Debug)]
pub(super) struct Outbound {
    blocked: Option<BlockedDatagram>,
    /// Whether the socket is of IPv6, which reaches IPv4 addresses in their mapped form.
    is_v6: bool,
}

#[derive(Debug)]
struct BlockedDatagram {
    to: SocketAddr,
    datagram: Vec<u8>,
    since: Instant,
}

impl Outbound {
    /// State of a socket that is bound to this address.
    pub(super) fn new(bound: Option<SocketAddr>) -> Self {
        Self {
            blocked: None,
            is_v6: bound.is_some_and(|bound| bound.is_ipv6()),
        }
    }

    fn destination(&self, to: SocketAddr) -> SocketAddr {
        match to {
            SocketAddr::V4(v4) if self.is_v6 => {
                let mapped: Ipv6Addr = v4.ip().to_ipv6_mapped();
                SocketAddr::new(mapped.into(), v4.port())
            }
            _ => to,
        }
    }

    /// Sends what the engine has to send, until nothing is left or the socket has no room. In that
    /// case the task is woken when it has.
    pub(super) fn poll_flush(
        &mut self,
        shared: &DriverShared,
        socket: &dyn DatagramSocket,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        let mut sent = None;
        loop {
            let (to, datagram, since) = match self.blocked.take() {
                Some(blocked) => (blocked.to, blocked.datagram, Some(blocked.since)),
                // Not locked over the system call: readers of the engine do not wait for it.
                None => match shared.poll_transmit(sent.take()) {
                    Some((to, datagram)) => (to, datagram, None),
                    None => return Poll::Ready(()),
                },
            };
            match socket.poll_send(cx, &datagram, self.destination(to)) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => shared.handle_send_error(&error, to, datagram.len()),
                Poll::Pending => {
                    let since = since.unwrap_or_else(Instant::now);
                    if since.elapsed() <= SEND_WAIT_MAX {
                        self.blocked = Some(BlockedDatagram {
                            to,
                            datagram,
                            since,
                        });
                        return Poll::Pending;
                    }
                    // A datagram that waited longer is out of date when it leaves.
                    shared.drop_queued_datagrams(datagram);
                    continue;
                }
            }
            sent = Some(datagram);
        }
    }

    /// Resolves when the socket may have room for the datagram that waits; never if none does.
    pub(super) fn poll_unblocked(
        &mut self,
        shared: &DriverShared,
        socket: &dyn DatagramSocket,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        match self.blocked {
            Some(_) => self.poll_flush(shared, socket, cx),
            None => Poll::Pending,
        }
    }
}

impl DriverShared {
    /// Drops and counts every datagram that waits for a socket without room.
    fn drop_queued_datagrams(&self, datagram: Vec<u8>) {
        let mut next = Some(datagram);
        while let Some(datagram) = next {
            self.count_socket_error(&io::ErrorKind::WouldBlock.into());
            next = self
                .poll_transmit(Some(datagram))
                .map(|(_, datagram)| datagram);
        }
    }
}

/// Longest time that a datagram waits for room in the socket.
const SEND_WAIT_MAX: Duration = Duration::from_millis(100);
