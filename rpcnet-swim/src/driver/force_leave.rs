//! Members that an operator knows to be gone for good.

use super::ClusterMembership;
use crate::id::NodeId;

impl ClusterMembership {
    /// Declares, on behalf of a member that is gone for good, that it has left (`force-leave` in
    /// Serf), so that it is expected no more, here and in all that this node reaches. Says whether
    /// that was done: only to a member that failed or that this node does not reach. See
    /// [`Engine::force_leave`](crate::Engine::force_leave).
    pub fn force_leave(&self, id: &NodeId) -> bool {
        let mut engine = self.shared.engine.lock();
        let done = engine.force_leave(self.shared.now(), id);
        drop(engine);
        if done {
            self.shared.wake.notify_one();
        }
        done
    }
}
