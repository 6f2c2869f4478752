//! Connection events: drain state and close, delivered to one callback.

use std::fmt;

use parking_lot::Mutex;

use super::CloseReason;

/// Change of a connection's state; see [`RpcClient::on_event`](super::RpcClient::on_event).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConnectionEvent {
    /// The server started to drain, or stopped draining.
    Draining(bool),
    /// The connection was closed.
    Closed(CloseReason),
}

/// Callback for the events of one connection.
#[derive(Default)]
pub(super) struct EventListener(Mutex<Option<EventCallback>>);

/// Callback of [`RpcClient::on_event`](super::RpcClient::on_event).
pub(super) type EventCallback = Box<dyn Fn(ConnectionEvent) + Send + Sync>;

impl EventListener {
    /// Replaces the callback, which is called at once if there is something to report.
    pub(super) fn set(
        &self,
        callback: EventCallback,
        current: impl FnOnce() -> Option<ConnectionEvent>,
    ) {
        // Called under the lock, so that events arrive in order.
        let mut listener = self.0.lock();
        if let Some(event) = current() {
            callback(event);
        }
        *listener = Some(callback);
    }

    /// Calls the callback, if one is set.
    pub(super) fn notify(&self, event: ConnectionEvent) {
        if let Some(callback) = &*self.0.lock() {
            callback(event);
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
