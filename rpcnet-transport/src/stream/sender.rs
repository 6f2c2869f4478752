//! Sender of the messages of a call.

use std::{fmt, marker::PhantomData};

use bytes::Bytes;
use tokio::task::coop;

use super::{item_budget::ItemBudget, untyped_sender::UntypedSender, write_turns::LARGE_BYTES_MIN};
use crate::{
    Code, Encode, Processed, RpcError,
    codec::{Encoding, Scratch},
    server::PeerWait,
};

/// Sends the messages of one direction of a call.
///
/// [`send`](Self::send) waits while the receiver does not keep up: the windows of QUIC bound the
/// bytes in flight, and at most 64 KiB of small messages are buffered here. Messages below 16 KiB
/// that are sent in quick succession share packets: they leave when the task of the sender lets
/// others run, at the latest when 64 KiB are buffered, and never wait for a further message. A
/// caller's sender that is dropped without [`finish`](Self::finish) resets the call, and buffered
/// messages are lost; in a handler, dropping the sender is the normal end.
pub struct Sender<T> {
    core: UntypedSender,
    encoding: Encoding,
    item_budget: ItemBudget,
    _messages: PhantomData<fn(T)>,
}

impl<T: Encode> Sender<T> {
    pub(crate) fn new(core: UntypedSender, encoding: Encoding) -> Self {
        Self {
            core,
            encoding,
            item_budget: ItemBudget::default(),
            _messages: PhantomData,
        }
    }

    /// Sends one message, when flow control permits it. A handler waits here for a permit of its
    /// server's [`Admission`](crate::Admission) too, while calls are queued and its caller holds
    /// more than its [share](crate::Admission#shares-of-callers). If the future is dropped before
    /// it ends, a message below 16 KiB was not sent, or is buffered, and the call goes on; with a
    /// larger one the call is broken, and further messages fail.
    ///
    /// # Errors
    ///
    /// [`Code::PayloadTooLarge`] if the message exceeds the limit and [`Code::Internal`] if it does
    /// not encode; the call goes on. In a handler [`Code::Overloaded`] if the caller leaves too
    /// much unread for too long, see
    /// [`with_buffered_bytes_max`](crate::TransportConfig::with_buffered_bytes_max); it ends the
    /// call, also for the caller. [`Code::Cancelled`] if the other side stopped the stream: the
    /// caller then finds the reason at its [`Receiver`](crate::Receiver).
    /// [`Code::DeadlineExceeded`] and [`Code::Unavailable`] end the call. Since small messages are
    /// buffered, the error may be that of an earlier one; that of the last ones is found at the
    /// end of the call: by the caller at its [`Receiver`](crate::Receiver), in a handler by the
    /// server.
    pub async fn send(&mut self, message: T) -> Result<(), RpcError> {
        // A task that can always send lets others run, and notices that its call is over.
        if self.item_budget.is_due() {
            coop::consume_budget().await;
            self.item_budget.restart();
        }
        match self.send_now(&message)? {
            Sent::Buffered => Ok(()),
            // On the heap, so that the future of a message that need not wait stays small.
            Sent::BufferedOverShare(wait) => {
                Box::pin(wait.reacquire()).await;
                Ok(())
            }
            Sent::Waits(body) => Box::pin(self.core.send_waiting(body)).await,
        }
    }

    /// Encodes the message, and sends it if it is small and there is room.
    #[inline]
    fn send_now(&mut self, message: &T) -> Result<Sent, RpcError> {
        let encoded = match self.encoding {
            Encoding::Postcard => message.encode_scratch(),
            Encoding::Named => message.encode_as(Encoding::Named).map(Scratch::from),
        };
        let encoded = encoded.map_err(|e| {
            RpcError::new(
                Code::Internal,
                Processed::No,
                "the message could not be encoded",
            )
            .with_source(e)
        })?;
        self.item_budget.record(encoded.len());
        if encoded.len() < LARGE_BYTES_MIN && self.core.send_now(&encoded)? {
            let over_share = self.core.yield_if_over_share();
            return Ok(over_share.map_or(Sent::Buffered, Sent::BufferedOverShare));
        }
        Ok(Sent::Waits(encoded.into_bytes()))
    }

    /// Ends the stream after the messages that were sent: no message follows. It does not wait.
    pub fn finish(mut self) {
        self.core.finish();
    }
}

/// Rest of the work for a message.
enum Sent {
    /// Nothing.
    Buffered,
    /// The handler reacquires its permits, which others should have first.
    BufferedOverShare(PeerWait),
    /// It is large, or there is no room.
    Waits(Bytes),
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender")
            .field("peer", &self.core.context.peer)
            .finish_non_exhaustive()
    }
}
