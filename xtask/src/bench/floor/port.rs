//! UDP port of the floor: batches of datagrams through quinn-udp.

use std::{
    io::{self, IoSliceMut},
    net::{SocketAddr, UdpSocket},
    time::{Duration, Instant},
};

use quinn::udp::{RecvMeta, Transmit, UdpSocketState};
use socket2::SockRef;
use tokio::{io::Interest, task::yield_now, time::timeout};
use xtask_load::Setup;

use super::calls;

/// UDP port with buffers for what it receives.
pub(crate) struct FloorPort {
    sender: BatchSender,
    buffers: Vec<Vec<u8>>,
    metas: Vec<RecvMeta>,
    receive_buffer_bytes: usize,
    /// Batches since the runtime had its turn.
    since_yield: u32,
    /// Whether the other side has a core to itself while this one spins.
    may_spin: bool,
}

/// Sending half of a port.
pub(crate) struct BatchSender {
    socket: tokio::net::UdpSocket,
    state: UdpSocketState,
}

/// Batches that were received at once.
pub(crate) struct Batches<'a> {
    sender: &'a BatchSender,
    buffers: &'a mut [Vec<u8>],
    metas: &'a [RecvMeta],
}

/// Datagrams of one sender and one size, the last of which may be shorter.
pub(crate) struct Batch<'a> {
    sender: &'a BatchSender,
    bytes: &'a mut [u8],
    from: SocketAddr,
    datagram_bytes: usize,
}

impl FloorPort {
    /// Opens a port that the system chooses. Needs a tokio runtime.
    pub(crate) fn bind(setup: &Setup) -> io::Result<Self> {
        let socket = UdpSocket::bind((setup.ip, 0))?;
        let options = SockRef::from(&socket);
        options.set_recv_buffer_size(BUFFER_BYTES)?;
        options.set_send_buffer_size(BUFFER_BYTES)?;
        let receive_buffer_bytes = options.recv_buffer_size()?;
        socket.set_nonblocking(true)?;
        let state = UdpSocketState::new((&socket).into())?;
        // Preparing one that stays empty takes time.
        let buffers = calls::buffers(setup.in_flight, setup.body_bytes, state.gro_segments())
            .clamp(1, BATCHES_MAX);
        Ok(Self {
            sender: BatchSender {
                state,
                socket: tokio::net::UdpSocket::from_std(socket)?,
            },
            buffers: vec![vec![0; u16::MAX.into()]; buffers],
            metas: vec![RecvMeta::default(); buffers],
            receive_buffer_bytes,
            since_yield: 0,
            may_spin: xtask_load::cores().len() > 1,
        })
    }

    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.sender.socket.local_addr()
    }

    pub(crate) fn sender(&self) -> &BatchSender {
        &self.sender
    }

    /// Datagrams of this size that the receive buffer of such a port holds for sure: the system
    /// counts what it needs for each beside its bytes.
    pub(crate) fn datagrams_max(&self, datagram_bytes: usize) -> usize {
        (self.receive_buffer_bytes / (datagram_bytes + DATAGRAM_OVERHEAD_BYTES)).max(1)
    }

    /// The next datagrams; `None` if none come for so long. Spins until then if there is more than
    /// one core, and gives way to other tasks now and then.
    pub(crate) async fn receive(&mut self, time: Duration) -> io::Result<Option<Batches<'_>>> {
        self.since_yield += 1;
        if self.since_yield >= BATCHES_PER_TURN {
            self.since_yield = 0;
            yield_now().await;
        }
        let mut begin = None;
        let count = loop {
            if let Some(count) = self.spin()? {
                break count;
            }
            if begin.get_or_insert_with(Instant::now).elapsed() >= time {
                return Ok(None);
            }
            if self.may_spin {
                self.since_yield = 0;
                yield_now().await;
                continue;
            }
            match timeout(time, self.sleep()).await {
                Ok(received) => break received?,
                Err(_) => return Ok(None),
            }
        };
        Ok(Some(Batches {
            sender: &self.sender,
            buffers: &mut self.buffers[..count],
            metas: &self.metas[..count],
        }))
    }

    /// Receives what comes within [`SPIN_TIME`].
    fn spin(&mut self) -> io::Result<Option<usize>> {
        let mut spin_until = None;
        loop {
            match self.try_receive() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let now = Instant::now();
                    if now >= *spin_until.get_or_insert(now + SPIN_TIME) {
                        return Ok(None);
                    }
                }
                received => return received.map(Some),
            }
        }
    }

    /// Receives without looking at the readiness that the runtime knows of.
    fn try_receive(&mut self) -> io::Result<usize> {
        let mut buffers = self.buffers.iter_mut().map(|it| IoSliceMut::new(it));
        let BatchSender { socket, state } = &self.sender;
        match self.metas.len() {
            1 => {
                let buffer = buffers.next().expect("there is one for each meta");
                state.recv(socket.into(), &mut [buffer], &mut self.metas)
            }
            _ => {
                let mut buffers: Vec<_> = buffers.collect();
                state.recv(socket.into(), &mut buffers, &mut self.metas)
            }
        }
    }

    async fn sleep(&mut self) -> io::Result<usize> {
        loop {
            self.sender.socket.readable().await?;
            let mut buffers: Vec<_> = self
                .buffers
                .iter_mut()
                .map(|it| IoSliceMut::new(it))
                .collect();
            let BatchSender { socket, state } = &self.sender;
            let received = socket.try_io(Interest::READABLE, || {
                state.recv(socket.into(), &mut buffers, &mut self.metas)
            });
            match received {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                received => return received,
            }
        }
    }
}

impl BatchSender {
    /// Datagrams of this size that leave at once.
    pub(crate) fn batch_len_max(&self, datagram_bytes: usize) -> usize {
        let segments = self.state.max_gso_segments();
        segments.min(BATCH_BYTES_MAX / datagram_bytes).max(1)
    }

    /// Sends datagrams of one size, the last of which may be shorter, as many as leave at once.
    pub(crate) fn send(
        &self,
        to: SocketAddr,
        bytes: &[u8],
        datagram_bytes: usize,
    ) -> io::Result<()> {
        let transmit = Transmit {
            destination: to,
            ecn: None,
            contents: bytes,
            segment_size: (bytes.len() > datagram_bytes).then_some(datagram_bytes),
            src_ip: None,
        };
        loop {
            match self.state.try_send((&self.socket).into(), &transmit) {
                // The system is about to carry what is in its buffer.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => std::hint::spin_loop(),
                sent => return sent,
            }
        }
    }
}

impl Batches<'_> {
    /// Each of them.
    pub(crate) fn iter(&mut self) -> impl Iterator<Item = Batch<'_>> {
        let sender = self.sender;
        let received = self.buffers.iter_mut().zip(self.metas);
        received.map(move |(buffer, meta)| Batch {
            sender,
            bytes: &mut buffer[..meta.len],
            from: meta.addr,
            datagram_bytes: meta.stride.max(1),
        })
    }
}

impl Batch<'_> {
    pub(crate) fn datagrams(&mut self) -> impl Iterator<Item = &mut [u8]> {
        self.bytes.chunks_mut(self.datagram_bytes)
    }

    /// Sends them to where they came from.
    pub(crate) fn send_back(&self) -> io::Result<()> {
        let batch = self.sender.batch_len_max(self.datagram_bytes) * self.datagram_bytes;
        let mut batches = self.bytes.chunks(batch);
        batches.try_for_each(|bytes| self.sender.send(self.from, bytes, self.datagram_bytes))
    }
}

/// Time that a thread spins for datagrams before other tasks of the runtime, timers among them,
/// have a turn; on a single core, before it sleeps.
const SPIN_TIME: Duration = Duration::from_micros(50);

/// Bytes that leave at once: what a datagram of UDP may be long.
const BATCH_BYTES_MAX: usize = 65_000;

/// Batches that are received at once.
const BATCHES_MAX: usize = 8;

/// Batches after which other tasks of the runtime have a turn, timers among them.
const BATCHES_PER_TURN: u32 = 64;

/// Size of the buffers that is asked for; the system may give less.
const BUFFER_BYTES: usize = 8 << 20;

/// Memory that the system counts for a datagram beside its bytes.
const DATAGRAM_OVERHEAD_BYTES: usize = 800;
