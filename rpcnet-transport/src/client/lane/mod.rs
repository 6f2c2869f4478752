//! A stream that many small calls share.

mod call;
mod call_table;
mod lane_task;
mod lanes;
mod method_numbers;
mod reopen_backoff;

use std::{
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

pub(super) use self::{
    call::{LaneCall, LaneCallOutcome},
    lanes::Lanes,
};
use self::{
    call_table::CallTable,
    lane_task::LaneTask,
    method_numbers::{MethodNumber, MethodNumbers},
    reopen_backoff::ReopenBackoff,
};
pub(crate) use self::{lanes::ConnectionShared, method_numbers::LANE_METHODS_MAX};
use super::reply;
use crate::{
    CallOptions, Code, Processed, RpcError,
    gauge::GaugeGuard,
    outbox::Outbox,
    runtime::RuntimeEnded,
    stream::reset_to_error,
    wire::{self, LaneRequest, Preface, StreamKind, WireError},
};

/// How a call ends.
pub(super) type CallResult = Result<Bytes, RpcError>;

/// One lane of a connection. It is opened by its first call.
#[derive(Debug)]
pub(super) struct Lane {
    state: Mutex<LaneState>,
    /// Calls that wait for their answers, to be read without the lock.
    waiting: AtomicUsize,
    /// Calls whose answers nobody has taken, or [`FULL`]; to be read without the lock.
    occupancy: AtomicUsize,
    /// Largest answer that may come on the lane.
    body_bytes_max: usize,
    shared: Arc<ConnectionShared>,
}

#[derive(Debug)]
struct LaneState {
    phase: LanePhase,
    table: CallTable<CallResult>,
    methods: MethodNumbers,
    /// The reader of the lane, when it sleeps.
    task: Option<Waker>,
    /// The reader was woken to write what is queued, and has not come to it.
    is_task_woken: bool,
    /// While any call waits.
    outgoing: Option<GaugeGuard>,
    reopen_backoff: ReopenBackoff,
}

#[derive(Debug)]
enum LanePhase {
    Unopened,
    /// The reader is not known to the call that opens the lane for a moment.
    Open {
        outbox: Outbox,
        reader: Option<AbortHandle>,
    },
    /// No more calls begin. Those that were sent may still be answered.
    Closing {
        index: u64,
        reader: Option<AbortHandle>,
    },
    Ended(LaneEnd),
}

/// Why a lane has ended.
#[derive(Debug, Clone)]
pub(super) enum LaneEnd {
    /// The server stops; what it has not answered it has not processed.
    Finished,
    /// The server cut it.
    Reset(u64),
    /// The connection is gone.
    ConnectionLost(ConnectionError),
    /// The server closed the connection, and says that it has taken nothing of the lane.
    NotAccepted(ConnectionError),
    /// The runtime of the endpoint has ended.
    RuntimeEnded,
    /// The server writes what is no answer.
    Malformed(WireError),
}

/// What a call carries.
#[derive(Debug)]
pub(super) struct CallRequest<'a> {
    pub(super) method: &'a str,
    pub(super) body: &'a [u8],
    /// That were settled.
    pub(super) options: &'a CallOptions,
    pub(super) now: Instant,
    pub(super) deadline: Option<Instant>,
}

/// Why a call did not begin on a lane. Nothing was sent.
#[derive(Debug)]
pub(super) enum NotStarted {
    /// As many calls wait as the server takes, or too much that QUIC does not take.
    Full,
    /// The lane is not open, and the server takes no more streams at the moment.
    NoStream,
    /// The lane cannot take it, but a stream of its own may.
    NeedsOwnStream,
    /// The lane is gone, and what that means for the call.
    Ended(RpcError),
}

impl Lane {
    pub(super) fn new(
        calls_max: usize,
        body_bytes_max: usize,
        link: Arc<ConnectionShared>,
    ) -> Self {
        Self {
            body_bytes_max,
            state: Mutex::new(LaneState {
                phase: LanePhase::Unopened,
                table: CallTable::new(calls_max),
                methods: MethodNumbers::default(),
                task: None,
                is_task_woken: false,
                outgoing: None,
                reopen_backoff: ReopenBackoff::default(),
            }),
            waiting: AtomicUsize::new(0),
            occupancy: AtomicUsize::new(0),
            shared: link,
        }
    }

    /// Calls that wait for their answers.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.load(Relaxed)
    }

    /// Calls whose answers nobody has taken, [`FULL`] if it takes no more.
    pub(super) fn occupancy(&self) -> usize {
        self.occupancy.load(Relaxed)
    }

    /// Whether it takes a call. Who asks this after a look at what is not behind the lock knows which was first: that look,
    /// or what makes room.
    pub(super) fn has_room(&self) -> bool {
        let _state = self.state.lock();
        self.occupancy() != FULL
    }

    /// Makes a lane that the server has cut one that is opened by its next call, if its time has come.
    pub(super) fn reopen(&self, now: Instant) -> bool {
        let state = &mut *self.state.lock();
        let is_due = matches!(state.phase, LanePhase::Ended(LaneEnd::Reset(_)))
            && state.reopen_backoff.take_due(now);
        if is_due {
            state.phase = LanePhase::Unopened;
            // The numbers of methods are those of a stream.
            state.methods = MethodNumbers::default();
            state.task = None;
            state.is_task_woken = false;
            self.shared.reset_lanes.fetch_sub(1, Relaxed);
            self.publish_counts(state);
        }
        is_due
    }

    /// Sends a request. Its answer is asked for by its number, and has to be, or abandoned.
    pub(super) fn start_call(
        self: &Arc<Self>,
        connection: &quinn::Connection,
        request: &CallRequest<'_>,
        waker: &Waker,
    ) -> Result<u32, NotStarted> {
        let mut opened = None;
        let begun = self.write_request(
            &mut self.state.lock(),
            connection,
            request,
            waker,
            &mut opened,
        );
        if let Some(recv) = opened {
            self.start_task(recv);
        }
        begun
    }

    fn write_request(
        &self,
        state: &mut LaneState,
        connection: &quinn::Connection,
        request: &CallRequest<'_>,
        waker: &Waker,
        opened: &mut Option<quinn::RecvStream>,
    ) -> Result<u32, NotStarted> {
        if matches!(state.phase, LanePhase::Unopened) {
            *opened = Some(open_lane(state, connection)?);
        }
        if state.occupancy() == FULL && matches!(state.phase, LanePhase::Open { .. }) {
            return Err(NotStarted::Full);
        }
        let outbox = match &mut state.phase {
            LanePhase::Open { outbox, .. } => outbox,
            LanePhase::Closing { .. } => {
                return Err(NotStarted::Ended(LaneEnd::Finished.error_before_sending()));
            }
            LanePhase::Ended(LaneEnd::Reset(_) | LaneEnd::Malformed(_)) => {
                return Err(NotStarted::NeedsOwnStream);
            }
            LanePhase::Ended(end) => return Err(NotStarted::Ended(end.error_before_sending())),
            LanePhase::Unopened => unreachable!("it was opened"),
        };
        let is_first = state.table.waiting() == 0;
        let was_idle = is_first && outbox.is_empty();
        let number = state
            .methods
            .number(request.method)
            .ok_or(NotStarted::NeedsOwnStream)?;
        let before = state.table.earliest_deadline();
        let id = state
            .table
            .insert(waker.clone(), request.deadline)
            .ok_or(NotStarted::Full)?;

        let out = outbox.reserve(FRAME_BYTES_MAX + request.method.len() + request.body.len());
        let method = match number {
            MethodNumber::Known(method) => method,
            MethodNumber::New(method) => {
                wire::encode_lane_method(out, method, request.method);
                method
            }
        };
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

        if is_first {
            self.shared.note_work(true);
            state.outgoing = Some(self.shared.outgoing.enter().0);
        }
        if was_idle {
            // Nobody else has anything to write: the way over the reader would only take time.
            let flushed = outbox.poll_flush(&mut Context::from_waker(Waker::noop()));
            if !matches!(flushed, Poll::Ready(Ok(()))) {
                state.wake_task();
            }
        } else {
            state.wake_task();
        }
        if state.table.earliest_deadline() != before {
            state.wake_task();
        }
        self.publish_counts(state);
        Ok(id)
    }

    /// Asks for the answer of a call that was begun.
    pub(super) fn poll_reply(&self, id: u32, cx: &Context<'_>) -> Poll<CallResult> {
        let state = &mut *self.state.lock();
        let polled = state.table.poll(id, cx);
        if polled.is_ready() {
            self.publish_counts(state);
            self.shared.wake_next_waiting();
        }
        polled
    }

    /// Gives up a call that was begun and whose answer was not taken.
    pub(super) fn cancel(&self, id: u32) {
        let state = &mut *self.state.lock();
        if state.table.cancel(id)
            && let LanePhase::Open { outbox, .. } = &mut state.phase
        {
            wire::encode_lane_cancel(outbox.reserve(FRAME_BYTES_MAX), id);
            state.wake_task();
        }
        self.publish_counts(state);
        self.shared.wake_next_waiting();
    }

    /// Answers a call by other means than the lane's own stream.
    pub(super) fn complete(&self, id: u32, answer: CallResult) {
        let waker = {
            let state = &mut *self.state.lock();
            let waker = state.table.complete(id, answer);
            // Of a call that was given up the server knows already.
            if waker.is_some()
                && let LanePhase::Open { outbox, .. } = &mut state.phase
            {
                wire::encode_lane_received(outbox.reserve(FRAME_BYTES_MAX), id);
                state.wake_task();
            }
            self.publish_counts(state);
            waker
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Whether a call of this number waits for its answer.
    pub(super) fn is_waiting(&self, id: u32) -> bool {
        self.state.lock().table.is_waiting(id)
    }

    /// QUIC's index of the stream, while it is open.
    pub(super) fn index(&self) -> Option<u64> {
        match &self.state.lock().phase {
            LanePhase::Open { outbox, .. } => Some(outbox.stream_index()),
            LanePhase::Closing { index, .. } => Some(*index),
            LanePhase::Unopened | LanePhase::Ended(_) => None,
        }
    }

    /// Ends the lane at once. Calls that wait are not told: there are none when nobody has the client any more.
    pub(super) fn abort(&self) {
        let state = &mut *self.state.lock();
        match std::mem::replace(&mut state.phase, LanePhase::Ended(LaneEnd::Finished)) {
            LanePhase::Open { mut outbox, reader } => {
                if let Poll::Ready(Ok(())) =
                    outbox.poll_flush(&mut Context::from_waker(Waker::noop()))
                {
                    outbox.finish();
                }
                reader.inspect(AbortHandle::abort);
            }
            LanePhase::Closing { reader, .. } => {
                reader.inspect(AbortHandle::abort);
            }
            LanePhase::Unopened | LanePhase::Ended(_) => {}
        }
    }

    /// Not under the lock: a runtime that has ended drops the task at once, which takes the lock.
    fn start_task(self: &Arc<Self>, recv: quinn::RecvStream) {
        let reader = LaneTask::new(Arc::clone(self), recv);
        let task = self.shared.runtime.spawn(reader).abort_handle();
        match &mut self.state.lock().phase {
            LanePhase::Open { reader, .. } | LanePhase::Closing { reader, .. } => {
                *reader = Some(task);
            }
            LanePhase::Unopened | LanePhase::Ended(_) => {}
        }
    }

    /// To be called whenever something has changed that others see without the lock.
    fn publish_counts(&self, state: &mut LaneState) {
        let waiting = state.table.waiting();
        self.waiting.store(waiting, Relaxed);
        self.occupancy.store(state.occupancy(), Relaxed);
        if waiting == 0 {
            state.outgoing = None;
        }
    }
}

impl LaneState {
    /// See [`Lane::occupancy`]. Calls whose answers are here count too: their places are taken.
    fn occupancy(&self) -> usize {
        match &self.phase {
            LanePhase::Open { outbox, .. }
                if self.table.is_full() || outbox.len() >= OUTBOX_BYTES_MAX =>
            {
                FULL
            }
            // Calls have streams of their own when all lanes are like that.
            LanePhase::Ended(LaneEnd::Reset(_) | LaneEnd::Malformed(_)) => FULL,
            _ => self.table.occupied(),
        }
    }

    /// Nothing can be sent any more; what was sent may still be answered.
    fn stop_writing(&mut self) {
        let phase = std::mem::replace(&mut self.phase, LanePhase::Unopened);
        self.phase = match phase {
            LanePhase::Open { outbox, reader } => LanePhase::Closing {
                index: outbox.stream_index(),
                reader,
            },
            other => other,
        };
    }

    fn wake_task(&mut self) {
        if std::mem::replace(&mut self.is_task_woken, true) {
            return;
        }
        if let Some(reader) = &self.task {
            reader.wake_by_ref();
        }
    }
}

impl LaneEnd {
    /// For a call that was sent.
    fn error_after_sending(&self) -> RpcError {
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

    /// For a call that comes too late.
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
    // Waits only when the server takes no more streams.
    let opened = connection.open_bi().now_or_never();
    let opened = opened.ok_or(NotStarted::NoStream)?;
    let (send, recv) = opened.map_err(|e| NotStarted::Ended(reply::lost_before_sending(e)))?;
    let mut outbox = Outbox::new(send, connection.clone());
    let kind = StreamKind::Lane;
    outbox
        .reserve(FRAME_BYTES_MAX)
        .extend_from_slice(&Preface { kind }.encode());
    state.phase = LanePhase::Open {
        outbox,
        reader: None,
    };
    Ok(recv)
}

/// Requests and cancellations that may wait for QUIC before no more calls begin. Calls that give up leave their requests
/// behind, so that the number of calls is no bound.
const OUTBOX_BYTES_MAX: usize = 4 * 1024 * 1024;

/// In the place of a number of calls: there cannot be more.
const FULL: usize = usize::MAX;

/// More than the header of any frame that a caller writes.
const FRAME_BYTES_MAX: usize = 40;
