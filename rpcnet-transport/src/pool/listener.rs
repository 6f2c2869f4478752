//! Pool listener: reports processes to a pool, and learns from it which can be reached.

use std::net::SocketAddr;

use super::{PoolTarget, TargetId};
use crate::CloseReason;

/// Listener of a [`ConnectionPool`](super::ConnectionPool): tells the pool which processes its
/// targets have, and is told which targets are reachable.
///
/// Every method has a default, for pools without a cluster. No method may block or call the pool:
/// some are called while the pool holds its lock.
pub trait PoolListener<C>: Send + Sync + 'static {
    /// State of a process as the user of the pool knows it now. Default: it is the current one. If
    /// two generations of a key are current, the one that was asked for last replaces the other.
    fn process_state(&self, process: TargetId<'_>) -> ProcessState {
        let _ = process;
        ProcessState::Current
    }

    /// Address that the process has now, if the user of the pool knows one. Connections to another
    /// address are not used for new calls. Default: `None`, a process is at the address for which
    /// it was asked last.
    fn current_addr(&self, process: TargetId<'_>) -> Option<SocketAddr> {
        let _ = process;
        None
    }

    /// A connection to the target was made.
    fn on_reachable(&self, target: &PoolTarget<C>) {
        let _ = target;
    }

    /// There is no connection to the target: it could not be made, or the last one was lost, unless
    /// [`on_disconnected`](Self::on_disconnected) is implemented.
    fn on_unreachable(&self, target: &PoolTarget<C>) {
        let _ = target;
    }

    /// The last connection to the target was lost: there is none until the next is made. Default:
    /// [`on_unreachable`](Self::on_unreachable).
    fn on_disconnected(&self, target: &PoolTarget<C>) {
        self.on_unreachable(target);
    }

    /// The server says on a connection that it drains, or that it accepts calls again. Also `false`
    /// when the last established connection is lost, whether or not the next one is being opened:
    /// then it is unknown whether the server drains, until it says so on the next connection.
    fn on_draining(&self, target: &PoolTarget<C>, draining: bool) {
        let _ = (target, draining);
    }

    /// A connection to the target was lost, and was not closed here.
    fn on_lost(&self, target: &PoolTarget<C>, reason: &CloseReason) {
        let _ = (target, reason);
    }
}

/// Listener of a pool without a cluster.
impl<C: 'static> PoolListener<C> for () {}

/// State of the process behind a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProcessState {
    /// The process has the key now, as far as the user of the pool knows.
    Current,
    /// The process has failed or was replaced: calls in flight get no answer.
    Failed,
    /// The process has left, or is not known any more: calls in flight may get an answer.
    Left,
}
