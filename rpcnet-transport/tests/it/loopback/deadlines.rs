//! Deadlines and cancellation.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::SeqCst},
};

use futures::future::pending;
use rpcnet_transport::{CallOptions, Code, Processed};
use tokio::sync::{Notify, mpsc};

use super::*;

const SHORT: Duration = Duration::from_millis(150);

fn short() -> CallOptions {
    CallOptions::new().with_timeout(SHORT)
}

#[tokio::test(start_paused = true)]
async fn a_deadline_ends_the_call_on_both_sides() {
    let (router, dropped) = hanging();
    let (server, client) = pair_in_memory(router).await;
    let begun = Instant::now();
    let error = within(client.call_with("hang", "", short()))
        .await
        .unwrap_err();
    assert_eq!(
        outcome_of(&error),
        (Code::DeadlineExceeded, Processed::Maybe)
    );
    let took = begun.elapsed();
    assert!(took >= SHORT && took < SHORT * 2, "{took:?}");
    assert!(!error.is_retryable() && !error.is_retryable_if_idempotent());
    within(dropped.next()).await;
    until("the server is idle", || server.in_flight() == 0).await;
    let stats = server.stats();
    assert_eq!(stats.calls_timed_out + stats.calls_cancelled, 1);
    assert_answers(&client).await;
}

#[tokio::test]
async fn the_server_enforces_the_deadline_of_a_caller_that_does_not() {
    let router = Router::new().raw("hang", |_cx, _body| pending());
    let server = serve(router, TransportConfig::default());
    let mut caller = hostile_caller::Caller::connect(&server).await;
    let reply = within(caller.call("hang", Some(SHORT))).await;
    assert_eq!(
        (reply.code, reply.processed),
        (Code::DeadlineExceeded, Processed::Maybe)
    );
    counts(&server, "timed out calls", 1, |s| s.calls_timed_out).await;
    assert_serves(&server).await;
}

#[tokio::test]
async fn the_default_timeout_is_configurable() {
    let router = Router::new().raw("hang", |_cx, _body| pending());
    let server = serve(router, TransportConfig::default());
    let client = connect_with(&server, TransportConfig::default().with_call_timeout(SHORT)).await;
    let error = within(client.call("hang", "")).await.unwrap_err();
    assert_eq!(error.code(), Code::DeadlineExceeded);
}

#[tokio::test]
async fn endless_streams_end_at_their_deadline() {
    let router = Router::new()
        .server_streaming("silence", |_cx, (): (), _out: Sender<u8>| pending())
        .server_streaming(
            "flood",
            |_cx, (): (), mut out: Sender<Vec<u8>>| async move {
                loop {
                    out.send(vec![0; 1000]).await?;
                }
            },
        );
    let (server, client) = pair(router).await;
    let mut silence = client
        .call_server_streaming_with::<_, u8>("silence", &(), short())
        .await
        .unwrap();
    let error = within(silence.message()).await.unwrap_err();
    assert_eq!(error.code(), Code::DeadlineExceeded);
    assert_eq!(
        silence.message().await.unwrap(),
        None,
        "an error is the end"
    );

    let mut flood = client
        .call_server_streaming_with::<_, Vec<u8>>("flood", &(), short())
        .await
        .unwrap();
    let error = within(async {
        loop {
            if let Err(error) = flood.message().await {
                return error;
            }
        }
    });
    assert_eq!(error.await.code(), Code::DeadlineExceeded);
    drop((silence, flood));
    until("the server is idle", || server.in_flight() == 0).await;
    assert_answers(&client).await;
}

#[tokio::test]
async fn a_call_without_deadline_tells_the_handler_so() {
    let router = Router::new().typed_with("left", |cx: CallContext, (): ()| async move {
        cx.remaining().is_none()
    });
    let (_server, client) = pair(router).await;
    let options = CallOptions::new().without_deadline();
    assert!(
        within(client.call_typed_with::<_, bool>("left", &(), options))
            .await
            .unwrap()
    );
}

#[tokio::test]
async fn dropping_a_call_cancels_its_handler_and_what_it_spawned() {
    let dropped = DropCount::new();
    let counted = dropped.clone();
    let begun = Arc::new(Notify::new());
    let begins = Arc::clone(&begun);
    let noticed = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&noticed);
    let router = Router::new().raw("hang", move |cx: CallContext, _body| {
        let (guard, begins, seen) = (counted.guard(), Arc::clone(&begins), Arc::clone(&seen));
        async move {
            let _guard = guard;
            tokio::spawn(async move {
                cx.cancelled().await;
                seen.store(true, SeqCst);
            });
            begins.notify_one();
            pending().await
        }
    });
    let (server, client) = pair(router).await;
    let call = tokio::spawn({
        let client = client.clone();
        async move {
            client
                .call_with("hang", "", CallOptions::new().without_deadline())
                .await
        }
    });
    within(begun.notified()).await;
    assert_eq!((client.in_flight(), server.in_flight()), (1, 1));
    call.abort();
    within(dropped.next()).await;
    until("the spawned task noticed", || noticed.load(SeqCst)).await;
    until("nothing is in flight", || {
        client.in_flight() + server.in_flight() == 0
    })
    .await;
    counts(&server, "cancelled calls", 1, |s| s.calls_cancelled).await;
    assert_answers(&client).await;
}

#[tokio::test]
async fn spawned_tasks_learn_that_the_handler_has_returned() {
    let told = Arc::new(Notify::new());
    let tells = Arc::clone(&told);
    let router = Router::new().raw("spawn", move |cx: CallContext, body| {
        let tells = Arc::clone(&tells);
        async move {
            tokio::spawn(async move {
                cx.cancelled().await;
                tells.notify_one();
            });
            Ok(body)
        }
    });
    let (_server, client) = pair(router).await;
    within(client.call("spawn", "")).await.unwrap();
    within(told.notified()).await;
}

#[tokio::test]
async fn dropping_either_end_of_a_stream_reaches_the_handler() {
    let dropped = DropCount::new();
    let counted = dropped.clone();
    let (told, mut tells) = mpsc::channel(1);
    let router = Router::new().streaming(
        "listen",
        move |_cx, mut requests: Receiver<u32>, mut out: Sender<u32>| {
            let (guard, told) = (counted.guard(), told.clone());
            async move {
                let _guard = guard;
                out.send(1).await?;
                let end = requests.message().await.map_err(|e| e.code());
                told.try_send(end).expect("one at a time");
                pending().await
            }
        },
    );
    let (server, client) = pair(router).await;

    let (send, mut recv) = client.call_streaming::<u32, u32>("listen").await.unwrap();
    // The handler has started: a call that is dropped sooner may never reach it.
    assert_eq!(within(recv.message()).await.unwrap(), Some(1));
    drop(send);
    assert_eq!(within(tells.recv()).await, Some(Err(Code::Cancelled)));
    drop(recv);
    within(dropped.next()).await;

    // A sender that finishes its stream does not end the call.
    let (send, recv) = client.call_streaming::<u32, u32>("listen").await.unwrap();
    send.finish();
    assert_eq!(within(tells.recv()).await, Some(Ok(None)));
    assert_eq!(server.in_flight(), 1);
    drop(recv);
    within(dropped.next()).await;
    until("nothing is in flight", || {
        client.in_flight() + server.in_flight() == 0
    })
    .await;
}

#[tokio::test]
async fn a_call_past_its_deadline_is_not_sent() {
    let router = Router::new()
        .raw("echo", |_cx, body| async move { Ok(body) })
        .server_streaming("down", |_cx, (): (), _out: Sender<u8>| async { Ok(()) })
        .client_streaming("up", |_cx, _in: Receiver<u8>| async { 0u8 })
        .streaming("both", |_cx, _in: Receiver<u8>, _out: Sender<u8>| async {
            Ok(())
        });
    let (server, client) = pair(router).await;
    let over = CallOptions::new().with_deadline(std::time::Instant::now());
    let isolated = over.with_isolated(true);
    let mut errors = Vec::new();
    for _ in 0..50 {
        errors.extend(client.call_with("echo", "", over).await.err());
        errors.extend(client.call_ref("echo", &"".into(), over).await.err());
        errors.extend(client.call_with("echo", "", isolated).await.err());
        let large = vec![0; 100_000];
        errors.extend(client.call_with("echo", large, over).await.err());
    }
    let down = client.call_server_streaming_with::<_, u8>("down", &(), over);
    errors.extend(down.await.err());
    let up = client.call_client_streaming_with::<u8, u8>("up", over);
    errors.extend(up.await.err());
    let both = client.call_streaming_with::<u8, u8>("both", over);
    errors.extend(both.await.err());
    assert_eq!(errors.len(), 203);
    for error in errors {
        assert_eq!(outcome_of(&error), (Code::DeadlineExceeded, Processed::No));
    }
    // These calls come after the others on every kind of stream.
    for options in [CallOptions::new(), CallOptions::new().with_isolated(true)] {
        within(client.call_with("echo", "", options)).await.unwrap();
    }
    let stats = server.stats();
    assert_eq!((stats.calls_started, stats.calls_timed_out), (2, 0));
    assert_eq!(client.in_flight(), 0);
}

#[tokio::test]
async fn streams_have_no_deadline_by_default() {
    let router = Router::new()
        .server_streaming("left", |cx: CallContext, (): (), mut out| async move {
            out.send(cx.remaining().is_some()).await?;
            Ok(())
        })
        .client_streaming("up", |cx: CallContext, _in: Receiver<u8>| async move {
            cx.remaining().is_some()
        })
        .streaming(
            "both",
            |cx: CallContext, _in: Receiver<u8>, mut out: Sender<bool>| async move {
                out.send(cx.remaining().is_some()).await?;
                Ok(())
            },
        )
        .typed_with("unary", |cx: CallContext, (): ()| async move {
            cx.remaining().is_some()
        });
    let (_server, client) = pair(router).await;
    let new = CallOptions::new();
    let minute = new.with_timeout(Duration::from_secs(60));
    for (options, has_deadline) in [(new, false), (minute, true)] {
        let down = client.call_server_streaming_with::<_, bool>("left", &(), options);
        let told = within(down.await.unwrap().message()).await;
        assert_eq!(told.unwrap(), Some(has_deadline), "{options:?}");
        let up = client.call_client_streaming_with::<u8, bool>("up", options);
        let told = within(up.await.unwrap().finish()).await;
        assert_eq!(told.unwrap(), has_deadline, "{options:?}");
        let both = client.call_streaming_with::<u8, bool>("both", options);
        let told = within(both.await.unwrap().1.message()).await;
        assert_eq!(told.unwrap(), Some(has_deadline), "{options:?}");
        let told = client.call_typed_with::<_, bool>("unary", &(), options);
        assert!(within(told).await.unwrap(), "unary calls have a default");
    }
}

#[tokio::test]
async fn streams_made_by_a_handler_end_with_its_call() {
    let client_of_handler = Arc::new(std::sync::OnceLock::<RpcClient>::new());
    let nested = Arc::clone(&client_of_handler);
    let router = Router::new()
        .server_streaming("left", |cx: CallContext, (): (), mut out| async move {
            out.send(cx.remaining().is_some()).await?;
            Ok(())
        })
        .typed("outer", move |(): ()| {
            let client = nested.get().cloned();
            async move {
                let client = client.ok_or_else(|| Status::internal("no client"))?;
                let mut left = client
                    .call_server_streaming::<_, bool>("left", &())
                    .await
                    .map_err(|e| Status::internal(e.to_string()))?;
                let told = left.message().await;
                told.map_err(|e| Status::internal(e.to_string()))?
                    .ok_or_else(|| Status::internal("no message"))
            }
        });
    let (_server, client) = pair(router).await;
    client_of_handler.set(client.clone()).expect("it is empty");
    let told = within(client.call_typed::<_, bool>("outer", &())).await;
    assert!(told.unwrap(), "the stream has the deadline of the call");
}

#[tokio::test]
async fn opening_a_stream_ends_at_the_default_timeout() {
    let router = Router::new().server_streaming("hang", |_cx, (): (), _out: Sender<u8>| {
        pending::<Result<(), Status>>()
    });
    let streams = std::num::NonZeroU32::new(2).unwrap();
    let server = serve(router, TransportConfig::default().with_streams_max(streams));
    let client = connect_with(&server, TransportConfig::default().with_call_timeout(SHORT)).await;
    let begin = |options| client.call_server_streaming_with::<_, u8>("hang", &(), options);
    let endless = CallOptions::new().without_deadline();
    let _first = within(begin(endless)).await.unwrap();
    let _second = within(begin(endless)).await.unwrap();
    let third = within(begin(CallOptions::new())).await;
    let error = third.map(drop).unwrap_err();
    assert_eq!(outcome_of(&error), (Code::DeadlineExceeded, Processed::No));
}
