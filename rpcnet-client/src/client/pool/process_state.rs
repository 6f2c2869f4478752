//! What the cluster says about the processes that there are connections to.

use std::{net::SocketAddr, sync::Arc};

use rpcnet_registry::{ClusterEvent, NodeId, NodeInfo, NodeState, WorkerRegistry};

use super::{PoolShared, REPLACED_REASON, worker_connections::WorkerConnections};

impl PoolShared {
    /// Whether the process of that epoch is the one that has the name now, as far as selection
    /// knows, and lives.
    pub(super) fn is_current(&self, name: &str, epoch: u64) -> bool {
        matches!(self.process_state(name, epoch), ProcessState::Current)
    }

    /// Whether the process is known to be at another address than this one.
    pub(super) fn has_moved(&self, name: &str, epoch: u64, addr: SocketAddr) -> bool {
        let registry = self.registry.upgrade();
        let node = registry.and_then(|registry| registry.node(name));
        node.is_some_and(|node| node.id.epoch == epoch && !is_same_addr(node.addr, addr))
    }

    /// That process as it is known now.
    pub(super) fn current_node(&self, node: &Arc<NodeInfo>) -> Arc<NodeInfo> {
        let registry = self.registry.upgrade();
        let latest = registry.and_then(|registry| registry.node(&node.id.name));
        let same = latest.filter(|latest| latest.id == node.id);
        same.unwrap_or_else(|| Arc::clone(node))
    }

    /// Leaves the connections to the former address of a process.
    fn retire_former_address(&self, node: &NodeInfo) {
        let mut slots = self.connections.lock();
        let (name, epoch) = (&node.id.name, node.id.epoch);
        let has_moved = |slot: &WorkerConnections| self.has_moved(name, epoch, slot.addr);
        if !slots
            .of_process(&node.id)
            .is_some_and(|slot| has_moved(slot))
        {
            return;
        }
        let slot = slots.remove(name);
        drop(slots);
        if let Some(slot) = slot {
            slot.retire();
        }
    }

    fn is_as_known(&self, known: &NodeInfo) -> bool {
        let registry = self.registry.upgrade();
        registry.is_some_and(|registry| is_as_known(&registry, known))
    }

    fn process_state(&self, name: &str, epoch: u64) -> ProcessState {
        let registry = self.registry.upgrade();
        let Some(node) = registry.and_then(|registry| registry.node(name)) else {
            return ProcessState::Left;
        };
        match node.state {
            _ if node.id.epoch != epoch => ProcessState::Failed,
            NodeState::Failed => ProcessState::Failed,
            NodeState::Left => ProcessState::Left,
            _ => ProcessState::Current,
        }
    }

    /// Gives up the connections to a process that has ended.
    fn remove_ended(&self, id: &NodeId, how: ProcessState) {
        let mut slots = self.connections.lock();
        let ended = |slot: &WorkerConnections| {
            slot.epoch == id.epoch || !self.is_current(&id.name, slot.epoch)
        };
        if !slots.get(&id.name).is_some_and(|slot| ended(slot)) {
            return;
        }
        let slot = slots.remove(&id.name);
        drop(slots);
        if let (Some(slot), ProcessState::Failed) = (slot, how) {
            slot.close(FAILED_REASON);
        }
    }

    pub(super) fn on_event(&self, event: &ClusterEvent) {
        match event {
            ClusterEvent::Lagged(_) => self
                .refused_methods
                .retain_nodes(|node| self.is_as_known(node)),
            event => {
                if let Some(node) = event.node() {
                    self.retire_former_address(node);
                    let name = &node.id.name;
                    self.refused_methods
                        .retain_nodes(|known| known.id.name != *name || self.is_as_known(known));
                }
            }
        }
        match event {
            ClusterEvent::NodeFailed(node) => self.remove_ended(&node.id, ProcessState::Failed),
            // What it still has to say may arrive: the connection ends with the last call on it.
            ClusterEvent::NodeLeft(node) => self.remove_ended(&node.id, ProcessState::Left),
            ClusterEvent::NodeJoined(node) => self.remove_replaced(node),
            ClusterEvent::Lagged(_) => self.reconcile_missed_events(),
            _ => {}
        }
    }

    /// A new process of that name has begun, so the one before has ended.
    fn remove_replaced(&self, node: &NodeInfo) {
        let mut slots = self.connections.lock();
        let name = &node.id.name;
        let is_former = |slot: &WorkerConnections| {
            slot.epoch != node.id.epoch && !self.is_current(name, slot.epoch)
        };
        if !slots.get(name).is_some_and(|slot| is_former(slot)) {
            return;
        }
        let slot = slots.remove(name);
        drop(slots);
        if let Some(slot) = slot {
            slot.close(REPLACED_REASON);
        }
    }

    /// Events were missed: goes by where things stand.
    fn reconcile_missed_events(&self) {
        let mut slots = self.connections.lock();
        let ended = slots.remove_where(|name, slot| !self.is_current(name, slot.epoch));
        let moved = slots.remove_where(|name, slot| self.has_moved(name, slot.epoch, slot.addr));
        drop(slots);
        moved.into_iter().for_each(|(_, slot)| slot.retire());
        for (name, slot) in ended {
            // One that left may finish: its connections end with the last call on them.
            if matches!(self.process_state(&name, slot.epoch), ProcessState::Failed) {
                slot.close(FAILED_REASON);
            }
        }
    }
}

/// Whether a worker is the same process, at the same address and with the same tags, as selection
/// knows it now.
pub(in crate::client) fn is_as_known(registry: &WorkerRegistry, known: &NodeInfo) -> bool {
    registry
        .node(&known.id.name)
        .is_some_and(|node| !node.state.is_gone() && is_unchanged(&node, known))
}

/// Whether both are the same process, at the same address and with the same tags.
pub(in crate::client) fn is_unchanged(one: &NodeInfo, other: &NodeInfo) -> bool {
    std::ptr::eq(one, other)
        || (&one.id, one.addr, &one.tags) == (&other.id, other.addr, &other.tags)
}

/// State of a process, as selection knows it.
#[derive(Debug, Clone, Copy)]
enum ProcessState {
    Current,
    /// It has ended; calls under way get no answer any more.
    Failed,
    /// It has ended by its own will, or is forgotten; calls under way may get an answer.
    Left,
}

/// Why connections are closed, for the other side.
const FAILED_REASON: &str = "the cluster has declared this node failed";

/// Whether two addresses are the same, one of which may have IPv4 in its mapped form.
fn is_same_addr(one: SocketAddr, other: SocketAddr) -> bool {
    one == other
        || (one.ip().to_canonical(), one.port()) == (other.ip().to_canonical(), other.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_in_its_mapped_form_is_no_other_one() {
        let addr = |text: &str| -> SocketAddr { text.parse().unwrap() };
        assert!(is_same_addr(
            addr("[::ffff:10.0.0.1]:80"),
            addr("10.0.0.1:80")
        ));
        assert!(!is_same_addr(addr("10.0.0.1:80"), addr("10.0.0.1:81")));
        assert!(!is_same_addr(addr("10.0.0.2:80"), addr("10.0.0.1:80")));
    }
}
