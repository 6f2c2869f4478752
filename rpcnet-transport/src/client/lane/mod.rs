//! A stream that many small calls share.

mod call;
mod lanes;
mod methods;
mod reader;
mod reopening;
mod table;

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
    call::{Begun, LaneCall},
    lanes::Lanes,
};
pub(crate) use self::{lanes::Link, methods::METHODS_MAX};
use self::{
    methods::{Methods, Number},
    reader::Reader,
    reopening::Reopening,
    table::Table,
};
use super::answer;
use crate::{
    CallOptions, Code, Processed, RpcError,
    gauge::GaugeGuard,
    outbox::Outbox,
    runtime::RuntimeEnded,
    stream::cut_to_error,
    wire::{self, LaneRequest, Preface, StreamKind, WireError},
};

/// How a call ends.
pub(super) type Answer = Result<Bytes, RpcError>;

/// One lane of a connection. It is opened by its first call.
#[derive(Debug)]
pub(super) struct Lane {
    state: Mutex<State>,
    /// Calls that wait for their answers, to be read without the lock.
    waiting: AtomicUsize,
    /// Calls whose answers nobody has taken, or [`NO_ROOM`]; to be read without the lock.
    crowd: AtomicUsize,
    /// Largest answer that may come on the lane.
    body_bytes_max: usize,
    link: Arc<Link>,
}

#[derive(Debug)]
struct State {
    phase: Phase,
    table: Table<Answer>,
    methods: Methods,
    /// The reader of the lane, when it sleeps.
    reader: Option<Waker>,
    /// The reader was woken to write what is queued, and has not come to it.
    is_reader_woken: bool,
    /// While any call waits.
    outgoing: Option<GaugeGuard>,
    reopening: Reopening,
}

#[derive(Debug)]
enum Phase {
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
    Ended(End),
}

/// Why a lane has ended.
#[derive(Debug, Clone)]
pub(super) enum End {
    /// The server stops; what it has not answered it has not processed.
    Finished,
    /// The server cut it.
    Cut(u64),
    /// The connection is gone.
    Lost(ConnectionError),
    /// The server closed the connection, and says that it has taken nothing of the lane.
    Untaken(ConnectionError),
    /// The runtime of the endpoint has ended.
    RuntimeEnded,
    /// The server writes what is no answer.
    Broken(WireError),
}

/// What a call carries.
#[derive(Debug)]
pub(super) struct Request<'a> {
    pub(super) method: &'a str,
    pub(super) body: &'a [u8],
    /// That were settled.
    pub(super) options: &'a CallOptions,
    pub(super) now: Instant,
    pub(super) deadline: Option<Instant>,
}

/// Why a call did not begin on a lane. Nothing was sent.
#[derive(Debug)]
pub(super) enum NotBegun {
    /// As many calls wait as the server takes, or too much that QUIC does not take.
    Full,
    /// The lane is not open, and the server takes no more streams at the moment.
    NoStream,
    /// The lane cannot take it, but a stream of its own may.
    Unfit,
    /// The lane is gone, and what that means for the call.
    Ended(RpcError),
}

impl Lane {
    pub(super) fn new(calls_max: usize, body_bytes_max: usize, link: Arc<Link>) -> Self {
        Self {
            body_bytes_max,
            state: Mutex::new(State {
                phase: Phase::Unopened,
                table: Table::new(calls_max),
                methods: Methods::default(),
                reader: None,
                is_reader_woken: false,
                outgoing: None,
                reopening: Reopening::default(),
            }),
            waiting: AtomicUsize::new(0),
            crowd: AtomicUsize::new(0),
            link,
        }
    }

    /// Calls that wait for their answers.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.load(Relaxed)
    }

    /// Calls whose answers nobody has taken, [`NO_ROOM`] if it takes no more.
    pub(super) fn crowd(&self) -> usize {
        self.crowd.load(Relaxed)
    }

    /// Whether it takes a call. Who asks this after a look at what is not behind the lock knows which was first: that look,
    /// or what makes room.
    pub(super) fn has_room(&self) -> bool {
        let _state = self.state.lock();
        self.crowd() != NO_ROOM
    }

    /// Makes a lane that the server has cut one that is opened by its next call, if its time has come.
    pub(super) fn reopen(&self, now: Instant) -> bool {
        let state = &mut *self.state.lock();
        let is_due =
            matches!(state.phase, Phase::Ended(End::Cut(_))) && state.reopening.is_due(now);
        if is_due {
            state.phase = Phase::Unopened;
            // The numbers of methods are those of a stream.
            state.methods = Methods::default();
            state.reader = None;
            state.is_reader_woken = false;
            self.link.cut_lanes.fetch_sub(1, Relaxed);
            self.note(state);
        }
        is_due
    }

    /// Sends a request. Its answer is asked for by its number, and has to be, or abandoned.
    pub(super) fn begin(
        self: &Arc<Self>,
        connection: &quinn::Connection,
        request: &Request<'_>,
        waker: &Waker,
    ) -> Result<u32, NotBegun> {
        let mut opened = None;
        let begun = self.send(
            &mut self.state.lock(),
            connection,
            request,
            waker,
            &mut opened,
        );
        if let Some(recv) = opened {
            self.start_reader(recv);
        }
        begun
    }

    fn send(
        &self,
        state: &mut State,
        connection: &quinn::Connection,
        request: &Request<'_>,
        waker: &Waker,
        opened: &mut Option<quinn::RecvStream>,
    ) -> Result<u32, NotBegun> {
        if matches!(state.phase, Phase::Unopened) {
            *opened = Some(open(state, connection)?);
        }
        if state.crowd() == NO_ROOM && matches!(state.phase, Phase::Open { .. }) {
            return Err(NotBegun::Full);
        }
        let outbox = match &mut state.phase {
            Phase::Open { outbox, .. } => outbox,
            Phase::Closing { .. } => return Err(NotBegun::Ended(End::Finished.not_begun())),
            Phase::Ended(End::Cut(_) | End::Broken(_)) => return Err(NotBegun::Unfit),
            Phase::Ended(end) => return Err(NotBegun::Ended(end.not_begun())),
            Phase::Unopened => unreachable!("it was opened"),
        };
        let is_first = state.table.waiting() == 0;
        let was_idle = is_first && outbox.is_empty();
        let number = state
            .methods
            .number(request.method)
            .ok_or(NotBegun::Unfit)?;
        let before = state.table.earliest_deadline();
        let id = state
            .table
            .insert(waker.clone(), request.deadline)
            .ok_or(NotBegun::Full)?;

        let out = outbox.room(FRAME_BYTES_MAX + request.method.len() + request.body.len());
        let method = match number {
            Number::Known(method) => method,
            Number::New(method) => {
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
            self.link.note_work(true);
            state.outgoing = Some(self.link.outgoing.enter().0);
        }
        if was_idle {
            // Nobody else has anything to write: the way over the reader would only take time.
            let flushed = outbox.poll_flush(&mut Context::from_waker(Waker::noop()));
            if !matches!(flushed, Poll::Ready(Ok(()))) {
                state.wake_reader();
            }
        } else {
            state.wake_reader();
        }
        if state.table.earliest_deadline() != before {
            state.wake_reader();
        }
        self.note(state);
        Ok(id)
    }

    /// Asks for the answer of a call that was begun.
    pub(super) fn poll_answer(&self, id: u32, cx: &Context<'_>) -> Poll<Answer> {
        let state = &mut *self.state.lock();
        let polled = state.table.poll(id, cx);
        if polled.is_ready() {
            self.note(state);
            self.link.pass_on();
        }
        polled
    }

    /// Gives up a call that was begun and whose answer was not taken.
    pub(super) fn abandon(&self, id: u32) {
        let state = &mut *self.state.lock();
        if state.table.abandon(id)
            && let Phase::Open { outbox, .. } = &mut state.phase
        {
            wire::encode_lane_cancel(outbox.room(FRAME_BYTES_MAX), id);
            state.wake_reader();
        }
        self.note(state);
        self.link.pass_on();
    }

    /// Answers a call by other means than the lane's own stream.
    pub(super) fn answer(&self, id: u32, answer: Answer) {
        let waker = {
            let state = &mut *self.state.lock();
            let waker = state.table.answer(id, answer);
            // Of a call that was given up the server knows already.
            if waker.is_some()
                && let Phase::Open { outbox, .. } = &mut state.phase
            {
                wire::encode_lane_received(outbox.room(FRAME_BYTES_MAX), id);
                state.wake_reader();
            }
            self.note(state);
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
            Phase::Open { outbox, .. } => Some(outbox.index()),
            Phase::Closing { index, .. } => Some(*index),
            Phase::Unopened | Phase::Ended(_) => None,
        }
    }

    /// Ends the lane at once. Calls that wait are not told: there are none when nobody has the client any more.
    pub(super) fn abort(&self) {
        let state = &mut *self.state.lock();
        match std::mem::replace(&mut state.phase, Phase::Ended(End::Finished)) {
            Phase::Open { mut outbox, reader } => {
                if let Poll::Ready(Ok(())) =
                    outbox.poll_flush(&mut Context::from_waker(Waker::noop()))
                {
                    outbox.finish();
                }
                reader.inspect(AbortHandle::abort);
            }
            Phase::Closing { reader, .. } => {
                reader.inspect(AbortHandle::abort);
            }
            Phase::Unopened | Phase::Ended(_) => {}
        }
    }

    /// Not under the lock: a runtime that has ended drops the task at once, which takes the lock.
    fn start_reader(self: &Arc<Self>, recv: quinn::RecvStream) {
        let reader = Reader::new(Arc::clone(self), recv);
        let task = self.link.runtime.spawn(reader).abort_handle();
        match &mut self.state.lock().phase {
            Phase::Open { reader, .. } | Phase::Closing { reader, .. } => *reader = Some(task),
            Phase::Unopened | Phase::Ended(_) => {}
        }
    }

    /// To be called whenever something has changed that others see without the lock.
    fn note(&self, state: &mut State) {
        let waiting = state.table.waiting();
        self.waiting.store(waiting, Relaxed);
        self.crowd.store(state.crowd(), Relaxed);
        if waiting == 0 {
            state.outgoing = None;
        }
    }
}

impl State {
    /// See [`Lane::crowd`]. Calls whose answers are here count too: their places are taken.
    fn crowd(&self) -> usize {
        match &self.phase {
            Phase::Open { outbox, .. }
                if self.table.is_full() || outbox.len() >= OUTBOX_BYTES_MAX =>
            {
                NO_ROOM
            }
            // Calls have streams of their own when all lanes are like that.
            Phase::Ended(End::Cut(_) | End::Broken(_)) => NO_ROOM,
            _ => self.table.used(),
        }
    }

    /// Nothing can be sent any more; what was sent may still be answered.
    fn stop_writing(&mut self) {
        let phase = std::mem::replace(&mut self.phase, Phase::Unopened);
        self.phase = match phase {
            Phase::Open { outbox, reader } => Phase::Closing {
                index: outbox.index(),
                reader,
            },
            other => other,
        };
    }

    fn wake_reader(&mut self) {
        if std::mem::replace(&mut self.is_reader_woken, true) {
            return;
        }
        if let Some(reader) = &self.reader {
            reader.wake_by_ref();
        }
    }
}

impl End {
    /// For a call that was sent.
    fn unanswered(&self) -> RpcError {
        match self {
            Self::Finished => self.not_begun(),
            Self::Cut(code) => {
                let (code, processed, message) = cut_to_error(*code);
                RpcError::new(code, processed, message)
            }
            Self::Lost(e) => answer::lost_midway(e.clone()),
            Self::Untaken(e) => answer::untaken(e.clone()),
            Self::RuntimeEnded => RuntimeEnded.into_error(Processed::Maybe),
            Self::Broken(e) => {
                let message = "malformed response";
                RpcError::new(Code::Internal, Processed::Maybe, message).with_source(e.clone())
            }
        }
    }

    /// For a call that comes too late.
    fn not_begun(&self) -> RpcError {
        match self {
            Self::Lost(e) | Self::Untaken(e) => answer::lost_before_sending(e.clone()),
            Self::RuntimeEnded => RuntimeEnded.into_error(Processed::No),
            Self::Finished | Self::Cut(_) | Self::Broken(_) => {
                RpcError::new(Code::Draining, Processed::No, "the server is shutting down")
            }
        }
    }
}

fn open(state: &mut State, connection: &quinn::Connection) -> Result<quinn::RecvStream, NotBegun> {
    // Waits only when the server takes no more streams.
    let opened = connection.open_bi().now_or_never();
    let opened = opened.ok_or(NotBegun::NoStream)?;
    let (send, recv) = opened.map_err(|e| NotBegun::Ended(answer::lost_before_sending(e)))?;
    let mut outbox = Outbox::new(send, connection.clone());
    let kind = StreamKind::Lane;
    outbox
        .room(FRAME_BYTES_MAX)
        .extend_from_slice(&Preface { kind }.encode());
    state.phase = Phase::Open {
        outbox,
        reader: None,
    };
    Ok(recv)
}

/// Requests and cancellations that may wait for QUIC before no more calls begin. Calls that give up leave their requests
/// behind, so that the number of calls is no bound.
const OUTBOX_BYTES_MAX: usize = 4 * 1024 * 1024;

/// In the place of a number of calls: there cannot be more.
const NO_ROOM: usize = usize::MAX;

/// More than the header of any frame that a caller writes.
const FRAME_BYTES_MAX: usize = 40;
