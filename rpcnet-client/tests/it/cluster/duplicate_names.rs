//! Duplicate names: two nodes with one certificate.

use std::time::Duration;

use bytes::Bytes;
use rpcnet_client::{
    ClusterError, ClusterEvent, registry,
    registry::{SelectError, SourceState},
    swim::MembershipState,
};

use super::{NodeBuilder, TestCluster, alive, in_memory_worker, within, workers};

#[tokio::test(start_paused = true)]
async fn a_superseded_node_is_not_ready_until_its_successor_leaves() {
    let cluster = TestCluster::seeded(21);
    let nodes = workers(&cluster, 2).await;
    let [first, older] = [nodes[0].node(), nodes[1].node()];
    assert!(older.is_ready());
    assert_eq!(older.membership().state(), MembershipState::Active);
    let mut events = older.nodes().subscribe();

    let tls = cluster.issue("w1");
    let same_name = move |builder: NodeBuilder| in_memory_worker(builder.tls(tls.clone()));
    let newer = cluster.start("newer", same_name).await.node();
    let by = registry::NodeId::from(&newer.membership().local_id());
    cluster.eventually(|| !older.is_ready()).await;
    let addr = newer.addr();
    assert!(
        matches!(older.membership().state(), MembershipState::Superseded { addr: at, .. } if at == addr)
    );
    assert!(newer.is_ready());
    let superseded = SourceState::Superseded {
        by: by.clone(),
        addr,
    };
    within(async {
        loop {
            match events.recv().await.expect("the registry is there") {
                ClusterEvent::SourceChanged(state) => break assert_eq!(state, superseded),
                _ => continue,
            }
        }
    })
    .await;
    assert_eq!(*older.nodes().snapshot().source(), superseded);
    // No worker is called by what it knew last.
    let is_live = || older.workers().source().is_live();
    cluster.eventually(|| !is_live()).await;
    let error = older
        .client()
        .call_worker("who", Bytes::new(), Some("role=worker"));
    let error = error.await.unwrap_err();
    assert!(
        matches!(&error, ClusterError::Select(SelectError::SourceEnded { state }) if *state == superseded),
        "{error}"
    );
    assert!(
        error.to_string().contains("superseded by a newer node w1"),
        "{error}"
    );

    newer.shutdown(Duration::from_secs(5)).await;
    let is_back = || older.is_ready() && older.membership().state() == MembershipState::Active;
    cluster.eventually(is_back).await;
    let know_each_other = || alive(&first) == 2 && alive(&older) == 2;
    cluster.eventually(know_each_other).await;
    cluster.eventually(is_live).await;
    let called = older
        .client()
        .call_worker("who", Bytes::new(), Some("role=worker"));
    within(called).await.expect("the first one is there");
    assert!(older.membership().local_id().epoch > by.epoch);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_has_left_is_not_ready() {
    let cluster = TestCluster::seeded(22);
    let node = cluster.start("n", |node| node).await.node();
    assert!(node.is_ready());
    node.membership().leave().await.expect("no other member");
    assert!(!node.is_ready());
    assert_eq!(node.membership().state(), MembershipState::Left);
}
