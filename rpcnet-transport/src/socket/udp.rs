//! UDP socket that can be closed while others hold it.

use std::{
    fmt,
    io::{self, IoSliceMut},
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll, Wake, Waker, ready},
};

use parking_lot::{Mutex, RwLock};
use quinn::{
    AsyncUdpSocket, UdpPoller,
    udp::{RecvMeta, Transmit, UdpSocketState},
};
use socket2::SockRef;
use tokio::{io::Interest, net::UdpSocket};

use super::ClosePort;

/// UDP socket of a port. QUIC's connections hold it as long as they have handles, so it releases
/// the system's socket when it is [closed](ClosePort::close): from then on it receives nothing, and
/// drops what is sent.
pub(crate) struct ClosableUdpSocket {
    /// Locked for reading during one non-blocking system call, for writing to close it.
    open: RwLock<Option<OpenSocket>>,
    local_addr: SocketAddr,
    may_fragment: bool,
    receive_segments_max: usize,
    writers: Arc<WriterWakers>,
    /// The system is asked for packets whether or not the runtime knows of any.
    reads_directly: AtomicBool,
}

struct OpenSocket {
    socket: UdpSocket,
    state: UdpSocketState,
}

/// Wakers of all tasks that wait for room in the socket: tokio keeps only one.
#[derive(Default)]
struct WriterWakers(Mutex<Vec<Waker>>);

impl WriterWakers {
    fn add(&self, waker: &Waker) {
        let mut writers = self.0.lock();
        if !writers.iter().any(|known| known.will_wake(waker)) {
            writers.push(waker.clone());
        }
    }

    fn wake_all(&self) {
        let writers = std::mem::take(&mut *self.0.lock());
        writers.into_iter().for_each(Waker::wake);
    }
}

impl Wake for WriterWakers {
    fn wake(self: Arc<Self>) {
        self.wake_all();
    }
}

impl ClosableUdpSocket {
    /// Wraps a socket; needs a tokio runtime.
    pub(crate) fn new(socket: std::net::UdpSocket) -> io::Result<Self> {
        let state = UdpSocketState::new((&socket).into())?;
        let socket = UdpSocket::from_std(socket)?;
        Ok(Self {
            local_addr: socket.local_addr()?,
            may_fragment: state.may_fragment(),
            receive_segments_max: state.gro_segments(),
            open: RwLock::new(Some(OpenSocket { socket, state })),
            writers: Arc::default(),
            reads_directly: AtomicBool::new(false),
        })
    }

    /// Sets whether the next reads ask the system directly. Such a read registers no task: one that
    /// spins reads again soon.
    pub(crate) fn read_directly(&self, is_direct: bool) {
        self.reads_directly.store(is_direct, Relaxed);
    }

    /// Sends one datagram without QUIC's wrapper, which hides the system's errors.
    pub(super) fn send_datagram(&self, to: SocketAddr, datagram: &[u8]) -> io::Result<()> {
        match &*self.open.read() {
            Some(open) => SockRef::from(&open.socket)
                .send_to(datagram, &to.into())
                .map(drop),
            None => Err(io::Error::new(io::ErrorKind::NotConnected, super::CLOSED)),
        }
    }

    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let open = self.open.read();
        let Some(open) = &*open else {
            return Poll::Ready(Ok(()));
        };
        if open.socket.try_io(Interest::WRITABLE, || Ok(())).is_ok() {
            return Poll::Ready(Ok(()));
        }
        self.writers.add(cx.waker());
        let all = Waker::from(Arc::clone(&self.writers));
        open.socket.poll_send_ready(&mut Context::from_waker(&all))
    }
}

impl ClosePort for ClosableUdpSocket {
    fn close(&self) {
        drop(self.open.write().take());
        self.writers.wake_all();
    }
}

impl AsyncUdpSocket for ClosableUdpSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(WritablePoller(self))
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        match &*self.open.read() {
            Some(OpenSocket { socket, state }) => {
                socket.try_io(Interest::WRITABLE, || state.send(socket.into(), transmit))
            }
            None => Ok(()),
        }
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        metas: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let open = self.open.read();
        let Some(OpenSocket { socket, state }) = &*open else {
            return Poll::Pending;
        };
        if self.reads_directly.load(Relaxed) {
            return match state.recv(socket.into(), bufs, metas) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
                received => Poll::Ready(received),
            };
        }
        loop {
            ready!(socket.poll_recv_ready(cx))?;
            let received = socket.try_io(Interest::READABLE, || {
                state.recv(socket.into(), bufs, metas)
            });
            if let Ok(received) = received {
                return Poll::Ready(Ok(received));
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.local_addr)
    }

    fn may_fragment(&self) -> bool {
        self.may_fragment
    }

    fn max_transmit_segments(&self) -> usize {
        // The number drops when the system does not support segmentation.
        let open = self.open.read();
        open.as_ref()
            .map_or(1, |open| open.state.max_gso_segments())
    }

    fn max_receive_segments(&self) -> usize {
        self.receive_segments_max
    }
}

impl fmt::Debug for ClosableUdpSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClosableUdpSocket")
            .field("local_addr", &self.local_addr)
            .field("open", &self.open.read().is_some())
            .finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct WritablePoller(Arc<ClosableUdpSocket>);

impl UdpPoller for WritablePoller {
    fn poll_writable(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.poll_writable(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_direct_read_finds_packets_that_the_runtime_does_not_know_of() {
        let ours = std::net::UdpSocket::bind("127.0.0.1:0").expect("a port");
        ours.set_nonblocking(true).expect("no blocking");
        let addr = ours.local_addr().expect("an address");
        let socket = ClosableUdpSocket::new(ours).expect("a socket");
        let peer = std::net::UdpSocket::bind("127.0.0.1:0").expect("a port");
        let read = || {
            let mut bytes = [0; 8];
            let mut metas = [RecvMeta::default()];
            let mut cx = Context::from_waker(Waker::noop());
            socket.poll_recv(&mut cx, &mut [IoSliceMut::new(&mut bytes)], &mut metas)
        };
        peer.send_to(b"one", addr).expect("sent");
        assert!(read().is_pending(), "the runtime has not looked yet");
        socket.read_directly(true);
        assert!(matches!(read(), Poll::Ready(Ok(1))));
        assert!(read().is_pending());
        socket.read_directly(false);
        peer.send_to(b"two", addr).expect("sent");
        // The runtime tells of packets as before.
        let mut bytes = [0; 8];
        let mut metas = [RecvMeta::default()];
        let mut bufs = [IoSliceMut::new(&mut bytes)];
        let received = std::future::poll_fn(|cx| socket.poll_recv(cx, &mut bufs, &mut metas)).await;
        assert_eq!(received.expect("received"), 1);
    }
}
