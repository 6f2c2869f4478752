//! Where nodes come from.

use std::{fmt, sync::Arc};

use crate::{ClusterEvent, NodeInfo};

/// A source of nodes: gossip, a list, a discovery service.
pub trait Membership: Send + Sync + 'static {
    /// Tells `observer` about all nodes, now and from now on, until the [`Watch`] is dropped.
    ///
    /// Before this returns, [`Observer::on_snapshot`] has been called once with everything known, nodes that failed or
    /// left included if they still are remembered. After it comes every change, in order and one at a time. A source that
    /// has lost track starts over with another snapshot.
    fn watch(&self, observer: Arc<dyn Observer>) -> Watch;
}

impl<M: Membership + ?Sized> Membership for Arc<M> {
    fn watch(&self, observer: Arc<dyn Observer>) -> Watch {
        (**self).watch(observer)
    }
}

/// The receiver of what a source says about nodes.
///
/// Its methods are quick, do not block, and do not call back into the source, which may hold a lock while it tells.
pub trait Observer: Send + Sync {
    /// These are all nodes; forget what was known before.
    fn on_snapshot(&self, nodes: Vec<NodeInfo>);

    /// Something has changed.
    fn on_event(&self, event: ClusterEvent);

    /// Takes in several changes that happened together, in order. Default: one by one.
    fn on_events(&self, events: Vec<ClusterEvent>) {
        events.into_iter().for_each(|event| self.on_event(event));
    }
}

/// Keeps an observer informed. Dropping it ends that.
#[must_use = "dropping a watch ends it"]
pub struct Watch {
    stop: Option<Box<dyn FnOnce() + Send>>,
}

impl Watch {
    /// A watch that is ended by calling `stop`.
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
