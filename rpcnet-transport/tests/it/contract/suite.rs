//! The contract: behaviours that hold whatever carries the datagrams.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};

use bytes::Bytes;
use rpcnet_testing::until_some;
use rpcnet_transport::{
    CallContext, CallOptions, Code, ConnectError, Processed, Raw, Receiver, Router, RpcClient,
    RpcServer, Sender, Status, TransportConfig,
};
use tokio::{
    sync::{Notify, Semaphore, mpsc, oneshot},
    time::{Instant, sleep},
};

use super::DatagramNetwork;

fn echo() -> Router {
    Router::new()
        .raw("echo", |_cx: CallContext, body| async move { Ok(body) })
        .streaming(
            "reflect",
            |_cx, mut items: Receiver<u32>, mut out: Sender<u32>| async move {
                while let Some(item) = items.message().await? {
                    out.send(item).await?;
                }
                Ok(())
            },
        )
        .server_streaming("pour", |_cx, items: u32, mut out: Sender<Raw>| async move {
            for _ in 0..items {
                out.send(Raw(Bytes::from(vec![7; 64 * 1_024]))).await?;
            }
            Ok(())
        })
        .raw("fail", |_cx: CallContext, _body| async move {
            Err(Status::invalid_request("not like this"))
        })
}

async fn pair(carrier: &impl DatagramNetwork, router: Router) -> (RpcServer, RpcClient) {
    let server = carrier.bind("server", TransportConfig::lan()).serve(router);
    let client = carrier
        .bind("client", TransportConfig::lan())
        .connect(server.local_addr(), "server")
        .await
        .expect("a connection");
    (server, client)
}

pub(crate) async fn unary_calls_carry_bodies_of_any_size(carrier: &impl DatagramNetwork) {
    let (_server, client) = pair(carrier, echo()).await;
    for bytes in [0, 1, 1_200, 8 * 1_024, 65_536, 3 * 1_024 * 1_024] {
        let body: Bytes = (0..bytes).map(|n| n as u8).collect();
        assert_eq!(client.call("echo", body.clone()).await.unwrap(), body);
    }
}

pub(crate) async fn many_calls_share_a_connection(carrier: &impl DatagramNetwork) {
    let (server, client) = pair(carrier, echo()).await;
    let calls = (0..500u32).map(|n| {
        let client = client.clone();
        async move {
            let body = n.to_le_bytes().repeat(1 + n as usize % 50);
            assert_eq!(client.call("echo", body.clone()).await.unwrap(), body);
        }
    });
    futures::future::join_all(calls).await;
    assert_eq!(server.stats().connections_accepted, 1);
    assert_eq!(server.stats().calls_started, 500);
}

pub(crate) async fn streams_carry_their_items_in_order_both_ways(carrier: &impl DatagramNetwork) {
    let (_server, client) = pair(carrier, echo()).await;
    let stream = client.call_streaming::<u32, u32>("reflect").await;
    let (mut items, mut reflected) = stream.unwrap();
    let sent = async {
        for n in 0..1_000 {
            items.send(n).await.unwrap();
        }
        items.finish();
    };
    let received = async {
        for n in 0..1_000 {
            assert_eq!(reflected.message().await.unwrap(), Some(n));
        }
        assert_eq!(reflected.message().await.unwrap(), None);
    };
    tokio::join!(sent, received);
}

pub(crate) async fn a_sender_waits_for_a_receiver_that_does_not_read(
    carrier: &impl DatagramNetwork,
) {
    let sent = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&sent);
    let pour = move |_cx: CallContext, items: u32, mut out: Sender<Raw>| {
        let sent = Arc::clone(&counted);
        async move {
            for _ in 0..items {
                out.send(Raw(Bytes::from(vec![7; 64 * 1_024]))).await?;
                sent.fetch_add(1, SeqCst);
            }
            Ok(())
        }
    };
    let (_server, client) = pair(carrier, Router::new().server_streaming("pour", pour)).await;
    let stream = client
        .call_server_streaming::<_, Raw>("pour", &100u32)
        .await;
    let mut items = stream.unwrap();
    // The sender stops when the bytes in flight fill the windows, long before 100 items.
    let mut before = 0;
    loop {
        // That nothing more is sent can be seen by time alone.
        sleep(Duration::from_millis(100)).await;
        let now = sent.load(SeqCst);
        if now > 0 && now == before {
            break;
        }
        before = now;
    }
    assert!(before < 90, "{before} items were taken from the sender");
    let mut received = 0;
    while let Some(Raw(item)) = items.message().await.unwrap() {
        assert_eq!(item.len(), 64 * 1_024);
        received += 1;
    }
    assert_eq!((received, sent.load(SeqCst)), (100, 100));
}

/// Reports the drop of the handler that it lives in.
struct OnDrop(mpsc::Sender<&'static str>);

impl Drop for OnDrop {
    fn drop(&mut self) {
        let _ = self.0.try_send("dropped");
    }
}

/// A method that never ends, and the channel of its reports.
fn endless() -> (Router, mpsc::Receiver<&'static str>) {
    // One call has two reports.
    let (report, reports) = mpsc::channel(2);
    let router = Router::new().raw("endless", move |_cx: CallContext, _body| {
        let report = report.clone();
        async move {
            let _ = report.try_send("started");
            let _on_drop = OnDrop(report);
            std::future::pending().await
        }
    });
    (router, reports)
}

pub(crate) async fn a_dropped_call_drops_its_handler(carrier: &impl DatagramNetwork) {
    let (router, mut reports) = endless();
    let (_server, client) = pair(carrier, router.merge(echo())).await;
    let call = tokio::spawn({
        let client = client.clone();
        async move { client.call("endless", "").await }
    });
    assert_eq!(reports.recv().await, Some("started"));
    call.abort();
    assert_eq!(reports.recv().await, Some("dropped"));
    assert_eq!(
        client.call("echo", "still here").await.unwrap(),
        "still here"
    );
}

pub(crate) async fn a_deadline_ends_the_call_on_both_sides(carrier: &impl DatagramNetwork) {
    let (router, mut reports) = endless();
    let (_server, client) = pair(carrier, router).await;
    // Time enough to begin, on a busy machine too.
    let options = CallOptions::new().with_timeout(Duration::from_secs(1));
    let before = Instant::now();
    let error = client.call_with("endless", "", options).await.unwrap_err();
    assert_eq!(error.code(), Code::DeadlineExceeded);
    assert!(before.elapsed() >= Duration::from_millis(950));
    assert_eq!(reports.recv().await, Some("started"));
    assert_eq!(reports.recv().await, Some("dropped"));
}

pub(crate) async fn a_certificate_for_another_name_is_rejected(carrier: &impl DatagramNetwork) {
    let (server, _client) = pair(carrier, echo()).await;
    let node = carrier.bind("node", TransportConfig::lan());
    match node.connect(server.local_addr(), "another").await {
        Err(ConnectError::WrongNode { presented, .. }) => assert_eq!(presented, ["server"]),
        other => panic!("{other:?}"),
    }
}

pub(crate) async fn an_unanswered_connect_times_out(carrier: &impl DatagramNetwork) {
    let timeout = Duration::from_millis(300);
    let node = carrier.bind("node", TransportConfig::lan().with_connect_timeout(timeout));
    let gone = carrier.bind("gone", TransportConfig::lan()).local_addr();
    match node.connect(gone, "gone").await {
        Err(ConnectError::Timeout { addr, after }) => assert_eq!((addr, after), (gone, timeout)),
        // The task of the first node may still be there to refuse.
        Err(ConnectError::Refused { addr, .. }) => assert_eq!(addr, gone),
        other => panic!("{other:?}"),
    }
}

pub(crate) async fn a_failure_reaches_its_caller(carrier: &impl DatagramNetwork) {
    let (_server, client) = pair(carrier, echo()).await;
    let error = client.call("fail", "").await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidRequest);
    assert_eq!(error.message(), "not like this");
    assert_eq!(error.processed(), Processed::Yes);
    let error = client.call("no such method", "").await.unwrap_err();
    assert_eq!(error.code(), Code::Unimplemented);
    assert_eq!(error.processed(), Processed::No);
}

pub(crate) async fn a_shutdown_lets_calls_end_and_rejects_new_ones(carrier: &impl DatagramNetwork) {
    let gate = Arc::new(Semaphore::new(0));
    let begun = Arc::new(Notify::new());
    let (waiting, begins) = (Arc::clone(&gate), Arc::clone(&begun));
    let router = echo().raw("wait", move |_cx: CallContext, body| {
        let (gate, begins) = (Arc::clone(&waiting), Arc::clone(&begins));
        async move {
            begins.notify_one();
            let _ = gate.acquire().await;
            Ok(body)
        }
    });
    let (server, client) = pair(carrier, router).await;
    let call = tokio::spawn({
        let client = client.clone();
        async move { client.call("wait", "a reply").await }
    });
    begun.notified().await;
    let shutdown = tokio::spawn({
        let server = server.clone();
        async move { server.shutdown(Duration::from_secs(10)).await }
    });
    let rejected = until_some("a call is rejected", async || {
        client.call("echo", "late").await.err()
    });
    let rejected = rejected.await;
    assert_eq!(rejected.code(), Code::Draining);
    assert!(rejected.is_retryable());
    gate.add_permits(1);
    assert_eq!(call.await.unwrap().unwrap(), "a reply");
    let report = shutdown.await.unwrap();
    // Some may have been sent before the caller was told.
    assert!(report.completed >= 1);
    assert_eq!(report.cancelled, 0);
}

pub(crate) async fn a_shutdown_ends_at_its_deadline(carrier: &impl DatagramNetwork) {
    let (router, mut reports) = endless();
    let (server, client) = pair(carrier, router).await;
    let call = tokio::spawn(async move { client.call("endless", "").await });
    assert_eq!(reports.recv().await, Some("started"));
    // The handler does not end by itself.
    let report = server.shutdown(Duration::from_millis(500)).await;
    assert_eq!((report.completed, report.cancelled), (0, 1));
    assert_eq!(reports.recv().await, Some("dropped"));
    call.await.unwrap().unwrap_err();
}

pub(crate) async fn closing_tells_the_other_side_why(carrier: &impl DatagramNetwork) {
    let (router, mut reports) = endless();
    let (server, client) = pair(carrier, router).await;
    let (done, ended) = oneshot::channel();
    let call = tokio::spawn({
        let client = client.clone();
        async move {
            let _ = done.send(client.call("endless", "").await);
        }
    });
    assert_eq!(reports.recv().await, Some("started"));
    client.close("that is all");
    assert_eq!(reports.recv().await, Some("dropped"));
    assert!(ended.await.unwrap().is_err());
    call.await.unwrap();
    assert!(client.is_closed());
    server.endpoint().idle().await;
}

pub(crate) async fn a_node_serves_and_calls_on_one_address(carrier: &impl DatagramNetwork) {
    let a = carrier.bind("a", TransportConfig::lan());
    let b = carrier.bind("b", TransportConfig::lan());
    let from = || {
        Router::new().typed_with("from", |cx: CallContext, (): ()| async move {
            (cx.peer().name().to_owned(), cx.peer().addr())
        })
    };
    let (_a, _b) = (a.serve(from()), b.serve(from()));
    for (caller, called) in [(&a, &b), (&b, &a)] {
        let client = caller.connect(called.local_addr(), called.node_name());
        let from: (String, std::net::SocketAddr) =
            client.await.unwrap().call_typed("from", &()).await.unwrap();
        assert_eq!(from, (caller.node_name().to_owned(), caller.local_addr()));
    }
}

pub(crate) async fn other_datagrams_share_the_address(carrier: &impl DatagramNetwork) {
    let (server, client) = pair(carrier, echo()).await;
    let other = carrier.bind("other", TransportConfig::lan());
    let (from, to) = (
        other.side_channel().unwrap(),
        server.endpoint().side_channel().unwrap(),
    );
    let mut buf = [0; 100];
    // Some may be lost on the way, as with UDP.
    let (len, sender) = loop {
        from.send(server.local_addr(), b"1 ping").await.unwrap();
        assert_eq!(
            client.call("echo", "calls go on").await.unwrap(),
            "calls go on"
        );
        let patience = Duration::from_millis(50);
        if let Ok(received) = tokio::time::timeout(patience, to.recv(&mut buf)).await {
            break received.unwrap();
        }
    };
    assert_eq!((&buf[..len], sender), (&b"1 ping"[..], other.local_addr()));
}
