//! Buffer budget of a stream: reservations for messages that arrive in parts.

use std::{
    fmt,
    future::{Future, pending},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use quinn::ConnectionError;
use tokio_util::task::AbortOnDropHandle;

use super::{BufferReservation, ConnectionAccount, reservation::UNCHARGED_BYTES_MAX};
use crate::runtime::EndpointRuntime;

/// Buffer budget of one stream: a reservation for one message at a time.
///
/// A message that arrives in parts is read on only once all of its bytes are reserved, so that
/// messages that are read in part never wait for each other. Until then the flow control of QUIC
/// holds the sender up.
pub(crate) struct StreamBudget {
    account: Option<Arc<ConnectionAccount>>,
    reservation: Option<BufferReservation>,
    waiting: Option<ReserveFuture>,
    /// Runtime whose task waits for the reservation, so that a reader that is kept without being
    /// polled holds up no other reader.
    runtime: Option<EndpointRuntime>,
    /// The end of the connection, while a message waits for a reservation.
    closed: Option<Pin<Box<dyn Future<Output = ConnectionError> + Send + Sync>>>,
    /// The message that the reservation is for was handed out.
    is_message_taken: bool,
}

type ReserveFuture = Pin<Box<dyn Future<Output = BufferReservation> + Send + Sync>>;

impl StreamBudget {
    /// Budget of a stream whose messages are bounded otherwise.
    pub(crate) fn unlimited() -> Self {
        Self {
            account: None,
            reservation: None,
            waiting: None,
            runtime: None,
            closed: None,
            is_message_taken: false,
        }
    }

    pub(crate) fn charged_to(account: Arc<ConnectionAccount>) -> Self {
        Self {
            account: Some(account),
            ..Self::unlimited()
        }
    }

    /// Lets a task of the runtime wait for reservations from now on. A reader that is no longer
    /// polled then holds the reservation of one message and does not hold up the queue.
    pub(crate) fn reserve_in_task(&mut self, runtime: EndpointRuntime) {
        self.runtime = Some(runtime);
    }

    /// Ready once a message of so many bytes, which arrives in parts, may be read on.
    pub(crate) fn poll_reserve(&mut self, bytes: usize, cx: &mut Context<'_>) -> Poll<()> {
        self.begin_next();
        let Some(account) = &self.account else {
            return Poll::Ready(());
        };
        if self.reservation.is_some() || bytes <= UNCHARGED_BYTES_MAX {
            return Poll::Ready(());
        }
        let waiting = match &mut self.waiting {
            Some(waiting) => waiting,
            waiting @ None => {
                if !account.has_waiters()
                    && let Ok(reservation) = account.try_reserve(bytes)
                {
                    self.reservation = Some(reservation);
                    return Poll::Ready(());
                }
                let mut wait: ReserveFuture = Box::pin(Arc::clone(account).reserve(bytes));
                if let Some(runtime) = &self.runtime {
                    // Polled here, so that it is in the queue now and not when the task first runs.
                    if let Poll::Ready(reservation) = wait.as_mut().poll(cx) {
                        self.reservation = Some(reservation);
                        return Poll::Ready(());
                    }
                    wait = in_task(runtime, wait);
                }
                waiting.insert(wait)
            }
        };
        self.reservation = Some(ready!(waiting.as_mut().poll(cx)));
        self.cancel_reserve();
        Poll::Ready(())
    }

    /// Ready if the connection ends while a message waits for a reservation.
    pub(crate) fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<ConnectionError> {
        let Some(account) = &self.account else {
            return Poll::Pending;
        };
        let closed = self
            .closed
            .get_or_insert_with(|| Box::pin(account.closed()));
        closed.as_mut().poll(cx)
    }

    /// Bytes that were read from the streams of the connection, as far as they are counted.
    pub(crate) fn bytes_read_of_connection(&self) -> u64 {
        let account = self.account.as_ref();
        account.map_or(0, |account| account.received().bytes())
    }

    /// Bytes of the messages that the connection is reading, as far as they are counted.
    pub(crate) fn awaited_bytes_of_connection(&self) -> usize {
        self.account.as_ref().map_or(0, |account| account.bytes())
    }

    /// Records bytes that were read from the stream.
    pub(crate) fn record_read(&self, bytes: usize) {
        if let Some(account) = &self.account {
            account.received().record(bytes);
        }
    }

    /// Records that the message was handed out. The reservation is held until the next message is
    /// asked for, but no longer charged to the connection.
    pub(crate) fn on_message_taken(&mut self) {
        self.is_message_taken = true;
        if let Some(held) = &mut self.reservation {
            held.move_to_peer();
        }
    }

    /// Releases the previous message when the next one is asked for.
    pub(crate) fn begin_next(&mut self) {
        if std::mem::take(&mut self.is_message_taken) {
            self.reservation = None;
        }
    }

    /// Takes the reservation of the last message, for a call that outlives the stream.
    pub(crate) fn take_reservation(&mut self) -> Option<BufferReservation> {
        self.reservation.take()
    }

    /// Whether a message waits for a reservation.
    pub(crate) fn is_waiting(&self) -> bool {
        self.waiting.is_some()
    }

    /// Stops waiting for a reservation. The next wait begins at the end of the queue.
    pub(crate) fn cancel_reserve(&mut self) {
        self.waiting = None;
        self.closed = None;
    }

    /// Releases the reservation.
    pub(crate) fn release(&mut self) {
        self.reservation = None;
        self.cancel_reserve();
    }
}

/// Moves the wait into a task, which is aborted when the returned future is dropped.
fn in_task(runtime: &EndpointRuntime, wait: ReserveFuture) -> ReserveFuture {
    let task = AbortOnDropHandle::new(runtime.spawn(wait));
    Box::pin(async move {
        match task.await {
            Ok(reservation) => reservation,
            // The runtime has ended, and the connection with it, which the reader notices.
            Err(_) => pending().await,
        }
    })
}

impl fmt::Debug for StreamBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamBudget")
            .field("reservation", &self.reservation)
            .field("is_waiting", &self.is_waiting())
            .finish_non_exhaustive()
    }
}
