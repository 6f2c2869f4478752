//! The one port, as QUIC sees it.

use std::{
    fmt,
    io::{self, IoSliceMut},
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use quinn::{
    AsyncUdpSocket, UdpPoller,
    udp::{RecvMeta, Transmit},
};

use super::{side_channel::SideQueue, split::split};

/// The port as QUIC sees it: receives what is QUIC's, and puts the rest aside.
pub(crate) struct SharedSocket {
    inner: Arc<dyn AsyncUdpSocket>,
    side: Arc<SideQueue>,
}

impl SharedSocket {
    pub(crate) fn new(inner: Arc<dyn AsyncUdpSocket>, side: Arc<SideQueue>) -> Self {
        Self { inner, side }
    }
}

impl AsyncUdpSocket for SharedSocket {
    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        metas: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        for _ in 0..SIDE_BATCHES_MAX {
            let received = ready!(self.inner.poll_recv(cx, bufs, metas))?;
            let mut kept = 0;
            for at in 0..received {
                let meta = &mut metas[at];
                let from = meta.addr;
                meta.len = split(&mut bufs[at][..meta.len], meta.stride, |datagram| {
                    self.side.push(from, datagram);
                });
                if meta.len > 0 {
                    metas.swap(kept, at);
                    bufs.swap(kept, at);
                    kept += 1;
                }
            }
            if kept > 0 {
                return Poll::Ready(Ok(kept));
            }
        }
        // A flood of other datagrams must not keep QUIC's timers from running.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Arc::clone(&self.inner).create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.inner.try_send(transmit)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.inner.max_transmit_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.inner.max_receive_segments()
    }

    fn may_fragment(&self) -> bool {
        self.inner.may_fragment()
    }
}

impl Drop for SharedSocket {
    fn drop(&mut self) {
        self.side.close();
    }
}

impl fmt::Debug for SharedSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedSocket")
            .field("inner", &self.inner)
            .finish_non_exhaustive()
    }
}

/// Receives in a row that may bring nothing for QUIC before it gets another turn.
const SIDE_BATCHES_MAX: usize = 16;

#[cfg(test)]
mod tests;
