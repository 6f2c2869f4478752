//! Room for messages that arrive in parts.

use std::{
    fmt,
    future::{Future, pending},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use quinn::ConnectionError;
use tokio_util::task::AbortOnDropHandle;

use super::{ConnectionAccount, PeerAccount, UNCHARGED_BYTES_MAX};
use crate::runtime::EndpointRuntime;

/// Bytes that are held for a peer, until it is dropped.
pub(crate) struct BufferReservation {
    charged_to: ChargedTo,
    bytes: usize,
}

enum ChargedTo {
    /// Too small to be counted.
    None,
    Peer(Arc<PeerAccount>),
    /// Of a reply that found no room in the share of its peer.
    Overdraft(Arc<PeerAccount>),
    Connection(Arc<ConnectionAccount>),
}

/// Room for the messages of one stream, one at a time.
///
/// A message that arrives in parts is read on only when there is room for all of it, so that messages that are read in part
/// never wait for each other. Until then QUIC's windows hold its sender up.
pub(crate) struct StreamBudget {
    account: Option<Arc<ConnectionAccount>>,
    reservation: Option<BufferReservation>,
    waiting: Option<ReserveFuture>,
    /// Where a task waits for room, so that a reader that is kept and not polled holds up no other.
    runtime: Option<EndpointRuntime>,
    /// Meanwhile, the end of the connection.
    closed: Option<Pin<Box<dyn Future<Output = ConnectionError> + Send + Sync>>>,
    /// The message that room is held for was taken out.
    is_message_taken: bool,
}

type ReserveFuture = Pin<Box<dyn Future<Output = BufferReservation> + Send + Sync>>;

impl BufferReservation {
    pub(super) fn none() -> Self {
        let holder = ChargedTo::None;
        Self {
            charged_to: holder,
            bytes: 0,
        }
    }

    pub(super) fn of_peer(peer: Arc<PeerAccount>, bytes: usize) -> Self {
        let holder = ChargedTo::Peer(peer);
        Self {
            charged_to: holder,
            bytes,
        }
    }

    pub(super) fn overdraft(peer: Arc<PeerAccount>, bytes: usize) -> Self {
        let holder = ChargedTo::Overdraft(peer);
        Self {
            charged_to: holder,
            bytes,
        }
    }

    /// From here on the peer alone holds it.
    fn move_to_peer(&mut self) {
        if let ChargedTo::Connection(connection) = &self.charged_to {
            let peer = Arc::clone(&connection.peer);
            connection.release_from_connection(self.bytes);
            self.charged_to = ChargedTo::Peer(peer);
        }
    }

    pub(super) fn of_connection(connection: Arc<ConnectionAccount>, bytes: usize) -> Self {
        let holder = ChargedTo::Connection(connection);
        Self {
            charged_to: holder,
            bytes,
        }
    }
}

impl Drop for BufferReservation {
    fn drop(&mut self) {
        match &self.charged_to {
            ChargedTo::None => {}
            ChargedTo::Peer(peer) => peer.release(self.bytes),
            ChargedTo::Overdraft(peer) => peer.release_overdraft(self.bytes),
            ChargedTo::Connection(connection) => {
                connection.release_from_connection(self.bytes);
                connection.peer.release(self.bytes);
            }
        }
    }
}

impl StreamBudget {
    /// Of a stream whose messages are bounded otherwise.
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

    /// From now on a task of the runtime waits for room. A reader that is no longer polled then
    /// holds the room of one message and does not hold up the line.
    pub(crate) fn reserve_in_task(&mut self, runtime: EndpointRuntime) {
        self.runtime = Some(runtime);
    }

    /// Ready when a message of so many bytes, which is to be read in parts, may be read on.
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
                    // Polled here, so that it is in the line now and not when the task first runs.
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

    /// Ready if the connection ends while a message waits for room.
    pub(crate) fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<ConnectionError> {
        let Some(account) = &self.account else {
            return Poll::Pending;
        };
        let closed = self
            .closed
            .get_or_insert_with(|| Box::pin(account.closed()));
        closed.as_mut().poll(cx)
    }

    /// The account of the stream's connection, unless its messages are bounded otherwise.
    pub(crate) fn account(&self) -> Option<&ConnectionAccount> {
        self.account.as_deref()
    }

    /// Bytes of the stream were read.
    pub(crate) fn note_read(&self, bytes: usize) {
        if let Some(account) = &self.account {
            account.received().note(bytes);
        }
    }

    /// The message was taken out. Its room is held until the next one is asked for; its connection may read others by now.
    pub(crate) fn on_message_taken(&mut self) {
        self.is_message_taken = true;
        if let Some(held) = &mut self.reservation {
            held.move_to_peer();
        }
    }

    /// The next message is asked for, so that the one before is not held any more.
    pub(crate) fn begin_next(&mut self) {
        if std::mem::take(&mut self.is_message_taken) {
            self.reservation = None;
        }
    }

    /// Hands over what is held for a message that was taken out.
    pub(crate) fn take_reservation(&mut self) -> Option<BufferReservation> {
        self.reservation.take()
    }

    /// Whether a message waits for room.
    pub(crate) fn is_waiting(&self) -> bool {
        self.waiting.is_some()
    }

    /// Waits for room no longer. The next time it is behind those that wait by then.
    pub(crate) fn cancel_reserve(&mut self) {
        self.waiting = None;
        self.closed = None;
    }

    /// Gives back what is held.
    pub(crate) fn release(&mut self) {
        self.reservation = None;
        self.cancel_reserve();
    }
}

/// Moves the wait into a task, which is aborted when the future is dropped.
fn in_task(runtime: &EndpointRuntime, wait: ReserveFuture) -> ReserveFuture {
    let task = AbortOnDropHandle::new(runtime.spawn(wait));
    Box::pin(async move {
        match task.await {
            Ok(reservation) => reservation,
            // The runtime has ended, and the connection with it, which is noticed.
            Err(_) => pending().await,
        }
    })
}

impl fmt::Debug for BufferReservation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("BufferReservation")
            .field(&self.bytes)
            .finish()
    }
}

impl fmt::Debug for StreamBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamBudget")
            .field("held", &self.reservation)
            .field("is_awaited", &self.is_waiting())
            .finish_non_exhaustive()
    }
}
