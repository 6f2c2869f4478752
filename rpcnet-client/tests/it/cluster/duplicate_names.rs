//! Duplicate names: two nodes with one certificate.

use std::time::Duration;

use bytes::Bytes;
use rpcnet_client::{
    ClusterError, ClusterEvent, registry,
    registry::{SelectError, SourceState},
    swim::MembershipState,
};

use super::{alive, builder, start, until, within, worker};

#[tokio::test]
async fn a_superseded_node_is_not_ready_until_its_successor_leaves() {
    let first = start(worker("w0"), &[]).await;
    let older = start(worker("w1"), std::slice::from_ref(&first)).await;
    until("all know all", || alive(&first) == 2 && alive(&older) == 2).await;
    assert!(older.is_ready());
    assert_eq!(older.membership().state(), MembershipState::Active);
    let mut events = older.nodes().subscribe();

    let newer = start(worker("w1"), std::slice::from_ref(&first)).await;
    let by = registry::NodeId::from(&newer.membership().local_id());
    until("the older one yields", || !older.is_ready()).await;
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
    until("calls end", || !older.workers().source().is_live()).await;
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
    until("the older one is back", || {
        older.is_ready() && older.membership().state() == MembershipState::Active
    })
    .await;
    until("all know all again", || {
        alive(&first) == 2 && alive(&older) == 2
    })
    .await;
    until("calls go again", || older.workers().source().is_live()).await;
    let called = older
        .client()
        .call_worker("who", Bytes::new(), Some("role=worker"));
    within(called).await.expect("the first one is there");
    assert!(older.membership().local_id().epoch > by.epoch);
}

#[tokio::test]
async fn a_node_that_has_left_is_not_ready() {
    let node = start(builder("n"), &[]).await;
    assert!(node.is_ready());
    node.membership().leave().await.expect("no other member");
    assert!(!node.is_ready());
    assert_eq!(node.membership().state(), MembershipState::Left);
}
