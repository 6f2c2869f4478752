//! Nested calls, made by a handler.

use rpcnet_client::Priority;

use super::*;

/// How much time an inner call has, and its priority, as its handler sees it.
fn inner() -> Router {
    Router::new().raw("inner", |cx: CallContext, _| {
        let left = cx.remaining().expect("a deadline");
        let told = format!("{left:?} {:?}", cx.priority());
        async move { Ok(Bytes::from(told)) }
    })
}

/// Calls on, with these options.
fn outer(client: Arc<ClusterClient>, options: WorkerCallOptions) -> Router {
    Router::new().raw("outer", move |_, body| {
        let client = Arc::clone(&client);
        async move {
            let reply = client.call_worker_with("inner", body, None, options).await;
            reply.map_err(|error| Status::internal(error.to_string()))
        }
    })
}

#[tokio::test(start_paused = true)]
async fn nested_calls_inherit_deadline_and_priority() {
    let cluster = TestCluster::new().await;
    let call = WorkerCallOptions::new()
        .with_timeout(Duration::from_secs(9))
        .with_priority(Priority::Sheddable);
    let own = WorkerCallOptions::new();
    let of_its_own = own.with_timeout(Duration::from_secs(4));
    let critical = own.with_priority(Priority::CriticalPlus);
    // The time that the inner call has: no more than is left of the outer one.
    let nine = Duration::from_secs(9);
    let table = [
        (own, nine, Priority::Sheddable),
        (of_its_own, Duration::from_secs(4), Priority::Sheddable),
        (own.without_deadline(), nine, Priority::Sheddable),
        (critical, nine, Priority::CriticalPlus),
        (own.without_inheritance(), TEST_TIMEOUT, Priority::Critical),
    ];
    let _inner = cluster.worker("inner", inner());
    let names = ["red", "blue", "green", "yellow", "gray"];
    for ((options, left, priority), name) in table.into_iter().zip(names) {
        let worker = cluster.worker(name, outer(Arc::clone(&cluster.client), options));
        let reply = cluster.call_with("outer", call).await.expect("a reply");
        assert_eq!(reply, format!("{left:?} {priority:?}"), "{options:?}");
        cluster.list.remove(name);
        drop(worker);
    }
}
