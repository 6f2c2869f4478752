//! Side channel: datagrams of another protocol on the endpoint's port.

use std::{
    collections::VecDeque,
    fmt,
    future::poll_fn,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
};

use parking_lot::{Mutex, RwLock};
use quinn::{AsyncUdpSocket, UdpPoller, udp::Transmit};

use super::{CLOSED, is_quic, udp::ClosableUdpSocket};
use crate::stats::Counters;

/// Side channel: datagrams of another protocol on the endpoint's port, those whose first byte has
/// the bit 0x40 clear.
///
/// Unreliable in both directions, like UDP: a datagram that does not fit the queue is dropped and
/// counted ([`TransportStats::side_dropped`](crate::TransportStats)). The endpoint goes on when the
/// side channel is dropped; datagrams that arrive then are dropped and counted. It ends with
/// [`Endpoint::shutdown`](crate::Endpoint::shutdown), or when the last handle of the endpoint and
/// the last of its connections are gone.
pub struct SideChannel {
    queue: Arc<SideQueue>,
    socket: Arc<dyn AsyncUdpSocket>,
    /// The same socket without QUIC's wrapper, which hides errors. `None` in memory.
    direct: Option<Arc<ClosableUdpSocket>>,
    /// Set while a sender waits for room in the socket.
    writable: Mutex<Option<Pin<Box<dyn UdpPoller>>>>,
    local_addr: SocketAddr,
}

impl SideChannel {
    pub(crate) fn new(
        queue: Arc<SideQueue>,
        socket: Arc<dyn AsyncUdpSocket>,
        direct: Option<Arc<ClosableUdpSocket>>,
        local_addr: SocketAddr,
    ) -> Self {
        Self {
            queue,
            socket,
            direct,
            writable: Mutex::new(None),
            local_addr,
        }
    }

    /// Sets a filter for what the reader waits for: datagrams for which `recognizes` is false use
    /// at most a sixteenth of the queue, so that junk does not crowd out the others. Further ones
    /// are dropped and counted ([`TransportStats::side_unrecognized`](crate::TransportStats)).
    /// Default: none, all datagrams use the whole queue. The filter is called for each datagram
    /// where the port is read, so it has to be quick and must not block: a look at a header.
    #[must_use]
    pub fn with_recognizer(
        self,
        recognizes: impl Fn(&[u8]) -> bool + Send + Sync + 'static,
    ) -> Self {
        *self.queue.recognizer.write() = Some(Box::new(recognizes));
        self
    }

    /// Starts to queue datagrams: the side channel was taken.
    pub(crate) fn attach_reader(&self) {
        self.queue.state.lock().has_reader = true;
    }

    /// Copies the next datagram into `buf`, truncated if it is longer, and returns its full length
    /// and its sender; otherwise registers the task. One task at a time may wait.
    ///
    /// # Errors
    ///
    /// `NotConnected` when the endpoint is gone: nothing will arrive any more.
    pub fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<(usize, SocketAddr)>> {
        let mut state = self.queue.state.lock();
        match state.datagrams.pop_front() {
            Some(Datagram {
                from,
                bytes: datagram,
                is_recognized,
            }) => {
                state.unrecognized -= usize::from(!is_recognized);
                drop(state);
                let copied = buf.len().min(datagram.len());
                buf[..copied].copy_from_slice(&datagram[..copied]);
                Poll::Ready(Ok((datagram.len(), from)))
            }
            None if state.closed => {
                Poll::Ready(Err(io::Error::new(io::ErrorKind::NotConnected, CLOSED)))
            }
            None => {
                match &mut state.reader {
                    Some(waker) => waker.clone_from(cx.waker()),
                    empty => *empty = Some(cx.waker().clone()),
                }
                Poll::Pending
            }
        }
    }

    /// Waits for the next datagram. See [`poll_recv`](Self::poll_recv). Cancel-safe.
    ///
    /// # Errors
    ///
    /// `NotConnected` when the endpoint is gone: nothing will arrive any more.
    pub async fn recv(&self, buf: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        poll_fn(|cx| self.poll_recv(cx, buf)).await
    }

    /// Sends a datagram if that is possible at once.
    ///
    /// # Errors
    ///
    /// `NotConnected` when the endpoint is closed. `WouldBlock` if the socket is busy: drop the
    /// datagram, or wait with [`send`](Self::send). `InvalidInput` if it is empty or the peer would
    /// take it for QUIC. Otherwise the error of the operating system, for example (`EMSGSIZE`) for
    /// a datagram above the MTU of the interface.
    pub fn try_send(&self, to: SocketAddr, datagram: &[u8]) -> io::Result<()> {
        match datagram.first() {
            Some(first) if !is_quic(*first) => {}
            _ => return Err(io::Error::new(io::ErrorKind::InvalidInput, NOT_SIDE)),
        }
        let destination = self.mapped_for_socket(to);
        if let Some(direct) = &self.direct {
            match direct.send_datagram(destination, datagram) {
                Ok(()) => return Ok(()),
                // Again through the runtime, which has to learn that the socket has no room.
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(e) => return Err(e),
            }
        } else if self.queue.state.lock().closed {
            return Err(io::Error::new(io::ErrorKind::NotConnected, CLOSED));
        }
        self.socket.try_send(&Transmit {
            destination,
            ecn: None,
            contents: datagram,
            segment_size: None,
            src_ip: None,
        })
    }

    /// Sends a datagram, or registers the task to be woken when the socket may have room. A socket
    /// that was just opened has none until the runtime has polled it. One task at a time may wait.
    ///
    /// # Errors
    ///
    /// As for [`try_send`](Self::try_send), except `WouldBlock`.
    pub fn poll_send(
        &self,
        cx: &mut Context<'_>,
        to: SocketAddr,
        datagram: &[u8],
    ) -> Poll<io::Result<()>> {
        loop {
            match self.try_send(to, datagram) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                done => return Poll::Ready(done),
            }
            let mut writable = self.writable.lock();
            let poller =
                writable.get_or_insert_with(|| Arc::clone(&self.socket).create_io_poller());
            ready!(poller.as_mut().poll_writable(cx))?;
        }
    }

    /// Sends a datagram, waiting while the socket is busy. Cancel-safe.
    ///
    /// # Errors
    ///
    /// As for [`try_send`](Self::try_send), except `WouldBlock`.
    pub async fn send(&self, to: SocketAddr, datagram: &[u8]) -> io::Result<()> {
        let mut poller = None;
        loop {
            match self.try_send(to, datagram) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                done => return done,
            }
            let poller = poller.get_or_insert_with(|| Arc::clone(&self.socket).create_io_poller());
            poll_fn(|cx| poller.as_mut().poll_writable(cx)).await?;
        }
    }

    /// Address of the endpoint's port.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Address in IPv4-mapped form if the socket is IPv6.
    fn mapped_for_socket(&self, to: SocketAddr) -> SocketAddr {
        match to {
            SocketAddr::V4(v4) if self.local_addr.is_ipv6() => {
                SocketAddr::new(v4.ip().to_ipv6_mapped().into(), v4.port())
            }
            other => other,
        }
    }
}

impl Drop for SideChannel {
    fn drop(&mut self) {
        *self.queue.state.lock() = SideQueueState::default();
    }
}

impl fmt::Debug for SideChannel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SideChannel")
            .field("local_addr", &self.local_addr)
            .finish_non_exhaustive()
    }
}

/// Queue between the socket and the side channel, bounded in number and size.
pub(crate) struct SideQueue {
    state: Mutex<SideQueueState>,
    /// See [`SideChannel::with_recognizer`].
    recognizer: RwLock<Option<Recognizer>>,
    len_max: usize,
    unrecognized_max: usize,
    datagram_bytes_max: usize,
    counters: Arc<Counters>,
}

type Recognizer = Box<dyn Fn(&[u8]) -> bool + Send + Sync>;

struct Datagram {
    from: SocketAddr,
    bytes: Box<[u8]>,
    is_recognized: bool,
}

#[derive(Default)]
struct SideQueueState {
    datagrams: VecDeque<Datagram>,
    /// Number of queued datagrams that are not recognized.
    unrecognized: usize,
    reader: Option<Waker>,
    /// The side channel was taken and not dropped.
    has_reader: bool,
    /// Nothing will arrive any more.
    closed: bool,
}

impl SideQueue {
    pub(crate) fn new(len_max: usize, datagram_bytes_max: usize, counters: Arc<Counters>) -> Self {
        Self {
            state: Mutex::default(),
            recognizer: RwLock::default(),
            len_max,
            unrecognized_max: len_max.div_ceil(UNRECOGNIZED_DIVISOR),
            datagram_bytes_max,
            counters,
        }
    }

    /// Ends the queue: nothing will arrive any more.
    pub(crate) fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        let reader = state.reader.take();
        drop(state);
        if let Some(reader) = reader {
            reader.wake();
        }
    }

    pub(super) fn push(&self, from: SocketAddr, datagram: &[u8]) {
        if datagram.is_empty() || datagram.len() > self.datagram_bytes_max {
            self.counters.side_unfit.add_one();
            return;
        }
        let from = SocketAddr::new(from.ip().to_canonical(), from.port());
        let is_recognized = (self.recognizer.read().as_ref()).is_none_or(|knows| knows(datagram));
        let mut state = self.state.lock();
        if !is_recognized && state.has_reader && state.unrecognized >= self.unrecognized_max {
            drop(state);
            self.counters.side_unrecognized.add_one();
            return;
        }
        if !state.has_reader || state.datagrams.len() >= self.len_max {
            drop(state);
            self.counters.side_dropped.add_one();
            return;
        }
        state.unrecognized += usize::from(!is_recognized);
        state.datagrams.push_back(Datagram {
            from,
            bytes: datagram.into(),
            is_recognized,
        });
        let reader = state.reader.take();
        drop(state);
        self.counters.side_received.add_one();
        if let Some(reader) = reader {
            reader.wake();
        }
    }
}

impl fmt::Debug for SideQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SideQueue")
            .field("len_max", &self.len_max)
            .finish_non_exhaustive()
    }
}

/// Datagrams that are not recognized use one part in this many of the queue. Some of them are
/// useful to tell an operator of a node with another key or cluster.
const UNRECOGNIZED_DIVISOR: usize = 16;

const NOT_SIDE: &str = "not a side channel datagram: its first byte has to have the bit 0x40 clear";
