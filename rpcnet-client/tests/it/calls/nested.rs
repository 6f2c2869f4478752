//! Nested calls, made by a handler.

use rpcnet_client::Priority;

use super::*;

/// How much time an inner call has at the most, and its priority, as its handler sees it.
fn inner() -> Router {
    Router::new().raw("inner", |cx: CallContext, _| {
        let left = cx
            .deadline()
            .map(|end| end.duration_since(std::time::Instant::now()));
        let seconds = left.map(|left| left.as_secs());
        let told = format!("{seconds:?} {:?}", cx.priority());
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

#[tokio::test(flavor = "multi_thread")]
async fn nested_calls_inherit_deadline_and_priority() {
    let cluster = TestCluster::new().await;
    let call = WorkerCallOptions::new()
        .with_timeout(Duration::from_secs(9))
        .with_priority(Priority::Sheddable);
    let own = WorkerCallOptions::new();
    let of_its_own = own.with_timeout(Duration::from_secs(4));
    let critical = own.with_priority(Priority::CriticalPlus);
    // The seconds that the inner call has at most, if fewer than the client gives it.
    let table = [
        (own, Some(9), Priority::Sheddable),
        (of_its_own, Some(4), Priority::Sheddable),
        (own.without_deadline(), Some(9), Priority::Sheddable),
        (critical, Some(9), Priority::CriticalPlus),
        (own.without_inheritance(), None, Priority::Critical),
    ];
    let _inner = cluster.worker("inner", inner());
    let names = ["red", "blue", "green", "yellow", "gray"];
    for ((options, limit, priority), name) in table.into_iter().zip(names) {
        let worker = cluster.worker(name, outer(Arc::clone(&cluster.client), options));
        let reply = cluster.call_with("outer", call).await.expect("a reply");
        let (left, told) = reply.rsplit_once(' ').expect("two words");
        assert_eq!(told, format!("{priority:?}"), "{options:?}");
        let left = left.trim_start_matches("Some(").trim_end_matches(')');
        let seconds: u64 = left.parse().expect("a number");
        let is_limited = seconds < limit.unwrap_or(9);
        assert_eq!(is_limited, limit.is_some(), "{seconds} s, {options:?}");
        cluster.list.remove(name);
        drop(worker);
    }
}
