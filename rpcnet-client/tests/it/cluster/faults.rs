//! Malformed and foreign datagrams on the port that gossip and calls share.

use std::net::UdpSocket;

use rpcnet_client::{
    ClusterError, NodeError,
    swim::{DropCounters, JoinError},
};

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn malformed_datagrams_are_counted_and_change_nothing() {
    let nodes = cluster(2).await;
    let target = &nodes[0];
    let stranger = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let dropped = || {
        let dropped = target.membership().stats().dropped;
        dropped.malformed + dropped.version + dropped.unsealed
    };
    let before = dropped();
    let side_unfit = target.endpoint().stats().side_unfit;
    let send = |datagram: &[u8]| {
        let sent = stranger.send_to(datagram, target.addr());
        assert_eq!(sent.expect("loopback takes it"), datagram.len());
    };
    // Rubbish that is neither QUIC nor gossip, rubbish that looks like QUIC, and too much of it.
    for first in [0x00, 0x3f, 0x80, 0xbf] {
        send(&[first, 1, 2, 3, 4, 5, 6, 7]);
    }
    for first in [0x40, 0xc0, 0xff] {
        send(&[first; 1200]);
    }
    send(&[0; 9_000]);
    until("rubbish is counted", || dropped() - before == 4).await;
    until("the oversized one is counted", || {
        target.endpoint().stats().side_unfit == side_unfit + 1
    })
    .await;
    goes_on(&nodes).await;
}

/// Nodes that speak the protocol, but without the key, with another, or of another cluster.
#[tokio::test(flavor = "multi_thread")]
async fn foreign_nodes_are_counted_and_change_nothing() {
    let nodes = cluster(2).await;
    let tls = |name| CA.issue(name).expect("a node name");
    let without_key = || Node::builder().tls(tls("no-key"));
    let other_key = || {
        let builder = Node::builder().tls(tls("other-key"));
        builder.cluster_key(ClusterKey::from_bytes([1; 32]))
    };
    let other_cluster = || {
        let builder = Node::builder().tls(tls("other-cluster"));
        builder.cluster_key(key()).cluster_name("another")
    };
    let strangers: [Stranger<'_>; 3] = [
        (&without_key, |dropped| dropped.unsealed),
        (&other_key, |dropped| dropped.unknown_key),
        (&other_cluster, |dropped| dropped.foreign_cluster),
    ];
    for stranger in strangers {
        within(is_not_let_in(stranger, &nodes[0])).await;
    }
    goes_on(&nodes).await;
}

/// Starts a node until a datagram of it is counted: on a machine that is busy with other things,
/// its time may be over before one is read.
async fn is_not_let_in((stranger, kind): Stranger<'_>, target: &Node) {
    let impatient = ClusterConfig::local().with_join_timeout(Duration::from_millis(300));
    let count = || kind(target.membership().stats().dropped);
    let before = count();
    while count() == before {
        let joining = stranger()
            .cluster_config(impatient.clone())
            .seeds([target.addr().to_string()])
            .require_join(true)
            .start();
        let error = joining.await.expect_err("not let in");
        assert!(
            matches!(error, NodeError::Join(JoinError::NoSeedAnswered { .. })),
            "{error}"
        );
    }
}

/// The cluster goes on: calls in both directions, gossip, and newcomers.
async fn goes_on(nodes: &[Node]) {
    for node in nodes {
        within(who(node)).await.expect("a reply");
        assert_eq!(alive(node), 2);
    }
    let newcomer = start(builder("newcomer"), &nodes[..1]).await;
    until("all know the newcomer", || {
        alive(&newcomer) == 3 && nodes.iter().all(|node| alive(node) == 3)
    })
    .await;
}

/// Gossip may be right and the name forged all the same: calls go by the certificate.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_of_another_certificate_authority_is_not_called() {
    let node = start(builder("a"), &[]).await;
    let other_ca = DevCa::new("another");
    let forged = worker("w").tls(other_ca.issue("w").expect("a node name"));
    let forged = start(forged, std::slice::from_ref(&node)).await;
    until("it is known", || node.workers().select_all(None).is_ok()).await;
    let error = within(who(&node)).await.expect_err("not trusted");
    assert!(
        matches!(
            &error,
            ClusterError::Connect {
                error: rpcnet_client::transport::ConnectError::Untrusted { .. },
                ..
            }
        ),
        "{error}"
    );
    assert_eq!(error.processed(), rpcnet_client::Processed::No);
    drop(forged);
}

/// How it is made, and what it is counted as.
type Stranger<'a> = (&'a dyn Fn() -> NodeBuilder, fn(DropCounters) -> u64);

#[tokio::test(flavor = "multi_thread")]
async fn unrecognized_datagrams_do_not_displace_gossip() {
    const JUNK: u64 = 200;
    let node = builder("node")
        .wrap_gossip(|inner| Arc::new(UnreadSocket(inner)))
        .start();
    let node = within(node).await.expect("a node");
    let stranger = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let stats = || node.endpoint().stats();
    for sent in 1..=JUNK {
        stranger
            .send_to(&[0x2a; 64], node.addr())
            .expect("loopback takes it");
        until("it is counted", || {
            stats().side_received + stats().side_unrecognized == sent
        })
        .await;
    }
    // A sixteenth of the queue of 1,024.
    assert_eq!((stats().side_received, stats().side_dropped), (64, 0));
    // What a node of the cluster says has room all the same.
    let seed = node.addr().to_string();
    let newcomer = builder("newcomer")
        .cluster_config(ClusterConfig::local().with_join_timeout(Duration::from_millis(200)))
        .seeds([seed])
        .start();
    let _newcomer = within(newcomer).await.expect("a node");
    until("it is heard", || stats().side_received > 64).await;
    assert_eq!(stats().side_unrecognized, JUNK - 64);
}
