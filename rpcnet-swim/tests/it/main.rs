//! Integration tests of the engine in virtual time and of the driver on real sockets.

mod addresses;
mod crash;
mod departed;
mod first_datagram;
mod joining;
mod name_conflicts;
mod observer_panics;
mod observers;
mod outages;
mod own_address;
mod path_mtu;
mod properties;
mod rebind;
mod runtimes;
mod scenarios;
mod seeds;
mod sockets;
mod split_brain;
mod test_socket;

use std::time::Duration;

use rpcnet_swim::{ClusterConfig, ClusterKey};
use rpcnet_swim_sim::Cluster;

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Settings for a local network, with a key.
fn lan() -> ClusterConfig {
    ClusterConfig::lan().with_key(ClusterKey::from_bytes([7; 32]))
}

/// Settings of a node with this name on the loopback interface, with a key.
fn local(name: &str) -> ClusterConfig {
    ClusterConfig::local()
        .with_name(name)
        .with_key(ClusterKey::from_bytes([7; 32]))
}

/// Lets time pass until all nodes know all, and returns how long it took.
fn converge(cluster: &mut Cluster, limit: Duration) -> Duration {
    let took = cluster.run_until(limit, Cluster::is_converged);
    cluster.expect_safe();
    took.unwrap_or_else(|| panic!("not within {limit:?}: {:?}", cluster.difference()))
}
