//! Lanes: small calls that share streams.

use std::{
    num::{NonZeroU8, NonZeroU32, NonZeroUsize},
    pin::pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::Poll,
};

use bytes::Bytes;
use futures::{
    FutureExt, StreamExt,
    future::{join_all, pending, poll_fn},
    stream::FuturesUnordered,
};
use rpcnet_transport::{CallOptions, Code, Dispatch, Processed, RpcError};
use tokio::{sync::Semaphore, task::yield_now};

use super::*;

pub(super) const LARGE: usize = 4 << 20;

pub(super) fn echo(router: Router) -> Router {
    router.raw("echo", |_cx, body| async move { Ok(body) })
}

pub(super) fn hang(router: Router) -> Router {
    router.raw("hang", |_cx, _body| pending())
}

pub(super) fn few(lanes: u8, calls: u32) -> TransportConfig {
    TransportConfig::default()
        .with_lanes(NonZeroU8::new(lanes).unwrap())
        .with_lane_calls_max(NonZeroU32::new(calls).unwrap())
}

type Call = JoinHandle<Result<Bytes, RpcError>>;

pub(super) fn call(client: &RpcClient, method: &'static str, options: CallOptions) -> Call {
    let client = client.clone();
    tokio::spawn(async move { client.call_with(method, "x", options).await })
}

pub(super) fn unlimited() -> CallOptions {
    CallOptions::new().without_deadline()
}

pub(super) fn failure(outcome: Result<Bytes, RpcError>) -> (Code, Processed) {
    let error = outcome.expect_err("no reply");
    (error.code(), error.processed())
}

/// Polls a future once.
pub(super) async fn begin<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    poll_fn(|cx| Poll::Ready(future.poll_unpin(cx))).await
}

#[tokio::test]
async fn captured_values_are_dropped_when_the_handler_has_returned() {
    let held = Arc::new(());
    let given = Arc::clone(&held);
    let router = Router::new().raw("hold", move |_cx, _body| {
        let held = Arc::clone(&given);
        // Unlike an async block, such a future keeps what it captured when it is ready.
        poll_fn(move |_| Poll::Ready(Ok(Bytes::from(Arc::strong_count(&held).to_string()))))
    });
    let (_server, client) = pair(router.with_dispatch("hold", Dispatch::Inline)).await;
    for _ in 0..3 {
        let count = within(client.call("hold", "")).await.expect("a reply");
        assert_eq!(count, "3", "here, in the router, and in this call");
        assert_eq!(Arc::strong_count(&held), 2);
    }
}

#[tokio::test]
async fn small_calls_overtake_large_bodies_and_large_replies() {
    let router = echo(Router::new()).raw("grow", |_cx, _body| async move {
        Ok(Bytes::from(vec![7; LARGE]))
    });
    let (_server, client) = pair(router).await;
    assert_answers(&client).await;
    let body = Bytes::from(vec![1; LARGE]);
    let mut large = pin!(join_all([
        client.call("echo", body.clone()).boxed(),
        client.call("grow", "").boxed(),
        client.call("grow", "").boxed(),
    ]));
    let mut passed = 0;
    loop {
        tokio::select! {
            biased;
            small = client.call("echo", "small") => {
                assert_eq!(small.unwrap(), "small");
                passed += 1;
            }
            replies = &mut large => {
                assert!(replies.into_iter().all(|reply| reply.unwrap().len() == LARGE));
                break;
            }
        }
        // Otherwise the large calls would not be polled.
        if begin(&mut large).await.is_ready() {
            break;
        }
    }
    assert!(passed >= 3, "only {passed} passed 12 MiB");
}

#[tokio::test]
async fn a_dropped_call_drops_its_handler_and_frees_its_slot() {
    let (router, dropped) = hanging();
    let server = serve(router, few(1, 1));
    let client = connect(&server).await;
    // Each call needs the only slot of the lane.
    for round in 1..=20 {
        let mut call = client.call("hang", "").boxed();
        assert!(begin(&mut call).await.is_pending());
        until("it is served", || server.in_flight() == 1).await;
        drop(call);
        within(dropped.next()).await;
        counts(&server, "cancelled calls", round, |s| s.calls_cancelled).await;
        assert_answers(&client).await;
    }
    assert_eq!((server.in_flight(), client.in_flight()), (0, 0));
}

#[tokio::test]
async fn a_context_ends_with_its_call_and_is_not_shared() {
    let kept: Arc<Mutex<Vec<CallContext>>> = Arc::default();
    let keep = Arc::clone(&kept);
    let router = Router::new().raw("keep", move |cx: CallContext, body: Bytes| {
        let kept = Arc::clone(&keep);
        async move {
            assert!(!cx.is_cancelled());
            if body.is_empty() {
                kept.lock().unwrap().push(cx);
            }
            Ok(body)
        }
    });
    let (_server, client) = pair(router).await;
    for attempt in 0..10 {
        let options = CallOptions::new().with_attempt(attempt);
        within(client.call_with("keep", "", options)).await.unwrap();
        // Lets the next call reuse the context of one that did not keep it.
        within(client.call_with("keep", "x", options.with_attempt(99)))
            .await
            .unwrap();
    }
    let kept = std::mem::take(&mut *kept.lock().unwrap());
    let attempts: Vec<u8> = kept.iter().map(CallContext::attempt).collect();
    assert_eq!(attempts, (0..10).collect::<Vec<_>>());
    for cx in kept {
        within(cx.cancelled()).await;
        assert!(cx.is_cancelled());
    }
}

#[tokio::test]
async fn all_lanes_are_used_up_to_the_announced_limit() {
    const CALLS: usize = 3 * 2;
    let (router, gate) = gated(Router::new());
    let server = serve(router, few(3, 2));
    let client = connect(&server).await;
    let calls: Vec<_> = (0..CALLS)
        .map(|_| call(&client, "wait", unlimited()))
        .collect();
    until("all lanes are full", || server.in_flight() == CALLS).await;
    let mut late = client.call_with("wait", "late", unlimited()).boxed();
    assert!(begin(&mut late).await.is_pending());
    // The late call would be served by now, had it been sent.
    let other = connect(&server).await;
    assert_answers(&other).await;
    assert_eq!((server.in_flight(), client.in_flight()), (CALLS, CALLS));
    gate.add_permits(CALLS + 1);
    assert_eq!(within(late).await.unwrap(), "late");
    for call in calls {
        assert_eq!(within(call).await.unwrap().unwrap(), "x");
    }
}

#[tokio::test]
async fn a_full_or_slow_lane_queue_is_overloaded() {
    let (router, gate) = gated(Router::new());
    let server = serve(router, few(1, 1));
    let client = connect_with(&server, TransportConfig::default().with_queue_len_max(1)).await;
    let first = call(&client, "wait", unlimited());
    until("the lane is full", || server.in_flight() == 1).await;
    let overloaded = (Code::Overloaded, Processed::No);

    let mut queued = client.call_with("wait", "", unlimited()).boxed();
    assert!(begin(&mut queued).await.is_pending());
    let rejected = client.call_with("wait", "", unlimited());
    let rejected = rejected.now_or_never().expect("it is rejected at once");
    assert_eq!(failure(rejected), overloaded);
    drop(queued);

    let short = CallOptions::new().with_timeout(Duration::from_millis(50));
    let late = within(client.call_with("wait", "", short)).await;
    assert_eq!(failure(late), overloaded);
    assert_eq!(server.stats().calls_started, 1, "the others were not sent");

    gate.add_permits(1);
    assert_eq!(within(first).await.unwrap().unwrap(), "x");
    assert_answers(&client).await;
}

#[tokio::test]
async fn waiting_calls_get_slots_when_others_are_cancelled() {
    let (router, gate) = gated(Router::new());
    let server = serve(router, few(1, 2));
    let client = connect(&server).await;
    let first = [(); 2].map(|()| call(&client, "wait", unlimited()));
    until("the lane is full", || server.in_flight() == 2).await;
    let waiting: Vec<_> = (0..40)
        .map(|_| call(&client, "wait", unlimited()))
        .collect();
    yield_now().await;
    // Some of the waiting calls are cancelled, also just when a slot becomes free for them.
    gate.add_permits(1);
    for (n, call) in waiting.iter().enumerate() {
        if n % 3 == 0 {
            call.abort();
            yield_now().await;
        }
    }
    gate.add_permits(100);
    for call in first {
        assert_eq!(within(call).await.unwrap().unwrap(), "x");
    }
    for (n, call) in waiting.into_iter().enumerate() {
        match within(call).await {
            Ok(reply) => assert_eq!(reply.unwrap(), "x"),
            Err(e) => assert!(e.is_cancelled() && n % 3 == 0),
        }
    }
    assert_answers(&client).await;
    assert_eq!(client.in_flight(), 0);
}

#[tokio::test]
async fn waiting_calls_end_on_drain_and_on_close() {
    let (router, gate) = gated(Router::new());
    let server = serve(router, few(1, 1));
    let client = connect(&server).await;
    let served = call(&client, "wait", unlimited());
    until("the lane is full", || server.in_flight() == 1).await;
    let waiting = [(); 5].map(|()| call(&client, "wait", unlimited()));
    yield_now().await;
    server.set_draining(true);
    for call in waiting {
        let outcome = within(call).await.unwrap();
        assert_eq!(failure(outcome), (Code::Draining, Processed::No));
    }
    server.set_draining(false);
    until("it takes calls again", || !client.is_draining()).await;

    let waiting = [(); 5].map(|()| call(&client, "wait", unlimited()));
    yield_now().await;
    client.close("enough");
    let (code, processed) = failure(within(served).await.unwrap());
    assert_eq!((code, processed), (Code::Unavailable, Processed::Maybe));
    for call in waiting {
        let outcome = within(call).await.unwrap();
        assert_eq!(failure(outcome), (Code::Unavailable, Processed::No));
    }
    drop(gate);
}

#[tokio::test]
async fn a_drain_rejects_new_calls_and_its_deadline_cancels_the_rest() {
    let (router, gate) = gated(hang(Router::new()));
    let (server, client) = pair(router).await;
    let old = [(); 3].map(|()| call(&client, "wait", unlimited()));
    let stuck = [(); 2].map(|()| call(&client, "hang", unlimited()));
    until("all are served", || server.in_flight() == 5).await;
    let shutdown = tokio::spawn({
        let server = server.clone();
        async move { server.shutdown(Duration::from_millis(800)).await }
    });
    until("the client knows", || client.is_draining()).await;
    let new = client.call("wait", "").now_or_never();
    let new = new.expect("it is rejected at once");
    assert_eq!(failure(new), (Code::Draining, Processed::No));
    gate.add_permits(3);
    for call in old {
        assert_eq!(within(call).await.unwrap().unwrap(), "x");
    }
    for call in stuck {
        let outcome = within(call).await.unwrap();
        assert_eq!(failure(outcome), (Code::Cancelled, Processed::Maybe));
    }
    let report = within(shutdown).await.unwrap();
    assert_eq!((report.completed, report.cancelled), (3, 2));
    assert_eq!(server.in_flight(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unanswered_calls_of_a_draining_server_are_unprocessed() {
    // Every third reply has a stream of its own.
    let processed = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&processed);
    let router = Router::new().raw("count", move |_cx, body: Bytes| {
        let number = count.fetch_add(1, SeqCst);
        async move {
            if number.is_multiple_of(2) {
                yield_now().await;
            }
            Ok(if number.is_multiple_of(3) {
                vec![0; 60_000].into()
            } else {
                body
            })
        }
    });
    for _ in 0..5 {
        let before = processed.load(SeqCst);
        let (server, client) = pair(router.clone()).await;
        let callers: Vec<_> = (0..40)
            .map(|_| {
                let client = client.clone();
                tokio::spawn(async move {
                    let mut answered = 0;
                    loop {
                        match client.call("count", "x").await {
                            Ok(_) => answered += 1,
                            Err(error) => return (answered, error),
                        }
                    }
                })
            })
            .collect();
        until("it is busy", || processed.load(SeqCst) > before + 500).await;
        let report = within(server.shutdown(TEST_TIMEOUT)).await;
        assert_eq!(report.cancelled, 0);
        let answered = answered_calls(callers).await;
        assert_eq!(answered, (processed.load(SeqCst) - before) as u64);
    }
}

#[tokio::test]
async fn a_lost_server_leaves_calls_maybe_processed() {
    let (server, client) = pair(hang(Router::new())).await;
    let calls = [(); 3].map(|()| call(&client, "hang", unlimited()));
    until("all are served", || server.in_flight() == 3).await;
    drop(server);
    for call in calls {
        let outcome = within(call).await.unwrap();
        assert_eq!(failure(outcome), (Code::Unavailable, Processed::Maybe));
    }
    assert_eq!(client.in_flight(), 0);
    let after = within(client.call("hang", "")).await;
    let (code, processed) = failure(after);
    // Before or after the client notices that the connection is closed.
    assert!(matches!(code, Code::Unavailable | Code::Draining), "{code}");
    assert_eq!(processed, Processed::No);
}

#[tokio::test]
async fn replies_carry_the_load_report() {
    let (router, gate) = gated(echo(Router::new()));
    let config = no_drain_grace().with_calls_max(NonZeroUsize::new(5).unwrap());
    let server = serve(router, config);
    let client = connect(&server).await;
    assert_eq!(client.load(), None);
    within(client.call("echo", "")).await.unwrap();
    let load = client.load().expect("there was a reply");
    assert_eq!((load.draining, load.busy), (false, false));

    let calls = [(); 4].map(|()| call(&client, "wait", unlimited()));
    until("all are served", || server.in_flight() == 4).await;
    within(client.call("echo", "")).await.unwrap();
    let load = client.load().unwrap();
    assert!(load.busy && load.in_flight >= 4, "{load:?}");

    // The report of a rejection says so too. The call comes before the client hears of the drain.
    server.set_draining(true);
    assert_eq!(
        failure(within(client.call("echo", "")).await),
        (Code::Draining, Processed::No)
    );
    gate.add_permits(4);
    for call in calls {
        within(call).await.unwrap().unwrap();
    }
    assert!(client.load().unwrap().draining);
}

#[tokio::test]
async fn a_request_that_waits_for_another_shows_in_the_queue_delay() {
    let router = echo(Router::new())
        .raw("compute", |_cx, body| {
            // The time that the calls behind it wait is what is measured.
            std::thread::sleep(Duration::from_millis(20));
            std::future::ready(Ok(body))
        })
        .with_dispatch("compute", Dispatch::Inline);
    let (_server, client) = pair(router).await;
    // The first call goes alone, the others together.
    let calls = (0..8).map(|n| client.call(["compute", "echo"][n % 2], ""));
    for reply in within(join_all(calls)).await {
        reply.unwrap();
    }
    within(client.call("echo", "")).await.unwrap();
    let load = client.load().unwrap();
    assert!(load.queue_delay >= Duration::from_millis(1), "{load:?}");
}

/// Two methods of a server with several threads: one reports in which order they ran, the other
/// computes.
async fn order_behind(dispatch: Dispatch, habit: usize, longest: Duration) -> Vec<&'static str> {
    let brief = Duration::from_millis(2);
    let (order, gate) = (
        Arc::new(Mutex::new(Vec::new())),
        Arc::new(Semaphore::new(0)),
    );
    let (computed, noted) = (Arc::clone(&order), Arc::clone(&order));
    let wait = Arc::clone(&gate);
    let router = Router::new()
        .raw("compute", move |_cx, body: Bytes| {
            // The other calls of the lane wait for at most this long.
            let begun = std::time::Instant::now();
            let longest = if body.is_empty() { brief } else { longest };
            while begun.elapsed() < longest && wait.available_permits() == 0 {
                std::thread::sleep(Duration::from_millis(1));
            }
            if !body.is_empty() {
                computed.lock().unwrap().push("computed");
            }
            std::future::ready(Ok(body))
        })
        .raw("note", move |_cx, body| {
            noted.lock().unwrap().push("noted");
            gate.add_permits(1);
            std::future::ready(Ok(body))
        })
        .with_dispatch("compute", dispatch);
    let (_server, client) = pair(router).await;
    for _ in 0..habit {
        within(client.call("compute", "")).await.unwrap();
    }
    let (long, note) =
        within(async { tokio::join!(client.call("compute", "x"), client.call("note", "")) }).await;
    long.and(note).unwrap();
    order.lock().unwrap().clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn dispatch_decides_how_long_a_computing_handler_delays_others() {
    let held_up = ["computed", "noted"];
    let passed = ["noted", "computed"];
    // Only the first call waits for the handler.
    let in_vain = Duration::from_millis(300);
    assert_eq!(order_behind(Dispatch::Inline, 5, in_vain).await, held_up);
    assert_eq!(
        order_behind(Dispatch::Spawned, 0, TEST_TIMEOUT).await,
        passed
    );
    // Two slow polls mark the handler as slow.
    assert_eq!(
        order_behind(Dispatch::Adaptive, 2, TEST_TIMEOUT).await,
        passed
    );
}

#[tokio::test]
async fn a_method_registered_later_is_found() {
    let (server, client) = pair(Router::new()).await;
    for _ in 0..3 {
        let outcome = within(client.call("later", "")).await;
        assert_eq!(failure(outcome), (Code::Unimplemented, Processed::No));
    }
    server.register("later", |_cx, body| async move { Ok(body) });
    assert_eq!(within(client.call("later", "x")).await.unwrap(), "x");
}

#[tokio::test(start_paused = true)]
async fn deadlines_of_many_calls_are_kept_in_any_order() {
    let (server, client) = pair_in_memory(hang(Router::new())).await;
    let begun = Instant::now();
    let mut calls: FuturesUnordered<_> = (0..200u64)
        .map(|n| {
            // Neither in ascending nor in descending order.
            let timeout = Duration::from_millis(100 + n * 37 % 200);
            let options = CallOptions::new().with_timeout(timeout);
            let call = client.call_with("hang", "", options);
            call.map(move |outcome| (timeout, outcome, Instant::now()))
        })
        .collect();
    while let Some((timeout, outcome, ended)) = within(calls.next()).await {
        assert_eq!(failure(outcome), (Code::DeadlineExceeded, Processed::Maybe));
        let late = (ended - begun).checked_sub(timeout);
        let late = late.unwrap_or_else(|| panic!("{timeout:?} too soon"));
        assert!(
            late <= Duration::from_millis(5),
            "{timeout:?} is {late:?} late"
        );
    }
    until("the server is idle", || server.in_flight() == 0).await;
    assert_eq!(client.in_flight(), 0);
    let stats = server.stats();
    assert_eq!(stats.calls_timed_out + stats.calls_cancelled, 200);
    assert_answers(&client).await;
}

#[test]
fn a_client_may_be_used_from_other_runtimes_and_from_none() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let (server, client) = runtime.block_on(pair(hang(echo(Router::new()))));
    // Its first call comes from a runtime that ends at once; the lane does not end with it.
    for _ in 0..2 {
        let other = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let reply = other.block_on(within(client.call("echo", "there")));
        assert_eq!(reply.unwrap(), "there");
    }
    let reply = block_on(client.call("echo", "nowhere"));
    assert_eq!(reply.unwrap(), "nowhere");
    // Too large for a lane.
    let large = block_on(client.call("echo", vec![0; 100_000]));
    assert_eq!(large.unwrap().len(), 100_000);
    let options = CallOptions::new().with_timeout(Duration::from_millis(50));
    let late = block_on(client.call_with("hang", "", options));
    assert_eq!(failure(late), (Code::DeadlineExceeded, Processed::Maybe));
    drop(server);
    drop(runtime);
    // The runtime of the connection is gone: calls fail or succeed, but none hangs.
    let after = block_on(client.call("echo", ""));
    assert!(after.is_err());
}

#[test]
fn a_first_call_after_the_end_of_its_runtime_does_not_hang() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let (server, client) = runtime.block_on(pair(echo(Router::new())));
    drop(server);
    drop(runtime);
    assert!(block_on(client.call("echo", "")).is_err());
}

/// Lanes stay open, so they must not take all streams of a connection.
#[tokio::test]
async fn lanes_leave_a_stream_for_large_calls() {
    for streams in [1, 2, 4, 5] {
        let streams_max = NonZeroU32::new(streams).unwrap();
        let config = TransportConfig::default().with_streams_max(streams_max);
        let server = serve(echo(Router::new()), config);
        let client = connect(&server).await;
        let large = Bytes::from(vec![7; 50_000]);
        for _ in 0..2 {
            let small = (0..200).map(|_| client.call("echo", "x"));
            for reply in within(join_all(small)).await {
                assert_eq!(reply.expect("a small call"), "x");
            }
            let reply = within(client.call("echo", large.clone())).await;
            assert_eq!(reply.expect("a large call"), large, "{streams} streams");
        }
    }
}
