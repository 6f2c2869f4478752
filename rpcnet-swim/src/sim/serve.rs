//! Split-brain policies and forced leaves of simulated nodes.

use super::Cluster;
use crate::engine::hooks::DetectorHooks;
use crate::id::NodeId;
use crate::split_brain::{Decision, SplitBrainPolicy};

impl<D: DetectorHooks> Cluster<D> {
    /// Whether a node may serve, as a driver would ask it; `None` if it is down.
    pub fn may_serve(&mut self, node: usize, policy: &SplitBrainPolicy) -> Option<Decision> {
        let engine = self.nodes[node].engine.as_deref_mut()?;
        engine.watch_policy(policy);
        Some(engine.may_serve(policy, self.now))
    }

    /// Lets a node declare that another one, which is gone for good, has left. Returns whether it
    /// did.
    pub fn force_leave(&mut self, node: usize, id: &NodeId) -> bool {
        let mut done = false;
        self.input(node, |engine, now| done = engine.force_leave(now, id));
        done
    }
}
