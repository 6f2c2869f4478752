//! Socket on the loopback interface whose network a test disturbs.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rpcnet_swim::DatagramSocket;
use rpcnet_testing::loopback;
use tokio::net::UdpSocket;

type OnSend = dyn Fn(&[u8], SocketAddr) -> SendFate + Send + Sync;

/// A UDP socket, and what happens to its datagrams.
pub(crate) struct TestSocket {
    socket: UdpSocket,
    on_send: Box<OnSend>,
    /// Whether datagrams from this address arrive.
    hears: Box<dyn Fn(SocketAddr) -> bool + Send + Sync>,
}

/// Fate of a datagram that a node sends.
pub(crate) enum SendFate {
    Sent,
    Lost,
    /// The socket has no room for it, and never wakes its task when that changes.
    Blocked,
    /// The system refuses it with this error.
    Refused(i32),
}

impl TestSocket {
    /// A socket that treats what the node sends like this, and receives everything.
    pub(crate) async fn bind(
        on_send: impl Fn(&[u8], SocketAddr) -> SendFate + Send + Sync + 'static,
    ) -> Self {
        Self {
            socket: UdpSocket::bind(loopback()).await.expect("a free port"),
            on_send: Box::new(on_send),
            hears: Box::new(|_| true),
        }
    }

    /// The same, through which datagrams pass in both directions only if this function says so.
    pub(crate) async fn bind_filtered(
        passes: impl Fn(SocketAddr) -> bool + Send + Sync + 'static,
    ) -> Self {
        let passes = Arc::new(passes);
        let hears = Arc::clone(&passes);
        let socket = Self::bind(move |_, to| match passes(to) {
            true => SendFate::Sent,
            false => SendFate::Lost,
        });
        Self {
            hears: Box::new(move |from| hears(from)),
            ..socket.await
        }
    }
}

impl DatagramSocket for TestSocket {
    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<(usize, SocketAddr)>> {
        loop {
            let (len, from) = ready!(DatagramSocket::poll_recv(&self.socket, cx, buf))?;
            if (self.hears)(from) {
                return Poll::Ready(Ok((len, from)));
            }
        }
    }

    fn poll_send(
        &self,
        cx: &mut Context<'_>,
        datagram: &[u8],
        to: SocketAddr,
    ) -> Poll<io::Result<()>> {
        match (self.on_send)(datagram, to) {
            SendFate::Sent => DatagramSocket::poll_send(&self.socket, cx, datagram, to),
            SendFate::Lost => Poll::Ready(Ok(())),
            SendFate::Blocked => Poll::Pending,
            SendFate::Refused(code) => Poll::Ready(Err(io::Error::from_raw_os_error(code))),
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }
}
