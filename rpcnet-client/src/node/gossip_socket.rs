//! Gossip socket: the side channel of an endpoint, for gossip on the port of calls.

use std::{
    io,
    net::SocketAddr,
    task::{Context, Poll, ready},
};

use rpcnet_swim::DatagramSocket;
use rpcnet_transport::SideChannel;

/// Side channel of an endpoint as the datagram socket of gossip.
#[derive(Debug)]
pub(super) struct GossipSocket(pub(super) SideChannel);

impl DatagramSocket for GossipSocket {
    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<(usize, SocketAddr)>> {
        let (len, from) = match ready!(self.0.poll_recv(cx, buf)) {
            // The endpoint was shut down first. Nothing comes any more, which is no error to try
            // again after.
            Err(error) if error.kind() == io::ErrorKind::NotConnected => return Poll::Pending,
            received => received?,
        };
        // The side channel gives the whole length of what it had to cut.
        Poll::Ready(Ok((len.min(buf.len()), from)))
    }

    fn poll_send(
        &self,
        cx: &mut Context<'_>,
        datagram: &[u8],
        to: SocketAddr,
    ) -> Poll<io::Result<()>> {
        self.0.poll_send(cx, to, datagram)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.0.local_addr())
    }
}
