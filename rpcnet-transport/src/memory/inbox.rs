//! What came for one member and was not read yet.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll, Waker},
};

use parking_lot::Mutex;
use quinn::udp::EcnCodepoint;
use tokio::time::{Instant, Sleep, sleep_until};

/// The datagrams for one member, bounded in bytes.
pub(super) struct Inbox {
    queue: Mutex<InboxQueue>,
    bytes_max: usize,
}

#[derive(Default)]
struct InboxQueue {
    datagrams: VecDeque<Datagram>,
    bytes: usize,
    reader: Option<Waker>,
    /// Rings when the first datagram is due.
    timer: Option<Pin<Box<Sleep>>>,
}

pub(super) struct Datagram {
    /// When it arrives.
    pub(super) due: Instant,
    pub(super) from: SocketAddr,
    pub(super) ecn: Option<EcnCodepoint>,
    pub(super) bytes: Box<[u8]>,
}

/// There is no room for a datagram.
#[derive(Debug)]
pub(super) struct InboxFull;

impl Inbox {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self {
            queue: Mutex::default(),
            bytes_max,
        }
    }

    /// Adds a datagram and returns whom to wake for it.
    pub(super) fn push(&self, mut datagram: Datagram) -> Result<Option<Waker>, InboxFull> {
        let mut waiting = self.queue.lock();
        let cost = datagram.cost();
        // As of a socket: one datagram gets in whatever the bound.
        if waiting.bytes > 0 && waiting.bytes.saturating_add(cost) > self.bytes_max {
            return Err(InboxFull);
        }
        waiting.bytes += cost;
        // A delay that became shorter lets nobody overtake.
        if let Some(last) = waiting.datagrams.back() {
            datagram.due = datagram.due.max(last.due);
        }
        waiting.datagrams.push_back(datagram);
        Ok(waiting.reader.take())
    }

    /// The next datagrams that have arrived, up to `len_max`; there is at least one.
    pub(super) fn poll_arrived(
        &self,
        cx: &mut Context<'_>,
        len_max: usize,
        mut take: impl FnMut(usize, &Datagram),
    ) -> Poll<usize> {
        let mut waiting = self.queue.lock();
        let waiting = &mut *waiting;
        loop {
            let now = Instant::now();
            let mut taken = 0;
            while taken < len_max
                && let Some(datagram) = waiting.datagrams.front()
                && datagram.due <= now
            {
                waiting.bytes -= datagram.cost();
                take(taken, datagram);
                waiting.datagrams.pop_front();
                taken += 1;
            }
            if taken > 0 {
                return Poll::Ready(taken);
            }
            match &mut waiting.reader {
                Some(reader) => reader.clone_from(cx.waker()),
                empty => *empty = Some(cx.waker().clone()),
            }
            let Some(due) = waiting.datagrams.front().map(|first| first.due) else {
                return Poll::Pending;
            };
            let alarm = waiting
                .timer
                .get_or_insert_with(|| Box::pin(sleep_until(due)));
            if alarm.deadline() != due {
                alarm.as_mut().reset(due);
            }
            match alarm.as_mut().poll(cx) {
                Poll::Ready(()) => waiting.timer = None,
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

impl Datagram {
    /// What it takes of the inbox: also empty ones are bounded in number.
    fn cost(&self) -> usize {
        self.bytes.len() + size_of::<Self>()
    }
}
