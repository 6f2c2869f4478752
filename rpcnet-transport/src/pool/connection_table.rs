//! Connection table: the connections to all targets, by key.

use std::{collections::HashMap, net::SocketAddr, sync::Arc};

use super::{TargetId, membership::is_same_addr, target_connections::TargetConnections};

/// The connections to all targets. A connection that is taken out of the table is also taken out of
/// its cache, so that no call finds it.
#[derive(Default)]
pub(super) struct ConnectionTable {
    by_key: HashMap<Arc<str>, TargetConnections>,
    last_connect_id: u64,
}

impl ConnectionTable {
    /// Number of the next attempt to connect.
    pub(super) fn next_connect_id(&mut self) -> u64 {
        self.last_connect_id += 1;
        self.last_connect_id
    }

    /// Connections under this key, to any process.
    pub(super) fn get(&mut self, key: &str) -> Option<&mut TargetConnections> {
        self.by_key.get_mut(key)
    }

    /// Connections to this process; `None` for another process of the key.
    pub(super) fn of_process(&mut self, id: TargetId<'_>) -> Option<&mut TargetConnections> {
        self.get(id.key)
            .filter(|known| known.generation == id.generation)
    }

    /// Connections to this process at this address; `None` for another address.
    pub(super) fn of_process_at_addr(
        &mut self,
        id: TargetId<'_>,
        addr: SocketAddr,
    ) -> Option<&mut TargetConnections> {
        self.of_process(id)
            .filter(|known| is_same_addr(known.addr, addr))
    }

    pub(super) fn get_or_insert(
        &mut self,
        key: &Arc<str>,
        new: impl FnOnce() -> TargetConnections,
    ) -> &mut TargetConnections {
        self.by_key.entry(Arc::clone(key)).or_insert_with(new)
    }

    /// Takes out the connections under a key.
    pub(super) fn remove(&mut self, key: &str) -> Option<TargetConnections> {
        let mut removed = self.by_key.remove(key)?;
        removed.clear_cache();
        Some(removed)
    }

    /// Takes out the connections to all targets for which the predicate holds.
    pub(super) fn remove_where(
        &mut self,
        mut predicate: impl FnMut(&str, &TargetConnections) -> bool,
    ) -> Vec<(Arc<str>, TargetConnections)> {
        let removed = self
            .by_key
            .extract_if(|key, connections| predicate(key, connections));
        let mut removed: Vec<_> = removed.collect();
        for (_, connections) in &mut removed {
            connections.clear_cache();
        }
        removed
    }

    /// Number of connections, including those that are being opened.
    pub(super) fn connections(&self) -> usize {
        self.by_key.values().map(TargetConnections::len).sum()
    }

    /// Cancels all attempts to connect.
    pub(super) fn stop_connecting(&mut self) {
        self.by_key
            .values_mut()
            .for_each(TargetConnections::stop_connecting);
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::{DevCa, Endpoint, MemoryNetwork, Router, RpcClient, TransportConfig};

    use super::super::CachedConnection;

    /// The connections to one target, and the cache where calls find them.
    struct OneTarget {
        table: ConnectionTable,
        key: Arc<str>,
        cache: Arc<CachedConnection>,
        addr: SocketAddr,
        endpoint: Endpoint,
        client: RpcClient,
    }

    impl OneTarget {
        async fn new() -> Self {
            let (network, ca) = (MemoryNetwork::new(), DevCa::new("table"));
            let bind = |name| {
                let any = (Ipv4Addr::UNSPECIFIED, 0).into();
                let tls = ca.issue(name).expect("a certificate");
                network
                    .bind(any, TransportConfig::default(), tls)
                    .expect("an endpoint")
            };
            let server = bind("red").serve(Router::new());
            let endpoint = bind("gateway");
            let connected = endpoint.connect(server.local_addr(), "red").await;
            let mut one = Self {
                table: ConnectionTable::default(),
                key: "red".into(),
                cache: Arc::new(CachedConnection::new(0)),
                addr: server.local_addr(),
                endpoint,
                client: connected.expect("a connection"),
            };
            one.connect();
            one
        }

        fn is_cached(&self) -> bool {
            self.cache.client(self.addr).is_some()
        }

        fn connect(&mut self) {
            let connect_id = self.table.next_connect_id();
            let cache = Some(Arc::clone(&self.cache));
            let known = self
                .table
                .get_or_insert(&self.key, || TargetConnections::new(1, self.addr, cache));
            let (client, result) = (self.client.clone(), Ok(self.client.clone()));
            let task = tokio::spawn(async { Ok(client) });
            let pool_dropped = CancellationToken::new();
            drop(known.connect(connect_id, &self.endpoint, pool_dropped, task));
            assert!(known.on_connect_result(connect_id, &result));
            assert!(self.is_cached());
        }
    }

    #[tokio::test]
    async fn removing_a_target_clears_its_cache() {
        let mut one = OneTarget::new().await;
        let removed = one.table.remove("red");
        assert!(removed.is_some() && !one.is_cached());

        let mut one = OneTarget::new().await;
        let removed = one.table.remove_where(|key, _| key == "red");
        assert!(removed.len() == 1 && !one.is_cached());
    }

    #[tokio::test]
    async fn only_a_change_of_what_is_cached_changes_the_version() {
        let mut one = OneTarget::new().await;
        let first = one.cache.version();
        let known = one.table.get("red").expect("it is connected");
        assert!(known.prune_closed());
        assert_eq!(one.cache.version(), first, "the connection is as it was");
        one.table.remove("red");
        assert_ne!(one.cache.version(), first);
        let without = one.cache.version();
        one.connect();
        assert_ne!(one.cache.version(), without);
    }

    #[tokio::test]
    async fn a_call_to_another_address_does_not_find_the_connection() {
        let one = OneTarget::new().await;
        let other = (Ipv4Addr::LOCALHOST, 1).into();
        assert!(one.is_cached() && one.cache.client(other).is_none());
    }

    #[tokio::test]
    async fn dropping_removed_connections_does_not_clear_what_came_after_them() {
        let mut one = OneTarget::new().await;
        let former = one.table.remove("red");
        one.connect();
        drop(former);
        assert!(one.is_cached());
    }
}
