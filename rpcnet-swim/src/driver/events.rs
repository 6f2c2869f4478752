//! Subscriptions.

use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use crate::event::Event;

/// The events of a node from the moment of subscribing on, each subscriber its own.
///
/// Bounded: one that falls behind gets [`Event::Lagged`] in place of what it missed, and should
/// look at [`members`](crate::ClusterMembership::members) again.
#[derive(Debug)]
pub struct EventStream {
    pub(super) receiver: broadcast::Receiver<Event>,
}

impl EventStream {
    /// The next event; none after the node has left or was dropped. Cancel
    /// safe.
    pub async fn recv(&mut self) -> Option<Event> {
        match self.receiver.recv().await {
            Ok(event) => Some(event),
            Err(RecvError::Lagged(missed)) => Some(Event::Lagged(missed)),
            Err(RecvError::Closed) => None,
        }
    }
}
