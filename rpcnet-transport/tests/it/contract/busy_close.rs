//! Tests of closing connections that are busy sending, at a round trip of 4 ms.

use std::{error::Error, num::NonZeroU64};

use futures::future::pending;
use rpcnet_transport::{
    CallOptions, CloseReason, Code, Processed, Raw, Receiver, Router, RpcClient, RpcError, Sender,
};
use tokio::{sync::mpsc, time::Instant};

use super::*;

/// Network with a round trip of 4 ms.
fn far() -> MemoryNetwork {
    let network = MemoryNetwork::new();
    network.set_delay(Duration::from_millis(2));
    network
}

/// Network with links of 20 MB/s behind a queue of 12 ms, so that a sender fills its congestion
/// window.
fn narrow() -> MemoryNetwork {
    let network = far();
    network.set_rate(NonZeroU64::new(20_000_000), 240_000);
    network
}

/// A few round trips, including the queue of a narrow link.
const FEW_ROUND_TRIPS: Duration = Duration::from_millis(60);

/// Longest time until the close is known: far less than the idle timeout of 15 s.
const SOON: Duration = Duration::from_secs(2);

/// Sends as long as it may.
fn flood() -> Router {
    Router::new().server_streaming("flood", |_cx, _: u32, mut to: Sender<Raw>| async move {
        loop {
            to.send(Raw(vec![7; 200_000].into())).await?;
        }
    })
}

async fn read(mut from: Receiver<Raw>) -> RpcError {
    loop {
        match from.message().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("a clean end"),
            Err(error) => return error,
        }
    }
}

/// Drops the last handle of a server after a delay, while callers read from it; checks what they
/// are told.
async fn drop_server_after(ms: u64) {
    let network = far();
    let (server, _node, client) = pair_on(&network, flood()).await;
    let mut readers = Vec::new();
    for _ in 0..4 {
        let options = CallOptions::new().without_deadline();
        let stream = client.call_server_streaming_with("flood", &0u32, options);
        readers.push(tokio::spawn(read(stream.await.unwrap())));
    }
    tokio::time::sleep(Duration::from_millis(ms)).await;
    let before = Instant::now();
    drop(server);
    for reader in readers {
        let error = reader.await.unwrap();
        let code = error.code();
        let is_cut = matches!(code, Code::Cancelled | Code::Unavailable | Code::Draining);
        assert!(
            is_cut && error.processed() != Processed::Yes,
            "{ms} ms: {error:?}"
        );
    }
    client.closed().await;
    let took = before.elapsed();
    assert!(took < SOON, "after {ms} ms it took {took:?}");
}

#[tokio::test(start_paused = true)]
async fn callers_are_told_of_the_end_of_a_busy_server() {
    for ms in [2, 5, 9, 13, 17, 21, 25, 30, 40, 60, 100, 200] {
        drop_server_after(ms).await;
    }
}

/// Shuts down a server that fills the congestion window of a narrow link: with an endless stream,
/// and with replies that its handlers have returned.
async fn shut_down_after(ms: u64, within: Duration) {
    let network = narrow();
    let large = |_cx, _body| async { Ok(vec![7; 400_000].into()) };
    let router = flood().raw("large", large);
    let (server, _node, client) = pair_on(&network, router).await;
    let options = CallOptions::new().without_deadline();
    let stream = client.call_server_streaming_with("flood", &0u32, options);
    let reader = tokio::spawn(read(stream.await.unwrap()));
    let mut calls = Vec::new();
    for n in 0..20 {
        let client = client.clone();
        let options = options.with_isolated(n % 2 == 0);
        calls.push(tokio::spawn(async move {
            client.call_with("large", "", options).await
        }));
    }
    tokio::time::sleep(Duration::from_millis(ms)).await;
    let before = Instant::now();
    let report = server.shutdown(within).await;
    let took = before.elapsed();
    let case = format!("{ms} ms, {within:?}");
    assert!(
        took <= within + Duration::from_millis(2),
        "{case}: {took:?}"
    );
    // Each is counted once.
    let completed = server.stats().calls_completed;
    assert_eq!(completed + report.cancelled, 21, "{case}: {report:?}");
    let error = reader.await.unwrap();
    assert_eq!(error.processed(), Processed::Maybe, "{case}: {error:?}");
    for call in calls {
        if let Err(error) = call.await.unwrap() {
            assert_ne!(error.processed(), Processed::Yes, "{case}: {error:?}");
        }
    }
    assert_eq!(client.closed().await, CloseReason::ShutDown, "{case}");
    let took = before.elapsed();
    assert!(took < within + FEW_ROUND_TRIPS, "{case}: {took:?}");
}

#[tokio::test(start_paused = true)]
async fn callers_are_told_of_a_shutdown_at_its_deadline() {
    for ms in [20, 30, 50, 100, 150] {
        shut_down_after(10, Duration::from_millis(ms)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn callers_are_told_of_a_shutdown_without_time() {
    for ms in [20, 23, 26, 29, 32, 40, 60] {
        shut_down_after(ms, Duration::ZERO).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_is_told_of_the_end_of_a_busy_client() {
    for ms in (1..=24).chain([40, 100, 200]) {
        let network = far();
        let (tell, mut told) = mpsc::channel(1);
        let router = Router::new()
            .client_streaming("take", move |_cx, from: Receiver<Raw>| {
                let tell = tell.clone();
                async move {
                    let _ = tell.send(read(from).await).await;
                }
            })
            .raw("take_all", |_cx, _body| pending());
        let (server, node, client) = pair_on(&network, router).await;
        let mut writers = Vec::new();
        for _ in 0..4 {
            let options = CallOptions::new().without_deadline();
            let upload = client.call_client_streaming_with::<Raw, ()>("take", options);
            let mut upload = upload.await.unwrap();
            writers.push(tokio::spawn(async move {
                while upload.send(Raw(vec![7; 200_000].into())).await.is_ok() {}
            }));
            let call = client.clone();
            writers.push(tokio::spawn(async move {
                let _ = call
                    .call_with("take_all", vec![7; 10_000_000], options)
                    .await;
            }));
        }
        tokio::time::sleep(Duration::from_millis(ms)).await;
        let before = Instant::now();
        // With its endpoint, which would otherwise reset connections that it does not know any
        // more.
        drop((client, node));
        for writer in writers {
            writer.abort();
            let _ = writer.await;
        }
        while server.in_flight() > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
            assert!(
                before.elapsed() < SOON,
                "after {ms} ms it takes {:?}",
                before.elapsed()
            );
        }
        drop(server);
        while told.recv().await.is_some() {}
        // No packets are sent any more: the connection is gone, and not only its calls.
        let took = before.elapsed();
        assert!(took < SOON, "after {ms} ms it took {took:?}");
    }
}

/// Ways in which a node may end a connection that it opened.
#[derive(Debug, Clone, Copy)]
enum End {
    Close,
    Disconnect,
    Shutdown,
}

impl End {
    async fn of(self, node: &Endpoint, client: &RpcClient) {
        match self {
            Self::Close => client.close("enough"),
            Self::Disconnect => assert_eq!(node.disconnect("server"), 1),
            Self::Shutdown => {
                node.shutdown(Duration::from_millis(20)).await;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_is_told_at_once_of_the_end_of_a_busy_connection() {
    for end in [End::Close, End::Disconnect, End::Shutdown] {
        for ms in [20, 23, 26, 29, 32, 40, 60, 90] {
            let network = narrow();
            let router = Router::new()
                .client_streaming("take", |_cx, from: Receiver<Raw>| async move {
                    read(from).await;
                })
                .raw("take_all", |_cx, _body| pending());
            let (server, node, client) = pair_on(&network, router).await;
            let options = CallOptions::new().without_deadline();
            for _ in 0..4 {
                let upload = client.call_client_streaming_with::<Raw, ()>("take", options);
                let mut upload = upload.await.unwrap();
                tokio::spawn(async move {
                    while upload.send(Raw(vec![7; 200_000].into())).await.is_ok() {}
                });
                // Sent completely, as far as its caller knows.
                let call = client.clone();
                tokio::spawn(async move {
                    let body = vec![7; 400_000];
                    let _ = call.call_with("take_all", body, options).await;
                });
            }
            tokio::time::sleep(Duration::from_millis(ms)).await;
            assert!(server.in_flight() >= 4);
            end.of(&node, &client).await;
            let before = Instant::now();
            while server.in_flight() > 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
                let took = before.elapsed();
                assert!(took < FEW_ROUND_TRIPS, "{end:?} after {ms} ms: {took:?}");
            }
        }
    }
}

/// Text of an error and of all its sources.
fn texts(error: &dyn Error) -> String {
    let caused_by = error
        .source()
        .map(|source| format!(" <- {}", texts(source)));
    format!("{error}{}", caused_by.unwrap_or_default())
}

#[tokio::test(start_paused = true)]
async fn errors_of_calls_that_end_with_their_connection_are_printable() {
    for disconnects in [true, false] {
        let network = far();
        let router = flood().raw("wait", |_cx, _body| pending());
        let (server, _node, client) = pair_on(&network, router).await;
        let calls = [true, false].map(|isolated| {
            let options = CallOptions::new().with_isolated(isolated);
            let client = client.clone();
            tokio::spawn(async move { client.call_with("wait", "", options).await })
        });
        let stream = client.call_server_streaming("flood", &0u32);
        let reader = tokio::spawn(read(stream.await.unwrap()));
        until("the calls begin", || server.in_flight() >= 3).await;
        if disconnects {
            assert_eq!(server.endpoint().disconnect("client"), 1);
        } else {
            drop(server);
        }
        let mut errors = vec![reader.await.unwrap()];
        for call in calls {
            errors.push(call.await.unwrap().expect_err("it has no end of its own"));
        }
        for error in errors {
            let text = texts(&error);
            assert!(!text.contains(char::is_control), "{text:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn callers_are_told_of_the_end_of_a_server_with_replies_in_flight() {
    for ms in [22, 25, 28, 31, 34, 37] {
        let network = narrow();
        let router = Router::new().raw("large", |_cx, _body| async { Ok(vec![7; 400_000].into()) });
        let (server, _node, client) = pair_on(&network, router).await;
        for _ in 0..20 {
            let client = client.clone();
            tokio::spawn(async move { client.call("large", "").await });
        }
        tokio::time::sleep(Duration::from_millis(ms)).await;
        let before = Instant::now();
        drop(server);
        assert_eq!(client.closed().await, CloseReason::ShutDown);
        let took = before.elapsed();
        assert!(took < FEW_ROUND_TRIPS, "after {ms} ms: {took:?}");
    }
}
