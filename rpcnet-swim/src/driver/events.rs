//! Event subscriptions: a bounded broadcast channel that exists while it has subscribers.

use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use crate::event::Event;

/// The events of a node from the moment of subscribing on, each subscriber its own.
///
/// Bounded: a subscriber that falls behind gets [`Event::Lagged`] in place of what it missed, and
/// should read [`members`](crate::ClusterMembership::members) again.
#[derive(Debug)]
pub struct EventStream {
    receiver: broadcast::Receiver<Event>,
}

impl EventStream {
    /// The next event; `None` after the node has left or was dropped. Cancel safe.
    pub async fn recv(&mut self) -> Option<Event> {
        match self.receiver.recv().await {
            Ok(event) => Some(event),
            Err(RecvError::Lagged(missed)) => Some(Event::Lagged(missed)),
            Err(RecvError::Closed) => None,
        }
    }
}

/// The sending side of the subscriptions. A channel takes memory for all the events that it can
/// hold, so there is one only while there are subscribers.
#[derive(Debug, Default)]
pub(super) enum EventChannel {
    /// No subscriber.
    #[default]
    Unused,
    Open(broadcast::Sender<Event>),
    /// The driver has ended: no event follows.
    Closed,
}

impl EventChannel {
    /// A new subscription; the first one creates the channel, with room for `capacity` events.
    pub(super) fn subscribe(&mut self, capacity: usize) -> EventStream {
        let receiver = match self {
            Self::Open(sender) => sender.subscribe(),
            Self::Unused => {
                let (sender, receiver) = broadcast::channel(capacity);
                *self = Self::Open(sender);
                receiver
            }
            // The sender is dropped at once, so this one is closed from the start.
            Self::Closed => broadcast::Sender::new(1).subscribe(),
        };
        EventStream { receiver }
    }

    pub(super) fn send(&mut self, event: &Event) {
        if let Self::Open(sender) = self
            && sender.send(event.clone()).is_err()
        {
            // The last subscriber is gone.
            *self = Self::Unused;
        }
    }
}
