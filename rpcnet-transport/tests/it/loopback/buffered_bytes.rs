//! Tests of buffered bytes: which calls hold room, for how long, and what goes on meanwhile.

use std::{
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use bytes::Bytes;
use futures::future::join_all;
use rpcnet_transport::{CallOptions, Code, IdempotencyCache, Raw};

use super::*;

const KIB: usize = 1024;

/// Room for four large messages on a connection.
fn narrow() -> TransportConfig {
    TransportConfig::default()
        .with_message_bytes_max(1024 * KIB)
        .with_connection_buffered_bytes_max(4096 * KIB)
}

/// A method that streams one large message and goes on without another, and one with a large reply.
fn large() -> Router {
    Router::new()
        .server_streaming(
            "one",
            |cx: CallContext, (): (), mut out: Sender<Raw>| async move {
                out.send(Raw(vec![0; 1000 * KIB].into())).await?;
                cx.cancelled().await;
                Ok::<_, Status>(())
            },
        )
        .raw("large", |_cx, _body| async move {
            Ok(Bytes::from(vec![0; 500 * KIB]))
        })
}

/// Streams of which each has received its large message.
async fn received(client: &RpcClient, streams: usize) -> Vec<Receiver<Raw>> {
    let mut held = Vec::new();
    for _ in 0..streams {
        let stream = client.call_server_streaming::<_, Raw>("one", &()).await;
        let mut stream = stream.unwrap();
        let message = within(stream.message()).await.unwrap();
        assert_eq!(message.unwrap().0.len(), 1000 * KIB);
        held.push(stream);
    }
    held
}

#[tokio::test]
async fn taken_messages_free_room_for_their_connection() {
    let server = serve(large(), TransportConfig::default());
    let client = connect_with(&server, narrow()).await;
    let _held = received(&client, 8).await;
    let reply = within(client.call("large", "")).await;
    assert_eq!(reply.unwrap().len(), 500 * KIB);
}

#[tokio::test]
async fn a_stream_that_waits_for_its_next_message_holds_no_room() {
    let server = serve(large(), TransportConfig::default());
    let node = endpoint(CLIENT, narrow());
    let client = within(node.connect(server.local_addr(), SERVER)).await;
    let mut held = received(&client.unwrap(), 2).await;
    assert_eq!(node.buffered_bytes(), 2000 * KIB);
    let next = join_all(held.iter_mut().map(Receiver::message));
    let next = std::pin::pin!(next);
    let freed = until("nothing is held", || node.buffered_bytes() == 0);
    tokio::select! {
        _ = next => panic!("there is no next message"),
        () = freed => {}
    }
}

#[tokio::test]
async fn the_end_of_a_connection_is_noticed_while_a_message_waits_for_room() {
    let server = serve(
        large().raw("huge", |_cx, _body| async move {
            Ok(Bytes::from(vec![0; 1000 * KIB]))
        }),
        no_drain_grace(),
    );
    // Room for one, which the first message has: it is held until the next one is asked for.
    let config = narrow().with_buffered_bytes_max(1024 * KIB);
    let client = connect_with(&server, config).await;
    let _held = received(&client, 1).await;
    let options = CallOptions::new()
        .with_timeout(10 * TEST_TIMEOUT)
        .with_isolated(true);
    let caller = client.clone();
    let ended = tokio::spawn(async move { caller.call_with("huge", "", options).await });
    until("the reply is on its way", || {
        server.stats().calls_started >= 2
    })
    .await;
    server.shutdown(Duration::from_millis(500)).await;
    let error = within(ended).await.unwrap().unwrap_err();
    assert!(
        matches!(error.code(), Code::Unavailable | Code::Cancelled),
        "{error}"
    );
}

#[tokio::test]
async fn bodies_of_detached_runs_stay_charged_to_their_caller() {
    let running = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&running);
    let router = Router::new()
        .raw("forever", move |_cx, body: Bytes| {
            counted.fetch_add(1, SeqCst);
            async move {
                pending::<()>().await;
                Ok(body)
            }
        })
        .with_idempotency("forever", IdempotencyCache::new());
    let server = serve(router, narrow());
    let client = connect(&server).await;
    for key in 0..3 {
        let options = CallOptions::new().with_idempotency_key(key);
        let call = client.call_with("forever", vec![0; 1000 * KIB], options);
        let begun = running.load(SeqCst);
        tokio::select! {
            ended = call => panic!("{ended:?}"),
            () = until("it runs", || running.load(SeqCst) > begun) => {}
        }
    }
    counts(&server, "cancelled calls", 3, |s| s.calls_cancelled).await;
    assert_eq!(server.endpoint().buffered_bytes(), 3000 * KIB);
}

#[tokio::test]
async fn a_served_call_does_not_wait_for_its_own_reservation() {
    let narrow = || {
        TransportConfig::default()
            .with_message_bytes_max(256 * KIB)
            .with_buffered_bytes_max(1024 * KIB)
    };
    let asking = endpoint("node-b", narrow());
    let data = Router::new().raw("data", |_cx, _body| async move {
        Ok(Bytes::from(vec![0; 200 * KIB]))
    });
    let data = asking.serve(data);
    let asked = endpoint("node-a", narrow());
    let back = within(asked.connect(data.local_addr(), "node-b")).await;
    let back = back.unwrap();
    let router = Router::new().raw("ask", move |_cx, _body| {
        let back = back.clone();
        async move { back.call("data", "").await.map_err(Status::from) }
    });
    let asked = asked.serve(router);
    let client = within(asking.connect(asked.local_addr(), "node-a")).await;
    let client = client.unwrap();
    // Two of them fill the share of their peer.
    let calls = (0..2).map(|_| client.call("ask", vec![0; 200 * KIB]));
    for reply in within(join_all(calls)).await {
        assert_eq!(reply.unwrap().len(), 200 * KIB);
    }
}
