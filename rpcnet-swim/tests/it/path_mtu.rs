//! Paths with a small MTU, as tunnels have: larger datagrams are lost without an ICMP message.

use std::time::Duration;

use rpcnet_swim::{ClusterConfig, Event, Tags};
use rpcnet_swim_sim::{Cluster, Link};

use crate::{converge, lan, secs};

/// The least MTU of IPv6, which is that of Tailscale and of many other tunnels.
const TUNNEL: usize = 1_280;
/// The MTU of WireGuard's interfaces.
const WIREGUARD: usize = 1_420;

/// Nodes that start one after the other, over paths of this MTU. Gives the cluster, and how long
/// after the last start all know all.
fn started(seed: u64, nodes: usize, config: &ClusterConfig, mtu: usize) -> (Cluster, Duration) {
    let mut cluster = Cluster::new(seed);
    cluster.check_every(nodes as u64);
    cluster.network().default = Link::lan().with_mtu(mtu);
    let first = cluster.add("n0", config.clone(), Vec::new());
    let seeds = vec![cluster.addr(first)];
    for node in 1..nodes {
        cluster.run_for(Duration::from_millis(10));
        cluster.add(format!("n{node}"), config.clone(), seeds.clone());
    }
    let took = converge(&mut cluster, secs(300));
    (cluster, took)
}

fn tags(bytes: usize) -> Tags {
    let half = "x".repeat(bytes / 2);
    Tags::from_pairs([("first", half.clone()), ("second", half)]).unwrap()
}

/// All nodes change their tags at once: more updates than fit one datagram.
fn change_tags(cluster: &mut Cluster, bytes: usize) {
    for node in 0..cluster.len() {
        for (key, value) in tags(bytes).iter() {
            cluster.set_tag(node, key, value).unwrap();
        }
    }
}

fn suspicions_and_failures(cluster: &Cluster) -> usize {
    let is_counted =
        |event: &Event| matches!(event, Event::NodeSuspect { .. } | Event::NodeFailed(_));
    (0..cluster.len())
        .flat_map(|node| cluster.events(node))
        .filter(|(_, event)| is_counted(event))
        .count()
}

#[test]
fn a_cluster_behind_tunnels_is_whole_within_seconds() {
    for (nodes, mtu, bytes_max) in [
        (150, TUNNEL, 1_400),
        (40, TUNNEL, 1_232),
        (40, WIREGUARD, 8_900),
    ] {
        let config = lan().with_datagram_bytes_max(bytes_max).with_tags(tags(60));
        let (mut cluster, all) = started(1, nodes, &config, mtu);
        cluster.run_for(secs(2));
        let seeds = vec![cluster.addr(7)];
        cluster.add("late", config, seeds);
        let late = converge(&mut cluster, secs(300));
        let report = cluster.report();
        println!(
            "MTU {mtu}, datagrams of {bytes_max}: {all:?}, one more {late:?}, {} of {} too large",
            report.too_large, report.sent
        );
        // Gossip among so many takes some rounds.
        assert!(all <= secs(5), "MTU {mtu}, {bytes_max}: {all:?}");
        assert!(late <= secs(2), "MTU {mtu}, {bytes_max}: {late:?}");
        assert!(bytes_max > 1_232 || report.too_large == 0);
    }
}

#[test]
fn much_gossip_over_tunnels_arrives_and_causes_no_suspicion() {
    let nodes = 40;
    let config = lan().with_datagram_bytes_max(1_400);
    let (mut cluster, _) = started(3, nodes, &config, TUNNEL);
    cluster.run_for(secs(5));
    change_tags(&mut cluster, 400);
    let took = converge(&mut cluster, secs(300));
    assert!(took <= secs(10), "{took:?}");
    assert_eq!(suspicions_and_failures(&cluster), 0);
    let small: u64 = (0..nodes)
        .map(|node| cluster.engine(node).unwrap().stats().path_mtu_reductions)
        .sum();
    assert!(small > 0, "no path was found small");
    // Each node tries each path once.
    assert!(cluster.report().too_large <= (nodes * (nodes - 1)) as u64);
}

#[test]
fn a_path_that_becomes_a_tunnel_is_noticed() {
    let nodes = 12;
    let config = lan().with_datagram_bytes_max(8_900);
    let (mut cluster, _) = started(4, nodes, &config, usize::MAX);
    for bytes in [380, 400, 420] {
        change_tags(&mut cluster, bytes);
        converge(&mut cluster, secs(300));
    }
    cluster.network().default = Link::lan().with_mtu(TUNNEL);
    for bytes in [440, 460, 480] {
        change_tags(&mut cluster, bytes);
        let took = converge(&mut cluster, secs(300));
        assert!(took <= secs(10), "{took:?}");
    }
    assert_eq!(suspicions_and_failures(&cluster), 0);
    let lost = cluster.report().too_large;
    assert!(lost > 0, "large datagrams were used where they passed");
    assert!(lost <= (nodes * (nodes - 1)) as u64);
}

mod refused {
    use std::sync::Arc;
    use std::time::Duration;

    use rpcnet_swim::{ClusterConfig, ClusterMembership};
    use rpcnet_testing::{until, within};
    use tokio::time::sleep;

    use super::tags;
    use crate::test_socket::{SendFate, TestSocket};

    async fn node(name: &str) -> ClusterMembership {
        let config = ClusterConfig::local()
            .with_name(name)
            .with_datagram_bytes_max(8_900);
        // An interface with an MTU of 1,280 bytes.
        let socket = TestSocket::bind(|datagram, _| match datagram.len() > 1_232 {
            true => SendFate::Refused(EMSGSIZE),
            false => SendFate::Sent,
        });
        let started = ClusterMembership::with_socket(config, Arc::new(socket.await)).await;
        started.unwrap()
    }

    #[tokio::test]
    async fn a_datagram_that_the_system_refuses_as_too_large_is_counted_and_smaller_ones_follow() {
        let nodes = [node("a").await, node("b").await, node("c").await];
        let seed = nodes[0].local_addr().to_string();
        for node in &nodes[1..] {
            node.join([seed.clone()]).await.unwrap();
        }
        let refused = async {
            for round in 0.. {
                for node in &nodes {
                    let pairs = tags(480);
                    node.update_tags(pairs.iter().map(|(k, v)| (k, format!("{v}{round}"))))
                        .unwrap();
                    node.update_tags((0..2).map(|n| (format!("more{n}"), "y".repeat(250))))
                        .unwrap();
                }
                // Pace of the updates, so that pings go out between them.
                sleep(Duration::from_millis(100)).await;
                if nodes
                    .iter()
                    .all(|node| node.stats().path_mtu_reductions > 0)
                {
                    break;
                }
            }
        };
        within(refused).await;
        for node in &nodes {
            let stats = node.stats();
            assert!(stats.datagrams_too_large > 0, "{stats:?}");
            // Two paths, each tried by the rounds that were under way.
            assert!(stats.datagrams_too_large <= 8, "{stats:?}");
        }
        until("all have the same view", || {
            nodes
                .iter()
                .all(|node| node.view_hash() == nodes[0].view_hash())
        })
        .await;
    }

    const EMSGSIZE: i32 = if cfg!(any(target_os = "linux", target_os = "android")) {
        90
    } else if cfg!(windows) {
        10_040
    } else {
        40
    };
}
