//! Observers: a node's changes, handed over in order within the call that makes them.

use crate::engine::Engine;
use crate::event::{Event, MembershipState};
use crate::time::Time;

/// Receiver of every change of a node's view, with no task and no queue in between.
///
/// It is called under the lock of the node's engine, so that the order of the calls is that of the
/// changes, and no reader of the node is ahead of its observers: when `join` or `set_tag` returns,
/// and when an [`EventStream`](crate::EventStream) brings an event, every observer has taken it in.
///
/// For the same reason its methods must be quick, must not block, and must not call the
/// [`ClusterMembership`](crate::ClusterMembership) that they observe, which would deadlock: they
/// read what they need from the engine that they are given. What is slow or reads the node, such as
/// a log line, waits for [`after_events`](Self::after_events), which is called without the lock.
///
/// An observer that panics is removed, which is logged as an error, and is told
/// [`MembershipState::Stopped`]; the node and its other observers go on.
pub trait MembershipObserver: Send + Sync + 'static {
    /// Takes in the whole view, once, before
    /// [`observe`](crate::ClusterMembership::observe) returns.
    fn on_view(&self, engine: &Engine, now: Time);

    /// Takes in the events of one input of the engine: at least one, the earliest first.
    ///
    /// [`Event::Lagged`] among them means that the engine itself had to drop events: read the whole
    /// view again.
    fn on_events(&self, engine: &Engine, now: Time, events: &[Event]);

    /// The driver has ended, and no call follows but [`after_events`](Self::after_events):
    /// [`MembershipState::Left`] after a leave, else [`MembershipState::Stopped`].
    fn on_end(&self, state: MembershipState);

    /// Does what must not be done under the lock. Called after each of the other methods, once the
    /// lock is released, by any thread, and perhaps once more after the observation was dropped.
    /// Default: nothing.
    fn after_events(&self) {}
}
