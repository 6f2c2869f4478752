//! Callers by tags: a node decides about its callers by what gossip says of them.

use rpcnet_client::{Access, AllowTable, Callers, Priority, WorkerCallOptions, callers_by_tags};

use super::*;

/// Whether the method of `node-0` is allowed to this node.
async fn is_allowed(node: &TestNode) -> bool {
    let options = WorkerCallOptions::new().with_timeout(Duration::from_secs(5));
    let client = node.client();
    let asked = client.call_worker_typed_with("Render/frame", &(), Some("node=node-0"), options);
    asked.await.expect("a reply")
}

#[tokio::test(start_paused = true)]
async fn a_node_decides_by_the_tags_that_its_callers_have_now() {
    let cluster = TestCluster::seeded(7);
    let nodes = cluster
        .start_nodes(3, |builder| {
            let name = builder.node_name().expect("an identity").to_owned();
            builder.tag("node", name)
        })
        .await;
    let served = nodes[0].node();
    let gateways = callers_by_tags(served.nodes(), "role=gateway").expect("a valid filter");
    let gateways = gateways.with_priority_max(Priority::SheddablePlus);
    let table = AllowTable::new()
        .allow("Render/*", gateways)
        .allow("*", Callers::any());
    let table = Arc::new(table);
    served.serve(
        Router::new().typed_with("Render/frame", move |cx: CallContext, (): ()| {
            assert!(cx.peer().identity().is_some(), "callers are verified");
            let access = table.decide(cx.method(), cx.peer());
            if access.is_allowed() {
                let priority_max = Priority::SheddablePlus;
                assert_eq!(access, Access::Allowed { priority_max });
            }
            async move { access.is_allowed() }
        }),
    );
    cluster.eventually(|| cluster.has_converged()).await;
    let has_workers = |node: &TestNode| node.node().workers().workers(Some("node=node-0"));
    let is_worker = |node| has_workers(node).is_ok_and(|workers| !workers.is_empty());
    cluster
        .eventually(|| nodes[1..].iter().all(is_worker))
        .await;
    for node in &nodes[1..] {
        assert!(!is_allowed(node).await, "{} has no such tag", node.name());
    }

    let gateway = nodes[1].node();
    gateway
        .membership()
        .set_tag("role", "gateway")
        .expect("it fits");
    let is_known = || {
        let nodes = served.nodes().snapshot();
        let node = nodes.node(gateway.id().name.as_ref());
        node.is_some_and(|node| node.tags.value("role") == Some("gateway"))
    };
    cluster.eventually(is_known).await;
    assert!(is_allowed(&nodes[1]).await);
    assert!(!is_allowed(&nodes[2]).await);

    gateway
        .membership()
        .set_tag("role", "worker")
        .expect("it fits");
    cluster.eventually(|| !is_known()).await;
    assert!(!is_allowed(&nodes[1]).await);
}
