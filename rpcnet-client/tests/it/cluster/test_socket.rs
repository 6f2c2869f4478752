//! Socket for gossip whose datagrams are not read.

use std::{
    io,
    net::SocketAddr,
    sync::Arc,
    task::{Context, Poll},
};

use rpcnet_client::swim::DatagramSocket;

/// Socket of a node that sends and does not read.
pub(crate) struct UnreadSocket(pub(crate) Arc<dyn DatagramSocket>);

impl DatagramSocket for UnreadSocket {
    fn poll_recv(
        &self,
        _: &mut Context<'_>,
        _: &mut [u8],
    ) -> Poll<io::Result<(usize, SocketAddr)>> {
        Poll::Pending
    }

    fn poll_send(
        &self,
        cx: &mut Context<'_>,
        datagram: &[u8],
        to: SocketAddr,
    ) -> Poll<io::Result<()>> {
        self.0.poll_send(cx, datagram, to)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}
