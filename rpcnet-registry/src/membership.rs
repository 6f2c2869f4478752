//! The `Membership` trait: a source of nodes, and its observers.

use std::{fmt, sync::Arc};

use crate::{ClusterEvent, NodeInfo};

/// A source of nodes: gossip, a list, a discovery service.
pub trait Membership: Send + Sync + 'static {
    /// Hands all nodes to `observer`, now and at every change, until the [`Watch`] is dropped.
    ///
    /// Before this returns, [`Observer::on_snapshot`] has been called once with every known node,
    /// including nodes that failed or left if they are still remembered. After it comes every
    /// change, in order and one at a time. A source that has lost track starts over with another
    /// snapshot.
    fn watch(&self, observer: Arc<dyn Observer>) -> Watch;
}

impl<M: Membership + ?Sized> Membership for Arc<M> {
    fn watch(&self, observer: Arc<dyn Observer>) -> Watch {
        (**self).watch(observer)
    }
}

/// Receiver of the nodes of a source and of their changes.
///
/// Its methods must be quick, must not block, and must not call back into the source, which may
/// hold a lock while it calls them.
pub trait Observer: Send + Sync {
    /// Replaces all nodes by these.
    fn on_snapshot(&self, nodes: Vec<NodeInfo>);

    /// Takes in one change.
    fn on_event(&self, event: ClusterEvent);

    /// Takes in several changes that happened together, in order. Default: one by one.
    fn on_events(&self, events: Vec<ClusterEvent>) {
        events.into_iter().for_each(|event| self.on_event(event));
    }

    /// Defers log lines until [`after_events`](Self::after_events): a log may be slow, or read the
    /// source. Called before the methods above by a source that holds a lock while it calls them.
    /// Default: nothing.
    fn defer_log(&self) {}

    /// Does what was deferred. Called after the methods above, once the source holds no lock, by a
    /// source that has called [`defer_log`](Self::defer_log). Default: nothing.
    fn after_events(&self) {}
}

/// Registration of an observer, which ends when it is dropped.
///
/// Dropping it within a call of its observer by the source deadlocks, if the source holds a lock
/// while it calls.
#[must_use = "dropping a watch ends it"]
pub struct Watch {
    stop: Option<Box<dyn FnOnce() + Send>>,
}

impl Watch {
    /// A registration that `stop` ends.
    pub fn new(stop: impl FnOnce() + Send + 'static) -> Self {
        Self {
            stop: Some(Box::new(stop)),
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            stop();
        }
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").finish_non_exhaustive()
    }
}
