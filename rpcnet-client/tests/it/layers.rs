//! Metadata and layers of calls through a cluster.

use std::{sync::Arc, time::Duration};

use futures::{StreamExt, stream};
use parking_lot::Mutex;
use rpcnet_client::{
    AllowTable, CallContext, CallEnd, CallMetadataExt, Callers, ClientLayer, Code, IncomingCall,
    Metadata, Method, MethodOptions, NodeBuilder, OutgoingCall, Priority, Processed, Replies,
    Requests, Router, RpcError, ServerLayer, Status, TransportConfig, WorkerCallOptions,
    callers_by_tags,
    testing::{TestCluster, TestNode},
};

const WHOSE: Method<u32, String> =
    Method::new("whose").with_options(MethodOptions::new().with_idempotent(true));
const EACH: Method<Requests<u32>, Replies<String>> = Method::new("each");
const WORKERS: Option<&str> = Some("role=worker");

fn router() -> Router {
    let tenant = |metadata: &Metadata| metadata.text("tenant").unwrap_or("none").to_owned();
    Router::new()
        .method_with(WHOSE, move |cx, _| async move {
            cx.set_reply_metadata(Metadata::new().with("from", "worker").expect("a key"));
            tenant(cx.metadata())
        })
        .streaming_method(EACH, move |cx, requests: Requests<u32>| async move {
            cx.set_reply_metadata(Metadata::new().with("from", "stream").expect("a key"));
            let tenant = tenant(cx.metadata());
            Ok(Replies::new(requests.map(move |_| tenant.clone())))
        })
        .raw("raw", |cx, _| async move {
            Ok(cx
                .metadata()
                .get("tenant")
                .unwrap_or_default()
                .to_vec()
                .into())
        })
}

/// Starts workers with these routers, and a gateway.
async fn started(cluster: &TestCluster, routers: &[Router], config: TransportConfig) -> TestNode {
    for (number, router) in routers.iter().enumerate() {
        let (name, router) = (format!("worker-{number}"), router.clone());
        let build = move |node: NodeBuilder| node.serve(router.clone()).tag("role", "worker");
        cluster.start(&name, build).await;
    }
    let gateway = cluster.start("gateway", move |node| {
        node.transport_config(config.clone()).tag("role", "gateway")
    });
    let gateway = gateway.await;
    let known = gateway.node();
    let found = known.wait_for_workers(WORKERS, routers.len(), Duration::from_secs(10));
    found.await.expect("the workers");
    gateway
}

fn tenant() -> Metadata {
    Metadata::new().with("tenant", "acme").expect("a key")
}

#[tokio::test(start_paused = true)]
async fn metadata_reaches_the_worker_that_serves_the_call_and_comes_back() {
    let cluster = TestCluster::seeded(1);
    let gateway = started(&cluster, &[router(), router()], TransportConfig::lan()).await;
    let (client, workers) = (gateway.client(), gateway.client().workers(WORKERS));
    let call = WHOSE.call(&workers, &7).with_metadata(tenant());
    let (seen, metadata) = call.with_reply_metadata().await;
    assert_eq!(seen.expect("a reply"), "acme");
    assert_eq!(metadata.text("from"), Some("worker"));
    let raw = client
        .call_worker("raw", "", WORKERS)
        .with_metadata(tenant());
    assert_eq!(raw.await.expect("a reply"), "acme");
    let raw = client.call_worker("raw", "", WORKERS);
    assert_eq!(raw.await.expect("a reply"), "", "nothing is left of it");
    let stream = async {
        let options = MethodOptions::new();
        let replies = EACH.call_streaming(&workers, stream::iter([1, 2]), options);
        replies.await.expect("a stream").collect::<Vec<_>>().await
    };
    let (replies, metadata) = stream.with_metadata(tenant()).with_reply_metadata().await;
    let replies: Vec<String> = replies
        .into_iter()
        .map(|reply| reply.expect("one"))
        .collect();
    assert_eq!(replies, ["acme", "acme"]);
    assert_eq!(metadata.text("from"), Some("stream"));
}

/// Rejects the first calls, as a worker that is overloaded.
struct Overloaded;

impl ServerLayer for Overloaded {
    fn before(&self, call: &mut IncomingCall) -> Result<(), Status> {
        match call.attempt() {
            0 => Err(Status::new(Code::Overloaded, "the first attempt")),
            _ => Ok(()),
        }
    }
}

/// Attempts that a client has made: number, node, code.
#[derive(Clone, Default)]
struct AttemptLog(Arc<Mutex<Vec<(u8, String, Code)>>>);

impl ClientLayer for AttemptLog {
    fn after(&self, call: &OutgoingCall, end: &CallEnd) {
        let node = call.peer().name().to_owned();
        self.0.lock().push((call.attempt(), node, end.code));
    }
}

#[tokio::test(start_paused = true)]
async fn a_layer_of_the_client_sees_each_attempt_with_its_node() {
    let cluster = TestCluster::seeded(2);
    let log = AttemptLog::default();
    let overloaded = || router().layer(Overloaded);
    let config = TransportConfig::lan().with_client_layer(log.clone());
    let gateway = started(&cluster, &[overloaded(), overloaded()], config).await;
    let workers = gateway.client().workers(WORKERS);
    let call = WHOSE.call(&workers, &7).with_metadata(tenant());
    assert_eq!(call.await.expect("a reply"), "acme", "all attempts have it");
    let attempts = log.0.lock().clone();
    let [(0, first, Code::Overloaded), (1, second, Code::Ok)] = &attempts[..] else {
        panic!("{attempts:?}");
    };
    assert_ne!(first, second);
}

#[tokio::test(start_paused = true)]
async fn an_allow_table_by_tags_rejects_calls_of_other_nodes_and_bounds_their_priority() {
    let cluster = TestCluster::seeded(3);
    let gateway = started(&cluster, &[router()], TransportConfig::lan()).await;
    let other = cluster
        .start("other", |node| node.tag("role", "batch"))
        .await;
    let worker = cluster
        .start("guarded", |node| node.tag("role", "guarded"))
        .await;
    let gateways = callers_by_tags(worker.node().nodes(), "role=gateway").expect("a filter");
    let table = AllowTable::new()
        .allow("whose", gateways.with_priority_max(Priority::SheddablePlus))
        .allow(
            "priority",
            Callers::any().with_priority_max(Priority::Sheddable),
        );
    let priority = |cx: CallContext, _| async move { Ok(cx.priority().to_string().into()) };
    let guarded = router().raw("priority", priority).layer(table);
    worker.node().serve(guarded);
    let filter = Some("role=guarded");
    for node in [&gateway, &other] {
        let known = node.node();
        let found = known.wait_for_workers(filter, 1, Duration::from_secs(10));
        found.await.expect("the worker");
    }
    let workers = |node: &TestNode| node.client().workers(filter);
    let allowed = WHOSE.call(&workers(&gateway), &7).await;
    assert_eq!(allowed.expect("a reply"), "none");
    let denied = WHOSE.call(&workers(&other), &7).await.unwrap_err();
    assert_eq!(
        (denied.code(), denied.processed()),
        (Code::PermissionDenied, Processed::No)
    );
    assert!(
        denied
            .to_string()
            .contains("node other may not call \"whose\""),
        "{denied}"
    );
    let raw = other.client().call_worker("raw", "", filter).await;
    assert_eq!(
        raw.unwrap_err().rpc().map(RpcError::code),
        Some(Code::PermissionDenied)
    );
    let options = WorkerCallOptions::new().with_priority(Priority::CriticalPlus);
    let client = other.client();
    let priority = client
        .call_worker_with("priority", "", filter, options)
        .await;
    assert_eq!(priority.expect("a reply"), "sheddable");
}

/// Rejects every call, as if it were invalid.
#[derive(Clone, Default)]
struct Rejecting(Arc<Mutex<u32>>);

impl ClientLayer for Rejecting {
    fn before(&self, _: &mut OutgoingCall) -> Result<(), Status> {
        *self.0.lock() += 1;
        Err(Status::invalid_request("not from here"))
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_a_layer_of_the_caller_rejects_is_tried_on_no_other_worker() {
    let cluster = TestCluster::seeded(4);
    let layer = Rejecting::default();
    let config = TransportConfig::lan().with_client_layer(layer.clone());
    let gateway = started(&cluster, &[router(), router()], config).await;
    let client = gateway.client();
    let error = WHOSE.call(&client.workers(WORKERS), &7).await.unwrap_err();
    assert_eq!(
        (error.code(), error.processed()),
        (Code::InvalidRequest, Processed::No)
    );
    assert!(error.to_string().contains("not from here"), "{error}");
    assert_eq!(*layer.0.lock(), 1);
    let raw = client.call_worker("raw", "", WORKERS).await.unwrap_err();
    assert_eq!(raw.rpc().map(RpcError::code), Some(Code::InvalidRequest));
    assert_eq!(*layer.0.lock(), 2);
}
