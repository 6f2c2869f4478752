//! Demultiplexing socket: QUIC's packets to QUIC, other datagrams to the side channel.

use std::{
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

use super::{retain_quic::retain_quic, side_channel::SideQueue};
use crate::busy_poll::BusyPoll;

/// Port as QUIC sees it: receives QUIC's packets, and puts other datagrams into the side channel.
pub(crate) struct DemuxSocket {
    inner: Arc<dyn AsyncUdpSocket>,
    side: Arc<SideQueue>,
    busy_poll: Arc<BusyPoll>,
    transmit_segments_max: usize,
    receive_segments_max: usize,
}

impl DemuxSocket {
    /// `packet_bytes_max` is the largest packet that QUIC will send, `receive_bytes_max` the size
    /// of its receive buffers.
    pub(crate) fn new(
        inner: Arc<dyn AsyncUdpSocket>,
        side: Arc<SideQueue>,
        busy_poll: Arc<BusyPoll>,
        packet_bytes_max: u16,
        receive_bytes_max: u16,
    ) -> Self {
        Self {
            inner,
            side,
            busy_poll,
            transmit_segments_max: transmit_segments_max(packet_bytes_max),
            receive_segments_max: receive_segments_max(receive_bytes_max),
        }
    }
}

impl AsyncUdpSocket for DemuxSocket {
    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        messages: &mut [IoSliceMut<'_>],
        metas: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        for _ in 0..SIDE_BATCHES_MAX {
            let received = ready!(self.inner.poll_recv(cx, messages, metas))?;
            let mut kept = 0;
            for at in 0..received {
                let meta = &mut metas[at];
                let from = meta.addr;
                meta.len = retain_quic(&mut messages[at][..meta.len], meta.stride, |datagram| {
                    self.side.push(from, datagram);
                });
                if meta.len > 0 {
                    metas.swap(kept, at);
                    messages.swap(kept, at);
                    kept += 1;
                }
            }
            if kept > 0 {
                self.busy_poll.record_packets();
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
        self.inner.try_send(transmit)?;
        self.busy_poll.record_sent();
        Ok(())
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.inner
            .max_transmit_segments()
            .min(self.transmit_segments_max)
    }

    fn max_receive_segments(&self) -> usize {
        self.inner
            .max_receive_segments()
            .min(self.receive_segments_max)
    }

    fn may_fragment(&self) -> bool {
        self.inner.may_fragment()
    }
}

impl Drop for DemuxSocket {
    fn drop(&mut self) {
        self.side.close();
    }
}

impl std::fmt::Debug for DemuxSocket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DemuxSocket")
            .field("inner", &self.inner)
            .finish_non_exhaustive()
    }
}

/// Packets in one segmented send (GSO). The system rejects calls above 64 KiB, and QUIC's socket
/// takes that error for a packet above the path MTU: all of them would be lost silently. QUIC
/// builds batches of packets of the size that it found, so the largest size that it may find
/// decides.
const fn transmit_segments_max(packet_bytes_max: u16) -> usize {
    let segments = CALL_BYTES_MAX / packet_bytes_max as usize;
    if segments == 0 { 1 } else { segments }
}

/// Packets in one coalesced receive (GRO): never more than 64 KiB. QUIC allocates 32 times this
/// many of the largest size, which without a bound is 128 MiB where packets may be large.
const fn receive_segments_max(receive_bytes_max: u16) -> usize {
    RECEIVE_BYTES_MAX.div_ceil(receive_bytes_max as usize)
}

/// Largest payload of one IPv4 datagram over UDP, which the segments of a call together must not
/// exceed.
const CALL_BYTES_MAX: usize = 65_507;

const RECEIVE_BYTES_MAX: usize = 65_536;

/// Receives in a row that may bring nothing for QUIC before it is scheduled again.
const SIDE_BATCHES_MAX: usize = 16;

#[cfg(test)]
mod tests;
