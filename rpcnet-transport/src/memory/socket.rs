//! Socket of the in-memory network, as QUIC uses it.

use std::{
    fmt,
    io::{self, IoSliceMut},
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    task::{Context, Poll},
};

use quinn::{
    AsyncUdpSocket, UdpPoller,
    udp::{RecvMeta, Transmit},
};

use super::{Hub, inbox::Inbox};
use crate::socket::ClosePort;

/// Socket at one address of the network; its drop frees the address.
pub(super) struct MemorySocket {
    hub: Arc<Hub>,
    inbox: Arc<Inbox>,
    pub(super) local_addr: SocketAddr,
    closed: AtomicBool,
}

impl MemorySocket {
    pub(super) fn new(hub: Arc<Hub>, inbox: Arc<Inbox>, local_addr: SocketAddr) -> Self {
        Self {
            hub,
            inbox,
            local_addr,
            closed: AtomicBool::new(false),
        }
    }
}

impl AsyncUdpSocket for MemorySocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(AlwaysWritable)
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        if self.closed.load(SeqCst) {
            return Ok(());
        }
        let carry = |bytes: &[u8]| {
            self.hub
                .deliver(self.local_addr, transmit.destination, transmit.ecn, bytes);
        };
        match transmit.segment_size {
            Some(bytes) if bytes > 0 => transmit.contents.chunks(bytes).for_each(carry),
            _ => carry(transmit.contents),
        }
        Ok(())
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        metas: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let len_max = buffers.len().min(metas.len());
        let arrived = self.inbox.poll_arrived(cx, len_max, |at, datagram| {
            // A datagram that does not fit is truncated, as by a socket.
            let len = datagram.bytes.len().min(buffers[at].len());
            buffers[at][..len].copy_from_slice(&datagram.bytes[..len]);
            metas[at] = RecvMeta {
                addr: datagram.from,
                len,
                stride: len,
                ecn: datagram.ecn,
                dst_ip: None,
            };
        });
        arrived.map(Ok)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.local_addr)
    }

    fn max_transmit_segments(&self) -> usize {
        SEGMENTS_MAX
    }

    /// QUIC probes for larger packets only where none is fragmented.
    fn may_fragment(&self) -> bool {
        false
    }
}

impl Drop for MemorySocket {
    fn drop(&mut self) {
        self.close();
    }
}

impl ClosePort for MemorySocket {
    fn close(&self) {
        // Only once: afterwards the address may belong to another socket.
        if !self.closed.swap(true, SeqCst) {
            self.hub.remove(self.local_addr);
        }
    }
}

impl fmt::Debug for MemorySocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemorySocket")
            .field("local_addr", &self.local_addr)
            .finish_non_exhaustive()
    }
}

/// Always ready: a full queue loses datagrams and delays no sender.
#[derive(Debug)]
struct AlwaysWritable;

impl UdpPoller for AlwaysWritable {
    fn poll_writable(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Same as Linux takes at once.
const SEGMENTS_MAX: usize = 64;
