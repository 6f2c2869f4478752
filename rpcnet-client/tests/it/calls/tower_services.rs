//! Workers as a service of tower: layers around calls, and what reaches the worker.

use rpcnet_client::{
    tower::{CallRequest, WorkerService},
    transport::Metadata,
};
use tower::{BoxError, Service, ServiceBuilder, ServiceExt, timeout::error::Elapsed};

use super::*;

/// A worker with the tag `pool=gpu`.
fn tagged_worker(cluster: &TestCluster, name: &str, router: Router) -> RpcServer {
    let server = cluster.worker(name, router);
    let node = NodeInfo::new(NodeId::new(name, 1), server.local_addr());
    cluster.list.insert(node.with_tag("pool", "gpu"));
    server
}

#[tokio::test]
async fn a_call_through_layers_selects_a_worker_that_matches_and_goes_on_to_another() {
    let cluster = TestCluster::new().await;
    let _other = cluster.worker("other", identify("other"));
    let (overloaded, calls) = failing_router(Status::overloaded("busy"));
    let _busy = tagged_worker(&cluster, "busy", overloaded);
    let named = Router::new().raw("who", |cx: CallContext, body| async move {
        let seen = cx.metadata().text("tenant").unwrap_or("none");
        cx.set_reply_metadata(Metadata::new().with("seen", seen).unwrap());
        assert_eq!(body, "body");
        Ok("free".into())
    });
    let _free = tagged_worker(&cluster, "free", named);
    let mut workers = ServiceBuilder::new()
        .timeout(TEST_TIMEOUT)
        .concurrency_limit(1)
        .service(WorkerService::new(
            Arc::clone(&cluster.client),
            Some("pool=gpu"),
        ));
    for _ in 0..4 {
        let request = CallRequest::new("who", "body")
            .with_metadata(Metadata::new().with("tenant", "acme").unwrap())
            .with_reply_metadata();
        let reply = workers.ready().await.unwrap().call(request).await.unwrap();
        assert_eq!(reply.body(), "free");
        assert_eq!(reply.metadata().text("seen"), Some("acme"));
    }
    assert!(calls.load(SeqCst) >= 1, "the busy worker was tried first");
}

#[tokio::test]
async fn errors_and_timeouts_pass_the_layers() {
    let cluster = TestCluster::new().await;
    let service = WorkerService::new(Arc::clone(&cluster.client), Some("pool=none"));
    let layered = ServiceBuilder::new().timeout(TEST_TIMEOUT).service(service);
    let options = WorkerCallOptions::new().with_attempts_max(1);
    let request = CallRequest::new("who", "").with_options(options);
    let error: BoxError = layered.oneshot(request).await.unwrap_err();
    let error = error.downcast_ref::<ClusterError>();
    assert!(matches!(error, Some(ClusterError::Select(_))), "{error:?}");

    let (hanging, calls) = hanging_router();
    let worker = cluster.worker("hanging", hanging);
    let service = WorkerService::new(Arc::clone(&cluster.client), None);
    let request = CallRequest::new("who", "");
    let mut layered = ServiceBuilder::new()
        .timeout(TEST_TIMEOUT)
        .service(service.clone());
    tokio::select! {
        ended = layered.ready().await.unwrap().call(request.clone()) => {
            panic!("it never ends: {ended:?}")
        }
        () = until("the call is at the worker", || calls.load(SeqCst) == 1) => {}
    }
    until("the worker cancels the call", || worker.in_flight() == 0).await;
    let hasty = ServiceBuilder::new()
        .timeout(Duration::from_millis(1))
        .service(service);
    let error = hasty.oneshot(request).await.unwrap_err();
    assert!(error.is::<Elapsed>(), "{error}");
}
