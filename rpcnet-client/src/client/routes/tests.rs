//! Tests of routes: what is found anew after a change.

use std::{iter::successors, net::SocketAddr};

use rpcnet_registry::{LoadBalancingStrategy, NodeId, NodeInfo, StaticMembership};
use rpcnet_testing::{until, until_some};
use rpcnet_transport::{DevCa, Endpoint, MemoryNetwork, Router, RpcServer, TransportConfig};

use super::*;
use crate::{ClusterClient, ClusterClientConfig};

/// Workers on a network in memory, a client of them, and a route to all.
struct Fixture {
    network: MemoryNetwork,
    ca: DevCa,
    client: ClusterClient,
    route: Arc<Route>,
    servers: Vec<(String, Option<RpcServer>)>,
}

impl Fixture {
    async fn new(names: &[&str]) -> Self {
        let (network, ca) = (MemoryNetwork::new(), DevCa::new("routes"));
        let bind = |name: &str, addr: SocketAddr| bind(&network, &ca, name, addr);
        let any = ([0; 4], 0).into();
        let list = StaticMembership::new();
        let servers = names.iter().map(|name| {
            let server = bind(name, any).expect("a free address").serve(router());
            list.insert(NodeInfo::new(NodeId::new(*name, 1), server.local_addr()));
            ((*name).to_owned(), Some(server))
        });
        let servers = servers.collect();
        let registry = WorkerRegistry::new(list.clone(), LoadBalancingStrategy::RoundRobin);
        registry.start().await;
        let config = ClusterClientConfig::new(bind("caller", any).expect("a free address"));
        let client = ClusterClient::new(Arc::new(registry), config);
        let route = client.executor.workers.route(None);
        Self {
            network,
            ca,
            client,
            route,
            servers,
        }
    }

    /// Calls each worker, several times.
    async fn call(&self) {
        for _ in 0..4 * self.servers.len() {
            let reply = self.client.call_worker("echo", "x", None).await;
            assert_eq!(&reply.expect("a reply")[..], b"x");
        }
    }

    /// Replaces the connection to a worker: its server ends, and another one takes its place.
    async fn reconnect(&mut self, worker: usize) {
        let (name, server) = &mut self.servers[worker];
        let ended = server.take().expect("it serves");
        let (addr, connections) = (ended.local_addr(), self.client.connections());
        ended.shutdown(std::time::Duration::ZERO).await;
        let (network, ca) = (&self.network, &self.ca);
        let again = until_some("the address is free", async || {
            bind(network, ca, name, addr)
        });
        *server = Some(again.await.serve(router()));
        let client = &self.client;
        until("the loss is known", || client.connections() < connections).await;
        until_some("it is called again", async || {
            client.call_worker("echo", "x", None).await.ok()?;
            (client.connections() == connections).then_some(())
        })
        .await;
        self.call().await;
    }

    fn table(&self) -> Arc<RouteTable> {
        self.route.table.load_full().expect("there were calls")
    }
}

fn bind(network: &MemoryNetwork, ca: &DevCa, name: &str, addr: SocketAddr) -> Option<Endpoint> {
    let identity = ca.issue(name).expect("a node name");
    network
        .bind(addr, TransportConfig::default(), identity)
        .ok()
}

fn router() -> Router {
    Router::new().raw("echo", |_, body| async move { Ok(body) })
}

/// Connections that were found, for each worker.
fn found(table: &RouteTable) -> Vec<usize> {
    let slots = table.connections.iter().flatten();
    let found = slots.map(|slot| successors(slot.get(), |kept| kept.next.get()).count());
    found.collect()
}

#[tokio::test(start_paused = true)]
async fn a_change_of_one_connection_renews_that_one_alone() {
    let mut fixture = Fixture::new(&["blue", "green", "red"]).await;
    fixture.call().await;
    let table = fixture.table();
    assert_eq!(found(&table), [1, 1, 1]);
    // Users who keep closed connections do not keep them in the table.
    let slots = table.connections.iter().flatten();
    let _kept: Vec<_> = slots.map(|slot| slot.get()?.client.upgrade()).collect();
    fixture.reconnect(1).await;
    assert!(
        Arc::ptr_eq(&fixture.table(), &table),
        "the table is as it was"
    );
    assert_eq!(found(&table), [1, 2, 1]);
    fixture.reconnect(2).await;
    assert!(
        Arc::ptr_eq(&fixture.table(), &table),
        "the table is as it was"
    );
    assert_eq!(found(&table), [1, 2, 2]);
}

#[tokio::test(start_paused = true)]
async fn a_worker_whose_connection_changes_again_and_again_keeps_a_bounded_number() {
    let mut fixture = Fixture::new(&["blue"]).await;
    fixture.call().await;
    let table = fixture.table();
    for changes in 1..KEPT_MAX {
        fixture.reconnect(0).await;
        assert_eq!(found(&table), [1 + changes]);
    }
    assert!(Arc::ptr_eq(&fixture.table(), &table));
    fixture.reconnect(0).await;
    assert_eq!(found(&fixture.table()), [1], "the table was made anew");
}
