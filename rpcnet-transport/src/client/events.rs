//! What becomes of a connection, for whoever wants to know at once.

use std::fmt;

use parking_lot::Mutex;

use super::CloseReason;

/// What becomes of a connection; see [`RpcClient::on_event`](super::RpcClient::on_event).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConnectionEvent {
    /// The server takes no new calls, or does again.
    Draining(bool),
    /// The connection is gone.
    Closed(CloseReason),
}

/// Who wants to know.
#[derive(Default)]
pub(super) struct EventListener(Mutex<Option<EventCallback>>);

pub(super) type EventCallback = Box<dyn Fn(ConnectionEvent) + Send + Sync>;

impl EventListener {
    /// In place of the one before, who hears at once what there is to say.
    pub(super) fn set(
        &self,
        told: EventCallback,
        so_far: impl FnOnce() -> Option<ConnectionEvent>,
    ) {
        // Under the lock, so that older news does not come after newer.
        let mut listener = self.0.lock();
        if let Some(news) = so_far() {
            told(news);
        }
        *listener = Some(told);
    }

    pub(super) fn notify(&self, news: ConnectionEvent) {
        if let Some(told) = &*self.0.lock() {
            told(news);
        }
    }
}

impl fmt::Debug for EventListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("EventListener")
            .field(&self.0.lock().is_some())
            .finish()
    }
}
