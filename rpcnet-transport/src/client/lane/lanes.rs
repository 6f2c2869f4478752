//! The lanes of a connection: choice of a lane, and the queue for room.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{
            AtomicBool, AtomicU64, AtomicUsize,
            Ordering::{Relaxed, SeqCst},
        },
    },
    task::Waker,
};

use quinn::ConnectionError;
use tokio::{
    sync::Notify,
    time::{Instant, timeout_at},
};
use tokio_util::sync::CancellationToken;

use super::{CallRequest, CallResult, FULL, Lane, NotStarted};
use crate::{
    Code, Processed, RpcError,
    busy_poll::BusyPoll,
    client::{CloseReason, ConnectionEvent, events::EventListener, on_stream::draining_error},
    connections::LocalCloseReason,
    gauge::Gauge,
    runtime::{CloseOnRuntimeEnd, EndpointRuntime},
    wire::LoadReport,
};

/// All lanes of a connection.
#[derive(Debug)]
pub(crate) struct Lanes {
    pub(super) connection: quinn::Connection,
    lanes: Box<[Arc<Lane>]>,
    shared: Arc<ConnectionShared>,
    queue_len_max: usize,
}

/// State that the parts of a connection share.
#[derive(Debug)]
pub(crate) struct ConnectionShared {
    pub(crate) runtime: EndpointRuntime,
    pub(in crate::client) local_close: LocalCloseReason,
    /// Cancelled when the client is dropped; streams may be left.
    pub(in crate::client) client_dropped: CancellationToken,
    /// Calls of all connections of the endpoint.
    pub(super) outgoing: Gauge,
    busy_poll: Arc<BusyPoll>,
    pub(super) reply_bytes_max: usize,
    /// Notified when a lane may have room again, or the connection ends, for the calls that wait
    /// for room.
    pub(super) room_available: Notify,
    /// Calls that wait for room.
    waiting_for_room: AtomicUsize,
    /// Calls that wait for a stream of their own.
    waiting_for_stream: AtomicUsize,
    /// Lanes that the server has reset and that may be opened again.
    pub(super) reset_lanes: AtomicUsize,
    draining: AtomicBool,
    events: EventListener,
    /// Last load report, with a mark in its unused byte that there is one.
    load: AtomicU64,
}

impl ConnectionShared {
    pub(crate) fn new(
        runtime: EndpointRuntime,
        local_end: LocalCloseReason,
        outgoing: Gauge,
        busy_poll: Arc<BusyPoll>,
        answer_bytes_max: usize,
        draining: bool,
    ) -> Self {
        Self {
            runtime,
            local_close: local_end,
            client_dropped: CancellationToken::new(),
            outgoing,
            busy_poll,
            reply_bytes_max: answer_bytes_max,
            room_available: Notify::new(),
            waiting_for_room: AtomicUsize::new(0),
            waiting_for_stream: AtomicUsize::new(0),
            reset_lanes: AtomicUsize::new(0),
            draining: AtomicBool::new(draining),
            events: EventListener::default(),
            load: AtomicU64::new(0),
        }
    }

    /// Sets the server's drain state and reports a change.
    pub(crate) fn set_draining(&self, draining: bool) {
        if self.draining.swap(draining, SeqCst) == draining {
            return;
        }
        if draining {
            self.room_available.notify_waiters();
        }
        self.events.notify(ConnectionEvent::Draining(draining));
    }

    /// Callback for events of the connection.
    pub(in crate::client) fn events(&self) -> &EventListener {
        &self.events
    }

    /// Guard for the task of the connection: if the runtime drops the task, the callback gets the
    /// close.
    pub(crate) fn guard(self: &Arc<Self>, connection: quinn::Connection) -> CloseOnRuntimeEnd {
        let link = Arc::clone(self);
        CloseOnRuntimeEnd::new(connection, self.runtime.clone()).on_runtime_end(move || {
            let closed = link.close_reason(&ConnectionError::LocallyClosed);
            link.events.notify(ConnectionEvent::Closed(closed));
        })
    }

    /// Reason for which the connection was closed.
    pub(crate) fn close_reason(&self, error: &ConnectionError) -> CloseReason {
        match CloseReason::of(error) {
            CloseReason::ClosedHere if self.runtime.probe_ended() => CloseReason::RuntimeEnded,
            reason => reason,
        }
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(SeqCst)
    }

    /// Wakes the call that has waited longest. Called under the lock of a lane, or after it, when
    /// there may be more room than before.
    pub(super) fn wake_next_waiting(&self) {
        if self.has_waiting_calls() {
            self.room_available.notify_one();
        }
    }

    fn has_waiting_calls(&self) -> bool {
        self.waiting_for_room.load(Relaxed) > 0
    }

    /// See [`BusyPoll::note`].
    pub(crate) fn note_work(&self, expects_more: bool) {
        self.busy_poll.note(expects_more);
    }

    /// Counts a call that waits for a stream, for as long as the guard lives.
    pub(crate) fn count_stream_wait(&self) -> Option<WaitingCall<'_>> {
        WaitingCall::enter(&self.waiting_for_stream, usize::MAX)
    }

    pub(crate) fn note_load(&self, load: LoadReport) {
        let mut bytes = load.encode();
        bytes[3] = REPORTED;
        self.load.store(u64::from_le_bytes(bytes), Relaxed);
    }

    pub(crate) fn load(&self) -> Option<LoadReport> {
        let bytes = self.load.load(Relaxed).to_le_bytes();
        (bytes[3] == REPORTED).then(|| LoadReport::decode(bytes))
    }
}

impl Lanes {
    pub(crate) fn new(
        connection: quinn::Connection,
        lanes: usize,
        calls_max: usize,
        body_bytes_max: usize,
        queue_len: usize,
        link: Arc<ConnectionShared>,
    ) -> Self {
        // A server that accepts no calls on lanes has none.
        let lanes = if calls_max == 0 { 0 } else { lanes };
        let lane = || Arc::new(Lane::new(calls_max, body_bytes_max, Arc::clone(&link)));
        Self {
            connection,
            lanes: std::iter::repeat_with(lane).take(lanes).collect(),
            shared: link,
            queue_len_max: queue_len,
        }
    }

    /// Whether the server accepts no lanes.
    pub(crate) fn is_empty(&self) -> bool {
        self.lanes.is_empty()
    }

    /// Calls that wait for their replies.
    pub(crate) fn waiting(&self) -> usize {
        self.lanes.iter().map(|lane| lane.waiting()).sum()
    }

    /// Sends a request on one of the lanes.
    pub(super) fn start_call(
        &self,
        request: &CallRequest<'_>,
        waker: &Waker,
    ) -> Result<(&Arc<Lane>, u32), NotStarted> {
        let begin = |lane: &Arc<Lane>| lane.start_call(&self.connection, request, waker);
        let begun = loop {
            let lane = self.choose_lane(request.now);
            let (lane, begun) = match begin(lane) {
                Err(NotStarted::NoStream) => match self.choose_open_lane() {
                    Some(used) => (used, begin(used)),
                    None => break Err(NotStarted::NeedsOwnStream),
                },
                begun => (lane, begun),
            };
            match begun {
                // The lane was filled since it was chosen.
                Err(NotStarted::Full) if self.has_room() => {}
                Err(NotStarted::NoStream) => break Err(NotStarted::NeedsOwnStream),
                begun => break begun.map(|id| (lane, id)),
            }
        };
        // This call may have been woken for more room than it used.
        if self.has_waiting_calls() && !matches!(begun, Err(NotStarted::Full)) && self.has_room() {
            self.shared.room_available.notify_one();
        }
        begun
    }

    /// Chooses the first lane that carries few calls: while there is little load, calls share a
    /// lane and thereby packets and wake-ups. A lane that stalls on a lost packet fills up, and is
    /// avoided.
    fn choose_lane(&self, now: Instant) -> &Arc<Lane> {
        let mut least = &self.lanes[0];
        let mut least_crowd = least.occupancy();
        for lane in &self.lanes {
            let crowd = lane.occupancy();
            if crowd < CALLS_PER_LANE {
                return lane;
            }
            if crowd < least_crowd {
                (least, least_crowd) = (lane, crowd);
            }
        }
        // A lane that the server has reset is opened again when it is needed.
        if self.shared.reset_lanes.load(Relaxed) > 0
            && let Some(lane) = self.lanes.iter().find(|lane| lane.reopen(now))
        {
            return lane;
        }
        least
    }

    /// Open lane with the fewest calls, if any is open.
    fn choose_open_lane(&self) -> Option<&Arc<Lane>> {
        let used = self.lanes.iter().map(|lane| (lane.occupancy(), lane));
        let used = used.filter(|(crowd, _)| (1..FULL).contains(crowd));
        used.min_by_key(|(crowd, _)| *crowd).map(|(_, lane)| lane)
    }

    /// Whether a call would have to wait, or others wait for a stream already.
    pub(crate) fn is_saturated(&self) -> bool {
        self.has_waiting_calls()
            || self.shared.waiting_for_stream.load(Relaxed) > 0
            || (!self.lanes.is_empty() && !self.has_room())
    }

    /// Whether any lane accepts a call.
    fn has_room(&self) -> bool {
        self.lanes.iter().any(|lane| lane.occupancy() != FULL)
    }

    /// Whether calls wait for room, so that new ones have to queue behind them.
    pub(crate) fn has_waiting_calls(&self) -> bool {
        self.shared.has_waiting_calls()
    }

    /// Waits for room on a connection whose lanes are full.
    pub(crate) async fn wait_for_room(&self, deadline: Option<Instant>) -> Result<(), RpcError> {
        let overloaded =
            |message: &str| Err(RpcError::new(Code::Overloaded, Processed::No, message));
        let Some(_queued) = WaitingCall::enter(&self.shared.waiting_for_room, self.queue_len_max)
        else {
            return overloaded("the queue of calls for this connection is full");
        };
        let mut place = pin!(self.shared.room_available.notified());
        // From here on no notification is missed. Room that was made before is for the call that
        // has waited longest.
        place.as_mut().enable();
        if self.lanes.iter().any(|lane| lane.has_room()) {
            self.shared.room_available.notify_one();
        }
        if !self.shared.is_draining() {
            match deadline {
                None => place.await,
                Some(at) => {
                    let waited = async { timeout_at(at, place).await };
                    match self.shared.runtime.in_runtime(waited).await {
                        Ok(Ok(())) => {}
                        Ok(Err(_)) => {
                            return overloaded("deadline exceeded while waiting for a lane");
                        }
                        Err(ended) => return Err(ended.into_error(Processed::No)),
                    }
                }
            }
        }
        if self.shared.is_draining() {
            return Err(draining_error());
        }
        Ok(())
    }

    /// Whether a call waits for its reply, on the lane with this stream index.
    pub(crate) fn is_waiting(&self, lane: u64, id: u32) -> bool {
        let lane = self.lanes.iter().find(|l| l.index() == Some(lane));
        lane.is_some_and(|lane| lane.is_waiting(id))
    }

    /// Completes a call on the lane with this stream index.
    pub(crate) fn complete(&self, lane: u64, id: u32, answer: CallResult) {
        if let Some(lane) = self.lanes.iter().find(|l| l.index() == Some(lane)) {
            lane.complete(id, answer);
        }
    }

    pub(crate) fn abort(&self) {
        for lane in &self.lanes {
            lane.abort();
        }
    }
}

/// Guard that counts one waiting call.
#[derive(Debug)]
pub(crate) struct WaitingCall<'a>(&'a AtomicUsize);

impl<'a> WaitingCall<'a> {
    /// `None` if the queue is full.
    fn enter(queued: &'a AtomicUsize, queue_len: usize) -> Option<Self> {
        let more = |waiting| (waiting < queue_len).then(|| waiting + 1);
        let entered = queued.fetch_update(Relaxed, Relaxed, more);
        entered.is_ok().then(|| Self(queued))
    }
}

impl Drop for WaitingCall<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// Calls on a lane before the next one is used. A smaller number spreads them over more lanes,
/// whose packets reveal a loss sooner: at 1 % loss and 64 calls in flight, 16 instead of 32 doubled
/// the rate.
const CALLS_PER_LANE: usize = 16;

/// Mark in the byte of a report that is always zero on the wire.
const REPORTED: u8 = 1;
