//! Contract of every datagram network: one suite, run over sockets and in memory.

mod busy_close;
mod connection_end;
mod network_faults;
mod suite;

use std::time::Duration;

use rpcnet_testing::{loopback, until, within};
use rpcnet_transport::{Endpoint, MemoryNetwork, Router, RpcClient, RpcServer, TransportConfig};

use crate::{bind_in_memory, identity};

/// Network that carries datagrams between endpoints.
trait DatagramNetwork {
    /// Binds an endpoint with this name at a free address.
    fn bind(&self, name: &str, config: TransportConfig) -> Endpoint;
}

/// The loopback interface.
struct Udp;

impl DatagramNetwork for Udp {
    fn bind(&self, name: &str, config: TransportConfig) -> Endpoint {
        Endpoint::bind(loopback(), config, identity(name)).expect("a free port")
    }
}

impl DatagramNetwork for MemoryNetwork {
    fn bind(&self, name: &str, config: TransportConfig) -> Endpoint {
        bind_in_memory(self, name, config)
    }
}

/// Server and client in memory, and the endpoint of the client.
async fn pair_on(network: &MemoryNetwork, router: Router) -> (RpcServer, Endpoint, RpcClient) {
    let server = bind_in_memory(network, "server", TransportConfig::lan()).serve(router);
    let node = bind_in_memory(network, "client", TransportConfig::lan());
    let client = node.connect(server.local_addr(), "server").await;
    (server, node, client.expect("a connection"))
}

/// Network with delay and loss.
fn rough() -> MemoryNetwork {
    let network = MemoryNetwork::new();
    network.set_delay(Duration::from_millis(1));
    network.set_loss(30, 7);
    network
}

macro_rules! contract {
    ($($behaviour:ident,)+) => {
        mod over_udp {
            $(#[tokio::test] async fn $behaviour() {
                super::within(super::suite::$behaviour(&super::Udp)).await;
            })+
        }

        mod in_memory {
            $(#[tokio::test] async fn $behaviour() {
                let network = super::MemoryNetwork::new();
                super::within(super::suite::$behaviour(&network)).await;
            })+
        }

        /// No timer is waited for: time advances when all tasks are idle.
        mod in_memory_without_a_clock {
            $(#[tokio::test(start_paused = true)] async fn $behaviour() {
                let network = super::MemoryNetwork::new();
                super::within(super::suite::$behaviour(&network)).await;
            })+
        }

        mod in_memory_with_loss_and_delay {
            $(#[tokio::test(start_paused = true)] async fn $behaviour() {
                super::within(super::suite::$behaviour(&super::rough())).await;
            })+
        }
    };
}

contract! {
    unary_calls_carry_bodies_of_any_size,
    many_calls_share_a_connection,
    streams_carry_their_items_in_order_both_ways,
    a_sender_waits_for_a_receiver_that_does_not_read,
    a_dropped_call_drops_its_handler,
    a_deadline_ends_the_call_on_both_sides,
    a_certificate_for_another_name_is_rejected,
    an_unanswered_connect_times_out,
    a_failure_reaches_its_caller,
    a_shutdown_lets_calls_end_and_rejects_new_ones,
    a_shutdown_ends_at_its_deadline,
    closing_tells_the_other_side_why,
    a_node_serves_and_calls_on_one_address,
    other_datagrams_share_the_address,
}
