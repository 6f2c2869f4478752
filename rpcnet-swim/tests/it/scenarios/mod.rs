//! What the protocol promises, one scenario each, in virtual time.

mod failures;
mod members;
mod partitions;
mod slowness;

use rpcnet_swim::{
    ClusterConfig, DenyReason, Event, HealthState, MemberState, PartitionStatus, SplitBrainPolicy,
    Tags,
};
use rpcnet_swim_sim::{Cluster, Link, Transition};

use crate::{converge, lan, millis, secs};

/// A cluster in which all know all.
fn settled(seed: u64, nodes: usize) -> Cluster {
    let mut cluster = Cluster::bootstrap(seed, nodes, lan());
    converge(&mut cluster, secs(10));
    cluster.run_for(secs(5));
    assert!(cluster.is_converged());
    cluster
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
