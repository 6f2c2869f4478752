//! Tests of connections used from other runtimes than their endpoint's, and after its end.

use std::error::Error;

use futures::future::{join_all, pending};
use rpcnet_transport::{
    CallOptions, CloseReason, Code, ConnectError, ConnectionEvent, Processed, Raw, RpcError,
};
use tokio::{runtime::Runtime, sync::mpsc, task::JoinHandle};

use super::*;

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime")
}

fn methods() -> Router {
    Router::new()
        .raw("echo", |_cx, body| async move { Ok(body) })
        .raw("hang", |_cx, _body| pending())
        .server_streaming("count", |_cx, n: u32, mut to: Sender<u32>| async move {
            for n in 0..n {
                to.send(n).await?;
            }
            pending().await
        })
        .server_streaming("count_to", |_cx, n: u32, mut to: Sender<u32>| async move {
            for n in 0..n {
                to.send(n).await?;
            }
            Ok(())
        })
        .client_streaming("sum", |_cx, mut from: Receiver<u32>| async move {
            let mut sum = 0;
            while let Some(n) = from.message().await? {
                sum += n;
            }
            Ok::<u32, Status>(sum)
        })
}

/// The server, and an endpoint of another runtime.
fn bound_in(theirs: &Runtime, ours: &Runtime) -> (RpcServer, Endpoint) {
    let server = theirs.block_on(async { serve(methods(), TransportConfig::default()) });
    let node = ours.block_on(async { endpoint(CLIENT, TransportConfig::default()) });
    (server, node)
}

fn is_about_the_runtime(error: &RpcError) -> bool {
    let source = error
        .source()
        .and_then(|e| e.downcast_ref::<ConnectError>());
    matches!(source, Some(ConnectError::RuntimeEnded))
}

#[track_caller]
fn assert_local(error: RpcError, processed: Processed) {
    assert!(is_about_the_runtime(&error), "{error:?}");
    assert_eq!(outcome_of(&error), (Code::Unavailable, processed));
    assert!(error.is_local() && !error.is_retryable() && !error.is_retryable_if_idempotent());
    assert!(
        error
            .to_string()
            .contains("the tokio runtime of the endpoint has shut down"),
        "{error}"
    );
}

type Wait = JoinHandle<Result<(), RpcError>>;

/// One of each kind of wait on a connection.
async fn waits(client: &RpcClient) -> Vec<(&'static str, Wait)> {
    let mut waits = unary_waits(client);
    waits.extend(receiver_waits(client).await);
    waits.extend(sender_waits(client).await);
    waits
}

fn unary_waits(client: &RpcClient) -> Vec<(&'static str, Wait)> {
    let (no_deadline, late) = (CallOptions::new().without_deadline(), late_deadline());
    let calls = [
        ("a call on a lane", no_deadline),
        ("an isolated call", no_deadline.with_isolated(true)),
        ("one with a deadline", late.with_isolated(true)),
        ("a lane with a deadline", late),
    ];
    let calls = calls.map(|(what, options)| {
        let client = client.clone();
        let call = async move { client.call_with("hang", "", options).await.map(drop) };
        (what, tokio::spawn(call))
    });
    calls.into()
}

async fn receiver_waits(client: &RpcClient) -> Vec<(&'static str, Wait)> {
    let mut waits = Vec::new();
    for (what, options) in [
        ("a receiver", CallOptions::new().without_deadline()),
        ("a receiver with a deadline", late_deadline()),
    ] {
        let mut receiver: Receiver<u32> = client
            .call_server_streaming_with("count", &1u32, options)
            .await
            .unwrap();
        assert_eq!(receiver.message().await.unwrap(), Some(0));
        let next = async move { receiver.message().await.map(drop) };
        waits.push((what, tokio::spawn(next)));
    }
    waits
}

async fn sender_waits(client: &RpcClient) -> Vec<(&'static str, Wait)> {
    let no_deadline = CallOptions::new().without_deadline();
    let mut upload = client
        .call_client_streaming_with::<u32, u32>("sum", no_deadline)
        .await
        .unwrap();
    // It is never finished: the other half waits.
    let (mut sender, receiver) = client
        .call_streaming_with::<Raw, Raw>("fill", no_deadline)
        .await
        .unwrap();
    let fills = async move {
        let _receiver = receiver;
        loop {
            sender.send(Raw(vec![0; 100_000].into())).await?;
        }
    };
    let sends = async move {
        loop {
            upload.send(1).await?;
            // A pause between two messages: without it the loop would keep the threads busy.
            sleep(Duration::from_millis(1)).await;
        }
    };
    vec![
        ("a sender", tokio::spawn(fills)),
        ("an upload", tokio::spawn(sends)),
    ]
}

/// Options with a deadline after the end of the test.
fn late_deadline() -> CallOptions {
    CallOptions::new().with_timeout(10 * TEST_TIMEOUT)
}

#[test]
fn every_wait_ends_with_the_runtime_of_its_endpoint() {
    let (theirs, killed, ours) = (runtime(), runtime(), runtime());
    let (server, node) = bound_in(&theirs, &killed);
    server.register_streaming(
        "fill",
        |_cx, from: Receiver<Raw>, to: Sender<Raw>| async move {
            let _open = (from, to);
            pending().await
        },
    );
    let addr = server.local_addr();
    ours.block_on(async {
        let client = node.connect(addr, SERVER).await.unwrap();
        let (report, mut reports) = mpsc::channel(1);
        client.on_event(move |event| report.try_send(event).expect("one event"));
        let waits = waits(&client).await;
        let closed = tokio::spawn({
            let client = client.clone();
            async move { client.closed().await }
        });
        until("all are under way", || client.in_flight() >= 8).await;
        killed.shutdown_background();

        for (what, wait) in waits {
            let error = within(wait).await.expect("no panic").expect_err(what);
            assert!(is_about_the_runtime(&error), "{what}: {error:?}");
            assert_eq!(error.processed(), Processed::Maybe, "{what}");
        }
        assert_eq!(within(closed).await.unwrap(), CloseReason::RuntimeEnded);
        assert_eq!(client.close_reason(), Some(CloseReason::RuntimeEnded));
        assert_eq!(
            within(reports.recv()).await,
            Some(ConnectionEvent::Closed(CloseReason::RuntimeEnded))
        );

        // Later calls fail at once.
        for options in [
            CallOptions::new(),
            CallOptions::new().with_isolated(true),
            CallOptions::new().with_isolated(true).without_deadline(),
        ] {
            let error = within(client.call_with("echo", "", options))
                .await
                .unwrap_err();
            assert_local(error, Processed::No);
        }
        let error = within(client.call_client_streaming::<u32, u32>("sum"))
            .await
            .unwrap_err();
        assert_local(error, Processed::No);
        let error = within(node.connect(addr, SERVER)).await.unwrap_err();
        assert!(matches!(error, ConnectError::RuntimeEnded), "{error:?}");
        assert!(error.is_local() && !error.is_retryable());
        within(node.shutdown(TEST_TIMEOUT)).await;
    });
}

#[test]
fn a_handshake_ends_with_the_runtime_of_its_endpoint() {
    let (killed, ours) = (runtime(), runtime());
    let node = killed.block_on(async {
        endpoint(
            CLIENT,
            TransportConfig::default().with_connect_timeout(10 * TEST_TIMEOUT),
        )
    });
    ours.block_on(async {
        // A socket that receives everything and sends nothing.
        let silent = tokio::net::UdpSocket::bind(loopback()).await.unwrap();
        let addr = silent.local_addr().unwrap();
        let connecting = tokio::spawn(async move { node.connect(addr, SERVER).await });
        let mut first = [0; 2_048];
        within(silent.recv(&mut first)).await.unwrap();
        killed.shutdown_background();
        let error = within(connecting).await.expect("no panic").unwrap_err();
        assert!(matches!(error, ConnectError::RuntimeEnded), "{error:?}");
    });
}

#[test]
fn detached_work_of_a_handler_ends_with_the_runtime_of_the_server() {
    let (killed, ours) = (runtime(), runtime());
    let (given, mut taken) = mpsc::channel(1);
    let router = Router::new().streaming("give", {
        move |_cx, from: Receiver<Raw>, to: Sender<Raw>| {
            given.try_send((from, to)).expect("one call");
            pending()
        }
    });
    let (server, node) = {
        let server = killed.block_on(async { serve(router, TransportConfig::default()) });
        (
            server,
            ours.block_on(async { endpoint(CLIENT, TransportConfig::default()) }),
        )
    };
    ours.block_on(async {
        let client = node.connect(server.local_addr(), SERVER).await.unwrap();
        let _call = client.call_streaming::<Raw, Raw>("give").await.unwrap();
        let (mut from, mut to) = within(taken.recv()).await.unwrap();
        let reads = tokio::spawn(async move { from.message().await });
        let writes = tokio::spawn(async move {
            loop {
                if let Err(error) = to.send(Raw(vec![0; 100_000].into())).await {
                    return error;
                }
            }
        });
        tokio::task::yield_now().await;
        killed.shutdown_background();
        within(reads).await.expect("no panic").unwrap_err();
        within(writes).await.expect("no panic");
    });
}

#[test]
fn a_thread_without_a_runtime_may_connect_and_call() {
    let (theirs, ours) = (runtime(), runtime());
    let (server, node) = bound_in(&theirs, &ours);
    block_on(async {
        let client = node.connect(server.local_addr(), SERVER).await.unwrap();
        for options in [
            CallOptions::new(),
            CallOptions::new().without_deadline(),
            CallOptions::new().with_isolated(true),
            CallOptions::new().with_isolated(true).without_deadline(),
        ] {
            assert_eq!(client.call_with("echo", "hi", options).await.unwrap(), "hi");
        }
        let short = CallOptions::new().with_timeout(Duration::from_millis(50));
        for options in [short, short.with_isolated(true)] {
            let error = client.call_with("hang", "", options).await.unwrap_err();
            assert_eq!(error.code(), Code::DeadlineExceeded);
        }
        let mut count = client
            .call_server_streaming("count_to", &3u32)
            .await
            .unwrap();
        for n in 0..3u32 {
            assert_eq!(count.message().await.unwrap(), Some(n));
        }
        assert_eq!(count.message().await.unwrap(), None);
        let mut late: Receiver<u32> = client
            .call_server_streaming_with("count", &0u32, short)
            .await
            .unwrap();
        let error = late.message().await.unwrap_err();
        assert_eq!(error.code(), Code::DeadlineExceeded);
        // A shutdown waits for them.
        drop((count, late));
        let mut sum = client
            .call_client_streaming::<u32, u32>("sum")
            .await
            .unwrap();
        sum.send(1).await.unwrap();
        sum.send(2).await.unwrap();
        assert_eq!(sum.finish().await.unwrap(), 3);
        node.shutdown(TEST_TIMEOUT).await;
        server.shutdown(TEST_TIMEOUT).await;
    });
}

#[test]
fn a_connection_lives_on_the_runtime_of_its_endpoint() {
    let (theirs, ours, first) = (runtime(), runtime(), runtime());
    let (server, node) = bound_in(&theirs, &ours);
    // The first caller's runtime ends; those of the endpoints go on.
    let client = first.block_on(async {
        let client = node.connect(server.local_addr(), SERVER).await.unwrap();
        let calls = (0..100).map(|_| client.call("echo", "hi"));
        assert!(join_all(calls).await.into_iter().all(|reply| reply.is_ok()));
        client
    });
    first.shutdown_background();
    block_on(async {
        for options in [CallOptions::new(), CallOptions::new().with_isolated(true)] {
            assert_eq!(client.call_with("echo", "hi", options).await.unwrap(), "hi");
        }
        let calls = (0..100).map(|_| client.call("echo", "hi"));
        assert!(join_all(calls).await.into_iter().all(|reply| reply.is_ok()));
    });
    assert!(!client.is_closed());
}
