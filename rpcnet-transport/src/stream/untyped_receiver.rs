//! Receiver of messages as bytes, for either side of a call.

use std::{
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use tokio::{
    task::coop,
    time::{Instant, Sleep},
};

use super::{ReadFailure, RecvHalf, ResetCode, item_budget::ItemBudget};
use crate::{
    Code, CodecError, OutgoingCall, Peer, Processed, RpcError,
    client::{MinRateReader, MinReplyRate, reply},
    connections::LocalCloseReason,
    gauge::GaugeGuard,
    layers::LayeredCall,
    runtime::EndpointRuntime,
    server::{PeerWait, YieldingPermits},
    stats::Counters,
    wire::{Frame, WireError},
};

/// A receiver of bytes, without the type of its messages.
pub(crate) struct UntypedReceiver {
    half: RecvHalf,
    runtime: EndpointRuntime,
    pub(crate) peer: Peer,
    deadline: Option<Pin<Box<Sleep>>>,
    side: ReceiverSide,
    /// While the handler waits for a message.
    peer_wait: Option<PeerWait>,
    /// A message that has come, while the handler waits for its permit.
    delayed: Option<DelayedMessage>,
    is_done: bool,
    item_budget: ItemBudget,
}

enum ReceiverSide {
    Handler {
        counters: Arc<Counters>,
        permits: Option<YieldingPermits>,
    },
    Caller(CallerSide),
}

/// State of a call, as the receiver of its caller knows it.
pub(crate) struct CallerSide {
    pub(crate) stream_index: u64,
    pub(crate) rate: MinReplyRate,
    pub(crate) local_close: LocalCloseReason,
    /// `None` once the call has ended, however long its receiver is kept.
    pub(crate) in_flight: Option<Arc<[GaugeGuard; 2]>>,
    /// Layers that learn of the end of the call.
    pub(crate) layered: Option<Box<LayeredCall<OutgoingCall>>>,
}

impl CallerSide {
    fn tell_layers(&mut self, ended: Result<usize, &RpcError>) {
        if let Some(mut layered) = self.layered.take() {
            layered.end_with_reply(ended);
        }
    }
}

/// A message that is handed out when the handler has reacquired its permit.
struct DelayedMessage {
    message: Option<Result<Bytes, RpcError>>,
    /// `None` if the handler has stopped waiting and gone on.
    permit: Option<PermitWait>,
}

type PermitWait = Pin<Box<dyn Future<Output = ()> + Send + Sync>>;

impl UntypedReceiver {
    pub(crate) fn for_handler(
        mut half: RecvHalf,
        runtime: EndpointRuntime,
        peer: Peer,
        counters: Arc<Counters>,
        permits: Option<YieldingPermits>,
    ) -> Self {
        half.budget().reserve_in_task(runtime.clone());
        Self {
            half,
            runtime,
            peer,
            deadline: None,
            side: ReceiverSide::Handler { counters, permits },
            peer_wait: None,
            delayed: None,
            is_done: false,
            item_budget: ItemBudget::default(),
        }
    }

    pub(crate) fn for_caller(
        half: RecvHalf,
        runtime: EndpointRuntime,
        peer: Peer,
        deadline: Option<Instant>,
        call: CallerSide,
    ) -> Self {
        Self {
            half,
            deadline: deadline.map(|at| Box::pin(runtime.sleep_until(at))),
            runtime,
            peer,
            side: ReceiverSide::Caller(call),
            peer_wait: None,
            delayed: None,
            is_done: false,
            item_budget: ItemBudget::default(),
        }
    }

    /// Sets the layers that learn of the end of the call.
    pub(crate) fn set_layers(&mut self, layered: LayeredCall<OutgoingCall>) {
        if let ReceiverSide::Caller(call) = &mut self.side {
            call.layered = Some(Box::new(layered));
        }
    }

    /// The next message as bytes; `None` at the end, and after an error.
    pub(crate) fn poll_message(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, RpcError>>> {
        // A task that always has more to read lets others run, and notices that its call is over.
        if self.item_budget.is_due() {
            ready!(coop::poll_proceed(cx)).made_progress();
            self.item_budget.restart();
        }
        if let Some(item) = self.next_whole_item() {
            self.item_budget.record(item.len());
            return Poll::Ready(Some(Ok(item)));
        }
        let turn = ready!(coop::poll_proceed(cx));
        self.poll_message_slowly(turn, cx)
    }

    /// The next message, if it was read already and nothing is to be done before it is handed out.
    #[inline]
    fn next_whole_item(&mut self) -> Option<Bytes> {
        let is_waiting = self.delayed.is_some() || self.peer_wait.is_some();
        // The timer is set with the first read.
        let is_late = || self.deadline.as_ref().is_some_and(|at| at.is_elapsed());
        if is_waiting || self.is_done || self.permits().is_some() || is_late() {
            return None;
        }
        self.half.next_whole_item()
    }

    fn poll_message_slowly(
        &mut self,
        turn: coop::RestoreOnPending,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, RpcError>>> {
        // Before the check for the end, which is a message like others to a handler that waits for
        // its permit.
        if let Some(DelayedMessage { message, permit }) = self.delayed.take() {
            return self.poll_permit(permit, message, cx);
        }
        if self.is_done {
            return Poll::Ready(None);
        }
        let message = self.poll_read(cx);
        let Poll::Ready(message) = message else {
            if self.peer_wait.is_none() {
                self.peer_wait = self.permits().map(YieldingPermits::yield_while_waiting);
            }
            return Poll::Pending;
        };
        turn.made_progress();
        self.poll_permit(None, message, cx)
    }

    /// Hands out a message once the handler has reacquired its permit, if it has yielded it or
    /// other callers should have it first.
    fn poll_permit(
        &mut self,
        started: Option<PermitWait>,
        message: Option<Result<Bytes, RpcError>>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, RpcError>>> {
        let permit = started.or_else(|| {
            let waited = self.peer_wait.take();
            let wait = waited.or_else(|| self.permits()?.yield_if_over_share())?;
            Some(Box::pin(wait.reacquire()))
        });
        if let Some(mut permit) = permit
            && permit.as_mut().poll(cx).is_pending()
        {
            let permit = Some(permit);
            self.delayed = Some(DelayedMessage { message, permit });
            return Poll::Pending;
        }
        Poll::Ready(message)
    }

    /// Records that the handler waits neither for its caller nor for its permit any more.
    pub(super) fn stop_waiting(&mut self) {
        let waited = self.peer_wait.take().is_some();
        let returned = self.delayed.as_mut().and_then(|r| r.permit.take());
        if (waited || returned.is_some())
            && let Some(permits) = self.permits()
        {
            drop(returned);
            permits.resume();
        }
        // It does not hold up others that wait for a reservation.
        self.half.budget().cancel_reserve();
    }

    fn permits(&self) -> Option<&YieldingPermits> {
        match &self.side {
            ReceiverSide::Handler { permits, .. } => permits.as_ref(),
            ReceiverSide::Caller { .. } => None,
        }
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, RpcError>>> {
        // First, so that a stream that always has more messages cannot outlive its deadline.
        if let Poll::Ready(late) = self.poll_deadline(cx) {
            return Poll::Ready(Some(Err(self.failed(late))));
        }
        let frame = ready!(self.half.poll_frame(cx));
        Poll::Ready(match (&mut self.side, frame) {
            (_, Ok(Some(Frame::Item(bytes)))) => Some(Ok(bytes)),
            (ReceiverSide::Handler { .. }, Ok(None)) => {
                self.is_done = true;
                None
            }
            (ReceiverSide::Handler { counters, .. }, failure) => {
                let error = handler_error(failure, counters);
                Some(Err(self.failed(error)))
            }
            (ReceiverSide::Caller(call), Ok(Some(Frame::Reply(header, body)))) => {
                call.in_flight = None;
                self.half.deliver_metadata();
                self.half.record_end();
                self.is_done = true;
                let ended = reply::into_result(header, body);
                call.tell_layers(ended.as_ref().map(Bytes::len));
                match ended {
                    Ok(_) => None,
                    Err(error) => Some(Err(error.with_peer(self.peer.clone()))),
                }
            }
            (ReceiverSide::Caller(call), failure) => {
                let error = reply::read_error(failure, call.stream_index);
                Some(Err(self.failed(error)))
            }
        })
    }

    /// Ready with the error of a call whose deadline has passed.
    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<RpcError> {
        let Some(deadline) = &mut self.deadline else {
            return Poll::Pending;
        };
        let over = self.runtime.poll_in_runtime(|| deadline.as_mut().poll(cx));
        over.map(|over| match over {
            Ok(()) => deadline_error(),
            Err(ended) => ended.into_error(Processed::Maybe),
        })
    }

    /// Waits for the reply that ends a call without a stream of replies.
    pub(crate) async fn reply(&mut self) -> Result<Bytes, RpcError> {
        let ReceiverSide::Caller(call) = &self.side else {
            unreachable!("only callers await replies");
        };
        let (rate, stream_index) = (call.rate, call.stream_index);
        let runtime = self.runtime.clone();
        let mut reader = MinRateReader::new(rate, &runtime);
        let read = poll_fn(|cx| match reader.poll_frame(&mut self.half, cx) {
            Poll::Pending => self.poll_deadline(cx).map(Err),
            Poll::Ready(frame) => Poll::Ready(Ok(frame)),
        });
        let outcome = match read.await {
            Ok(Ok(Some(Frame::Reply(header, body)))) => reply::into_result(header, body),
            Ok(other) => Err(reply::read_error(other, stream_index)),
            Err(late) => Err(late),
        };
        self.half.deliver_metadata();
        self.half.record_end();
        if let ReceiverSide::Caller(call) = &mut self.side {
            call.tell_layers(outcome.as_ref().map(Bytes::len));
        }
        outcome.map_err(|error| self.explain(error))
    }

    /// The error of a message that could not be decoded: caller and handler disagree on its type.
    pub(super) fn decode_error(&mut self, cause: CodecError) -> RpcError {
        let (code, processed) = match &self.side {
            ReceiverSide::Handler { counters, .. } => {
                counters.invalid_requests.add_one();
                (Code::InvalidRequest, Processed::Maybe)
            }
            ReceiverSide::Caller(_) => (Code::Internal, Processed::Yes),
        };
        let error =
            RpcError::new(code, processed, "the message could not be decoded").with_source(cause);
        self.failed(error)
    }

    fn failed(&mut self, error: RpcError) -> RpcError {
        if let ReceiverSide::Caller(call) = &mut self.side {
            self.half.deliver_metadata();
            call.tell_layers(Err(&error));
        }
        self.fail();
        self.explain(error)
    }

    fn explain(&self, error: RpcError) -> RpcError {
        let error = self.runtime.explain(error);
        let error = match &self.side {
            ReceiverSide::Caller(call) => call.local_close.explain(error),
            ReceiverSide::Handler { .. } => error,
        };
        error.with_peer(self.peer.clone())
    }

    fn fail(&mut self) {
        self.is_done = true;
        if let ReceiverSide::Caller(call) = &mut self.side {
            call.in_flight = None;
        }
        self.half.stop(ResetCode::Cancelled);
    }
}

fn deadline_error() -> RpcError {
    RpcError::new(
        Code::DeadlineExceeded,
        Processed::Maybe,
        "deadline exceeded while waiting for a response",
    )
}

/// The error for a handler when the messages of its caller end early.
fn handler_error(failure: Result<Option<Frame>, ReadFailure>, counters: &Counters) -> RpcError {
    match failure {
        Err(ReadFailure::Reset(_) | ReadFailure::Lost(_) | ReadFailure::TooSlow { .. }) => {
            RpcError::new(Code::Cancelled, Processed::Maybe, "cancelled by the caller")
        }
        Err(ReadFailure::Wire(e @ WireError::TooLarge { .. })) => {
            counters.oversized_messages.add_one();
            RpcError::new(Code::PayloadTooLarge, Processed::Maybe, e.to_string())
        }
        Err(ReadFailure::Wire(e)) => {
            counters.malformed_frames.add_one();
            RpcError::new(Code::InvalidRequest, Processed::Maybe, e.to_string())
        }
        Ok(_) => {
            counters.malformed_frames.add_one();
            RpcError::new(
                Code::InvalidRequest,
                Processed::Maybe,
                "unexpected frame in place of a message",
            )
        }
    }
}
