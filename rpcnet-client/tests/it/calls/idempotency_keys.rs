//! Idempotency keys: retries that are answered from the cache of a worker.

use std::collections::HashSet;

use parking_lot::Mutex;
use rpcnet_client::{MethodPolicy, transport::IdempotencyCache};

use super::*;

/// The time of an attempt, in virtual time.
const LONG: Duration = Duration::from_secs(2);

fn keys_for_who() -> MethodPolicy {
    MethodPolicy::new()
        .with_generated_keys(true)
        .with_attempt_timeout(LONG)
}

async fn cluster() -> TestCluster {
    let change = |config: ClusterClientConfig| config.with_method("who", keys_for_who());
    TestCluster::with(change).await
}

/// Does something on the first attempt of each key and loses the reply; knows it again after that.
fn recording_router(keys: &Arc<Mutex<Vec<u128>>>) -> Router {
    let keys = Arc::clone(keys);
    Router::new().raw("who", move |cx: CallContext, _| {
        let key = cx.idempotency_key().expect("a key");
        let mut seen = keys.lock();
        let is_new = !seen.contains(&key);
        seen.push(key);
        async move {
            if is_new {
                std::future::pending::<()>().await;
            }
            Ok(Bytes::from_static(b"remembered"))
        }
    })
}

#[tokio::test(start_paused = true)]
async fn a_call_with_a_key_returns_to_the_worker_that_may_have_processed_it() {
    let cluster = cluster().await;
    let keys = Arc::default();
    let _red = cluster.worker("red", recording_router(&keys));
    let other = cluster.worker("blue", identify("blue"));
    let mut remembered = 0;
    for _ in 0..2 {
        let reply = cluster.call("who").await.expect("a reply");
        remembered += usize::from(reply == "remembered");
    }
    // In turns.
    assert_eq!(remembered, 1);
    let seen = keys.lock();
    assert_eq!((seen.len(), seen[0]), (2, seen[1]));
    assert_eq!(other.stats().calls_started, 1);
}

/// The handler runs on when no caller waits for it any more, and what it returns answers the next
/// attempt.
#[tokio::test(start_paused = true)]
async fn a_lost_reply_is_answered_from_the_idempotency_cache() {
    let cluster = cluster().await;
    let (runs, gate) = (
        Arc::new(AtomicUsize::new(0)),
        Arc::new(tokio::sync::Semaphore::new(0)),
    );
    let (counted, opened) = (Arc::clone(&runs), Arc::clone(&gate));
    let router = Router::new().raw("who", move |cx: CallContext, _| {
        counted.fetch_add(1, SeqCst);
        let (opened, attempt) = (Arc::clone(&opened), cx.attempt());
        async move {
            opened.acquire().await.expect("it stays").forget();
            Ok(Bytes::from(format!("done at attempt {attempt}")))
        }
    });
    let memory = IdempotencyCache::new();
    let _red = cluster.worker("red", router.with_idempotency("who", memory.clone()));
    let call = cluster.call("who");
    tokio::pin!(call);
    // The time for the first attempt is over, and the second one waits for the end of what the
    // first has begun.
    let retried = until("a second attempt", || {
        cluster.client.stats().retries_maybe_processed > 0
    });
    tokio::select! {
        reply = &mut call => panic!("{reply:?}"),
        () = retried => gate.add_permits(1),
    }
    assert_eq!(call.await.expect("a reply"), "done at attempt 0");
    assert_eq!((runs.load(SeqCst), memory.len()), (1, 1));
    // Another call is another key.
    gate.add_permits(1);
    cluster.call("who").await.expect("a reply");
    assert_eq!((runs.load(SeqCst), memory.len()), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn a_call_with_a_key_moves_on_when_its_worker_cannot_help() {
    let cluster = cluster().await;
    let (router, runs) = hanging_router();
    let _red = cluster.worker("red", router);
    let _blue = cluster.worker("blue", identify("blue"));
    // In turns, so one of two calls begins at red.
    for _ in 0..2 {
        cluster.call("who").await.expect("blue does it at last");
    }
    assert!(runs.load(SeqCst) >= 2, "it went back");
}

#[tokio::test(start_paused = true)]
async fn generated_keys_are_unique_and_given_keys_are_kept() {
    let cluster = TestCluster::with(|config| config.with_method("who", keys_for_who())).await;
    let seen: Arc<Mutex<Vec<Option<u128>>>> = Arc::default();
    let noted = Arc::clone(&seen);
    let router = Router::new().raw("who", move |cx: CallContext, body| {
        noted.lock().push(cx.idempotency_key());
        async move { Ok(body) }
    });
    let plain = Arc::clone(&seen);
    let router = router.raw("plain", move |cx: CallContext, body| {
        plain.lock().push(cx.idempotency_key());
        async move { Ok(body) }
    });
    let _red = cluster.worker("red", router);
    for _ in 0..20 {
        cluster.call("who").await.expect("a reply");
    }
    let keys: HashSet<_> = seen.lock().drain(..).flatten().collect();
    assert_eq!(keys.len(), 20);
    let options = WorkerCallOptions::new().with_idempotency_key(7);
    cluster.call_with("who", options).await.expect("a reply");
    cluster.call_with("plain", options).await.expect("a reply");
    cluster.call("plain").await.expect("a reply");
    assert_eq!(*seen.lock(), [Some(7), Some(7), None]);
}
