//! Integration tests over real QUIC on the loopback interface and in memory.

mod abort;
mod bulk_traffic;
mod changed_types;
mod client_layers;
mod concurrency;
mod contract;
mod fair_shares;
mod flow_control_windows;
mod large_replies;
mod layer_rules;
mod layers;
mod loopback;
mod messages;
mod metadata;
mod services;
mod stream_buffers;
mod tower;
mod typed;
mod unpolled_futures;
mod wall_clock;

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::LazyLock,
};

use rpcnet_transport::{DevCa, Endpoint, MemoryNetwork, Tls, TransportConfig};

/// One certificate authority for all tests: generating keys takes time.
static CA: LazyLock<DevCa> = LazyLock::new(|| DevCa::new(CA_NAME));

const CA_NAME: &str = "tests";

fn identity(name: &str) -> Tls {
    CA.issue(name).expect("a node name")
}

/// An endpoint at a free address of a network in memory.
fn bind_in_memory(network: &MemoryNetwork, name: &str, config: TransportConfig) -> Endpoint {
    let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
    let bound = network.bind(any, config, identity(name));
    bound.expect("a free address")
}
