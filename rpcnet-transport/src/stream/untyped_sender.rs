//! Sender of messages as bytes, for either side of a call.

use std::{future::poll_fn, pin::pin, sync::Arc};

use bytes::{Bytes, BytesMut};
use tokio::{sync::oneshot, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{
    ResetCode, SendHalf, StallTimer, WriteFailure,
    item_writer::{ItemWriter, Pushed},
    write_turns::LARGE_BYTES_MIN,
};
use crate::{
    Code, Peer, Processed, RpcError,
    accounts::{BufferReservation, PeerAccount},
    client::reply,
    connections::LocalCloseReason,
    deadline::within,
    gauge::GaugeGuard,
    metadata::CallHeaders,
    runtime::{EndpointRuntime, RuntimeEnded},
    server::{PeerWait, YieldingPermits},
    stats::Counters,
    wire::{self, StreamKind},
};

/// A sender of bytes, without the type of its messages.
pub(crate) struct UntypedSender {
    /// `None` once the half was given back.
    writer: Option<ItemWriter>,
    pub(super) context: SenderContext,
    /// Stall timeout of each message. `None` for callers: only a deadline, or the end of the
    /// connection, ends their wait.
    stall_timer: Option<StallTimer>,
    side: SenderSide,
    abort: Option<SendAbort>,
    /// Messages since the last check for the end of the call, from 0 to [`CHECK_INTERVAL`].
    unchecked: u8,
}

/// Context of a sender, on either side of its call.
pub(crate) struct SenderContext {
    pub(crate) runtime: EndpointRuntime,
    pub(crate) peer: Peer,
    /// Largest message that is sent, in bytes.
    pub(crate) message_bytes_max: usize,
    /// Deadline of the call.
    pub(crate) deadline: Option<Instant>,
}

/// Reason for which the sender of a handler was aborted. Whatever the handler returns, its stream
/// was not sent completely.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SendAbort {
    /// The server shuts down.
    ShuttingDown,
    DeadlineExceeded,
    /// The caller stopped the stream, or is gone.
    CallerGone,
    /// There was no room for a message.
    Overloaded,
}

/// Send half of a call, given back by the sender of its handler when that is dropped.
pub(crate) struct ReturnedHalf {
    half: SendHalf,
    pub(crate) abort: Option<SendAbort>,
}

impl ReturnedHalf {
    /// The half for the reply. It waits until flow control permits the messages before it if the
    /// handler has ended well, and otherwise takes no reply while they are not written.
    pub(crate) fn into_half(mut self, is_complete: bool) -> SendHalf {
        if !is_complete {
            self.half.write_or_discard_unsent();
        }
        self.half
    }
}

/// State of a call, as the sender of its handler knows it.
pub(crate) struct HandlerSide {
    pub(crate) cancelled: CancellationToken,
    pub(crate) counters: Arc<Counters>,
    /// Yielded while the sender waits for the caller.
    pub(crate) permits: Option<YieldingPermits>,
    /// Account to which messages are charged until QUIC has them.
    pub(crate) account: Arc<PeerAccount>,
    /// How long a message waits for its reservation.
    pub(crate) stall_timer: StallTimer,
}

/// The peer has left too many bytes unread.
struct BufferFull;

impl HandlerSide {
    async fn reserve(&self, bytes: usize) -> Result<BufferReservation, BufferFull> {
        let reserved = self.account.reserve_message(bytes, &self.stall_timer);
        reserved.await.ok_or(BufferFull)
    }
}

/// Side of the call that has the sender, which decides what happens to the half when it is dropped.
enum SenderSide {
    /// The half is given back: the reply of the call still has to be written to it.
    Handler {
        to: Option<oneshot::Sender<ReturnedHalf>>,
        call: HandlerSide,
    },
    /// The half is reset unless it was finished.
    Caller {
        local_close: LocalCloseReason,
        _in_flight: Arc<[GaugeGuard; 2]>,
    },
}

impl UntypedSender {
    pub(crate) fn for_handler(
        half: SendHalf,
        context: SenderContext,
        call: HandlerSide,
    ) -> (Self, oneshot::Receiver<ReturnedHalf>) {
        let (to, back) = oneshot::channel();
        let stall_timer = call.stall_timer.with_deadline(context.deadline);
        let runtime = context.runtime.clone();
        let core = Self {
            writer: Some(ItemWriter::new(half, Some(stall_timer.clone()), runtime)),
            stall_timer: Some(stall_timer),
            context,
            side: SenderSide::Handler { to: Some(to), call },
            abort: None,
            unchecked: CHECK_INTERVAL - 1,
        };
        (core, back)
    }

    pub(crate) fn for_caller(
        half: SendHalf,
        context: SenderContext,
        local_close: LocalCloseReason,
        in_flight: Arc<[GaugeGuard; 2]>,
    ) -> Self {
        Self {
            writer: Some(ItemWriter::new(half, None, context.runtime.clone())),
            stall_timer: None,
            context,
            side: SenderSide::Caller {
                local_close,
                _in_flight: in_flight,
            },
            abort: None,
            unchecked: CHECK_INTERVAL - 1,
        }
    }

    /// Sends a small message. `false` if flow control does not permit it now.
    #[inline]
    pub(super) fn send_now(&mut self, body: &[u8]) -> Result<bool, RpcError> {
        self.check(body.len())?;
        let pushed = match &self.writer {
            Some(writer) => writer.push(body),
            None => Err(WriteFailure::Closed),
        };
        match pushed {
            // An item that is not one of many checks each time.
            Ok(Pushed::First) => {
                self.unchecked = CHECK_INTERVAL - 1;
                Ok(true)
            }
            Ok(Pushed::Joined) => Ok(true),
            Ok(Pushed::Full) => Ok(false),
            Err(failure) => Err(self.failed_to_write(failure)),
        }
    }

    /// Checks whether a message of so many bytes may be sent.
    #[inline]
    fn check(&mut self, bytes: usize) -> Result<(), RpcError> {
        let limit = self.context.message_bytes_max;
        if bytes > limit {
            let error = message_too_large(bytes, limit);
            return Err(error.with_peer(self.context.peer.clone()));
        }
        // A look at the token takes its lock.
        self.unchecked = (self.unchecked + 1) % CHECK_INTERVAL;
        if self.unchecked == 0
            && let SenderSide::Handler { call, .. } = &self.side
            && call.cancelled.is_cancelled()
        {
            self.abort = Some(SendAbort::ShuttingDown);
            return Err(self.call_ended());
        }
        Ok(())
    }

    /// Sends a large message, or a small one for which there is no room yet.
    pub(super) async fn send_waiting(&mut self, body: Bytes) -> Result<(), RpcError> {
        self.unchecked = CHECK_INTERVAL - 1;
        self.check(body.len())?;
        let runtime = self.context.runtime.clone();
        let sent = runtime.in_runtime(self.send_in_runtime(body)).await;
        match sent {
            Ok(sent) => sent.map_err(|error| self.explain(error)),
            Err(ended) => Err(self.explain(ended.into_error(Processed::Maybe))),
        }
    }

    async fn send_in_runtime(&mut self, body: Bytes) -> Result<(), RpcError> {
        let bytes = body.len();
        let Some(writer) = &self.writer else {
            return Err(self.call_ended());
        };
        let incoming = match &self.side {
            SenderSide::Handler { call, .. } => Some(call),
            SenderSide::Caller { .. } => None,
        };
        let is_large = bytes >= LARGE_BYTES_MIN;
        if is_large && let Err(failure) = writer.begin_item() {
            return Err(self.write_error(failure));
        }
        let stall_timer = self.stall_timer.as_ref();
        let write = async {
            if !is_large {
                return Ok(push_when_room(writer, &body, stall_timer).await);
            }
            let _reserved = match incoming {
                Some(call) => Some(call.reserve(bytes).await?),
                None => None,
            };
            Ok::<_, BufferFull>(write_large(writer, body, stall_timer).await)
        };
        let write = yielding_permits(incoming.and_then(|call| call.permits.as_ref()), write);
        let write = within(self.context.deadline, write);
        let written = match incoming {
            Some(call) => call.cancelled.run_until_cancelled(write).await,
            None => Some(write.await),
        };
        match written {
            Some(Ok(Ok(written))) => written.map_err(|failure| self.write_error(failure)),
            Some(Ok(Err(BufferFull))) => Err(self.buffer_full(bytes)),
            None => {
                self.abort = Some(SendAbort::ShuttingDown);
                Err(self.call_ended())
            }
            Some(Err(_)) => {
                self.abort = Some(SendAbort::DeadlineExceeded);
                let message = "deadline exceeded while a message was sent";
                Err(self.error(Code::DeadlineExceeded, Processed::Maybe, message))
            }
        }
    }

    /// Explains an error to the user of the sender.
    fn explain(&self, error: RpcError) -> RpcError {
        let error = self.context.runtime.explain(error);
        match &self.side {
            SenderSide::Caller { local_close, .. } => local_close.explain(error),
            SenderSide::Handler { .. } => error,
        }
    }

    /// Yields the permits of a handler after a message that needed no wait, if others should have
    /// them first.
    pub(super) fn yield_if_over_share(&self) -> Option<PeerWait> {
        self.permits()
            .and_then(YieldingPermits::yield_if_over_share)
    }

    fn permits(&self) -> Option<&YieldingPermits> {
        match &self.side {
            SenderSide::Handler { call, .. } => call.permits.as_ref(),
            SenderSide::Caller { .. } => None,
        }
    }

    fn error(&self, code: Code, processed: Processed, message: &str) -> RpcError {
        RpcError::new(code, processed, message).with_peer(self.context.peer.clone())
    }

    fn call_ended(&self) -> RpcError {
        self.error(Code::Cancelled, Processed::Maybe, "the call has ended")
    }

    fn buffer_full(&mut self, bytes: usize) -> RpcError {
        if let SenderSide::Handler { call, .. } = &self.side {
            call.counters.replies_dropped.add_one();
        }
        self.abort = Some(SendAbort::Overloaded);
        // For the status that ends the call.
        if let Some(writer) = &self.writer {
            writer.undo_begin_item();
        }
        let message =
            format!("buffer limit reached: message of {bytes} bytes, earlier ones were not read");
        self.error(Code::Overloaded, Processed::No, &message)
    }

    #[cold]
    fn failed_to_write(&mut self, failure: WriteFailure) -> RpcError {
        // The task that writes ends with its runtime.
        if matches!(failure, WriteFailure::Closed) && self.context.runtime.check_ended() {
            return RuntimeEnded.into_error(Processed::Maybe);
        }
        let error = self.write_error(failure);
        self.explain(error)
    }

    /// The error of a message that was not written, or not completely.
    fn write_error(&mut self, failure: WriteFailure) -> RpcError {
        if matches!(failure, WriteFailure::Stopped | WriteFailure::Lost(_)) {
            self.abort = Some(SendAbort::CallerGone);
        }
        match failure {
            WriteFailure::Stopped => self.error(
                Code::Cancelled,
                Processed::Maybe,
                "the peer stopped the stream",
            ),
            WriteFailure::Stalled => {
                if let Some(writer) = &self.writer {
                    writer.reset(ResetCode::Stalled);
                }
                if let SenderSide::Handler { call, .. } = &self.side {
                    call.counters.stalled_calls.add_one();
                }
                self.error(
                    Code::Cancelled,
                    Processed::Maybe,
                    "stall timeout: the peer reads too slowly or not at all",
                )
            }
            WriteFailure::Lost(e) => {
                reply::lost_during_call(e).with_peer(self.context.peer.clone())
            }
            WriteFailure::Closed => self.call_ended(),
        }
    }

    pub(crate) fn finish(&mut self) {
        if let (Some(writer), SenderSide::Caller { .. }) = (&self.writer, &self.side) {
            writer.finish();
        }
    }
}

impl Drop for UntypedSender {
    fn drop(&mut self) {
        if let SenderSide::Handler { to, .. } = &mut self.side
            && let (Some(to), Some(writer)) = (to.take(), self.writer.take())
            && let Some(half) = writer.into_half()
        {
            // If the receiver is gone, dropping the half resets the stream.
            let _ = to.send(ReturnedHalf {
                half,
                abort: self.abort,
            });
        }
    }
}

/// Adds a small item to the buffer when there is room. Dropped before, it leaves nothing there.
async fn push_when_room(
    writer: &ItemWriter,
    body: &[u8],
    stall_timer: Option<&StallTimer>,
) -> Result<(), WriteFailure> {
    let mut seen = writer.bytes_written();
    while writer.push(body)? == Pushed::Full {
        let progress = poll_fn(|cx| writer.poll_progress(seen, cx));
        seen = match stall_timer {
            Some(stall_timer) => stall_timer
                .wait(progress)
                .await
                .map_err(|_| WriteFailure::Stalled)?,
            None => progress.await,
        };
    }
    Ok(())
}

/// Writes a large item that has [begun](ItemWriter::begin_item), after all earlier ones.
async fn write_large(
    writer: &ItemWriter,
    body: Bytes,
    stall_timer: Option<&StallTimer>,
) -> Result<(), WriteFailure> {
    let (mut borrowed, mut head) = writer.borrow_half()?;
    wire::encode_item_header(&mut head, body.len());
    let parts = [head.freeze(), body];
    borrowed.half().write_large(parts, stall_timer).await
}

/// Yields the permits of a handler while it waits for its caller to read, and afterwards if other
/// callers should have them.
async fn yielding_permits<T>(
    permits: Option<&YieldingPermits>,
    write: impl Future<Output = T>,
) -> T {
    let Some(permits) = permits else {
        return write.await;
    };
    let (mut write, mut wait) = (pin!(write), None);
    let written = poll_fn(|cx| {
        let written = write.as_mut().poll(cx);
        if written.is_pending() && wait.is_none() {
            wait = Some(permits.yield_while_waiting());
        }
        written
    })
    .await;
    if let Some(wait) = wait.or_else(|| permits.yield_if_over_share()) {
        wait.reacquire().await;
    }
    written
}

/// The error of a message that is not sent because it exceeds the limit.
pub(crate) fn message_too_large(bytes: usize, limit: usize) -> RpcError {
    RpcError::new(
        Code::PayloadTooLarge,
        Processed::No,
        format!("the message of {bytes} bytes exceeds the limit of {limit} bytes"),
    )
}

/// Encodes the head of a call's stream: preface and request header.
pub(crate) fn encode_call_head(
    header: &wire::RequestHeader,
    headers: Option<&CallHeaders>,
    body_bytes: usize,
) -> BytesMut {
    let mut head = BytesMut::new();
    head.extend_from_slice(
        &wire::Preface {
            kind: StreamKind::Call,
        }
        .encode(),
    );
    if let Some(headers) = headers {
        wire::encode_headers(&mut head, headers.flags(), headers.encoded_len());
        headers.encode(&mut head);
    }
    wire::encode_request(&mut head, header, body_bytes);
    head
}

/// A sender checks for the end of its call once in so many messages that follow each other at once.
const CHECK_INTERVAL: u8 = 16;
