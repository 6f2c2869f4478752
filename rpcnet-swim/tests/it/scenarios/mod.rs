//! What the protocol promises, one scenario each, in virtual time.

mod failures;
mod members;
mod partitions;
mod slowness;

use std::time::Duration;

use rpcnet_swim::{
    ClusterConfig, ClusterKey, DenyReason, Event, HealthState, MemberState, PartitionStatus,
    SplitBrainPolicy, Tags,
};
use rpcnet_swim_sim::{Cluster, Link, Transition};

fn lan() -> ClusterConfig {
    ClusterConfig::lan().with_key(ClusterKey::from_bytes([7; 32]))
}

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// A cluster in which all know all.
fn settled(seed: u64, nodes: usize) -> Cluster {
    let mut cluster = Cluster::bootstrap(seed, nodes, lan());
    converge(&mut cluster, secs(10));
    cluster.run_for(secs(5));
    assert!(cluster.is_converged());
    cluster
}

fn converge(cluster: &mut Cluster, limit: Duration) -> Duration {
    let took = cluster.run_until(limit, Cluster::is_converged);
    cluster.expect_safe();
    took.unwrap_or_else(|| panic!("not within {limit:?}: {:?}", cluster.difference()))
}

fn state(cluster: &Cluster, observer: usize, node: usize) -> Option<MemberState> {
    cluster.view_of(observer, node).map(|member| member.state)
}

/// Number of events like this one that `nodes` reported.
fn count(cluster: &Cluster, nodes: &[usize], like: impl Fn(&Event) -> bool) -> usize {
    nodes
        .iter()
        .flat_map(|node| cluster.events(*node))
        .filter(|(_, event)| like(event))
        .count()
}

fn failed(name: &str) -> impl Fn(&Event) -> bool {
    move |event| matches!(event, Event::NodeFailed(member) if &*member.id.name == name)
}

fn is_failure(event: &Event) -> bool {
    matches!(event, Event::NodeFailed(_))
}

fn is_partition(event: &Event) -> bool {
    matches!(event, Event::PartitionDetected { .. })
}

fn is_isolation(event: &Event) -> bool {
    matches!(event, Event::Isolated { .. })
}

fn all(cluster: &Cluster) -> Vec<usize> {
    (0..cluster.len()).collect()
}
