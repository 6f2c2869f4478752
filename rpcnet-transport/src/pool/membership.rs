//! Membership: what a process that fails, leaves, starts or moves does to its connections.

use std::net::SocketAddr;

use super::{
    ConnectionPool, PoolListener, PoolShared, ProcessState, TargetId,
    target_connections::TargetConnections,
};

/// Changes of membership. The answers of the listener have changed before.
impl<C: 'static> ConnectionPool<C> {
    /// The process has failed: its connections are closed, which ends the calls in flight.
    pub fn on_failed(&self, process: TargetId<'_>) {
        if let Some(connections) = self.shared.remove_ended(process) {
            connections.close(FAILED_REASON);
        }
    }

    /// The process has left: connections to it take no new calls, and end with the last one.
    pub fn on_left(&self, process: TargetId<'_>) {
        drop(self.shared.remove_ended(process));
    }

    /// A new process has the key: connections to the process before it are closed.
    pub fn on_started(&self, process: TargetId<'_>) {
        let pool = &*self.shared;
        let mut table = pool.table.lock();
        let is_former = |known: &TargetConnections| {
            known.generation != process.generation && !pool.is_newer(known, process)
        };
        if !table.get(process.key).is_some_and(|known| is_former(known)) {
            return;
        }
        let former = table.remove(process.key);
        drop(table);
        if let Some(former) = former {
            former.close(REPLACED_REASON);
        }
    }

    /// The process may have another address: connections to the former one take no new calls, and
    /// end with the last one. Without a listener, asking for a target at its new address does that.
    pub fn on_addr_changed(&self, process: TargetId<'_>) {
        let pool = &*self.shared;
        let mut table = pool.table.lock();
        let has_moved = |known: &TargetConnections| has_moved(&*pool.listener, process, known.addr);
        if !table
            .of_process(process)
            .is_some_and(|known| has_moved(known))
        {
            return;
        }
        let former = table.remove(process.key);
        drop(table);
        if let Some(former) = former {
            former.retire();
        }
    }

    /// Changes may have been missed: compares all connections with the answers of the listener.
    pub fn reconcile(&self) {
        let pool = &*self.shared;
        let mut table = pool.table.lock();
        let ended = table.remove_where(|key, known| !pool.is_current(key, known.generation));
        let moved = table.remove_where(|key, known| {
            let process = known.process(key);
            has_moved(&*pool.listener, process, known.addr)
        });
        drop(table);
        moved.into_iter().for_each(|(_, former)| former.retire());
        for (key, connections) in ended {
            // One that left may finish: its connections end with the last call on them.
            let state = pool.listener.process_state(connections.process(&key));
            if state == ProcessState::Failed {
                connections.close(FAILED_REASON);
            }
        }
    }
}

impl<C: 'static> PoolShared<C> {
    /// Whether that process has the key now, as far as the listener knows.
    pub(super) fn is_current(&self, key: &str, generation: u64) -> bool {
        let process = TargetId { key, generation };
        self.listener.process_state(process) == ProcessState::Current
    }

    /// Whether the listener knows that the process of the connections is the current one, and this
    /// one of the same key is not. If it calls both current, it does not know.
    pub(super) fn is_newer(&self, known: &TargetConnections, process: TargetId<'_>) -> bool {
        self.is_current(process.key, known.generation)
            && !self.is_current(process.key, process.generation)
    }

    /// Takes the connections to a process that has ended out of the table.
    fn remove_ended(&self, process: TargetId<'_>) -> Option<TargetConnections> {
        let mut table = self.table.lock();
        let has_ended = |known: &TargetConnections| {
            known.generation == process.generation
                || !self.is_current(process.key, known.generation)
        };
        let known = table.get(process.key)?;
        if has_ended(known) {
            table.remove(process.key)
        } else {
            None
        }
    }
}

/// Whether the process is known to be at another address than this one.
pub(super) fn has_moved<C>(
    listener: &(impl PoolListener<C> + ?Sized),
    process: TargetId<'_>,
    addr: SocketAddr,
) -> bool {
    let current = listener.current_addr(process);
    current.is_some_and(|current| !is_same_addr(current, addr))
}

/// Whether the process of the connections is at another address than theirs: as the listener knows,
/// or, if that names no address, as the caller does.
pub(super) fn has_left_addr<C>(
    listener: &(impl PoolListener<C> + ?Sized),
    process: TargetId<'_>,
    known: &TargetConnections,
    callers_addr: SocketAddr,
) -> bool {
    !is_same_addr(known.addr, callers_addr)
        && listener
            .current_addr(process)
            .is_none_or(|current| !is_same_addr(current, known.addr))
}

/// Whether two addresses are the same, one of which may have IPv4 in its mapped form.
pub(super) fn is_same_addr(one: SocketAddr, other: SocketAddr) -> bool {
    one == other
        || (one.ip().to_canonical(), one.port()) == (other.ip().to_canonical(), other.port())
}

/// Reason of a close, for both sides: the server was declared failed.
const FAILED_REASON: &str = "the cluster has declared the server failed";

/// Reason of a close, for both sides: another process has the key of the server.
pub(super) const REPLACED_REASON: &str = "a newer process has the name of the server";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv4_address_equals_its_mapped_form() {
        let addr = |text: &str| -> SocketAddr { text.parse().unwrap() };
        assert!(is_same_addr(
            addr("[::ffff:10.0.0.1]:80"),
            addr("10.0.0.1:80")
        ));
        assert!(!is_same_addr(addr("10.0.0.1:80"), addr("10.0.0.1:81")));
        assert!(!is_same_addr(addr("10.0.0.2:80"), addr("10.0.0.1:80")));
    }
}
