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

use super::{Account, ConnectionAccount, UNCHARGED_BYTES_MAX};
use crate::runtime::EndpointRuntime;

/// Bytes that are held for a peer, until it is dropped.
pub(crate) struct Reservation {
    holder: Holder,
    bytes: usize,
}

enum Holder {
    /// Too small to be counted.
    None,
    Peer(Arc<Account>),
    /// Of a reply that found no room in the share of its peer.
    BeyondShare(Arc<Account>),
    Connection(Arc<ConnectionAccount>),
}

/// Room for the messages of one stream, one at a time.
///
/// A message that arrives in parts is read on only when there is room for all of it, so that messages that are read in part
/// never wait for each other. Until then QUIC's windows hold its sender up.
pub(crate) struct Room {
    account: Option<Arc<ConnectionAccount>>,
    held: Option<Reservation>,
    waiting: Option<RoomWait>,
    /// Where a task waits for room, so that a reader that is kept and not polled holds up no other.
    runtime: Option<EndpointRuntime>,
    /// Meanwhile, the end of the connection.
    closed: Option<Pin<Box<dyn Future<Output = ConnectionError> + Send + Sync>>>,
    /// The message that room is held for was taken out.
    is_taken: bool,
}

type RoomWait = Pin<Box<dyn Future<Output = Reservation> + Send + Sync>>;

impl Reservation {
    pub(super) fn none() -> Self {
        let holder = Holder::None;
        Self { holder, bytes: 0 }
    }

    pub(super) fn of_peer(peer: Arc<Account>, bytes: usize) -> Self {
        let holder = Holder::Peer(peer);
        Self { holder, bytes }
    }

    pub(super) fn beyond_share(peer: Arc<Account>, bytes: usize) -> Self {
        let holder = Holder::BeyondShare(peer);
        Self { holder, bytes }
    }

    /// From here on the peer alone holds it.
    fn leave_connection(&mut self) {
        if let Holder::Connection(connection) = &self.holder {
            let peer = Arc::clone(&connection.peer);
            connection.leave(self.bytes);
            self.holder = Holder::Peer(peer);
        }
    }

    pub(super) fn of_connection(connection: Arc<ConnectionAccount>, bytes: usize) -> Self {
        let holder = Holder::Connection(connection);
        Self { holder, bytes }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        match &self.holder {
            Holder::None => {}
            Holder::Peer(peer) => peer.give_back(self.bytes),
            Holder::BeyondShare(peer) => peer.give_back_overdraft(self.bytes),
            Holder::Connection(connection) => {
                connection.leave(self.bytes);
                connection.peer.give_back(self.bytes);
            }
        }
    }
}

impl Room {
    /// Of a stream whose messages are bounded otherwise.
    pub(crate) fn unlimited() -> Self {
        Self {
            account: None,
            held: None,
            waiting: None,
            runtime: None,
            closed: None,
            is_taken: false,
        }
    }

    pub(crate) fn of(account: Arc<ConnectionAccount>) -> Self {
        Self {
            account: Some(account),
            ..Self::unlimited()
        }
    }

    /// From now on a task of the runtime waits for room. A reader that is no longer polled then
    /// holds the room of one message and does not hold up the line.
    pub(crate) fn wait_in(&mut self, runtime: EndpointRuntime) {
        self.runtime = Some(runtime);
    }

    /// Ready when a message of so many bytes, which is to be read in parts, may be read on.
    pub(crate) fn poll(&mut self, bytes: usize, cx: &mut Context<'_>) -> Poll<()> {
        self.begin_next();
        let Some(account) = &self.account else {
            return Poll::Ready(());
        };
        if self.held.is_some() || bytes <= UNCHARGED_BYTES_MAX {
            return Poll::Ready(());
        }
        let waiting = match &mut self.waiting {
            Some(waiting) => waiting,
            waiting @ None => {
                if !account.has_line()
                    && let Ok(reservation) = account.try_reserve(bytes)
                {
                    self.held = Some(reservation);
                    return Poll::Ready(());
                }
                let mut wait: RoomWait = Box::pin(Arc::clone(account).reserve(bytes));
                if let Some(runtime) = &self.runtime {
                    // Polled here, so that it is in the line now and not when the task first runs.
                    if let Poll::Ready(reservation) = wait.as_mut().poll(cx) {
                        self.held = Some(reservation);
                        return Poll::Ready(());
                    }
                    wait = in_task(runtime, wait);
                }
                waiting.insert(wait)
            }
        };
        self.held = Some(ready!(waiting.as_mut().poll(cx)));
        self.leave_line();
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
    pub(crate) fn note_taken(&mut self) {
        self.is_taken = true;
        if let Some(held) = &mut self.held {
            held.leave_connection();
        }
    }

    /// The next message is asked for, so that the one before is not held any more.
    pub(crate) fn begin_next(&mut self) {
        if std::mem::take(&mut self.is_taken) {
            self.held = None;
        }
    }

    /// Hands over what is held for a message that was taken out.
    pub(crate) fn take(&mut self) -> Option<Reservation> {
        self.held.take()
    }

    /// Whether a message waits for room.
    pub(crate) fn is_awaited(&self) -> bool {
        self.waiting.is_some()
    }

    /// Waits for room no longer. The next time it is behind those that wait by then.
    pub(crate) fn leave_line(&mut self) {
        self.waiting = None;
        self.closed = None;
    }

    /// Gives back what is held.
    pub(crate) fn release(&mut self) {
        self.held = None;
        self.leave_line();
    }
}

/// Moves the wait into a task, which is aborted when the future is dropped.
fn in_task(runtime: &EndpointRuntime, wait: RoomWait) -> RoomWait {
    let task = AbortOnDropHandle::new(runtime.spawn(wait));
    Box::pin(async move {
        match task.await {
            Ok(reservation) => reservation,
            // The runtime has ended, and the connection with it, which is noticed.
            Err(_) => pending().await,
        }
    })
}

impl fmt::Debug for Reservation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Reservation").field(&self.bytes).finish()
    }
}

impl fmt::Debug for Room {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Room")
            .field("held", &self.held)
            .field("is_awaited", &self.is_awaited())
            .finish_non_exhaustive()
    }
}
