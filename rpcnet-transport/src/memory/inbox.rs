//! Receive queue of one address of the network.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll, Waker},
};

use parking_lot::Mutex;
use quinn::udp::EcnCodepoint;
use tokio::time::{Instant, Sleep, sleep_until};

/// Datagrams for one address, bounded in bytes.
pub(super) struct Inbox {
    queue: Mutex<InboxQueue>,
    bytes_max: usize,
}

#[derive(Default)]
struct InboxQueue {
    /// By arrival; those that arrive at one time in the order in which they were sent.
    datagrams: BTreeMap<(Instant, u64), Datagram>,
    /// Number of datagrams so far.
    count: u64,
    bytes: usize,
    reader: Option<Waker>,
    /// Timer for the arrival of the first datagram.
    timer: Option<Pin<Box<Sleep>>>,
}

pub(super) struct Datagram {
    /// Time of arrival.
    pub(super) due: Instant,
    pub(super) from: SocketAddr,
    pub(super) ecn: Option<EcnCodepoint>,
    pub(super) bytes: Box<[u8]>,
}

/// The inbox has no room for a datagram.
#[derive(Debug)]
pub(super) struct InboxFull;

impl Inbox {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self {
            queue: Mutex::default(),
            bytes_max,
        }
    }

    /// Adds a datagram; returns the waker of the reader.
    pub(super) fn push(&self, datagram: Datagram) -> Result<Option<Waker>, InboxFull> {
        let mut queue = self.queue.lock();
        let cost = datagram.cost();
        // As with a socket, one datagram fits whatever the bound.
        if queue.bytes > 0 && queue.bytes.saturating_add(cost) > self.bytes_max {
            return Err(InboxFull);
        }
        queue.bytes += cost;
        queue.count += 1;
        let key = (datagram.due, queue.count);
        queue.datagrams.insert(key, datagram);
        Ok(queue.reader.take())
    }

    /// Drops all datagrams; returns their number.
    pub(super) fn clear(&self) -> u64 {
        let mut queue = self.queue.lock();
        queue.bytes = 0;
        std::mem::take(&mut queue.datagrams).len() as u64
    }

    /// Takes the next datagrams that have arrived: at least one, at most `len_max`.
    pub(super) fn poll_arrived(
        &self,
        cx: &mut Context<'_>,
        len_max: usize,
        mut take: impl FnMut(usize, &Datagram),
    ) -> Poll<usize> {
        let mut queue = self.queue.lock();
        let queue = &mut *queue;
        loop {
            let now = Instant::now();
            let mut taken = 0;
            while taken < len_max
                && let Some(first) = queue.datagrams.first_entry()
                && first.get().due <= now
            {
                let datagram = first.remove();
                queue.bytes -= datagram.cost();
                take(taken, &datagram);
                taken += 1;
            }
            if taken > 0 {
                return Poll::Ready(taken);
            }
            match &mut queue.reader {
                Some(reader) => reader.clone_from(cx.waker()),
                empty => *empty = Some(cx.waker().clone()),
            }
            let Some((&(due, _), _)) = queue.datagrams.first_key_value() else {
                return Poll::Pending;
            };
            let timer = queue
                .timer
                .get_or_insert_with(|| Box::pin(sleep_until(due)));
            if timer.deadline() != due {
                timer.as_mut().reset(due);
            }
            match timer.as_mut().poll(cx) {
                Poll::Ready(()) => queue.timer = None,
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

impl Datagram {
    /// Bytes that count against the bound; more than zero, so that empty datagrams are bounded too.
    fn cost(&self) -> usize {
        self.bytes.len() + size_of::<Self>()
    }
}
