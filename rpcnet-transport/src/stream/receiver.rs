//! Receiver of the messages of a call.

use std::{
    fmt,
    future::poll_fn,
    marker::PhantomData,
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures::Stream;

use super::untyped_receiver::UntypedReceiver;
use crate::{Decode, RpcError, codec::Encoding};

/// Receives the messages of one direction of a call.
///
/// It is a [`Stream`]; [`message`](Self::message) is the same as a method. Nothing is read ahead
/// except what the window of QUIC holds. Dropping the receiver before the end tells the other side
/// to stop.
///
/// A handler that may stop waiting for a message, as in a `select!`, should wait with
/// [`message`](Self::message): dropping that future ends the wait, also the one for its permit, and
/// the call counts to the limit of [`Admission`](crate::Admission) again. A stream does not learn
/// that the handler has stopped waiting, so such a call does not count until the handler polls the
/// stream again.
pub struct Receiver<T> {
    core: UntypedReceiver,
    encoding: Encoding,
    _messages: PhantomData<fn() -> T>,
}

impl<T: Decode> Receiver<T> {
    pub(crate) fn new(core: UntypedReceiver, encoding: Encoding) -> Self {
        Self {
            core,
            encoding,
            _messages: PhantomData,
        }
    }

    /// The next message, or `None` after the last. Cancel-safe. A handler that waits here holds no
    /// permit of the [`Admission`](crate::Admission) of its server or its method meanwhile. While
    /// calls are queued and the caller holds more than its
    /// [share](crate::Admission#shares-of-callers), the handler waits here for a permit too.
    ///
    /// # Errors
    ///
    /// For a caller: the status with which the handler or the server ended the call, a lost
    /// connection, the deadline, or [`Code::Internal`] if a message does not decode. For a handler:
    /// [`Code::Cancelled`] if the caller cancelled or was lost, [`Code::InvalidRequest`] if a
    /// message does not decode. For both [`Code::PayloadTooLarge`] if a message exceeds the limit.
    /// After an error there are no more messages.
    ///
    /// [`Code::Internal`]: crate::Code::Internal
    /// [`Code::Cancelled`]: crate::Code::Cancelled
    /// [`Code::InvalidRequest`]: crate::Code::InvalidRequest
    /// [`Code::PayloadTooLarge`]: crate::Code::PayloadTooLarge
    pub async fn message(&mut self) -> Result<Option<T>, RpcError> {
        let this = MessageWait(self);
        poll_fn(|cx| this.0.poll_message(cx)).await.transpose()
    }

    fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<T, RpcError>>> {
        let Some(message) = ready!(self.core.poll_message(cx)) else {
            return Poll::Ready(None);
        };
        let message = message.map_err(|error| error.with_details_encoding(self.encoding));
        Poll::Ready(Some(message.and_then(|bytes| {
            T::decode_as(bytes, self.encoding).map_err(|e| self.core.decode_error(e))
        })))
    }
}

impl<T: Decode> Stream for Receiver<T> {
    type Item = Result<T, RpcError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_message(cx)
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver")
            .field("peer", &self.core.peer)
            .finish_non_exhaustive()
    }
}

/// The wait for one message.
struct MessageWait<'a, T>(&'a mut Receiver<T>);

impl<T> Drop for MessageWait<'_, T> {
    fn drop(&mut self) {
        self.0.core.stop_waiting();
    }
}
