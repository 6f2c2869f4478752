//! Typed methods: calls of all types, errors, and callers whose types are another version.

mod agreements;
mod calls;
mod integers;
mod messages;
mod versions;

use rpcnet_transport::{MemoryNetwork, Router, RpcClient, RpcServer, TransportConfig};

use crate::bind_in_memory;

/// A server of these methods in memory, and a connection to it.
async fn connected(router: Router) -> (RpcServer, RpcClient) {
    connected_with(router, TransportConfig::lan()).await
}

async fn connected_with(router: Router, config: TransportConfig) -> (RpcServer, RpcClient) {
    let network = MemoryNetwork::new();
    let server = bind_in_memory(&network, "server", config.clone()).serve(router);
    let node = bind_in_memory(&network, "client", config);
    let client = node.connect(server.local_addr(), "server").await;
    (server, client.expect("a connection"))
}
