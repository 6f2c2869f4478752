//! The lanes of a connection, and the choice among them.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
};

use tokio::{
    sync::Notify,
    time::{Instant, timeout_at},
};

use super::{Answer, Lane};
use crate::{Code, Processed, RpcError, gauge::Gauge, wire::LoadReport};

/// All lanes of a connection.
#[derive(Debug)]
pub(crate) struct Lanes {
    pub(super) connection: quinn::Connection,
    lanes: Box<[Arc<Lane>]>,
    /// What the server takes on one lane.
    calls_max: usize,
    link: Arc<Link>,
    queue_len: usize,
}

/// What the parts of a connection know of it.
#[derive(Debug)]
pub(crate) struct Link {
    /// Calls of all connections of the endpoint.
    pub(super) outgoing: Gauge,
    pub(super) answer_bytes_max: usize,
    /// Told when a lane that was full has room again.
    pub(super) places: Notify,
    /// Calls that wait for room.
    queued: AtomicUsize,
    /// Calls that wait for a stream of their own.
    queued_for_streams: AtomicUsize,
    draining: AtomicBool,
    /// The last report, with a mark that there is one.
    load: AtomicU64,
}

impl Link {
    pub(crate) fn new(outgoing: Gauge, answer_bytes_max: usize, draining: bool) -> Self {
        Self {
            outgoing,
            answer_bytes_max,
            places: Notify::new(),
            queued: AtomicUsize::new(0),
            queued_for_streams: AtomicUsize::new(0),
            draining: AtomicBool::new(draining),
            load: AtomicU64::new(0),
        }
    }

    /// The server says that it takes new calls, or does not.
    pub(crate) fn set_draining(&self, draining: bool) {
        self.draining.store(draining, Relaxed);
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Relaxed)
    }

    /// Counts a call that waits for a stream, for as long as the guard lives.
    pub(crate) fn wait_for_stream(&self) -> Queued<'_> {
        Queued::enter(&self.queued_for_streams)
    }

    pub(crate) fn note_load(&self, load: LoadReport) {
        let mut bytes = load.encode();
        bytes[3] = THERE_IS_ONE;
        self.load.store(u64::from_le_bytes(bytes), Relaxed);
    }

    pub(crate) fn load(&self) -> Option<LoadReport> {
        let bytes = self.load.load(Relaxed).to_le_bytes();
        (bytes[3] == THERE_IS_ONE).then(|| LoadReport::decode(bytes))
    }
}

impl Lanes {
    pub(crate) fn new(
        connection: quinn::Connection,
        lanes: usize,
        calls_max: usize,
        queue_len: usize,
        link: Arc<Link>,
    ) -> Self {
        let lane = || Arc::new(Lane::new(calls_max, Arc::clone(&link)));
        Self {
            connection,
            lanes: std::iter::repeat_with(lane).take(lanes).collect(),
            calls_max,
            link,
            queue_len,
        }
    }

    /// The server takes none.
    pub(crate) fn is_empty(&self) -> bool {
        self.lanes.is_empty()
    }

    /// Calls that wait for their answers.
    pub(crate) fn waiting(&self) -> usize {
        self.lanes.iter().map(|lane| lane.waiting()).sum()
    }

    /// The call that came first to a lane goes over it alone; while there is little to do, they share one, so that they
    /// share packets and wake-ups. A lane that stands still because a packet was lost fills up, and is avoided.
    pub(super) fn choose(&self) -> &Arc<Lane> {
        let mut least = &self.lanes[0];
        let mut least_waiting = least.waiting();
        for lane in &self.lanes {
            let waiting = lane.waiting();
            if waiting < SHARED_BY {
                return lane;
            }
            if waiting < least_waiting {
                (least, least_waiting) = (lane, waiting);
            }
        }
        least
    }

    /// Whether calls wait for room, so that others have to wait behind them.
    pub(crate) fn is_crowded(&self) -> bool {
        self.link.queued.load(Relaxed) > 0
    }

    /// Whether a call would have to wait, or others do already for a stream.
    pub(crate) fn is_saturated(&self) -> bool {
        let is_full = |lane: &Arc<Lane>| lane.waiting() >= self.calls_max;
        self.is_crowded()
            || self.link.queued_for_streams.load(Relaxed) > 0
            || (!self.lanes.is_empty() && self.lanes.iter().all(is_full))
    }

    /// To be called after a call has taken a place: the next in the queue may find another.
    pub(super) fn pass_on(&self) {
        if self.is_crowded() {
            self.link.places.notify_one();
        }
    }

    /// Waits for room on a full connection.
    pub(crate) async fn room(&self, deadline: Option<Instant>) -> Result<(), RpcError> {
        let overloaded =
            |message: &str| Err(RpcError::new(Code::Overloaded, Processed::No, message));
        let queued = Queued::enter(&self.link.queued);
        if queued.before >= self.queue_len {
            return overloaded("too many calls wait for this connection");
        }
        let place = self.link.places.notified();
        let Some(at) = deadline else {
            place.await;
            return Ok(());
        };
        match timeout_at(at, place).await {
            Ok(()) => Ok(()),
            Err(_) => overloaded("the connection had no room in time"),
        }
    }

    /// Answers a call of a lane that the server knows by its stream.
    pub(crate) fn answer(&self, lane: u64, id: u32, answer: Answer) -> bool {
        let found = self.lanes.iter().find(|l| l.index() == Some(lane));
        found.is_some_and(|lane| lane.answer(id, answer))
    }

    pub(crate) fn abort(&self) {
        for lane in &self.lanes {
            lane.abort();
        }
    }
}

/// One call that waits for room.
#[derive(Debug)]
pub(crate) struct Queued<'a> {
    queued: &'a AtomicUsize,
    before: usize,
}

impl<'a> Queued<'a> {
    fn enter(queued: &'a AtomicUsize) -> Self {
        let before = queued.fetch_add(1, Relaxed);
        Self { queued, before }
    }
}

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        self.queued.fetch_sub(1, Relaxed);
    }
}

/// Calls that share a lane before another is opened.
const SHARED_BY: usize = 32;

/// In the byte of a report that is always zero on the wire.
const THERE_IS_ONE: u8 = 1;
