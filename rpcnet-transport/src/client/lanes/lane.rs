//! Lane: a stream that many small calls share.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use futures::FutureExt;
use parking_lot::Mutex;
use quinn::ConnectionError;
use tokio::{task::AbortHandle, time::Instant};

use super::{
    call_table::CallTable,
    fresh_replies::FreshReplies,
    method_numbers::{MethodNumber, MethodNumbers, NoNumber},
    reopen_backoff::ReopenBackoff,
};
use crate::{
    CallOptions, Code, Metadata, Processed, RpcError,
    client::{connection_shared::ConnectionShared, reply},
    gauge::GaugeGuard,
    metadata::{CallHeaders, deliver_reply_metadata},
    method::CalledMethod,
    outbox::Outbox,
    runtime::RuntimeEnded,
    stream::reset_to_error,
    wire::{self, LaneRequest, Preface, StreamKind, WireError},
};

/// Result of a call.
pub(super) type CallResult = Result<Bytes, RpcError>;

/// One lane of a connection. Its first call opens it.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) state: Mutex<LaneState>,
    /// Calls that wait for their replies, readable without the lock.
    waiting: AtomicUsize,
    /// See [`Lane::occupancy`]; readable without the lock.
    occupancy: AtomicUsize,
    /// Largest reply that may come on the lane.
    pub(super) body_bytes_max: usize,
    pub(super) shared: Arc<ConnectionShared>,
}

#[derive(Debug)]
pub(super) struct LaneState {
    pub(super) phase: LanePhase,
    pub(super) table: CallTable<CallResult>,
    methods: MethodNumbers,
    /// Metadata of replies that were not taken yet, by call. Most have none.
    pub(super) reply_metadata: HashMap<u32, Metadata>,
    /// Waker of the lane's task, when it sleeps.
    pub(super) task: Option<Waker>,
    /// The task was woken to write what is queued, and has not run yet.
    pub(super) is_task_woken: bool,
    pub(super) fresh_replies: FreshReplies,
    /// Held while any call waits.
    outgoing: Option<GaugeGuard>,
    pub(super) reopen_backoff: ReopenBackoff,
}

#[derive(Debug)]
pub(super) enum LanePhase {
    Unopened,
    /// The call that opens the lane sets the task a moment later.
    Open {
        outbox: Outbox,
        task: Option<AbortHandle>,
    },
    /// No new calls start. Those that were sent may still be answered.
    Closing {
        index: u64,
        task: Option<AbortHandle>,
    },
    Ended(LaneEnd),
}

/// Reason for which a lane ended.
#[derive(Debug, Clone)]
pub(super) enum LaneEnd {
    /// The server shuts down; calls that it has not answered were not processed.
    Finished,
    /// The server reset the stream, with this code.
    Reset(u64),
    /// The connection was lost.
    ConnectionLost(ConnectionError),
    /// The server closed the connection, and says that it did not accept the lane's stream.
    NotAccepted(ConnectionError),
    /// The runtime of the endpoint has ended.
    RuntimeEnded,
    /// The server violated the protocol of lanes.
    Malformed(WireError),
}

/// Request of a call on a lane.
#[derive(Debug)]
pub(in crate::client) struct LaneCallRequest<'a> {
    pub(in crate::client) method: CalledMethod<'a>,
    pub(in crate::client) body: &'a [u8],
    /// Resolved options.
    pub(in crate::client) options: &'a CallOptions,
    pub(in crate::client) now: Instant,
    pub(in crate::client) deadline: Option<Instant>,
}

/// Reason for which a call did not start on a lane. Nothing was sent.
#[derive(Debug)]
pub(in crate::client) enum NotStarted {
    /// The server accepts no more concurrent calls, or QUIC has accepted too little of what is
    /// queued.
    Full,
    /// The lane is not open, and the server accepts no more streams at the moment.
    NoStream,
    /// The lane cannot carry it; a stream of its own can.
    NeedsOwnStream,
    /// The lane has ended, with this error for the call.
    Ended(RpcError),
}

impl From<NoNumber> for NotStarted {
    fn from(reason: NoNumber) -> Self {
        match reason {
            NoNumber::Full => Self::NeedsOwnStream,
            NoNumber::WrongEncoding(error) => Self::Ended(error),
        }
    }
}

impl Lane {
    pub(super) fn new(
        calls_max: usize,
        body_bytes_max: usize,
        shared: Arc<ConnectionShared>,
    ) -> Self {
        Self {
            body_bytes_max,
            state: Mutex::new(LaneState {
                phase: LanePhase::Unopened,
                table: CallTable::new(calls_max),
                methods: MethodNumbers::default(),
                reply_metadata: HashMap::new(),
                task: None,
                is_task_woken: false,
                fresh_replies: FreshReplies::default(),
                outgoing: None,
                reopen_backoff: ReopenBackoff::default(),
            }),
            waiting: AtomicUsize::new(0),
            occupancy: AtomicUsize::new(0),
            shared,
        }
    }

    /// Calls that wait for their replies.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.load(Relaxed)
    }

    /// Calls whose replies were not taken yet; [`FULL`], [`ABANDONED`] or [`CLOSED`] if the lane
    /// accepts no more.
    #[inline]
    pub(super) fn occupancy(&self) -> usize {
        self.occupancy.load(Relaxed)
    }

    /// Whether the lane accepts a call. Takes the lock, which orders this check against the event
    /// that frees capacity.
    pub(super) fn has_capacity(&self) -> bool {
        let _state = self.state.lock();
        self.occupancy() < FULL
    }

    /// Whether the lane is open, however full.
    pub(super) fn is_open(&self) -> bool {
        matches!(self.state.lock().phase, LanePhase::Open { .. })
    }

    /// Makes a lane that the server has reset available to the next call, if its backoff is over.
    pub(super) fn reopen(&self, now: Instant) -> bool {
        let state = &mut *self.state.lock();
        let is_due = matches!(state.phase, LanePhase::Ended(LaneEnd::Reset(_)))
            && state.reopen_backoff.take_due(now);
        if is_due {
            state.phase = LanePhase::Unopened;
            // Method numbers belong to one stream.
            state.methods = MethodNumbers::default();
            state.task = None;
            state.is_task_woken = false;
            self.shared.reset_lanes.fetch_sub(1, Relaxed);
            self.publish_counts(state);
        }
        is_due
    }

    /// Starts a call and returns its id, with which the caller has to poll for the reply or cancel.
    /// The first call of a lane opens it, and returns its receive half in `opened`.
    pub(super) fn start_call(
        &self,
        connection: &quinn::Connection,
        request: &LaneCallRequest<'_>,
        waker: &Waker,
        opened: &mut Option<quinn::RecvStream>,
    ) -> Result<u32, NotStarted> {
        let state = &mut *self.state.lock();
        if matches!(state.phase, LanePhase::Unopened) {
            *opened = Some(open_lane(state, connection)?);
        }
        if state.occupancy() == FULL && matches!(state.phase, LanePhase::Open { .. }) {
            return Err(NotStarted::Full);
        }
        let outbox = state.phase.outbox()?;
        // Before the method gets a number, of which the server has to be told.
        let outgoing = self.shared.outgoing_headers().map_err(NotStarted::Ended)?;
        let headers = outgoing.as_ref().map(|outgoing| &outgoing.headers);
        let is_first = state.table.waiting() == 0;
        let was_idle = is_first && outbox.is_empty();
        let number = state
            .methods
            .number(request.method, self.shared.has_schemas)
            .map_err(NotStarted::from)?;
        let before = state.table.earliest_deadline();
        let id = state
            .table
            .insert(waker.clone(), request.deadline)
            .ok_or(NotStarted::Full)?;
        encode_call(outbox, request, headers, id, number);
        if is_first {
            state.outgoing = Some(self.shared.outgoing.enter().0);
            self.shared.record_request();
        }
        if was_idle {
            // No other call has anything to write: a detour over the task would only cost time.
            let flushed = outbox.poll_flush(&mut Context::from_waker(Waker::noop()));
            if !matches!(flushed, Poll::Ready(Ok(()))) {
                state.wake_task();
            }
        } else {
            state.wake_task();
        }
        if state.table.earliest_deadline() != before {
            // Also while requests are held back.
            state.is_task_woken = false;
            state.wake_task();
        }
        self.publish_counts(state);
        Ok(id)
    }

    /// Polls for the reply of a call that was started.
    pub(super) fn poll_reply(&self, id: u32, cx: &Context<'_>) -> Poll<CallResult> {
        let state = &mut *self.state.lock();
        let polled = state.table.poll(id, cx);
        if polled.is_ready() {
            state.fresh_replies.on_taken();
            deliver_reply_metadata(state.take_metadata(id));
            self.publish_counts(state);
            self.shared.wake_next_waiting();
        }
        polled
    }

    /// Cancels a call whose reply was not taken.
    pub(super) fn cancel(&self, id: u32) {
        let state = &mut *self.state.lock();
        state.take_metadata(id);
        state.fresh_replies.on_taken();
        let was_waiting = state.table.cancel(id);
        if was_waiting && let LanePhase::Open { outbox, .. } = &mut state.phase {
            wire::encode_lane_cancel(outbox.reserve(FRAME_BYTES_MAX), id);
            state.wake_task();
        }
        self.publish_counts(state);
        if was_waiting {
            self.shared.record_abandoned_call();
        }
        self.shared.wake_next_waiting();
    }

    /// Completes a call whose reply came on another stream.
    pub(super) fn complete(&self, id: u32, reply: CallResult, metadata: Option<Metadata>) {
        let waker = {
            let state = &mut *self.state.lock();
            let waker = state.table.complete(id, reply);
            if waker.is_some()
                && let Some(metadata) = metadata
            {
                state.reply_metadata.insert(id, metadata);
            }
            // The server already knows that a call was cancelled.
            if waker.is_some()
                && let LanePhase::Open { outbox, .. } = &mut state.phase
            {
                wire::encode_lane_received(outbox.reserve(FRAME_BYTES_MAX), id);
                state.wake_task();
            }
            self.publish_counts(state);
            if waker.is_some() {
                self.shared.record_replies();
            }
            waker
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Whether the call with this id waits for its reply.
    pub(super) fn is_waiting(&self, id: u32) -> bool {
        self.state.lock().table.is_waiting(id)
    }

    /// QUIC's index of the stream, while the lane is open.
    pub(super) fn index(&self) -> Option<u64> {
        match &self.state.lock().phase {
            LanePhase::Open { outbox, .. } => Some(outbox.stream_index()),
            LanePhase::Closing { index, .. } => Some(*index),
            LanePhase::Unopened | LanePhase::Ended(_) => None,
        }
    }

    /// Ends the lane at once. No call waits: the client has been dropped.
    pub(super) fn abort(&self) {
        let state = &mut *self.state.lock();
        match std::mem::replace(&mut state.phase, LanePhase::Ended(LaneEnd::Finished)) {
            LanePhase::Open { mut outbox, task } => {
                if let Poll::Ready(Ok(())) =
                    outbox.poll_flush(&mut Context::from_waker(Waker::noop()))
                {
                    outbox.finish();
                }
                task.inspect(AbortHandle::abort);
            }
            LanePhase::Closing { task, .. } => {
                task.inspect(AbortHandle::abort);
            }
            LanePhase::Unopened | LanePhase::Ended(_) => {}
        }
    }

    /// Sets the task of a lane that was opened.
    pub(super) fn set_task(&self, handle: AbortHandle) {
        match &mut self.state.lock().phase {
            LanePhase::Open { task, .. } | LanePhase::Closing { task, .. } => {
                *task = Some(handle);
            }
            LanePhase::Unopened | LanePhase::Ended(_) => {}
        }
    }

    /// Updates the counts that are read without the lock; called after every change.
    pub(super) fn publish_counts(&self, state: &mut LaneState) {
        let waiting = state.table.waiting();
        self.waiting.store(waiting, Relaxed);
        self.occupancy.store(state.occupancy(), Relaxed);
        if waiting == 0 {
            state.outgoing = None;
        }
    }
}

impl LanePhase {
    /// Write buffer of a lane that is open.
    #[inline]
    fn outbox(&mut self) -> Result<&mut Outbox, NotStarted> {
        match self {
            Self::Open { outbox, .. } => Ok(outbox),
            Self::Closing { .. } => {
                Err(NotStarted::Ended(LaneEnd::Finished.error_before_sending()))
            }
            Self::Ended(LaneEnd::Reset(_) | LaneEnd::Malformed(_)) => {
                Err(NotStarted::NeedsOwnStream)
            }
            Self::Ended(end) => Err(NotStarted::Ended(end.error_before_sending())),
            Self::Unopened => unreachable!("it was opened"),
        }
    }
}

impl LaneState {
    /// See [`Lane::occupancy`]. Calls whose replies have arrived count too: they still occupy their
    /// slots.
    fn occupancy(&self) -> usize {
        match &self.phase {
            LanePhase::Open { outbox, .. }
                if self.table.is_full() || outbox.len() >= OUTBOX_BYTES_MAX =>
            {
                FULL
            }
            LanePhase::Unopened | LanePhase::Open { .. } => self.table.occupied(),
            LanePhase::Ended(LaneEnd::Reset(_) | LaneEnd::Malformed(_)) => ABANDONED,
            LanePhase::Closing { .. } | LanePhase::Ended(_) => CLOSED,
        }
    }

    /// Whether callers that were given their replies are about to run, and so to make their next
    /// calls. Requests that wait for those share packets with them. It matters on multi-thread
    /// runtimes, which would run the lane's task after each single caller: there a packet carries
    /// three to ten times as many calls for it.
    pub(super) fn expects_requests(&self) -> bool {
        match &self.phase {
            // A single caller makes its call, and then wakes the task.
            LanePhase::Open { outbox, .. } => {
                self.fresh_replies.count() > usize::from(outbox.is_empty())
            }
            _ => false,
        }
    }

    /// Stops writing; calls that were sent may still be answered.
    pub(super) fn stop_writing(&mut self) {
        let phase = std::mem::replace(&mut self.phase, LanePhase::Unopened);
        self.phase = match phase {
            LanePhase::Open { outbox, task } => LanePhase::Closing {
                index: outbox.stream_index(),
                task,
            },
            other => other,
        };
    }

    /// Metadata of the reply to a call.
    #[inline]
    fn take_metadata(&mut self, id: u32) -> Option<Metadata> {
        if self.reply_metadata.is_empty() {
            return None;
        }
        self.reply_metadata.remove(&id)
    }

    fn wake_task(&mut self) {
        if std::mem::replace(&mut self.is_task_woken, true) {
            return;
        }
        if let Some(task) = &self.task {
            task.wake_by_ref();
        }
    }
}

impl LaneEnd {
    /// Error for a call that was sent.
    pub(super) fn error_after_sending(&self) -> RpcError {
        match self {
            Self::Finished => self.error_before_sending(),
            Self::Reset(code) => {
                let (code, processed, message) = reset_to_error(*code);
                RpcError::new(code, processed, message)
            }
            Self::ConnectionLost(e) => reply::lost_during_call(e.clone()),
            Self::NotAccepted(e) => reply::stream_not_accepted(e.clone()),
            Self::RuntimeEnded => RuntimeEnded.into_error(Processed::Maybe),
            Self::Malformed(e) => {
                let message = "malformed response";
                RpcError::new(Code::Internal, Processed::Maybe, message).with_source(e.clone())
            }
        }
    }

    /// Error for a call that was not sent.
    fn error_before_sending(&self) -> RpcError {
        match self {
            Self::ConnectionLost(e) | Self::NotAccepted(e) => reply::lost_before_sending(e.clone()),
            Self::RuntimeEnded => RuntimeEnded.into_error(Processed::No),
            Self::Finished | Self::Reset(_) | Self::Malformed(_) => {
                RpcError::new(Code::Draining, Processed::No, "the server is shutting down")
            }
        }
    }
}

fn open_lane(
    state: &mut LaneState,
    connection: &quinn::Connection,
) -> Result<quinn::RecvStream, NotStarted> {
    // Pending only if the server accepts no more streams.
    let opened = connection.open_bi().now_or_never();
    let opened = opened.ok_or(NotStarted::NoStream)?;
    let (send, recv) = opened.map_err(|e| NotStarted::Ended(reply::lost_before_sending(e)))?;
    let mut outbox = Outbox::new(send, connection.clone());
    let kind = StreamKind::Lane;
    outbox
        .reserve(FRAME_BYTES_MAX)
        .extend_from_slice(&Preface { kind }.encode());
    state.phase = LanePhase::Open { outbox, task: None };
    Ok(recv)
}

/// Appends the frames of a call: its request, and before it its headers, if there are any, and the
/// name of a method that is new on the lane.
#[inline]
fn encode_call(
    outbox: &mut Outbox,
    request: &LaneCallRequest<'_>,
    headers: Option<&CallHeaders>,
    id: u32,
    number: MethodNumber,
) {
    let name = request.method.name;
    let out = outbox.reserve(FRAME_BYTES_MAX + name.len() + request.body.len());
    let method = match number {
        MethodNumber::Known(method) => method,
        MethodNumber::New(method, None) => {
            wire::encode_lane_method(out, method, name);
            method
        }
        MethodNumber::New(method, Some(schema)) => {
            wire::encode_lane_typed_method(out, method, name, schema);
            method
        }
    };
    if let Some(headers) = headers {
        let bytes = headers.encoded_len();
        wire::encode_lane_headers(out, id, headers.flags(), bytes);
        headers.encode(out);
    }
    let header = LaneRequest {
        id,
        method,
        attempt: request.options.attempt,
        idempotent: request.options.idempotent,
        priority: request.options.priority(),
        idempotency_key: request.options.idempotency_key,
        deadline: request
            .deadline
            .map(|at| at.saturating_duration_since(request.now)),
    };
    wire::encode_lane_request(out, &header, request.body);
}

/// Bytes of requests and cancellations that QUIC has not accepted, from which on no call starts.
/// Cancelled calls leave their requests behind, so the number of calls does not bound them.
const OUTBOX_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Occupancy of an open lane that accepts no call at the moment. No number of calls reaches it, and
/// that of a lane whose calls have a worse outcome is larger.
pub(super) const FULL: usize = ABANDONED - 1;

/// Occupancy of a lane that the server has reset, or on which it broke the protocol: if no lane is
/// better, calls have streams of their own.
pub(super) const ABANDONED: usize = CLOSED - 1;

/// Occupancy of a lane that closes or has ended: if no lane is better, calls fail.
pub(super) const CLOSED: usize = usize::MAX;

/// Upper bound of the header of any frame that a caller writes.
pub(super) const FRAME_BYTES_MAX: usize = 40;
