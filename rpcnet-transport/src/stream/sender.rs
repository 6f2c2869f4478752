//! Messages that go out.

use std::{fmt, future::poll_fn, marker::PhantomData, pin::pin, sync::Arc};

use bytes::{Bytes, BytesMut};
use tokio::{
    sync::oneshot,
    task::coop,
    time::{Instant, timeout_at},
};
use tokio_util::sync::CancellationToken;

use super::{Cut, Patience, SendHalf, WriteFailure, turns::LARGE_FROM};
use crate::{
    Code, Encode, Peer, Processed, RpcError,
    accounts::{Account, Reservation},
    client::answer,
    connections::LocalEnd,
    endpoint::Shared,
    gauge::GaugeGuard,
    runtime::EndpointRuntime,
    server::LentPlaces,
    stats::Counters,
    wire::{self, StreamKind},
};

/// Sends the messages of one direction of a call.
///
/// [`send`](Self::send) waits while the receiver does not keep up: what is under way is bounded by QUIC's windows, and
/// nothing is queued here. A sender that is dropped without [`finish`](Self::finish) cuts the call on the
/// caller's side; in a handler, dropping it is the normal end.
pub struct Sender<T> {
    core: SendCore,
    _messages: PhantomData<fn(T)>,
}

impl<T: Encode> Sender<T> {
    pub(crate) fn new(core: SendCore) -> Self {
        Self {
            core,
            _messages: PhantomData,
        }
    }

    /// Sends one message, when there is room for it. A handler waits here for a place of its
    /// server's [`Admission`](crate::Admission) too, while calls wait and its caller holds more
    /// than its [share](crate::Admission#shares-of-callers). Not cancel-safe: if the future is
    /// dropped before it ends, the call is broken and further messages are refused.
    ///
    /// # Errors
    ///
    /// [`Code::PayloadTooLarge`] if the message is past the limit and [`Code::Internal`] if it does
    /// not encode; the call goes on. In a handler [`Code::Overloaded`] if the caller leaves too
    /// much untaken for too long, see
    /// [`with_buffered_bytes_max`](crate::TransportConfig::with_buffered_bytes_max); it ends the
    /// call, also for the caller. [`Code::Cancelled`] if the other side wants no more: the caller
    /// then finds the reason at its [`Receiver`](crate::Receiver). [`Code::DeadlineExceeded`] and
    /// [`Code::Unavailable`] end the call.
    pub async fn send(&mut self, message: T) -> Result<(), RpcError> {
        let body = message.encode().map_err(|e| {
            RpcError::new(
                Code::Internal,
                Processed::No,
                "the message could not be encoded",
            )
            .with_source(e)
        })?;
        self.core.send(body).await
    }

    /// Says that no message follows.
    pub fn finish(mut self) {
        self.core.finish();
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender")
            .field("peer", &self.core.peer)
            .finish_non_exhaustive()
    }
}

/// What a sender is apart from the type of its messages.
pub(crate) struct SendCore {
    half: Option<SendHalf>,
    runtime: EndpointRuntime,
    pub(crate) message_bytes_max: usize,
    /// Stall timeout of each message. `None` for callers: only a deadline, or the end of the
    /// connection, ends their wait.
    patience: Option<Patience>,
    pub(crate) deadline: Option<Instant>,
    pub(crate) peer: Peer,
    end: End,
    cut: Option<SenderCut>,
}

/// Why the sender of a handler was cut. Whatever the handler says in the end, not all of its stream was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SenderCut {
    /// The server shuts down.
    Stopping,
    OutOfTime,
    /// The caller takes no more, or is gone.
    CallerGone,
    /// There was no room for a message.
    Overloaded,
}

/// What a handler's sender leaves when it is dropped.
pub(crate) struct GivenBack {
    pub(crate) half: SendHalf,
    pub(crate) cut: Option<SenderCut>,
}

/// What a handler's sender knows of its call.
pub(crate) struct ServedCall {
    pub(crate) cancelled: CancellationToken,
    /// Given back while the sender waits for the caller.
    pub(crate) lent: Option<LentPlaces>,
    /// On which messages are held until QUIC has them.
    pub(crate) account: Arc<Account>,
    /// How long a message waits for room.
    pub(crate) settling: Patience,
}

/// The peer has left too much untaken.
struct NoRoom;

/// Why a message was given up before it was written in whole.
enum Unsent {
    Cancelled,
    /// The deadline of the call was over.
    Late,
}

impl ServedCall {
    async fn room(&self, bytes: usize) -> Result<Reservation, NoRoom> {
        let held = self.account.hold_message(bytes, &self.settling);
        held.await.ok_or(NoRoom)
    }
}

/// What becomes of the half when the sender is dropped.
enum End {
    /// A call's reply still has to be written to it.
    GiveBack {
        to: Option<oneshot::Sender<GivenBack>>,
        counters: Arc<Counters>,
        call: ServedCall,
    },
    /// It is reset unless it was finished.
    Cut {
        local_end: LocalEnd,
        _in_flight: Arc<[GaugeGuard; 2]>,
    },
}

impl SendCore {
    pub(crate) fn of_handler(
        half: SendHalf,
        shared: &Shared,
        peer: Peer,
        deadline: Option<Instant>,
        patience: Patience,
        call: ServedCall,
    ) -> (Self, oneshot::Receiver<GivenBack>) {
        let (to, back) = oneshot::channel();
        let core = Self {
            half: Some(half),
            runtime: shared.runtime.clone(),
            message_bytes_max: shared.config.message_bytes_max,
            patience: Some(patience),
            deadline,
            peer,
            end: End::GiveBack {
                to: Some(to),
                counters: Arc::clone(&shared.counters),
                call,
            },
            cut: None,
        };
        (core, back)
    }

    pub(crate) fn of_caller(
        half: SendHalf,
        runtime: EndpointRuntime,
        peer: Peer,
        message_bytes_max: usize,
        deadline: Option<Instant>,
        local_end: LocalEnd,
        in_flight: Arc<[GaugeGuard; 2]>,
    ) -> Self {
        Self {
            half: Some(half),
            runtime,
            message_bytes_max,
            patience: None,
            deadline,
            peer,
            end: End::Cut {
                local_end,
                _in_flight: in_flight,
            },
            cut: None,
        }
    }

    pub(crate) async fn send(&mut self, body: Bytes) -> Result<(), RpcError> {
        let runtime = self.runtime.clone();
        let sent = runtime.inside(self.send_inside(body)).await;
        sent.unwrap_or_else(|ended| Err(ended.into_error(Processed::Maybe)))
            .map_err(|error| match &self.end {
                End::Cut { local_end, .. } => local_end.explain(runtime.explain(error)),
                End::GiveBack { .. } => runtime.explain(error),
            })
    }

    async fn send_inside(&mut self, body: Bytes) -> Result<(), RpcError> {
        if body.len() > self.message_bytes_max {
            return Err(too_large(body.len(), self.message_bytes_max).with_peer(self.peer.clone()));
        }
        // Who always has room to send lets others run, and notices that its call is over.
        coop::consume_budget().await;
        let bytes = body.len();
        let mut head = BytesMut::new();
        wire::encode_item_header(&mut head, bytes);
        let mut parts = [head.freeze(), body];
        let is_large = bytes >= LARGE_FROM;
        if is_large || !self.send_now(&mut parts)? {
            // On the heap, so that the future of a message that need not wait stays small.
            return Box::pin(self.send_waiting(parts, is_large)).await;
        }
        if let Some(wait) = self.lent().and_then(LentPlaces::wait_if_owed) {
            wait.end().await;
        }
        Ok(())
    }

    /// Sends a message that needs no room. `false` if flow control takes only a part of it now.
    fn send_now(&mut self, parts: &mut [Bytes; 2]) -> Result<bool, RpcError> {
        if let End::GiveBack { call, .. } = &self.end
            && call.cancelled.is_cancelled()
        {
            self.cut = Some(SenderCut::Stopping);
            return Err(self.over());
        }
        let half = self.half.as_mut();
        let written = half.map_or(Err(WriteFailure::Closed), |half| {
            half.write_now(parts, self.patience.as_ref())
        });
        written.map_err(|failure| self.unwritten(failure))
    }

    /// Sends a large message, or what is left of another one.
    async fn send_waiting(
        &mut self,
        mut parts: [Bytes; 2],
        is_large: bool,
    ) -> Result<(), RpcError> {
        let bytes = parts[1].len();
        let Some(half) = &mut self.half else {
            return Err(self.over());
        };
        let served = match &self.end {
            End::GiveBack { call, .. } => Some(call),
            End::Cut { .. } => None,
        };
        if is_large && let Err(failure) = half.begin_frame() {
            return Err(self.unwritten(failure));
        }
        let patience = self.patience.as_ref();
        let write = async {
            if !is_large {
                return Ok(half.write_rest(&mut parts, patience).await);
            }
            let _held = match served {
                Some(call) => Some(call.room(bytes).await?),
                None => None,
            };
            Ok::<_, NoRoom>(half.write_large(parts, patience).await)
        };
        let write = waiting(served.and_then(|call| call.lent.as_ref()), write);
        let write = async {
            match self.deadline {
                Some(deadline) => timeout_at(deadline, write).await.map_err(|_| Unsent::Late),
                None => Ok(write.await),
            }
        };
        let written = match served {
            Some(call) => tokio::select! {
                biased;
                () = call.cancelled.cancelled() => Err(Unsent::Cancelled),
                written = write => written,
            },
            None => write.await,
        };
        match written {
            Ok(Ok(written)) => written.map_err(|failure| self.unwritten(failure)),
            Ok(Err(NoRoom)) => Err(self.without_room(bytes)),
            Err(Unsent::Cancelled) => {
                self.cut = Some(SenderCut::Stopping);
                Err(self.over())
            }
            Err(Unsent::Late) => {
                self.cut = Some(SenderCut::OutOfTime);
                let message = "deadline exceeded while a message was sent";
                Err(self.error(Code::DeadlineExceeded, Processed::Maybe, message))
            }
        }
    }

    fn lent(&self) -> Option<&LentPlaces> {
        match &self.end {
            End::GiveBack { call, .. } => call.lent.as_ref(),
            End::Cut { .. } => None,
        }
    }

    fn error(&self, code: Code, processed: Processed, message: &str) -> RpcError {
        RpcError::new(code, processed, message).with_peer(self.peer.clone())
    }

    fn over(&self) -> RpcError {
        self.error(Code::Cancelled, Processed::Maybe, "the call has ended")
    }

    fn without_room(&mut self, bytes: usize) -> RpcError {
        if let End::GiveBack { counters, .. } = &self.end {
            counters.replies_dropped.add_one();
        }
        self.cut = Some(SenderCut::Overloaded);
        // For the status that ends the call.
        if let Some(half) = &mut self.half {
            half.take_frame_back();
        }
        let message =
            format!("buffer limit reached: message of {bytes} bytes, earlier ones were not read");
        self.error(Code::Overloaded, Processed::No, &message)
    }

    /// The error of a message that was not written, or not in whole.
    fn unwritten(&mut self, failure: WriteFailure) -> RpcError {
        if matches!(failure, WriteFailure::Stopped | WriteFailure::Lost(_)) {
            self.cut = Some(SenderCut::CallerGone);
        }
        match failure {
            WriteFailure::Stopped => self.error(
                Code::Cancelled,
                Processed::Maybe,
                "the peer stopped the stream",
            ),
            WriteFailure::Stalled => {
                if let Some(half) = &mut self.half {
                    half.cut(Cut::Stalled);
                }
                if let End::GiveBack { counters, .. } = &self.end {
                    counters.stalled_calls.add_one();
                }
                self.error(
                    Code::Cancelled,
                    Processed::Maybe,
                    "stall timeout: the peer reads too slowly or not at all",
                )
            }
            WriteFailure::Lost(e) => answer::lost_midway(e).with_peer(self.peer.clone()),
            WriteFailure::Closed => self.over(),
        }
    }

    pub(crate) fn finish(&mut self) {
        if let (Some(half), End::Cut { .. }) = (&mut self.half, &self.end) {
            half.finish();
        }
    }
}

impl Drop for SendCore {
    fn drop(&mut self) {
        if let End::GiveBack { to, .. } = &mut self.end
            && let (Some(to), Some(half)) = (to.take(), self.half.take())
        {
            // If nobody takes it back, dropping it resets the stream.
            let _ = to.send(GivenBack {
                half,
                cut: self.cut,
            });
        }
    }
}

/// Gives back the places of a handler for as long as it waits for its caller to take something, and
/// afterwards if others should have them.
async fn waiting<T>(lent: Option<&LentPlaces>, write: impl Future<Output = T>) -> T {
    let Some(lent) = lent else {
        return write.await;
    };
    let (mut write, mut wait) = (pin!(write), None);
    let written = poll_fn(|cx| {
        let written = write.as_mut().poll(cx);
        if written.is_pending() && wait.is_none() {
            wait = Some(lent.wait());
        }
        written
    })
    .await;
    if let Some(wait) = wait.or_else(|| lent.wait_if_owed()) {
        wait.end().await;
    }
    written
}

/// The error of a message that is not sent because it is past the limit.
pub(crate) fn too_large(bytes: usize, limit: usize) -> RpcError {
    RpcError::new(
        Code::PayloadTooLarge,
        Processed::No,
        format!("the message of {bytes} bytes exceeds the limit of {limit} bytes"),
    )
}

/// The bytes that begin a call's stream.
pub(crate) fn begin_call(header: &wire::RequestHeader, body_bytes: usize) -> BytesMut {
    let mut head = BytesMut::new();
    head.extend_from_slice(
        &wire::Preface {
            kind: StreamKind::Call,
        }
        .encode(),
    );
    wire::encode_request(&mut head, header, body_bytes);
    head
}
