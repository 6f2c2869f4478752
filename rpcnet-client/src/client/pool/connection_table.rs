//! The connections to all workers, by name.

use std::{collections::HashMap, sync::Arc};

use rpcnet_registry::{NodeId, NodeInfo};

use super::worker_connections::WorkerConnections;

/// The connections to all workers. A call finds those that are here, also without the lock around this, and none that was
/// taken out.
#[derive(Default)]
pub(super) struct ConnectionTable {
    by_name: HashMap<Arc<str>, WorkerConnections>,
    last_connect_id: u64,
}

impl ConnectionTable {
    /// Tells one attempt to connect from the next.
    pub(super) fn next_connect_id(&mut self) -> u64 {
        self.last_connect_id += 1;
        self.last_connect_id
    }

    /// The connections to whichever process of that name.
    pub(super) fn get(&mut self, name: &str) -> Option<&mut WorkerConnections> {
        self.by_name.get_mut(name)
    }

    /// The connections to that process, none to another one of the name.
    pub(super) fn of_process(&mut self, id: &NodeId) -> Option<&mut WorkerConnections> {
        self.get(&id.name).filter(|slot| slot.epoch == id.epoch)
    }

    /// The connections to that process at the address that it is known at there, none to another one.
    pub(super) fn of_process_at_addr(&mut self, node: &NodeInfo) -> Option<&mut WorkerConnections> {
        self.of_process(&node.id)
            .filter(|slot| slot.addr == node.addr)
    }

    pub(super) fn get_or_insert(
        &mut self,
        name: &Arc<str>,
        new: impl FnOnce() -> WorkerConnections,
    ) -> &mut WorkerConnections {
        self.by_name.entry(Arc::clone(name)).or_insert_with(new)
    }

    /// Takes out the connections to a process.
    pub(super) fn remove(&mut self, name: &str) -> Option<WorkerConnections> {
        let mut slot = self.by_name.remove(name)?;
        slot.clear_cache();
        Some(slot)
    }

    /// Takes out the connections to all processes of which that is so.
    pub(super) fn remove_where(
        &mut self,
        mut is_so: impl FnMut(&str, &WorkerConnections) -> bool,
    ) -> Vec<(Arc<str>, WorkerConnections)> {
        let removed = self.by_name.extract_if(|name, slot| is_so(name, slot));
        let mut removed: Vec<_> = removed.collect();
        for (_, slot) in &mut removed {
            slot.clear_cache();
        }
        removed
    }

    /// How many connections there are, those being made included.
    pub(super) fn connections(&self) -> usize {
        self.by_name.values().map(WorkerConnections::len).sum()
    }

    /// Gives up all attempts to connect.
    pub(super) fn stop_connecting(&mut self) {
        self.by_name
            .values_mut()
            .for_each(WorkerConnections::stop_connecting);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        net::{Ipv4Addr, SocketAddr},
        sync::Weak,
    };

    use rpcnet_transport::{DevCa, MemoryNetwork, Router, RpcClient, TransportConfig};

    use super::*;
    use crate::client::pool::cached_connection::CachedConnection;

    /// The connections to one worker, and where calls find them without the lock.
    struct One {
        slots: ConnectionTable,
        name: Arc<str>,
        way: Arc<CachedConnection>,
        addr: SocketAddr,
        client: RpcClient,
    }

    impl One {
        async fn new() -> Self {
            let (network, ca) = (MemoryNetwork::new(), DevCa::new("slots"));
            let bind = |name| {
                let any = (Ipv4Addr::UNSPECIFIED, 0).into();
                let tls = ca.issue(name).expect("a certificate");
                network
                    .bind(any, TransportConfig::default(), tls)
                    .expect("an endpoint")
            };
            let server = bind("red").serve(Router::new());
            let connected = bind("gateway").connect(server.local_addr(), "red").await;
            let mut one = Self {
                slots: ConnectionTable::default(),
                name: "red".into(),
                way: Arc::new(CachedConnection::new(Weak::new())),
                addr: server.local_addr(),
                client: connected.expect("a connection"),
            };
            one.connect();
            one
        }

        fn found(&self) -> bool {
            self.way.client(self.addr).is_some()
        }

        fn connect(&mut self) {
            let ticket = self.slots.next_connect_id();
            let way = Some(Arc::clone(&self.way));
            let slot = self
                .slots
                .get_or_insert(&self.name, || WorkerConnections::new(1, self.addr, way));
            let (client, result) = (self.client.clone(), Ok(self.client.clone()));
            drop(slot.connect(ticket, tokio::spawn(async { Ok(client) })));
            assert!(slot.on_connect_result(ticket, &result));
            assert!(self.found());
        }
    }

    #[tokio::test]
    async fn a_call_finds_no_connection_that_was_taken_out() {
        let mut one = One::new().await;
        let slot = one.slots.remove("red");
        assert!(slot.is_some() && !one.found());

        let mut one = One::new().await;
        let slots = one.slots.remove_where(|name, _| name == "red");
        assert!(slots.len() == 1 && !one.found());
    }

    #[tokio::test]
    async fn a_call_to_another_address_does_not_find_the_connection() {
        let one = One::new().await;
        let other = (Ipv4Addr::LOCALHOST, 1).into();
        assert!(one.found() && one.way.client(other).is_none());
    }

    #[tokio::test]
    async fn what_was_taken_out_does_not_hide_what_came_after_it() {
        let mut one = One::new().await;
        let former = one.slots.remove("red");
        one.connect();
        drop(former);
        assert!(one.found());
    }
}
