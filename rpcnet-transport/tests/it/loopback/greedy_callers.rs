//! Greedy callers: permits, bytes, calls and connections that one caller holds and others need.

use std::{
    future::pending,
    num::{NonZeroU32, NonZeroUsize},
};

use bytes::{Bytes, BytesMut};
use futures::future::join_all;
use quinn::{RecvStream, SendStream, VarInt};
use rpcnet_transport::{
    Admission, CallOptions, Code, IdempotencyCache, Raw, Upload,
    wire::{self, Preface, RequestFlags, StreamKind},
};
use tokio::task::JoinSet;

use super::{
    hostile_caller::{Caller, RESET_STALLED, request},
    hostile_lane_server::RawServer,
    packet_relay::{PacketRelay, RecordedPackets},
    *,
};
use crate::concurrency::Concurrency;

const KIB: usize = 1024;

/// Checks that a few small calls are answered at once, one after the other.
async fn assert_is_served(client: &RpcClient, method: &str) {
    for _ in 0..10 {
        let reply = within(client.call(method, vec![7; 64])).await;
        assert_eq!(reply.unwrap().len(), 64);
    }
}

fn echo() -> Router {
    Router::new().raw("echo", |_cx, body| async move { Ok(body) })
}

fn few_permits() -> TransportConfig {
    TransportConfig::default().with_admission(Admission::fixed(2).with_queue_len(4))
}

#[tokio::test]
async fn a_partly_read_request_holds_no_permit() {
    let server = serve(echo(), few_permits());
    let greedy = Caller::connect(&server).await;
    let mut held = Vec::new();
    for _ in 0..8 {
        let mut bytes = request("echo", RequestFlags::default(), None, 1000 * KIB);
        bytes.extend_from_slice(&[0; 8]);
        held.push(greedy.send_on_new_stream(&bytes).await);
    }
    until("the requests are known", || server.in_flight() >= 8).await;
    assert_eq!(server.endpoint().admission().unwrap().running, 0);
    assert_is_served(&connect(&server).await, "echo").await;
}

/// Uploads begun one after the other, whose handlers wait for their first message.
async fn waiting_uploads(
    server: &RpcServer,
    client: &RpcClient,
    method: &str,
    count: u64,
) -> Vec<Upload<u64, u64>> {
    let mut uploads = Vec::new();
    for begun in 1..=count {
        let upload = client.call_client_streaming(method).await;
        uploads.push(upload.unwrap());
        until("its handler waits", || {
            server.stats().calls_started == begun
                && server.endpoint().admission().unwrap().running == 0
        })
        .await;
    }
    uploads
}

#[tokio::test]
async fn a_handler_that_waits_for_its_caller_holds_no_permit() {
    let router = echo().client_streaming("sum", |_cx, mut numbers: Receiver<u64>| async move {
        let mut sum = 0;
        while let Some(number) = numbers.message().await? {
            sum += number;
        }
        Ok::<_, Status>(sum)
    });
    let server = serve(router, few_permits());
    let client = connect(&server).await;
    let uploads = waiting_uploads(&server, &client, "sum", 4).await;
    assert_is_served(&connect(&server).await, "echo").await;
    for mut upload in uploads {
        within(upload.send(21)).await.unwrap();
        within(upload.send(21)).await.unwrap();
        assert_eq!(within(upload.finish()).await.unwrap(), 42);
    }
    until("all permits are free", || {
        server.endpoint().admission().unwrap().running == 0
    })
    .await;
}

#[tokio::test]
async fn a_handler_that_waited_for_its_caller_resumes_within_the_limit() {
    let working = Concurrency::default();
    let counted = working.clone();
    let router = Router::new().client_streaming("work", move |_cx, mut parts: Receiver<u64>| {
        let working = counted.clone();
        async move {
            let mut done = 0u64;
            while parts.message().await?.is_some() {
                let _works = working.enter();
                // Work during which other handlers ask for a permit.
                sleep(Duration::from_millis(1)).await;
                done += 1;
            }
            Ok::<_, Status>(done)
        }
    });
    // The calls themselves come one after the other.
    let config = TransportConfig::default().with_admission(Admission::fixed(2).with_queue_len(100));
    let server = serve(router, config);
    let client = connect(&server).await;
    let uploads = waiting_uploads(&server, &client, "work", 12).await;
    let sent = uploads.into_iter().map(|mut upload| async move {
        for part in 0..10 {
            upload.send(part).await?;
            tokio::task::yield_now().await;
        }
        upload.finish().await
    });
    for done in within(join_all(sent)).await {
        assert_eq!(done.unwrap(), 10);
    }
    assert_eq!(working.most(), 2, "at a time");
    let state = server.endpoint().admission().unwrap();
    assert_eq!((state.running, state.waiting), (0, 0));
}

#[tokio::test]
async fn a_handler_whose_caller_reads_nothing_holds_no_permit() {
    let router = echo().server_streaming("zeros", |_cx, (): (), mut out: Sender<Raw>| async move {
        loop {
            out.send(Raw(vec![0; 8 * KIB].into())).await?;
        }
    });
    let server = serve(router, few_permits());
    let _held = unread_streams(&server, "zeros", 4).await;
    counts(&server, "handlers", 4, |s| s.calls_started).await;
    assert_is_served(&connect(&server).await, "echo").await;
}

/// Caller that makes calls whose replies are streams, and reads next to nothing of them.
async fn unread_streams(
    server: &RpcServer,
    method: &str,
    count: usize,
) -> (Caller, Vec<(SendStream, RecvStream)>) {
    let greedy = Caller::connect_with(server, narrow()).await;
    let flags = RequestFlags {
        streams_replies: true,
        ..RequestFlags::default()
    };
    let mut held = Vec::new();
    for _ in 0..count {
        held.push(
            greedy
                .send_on_new_stream(&request(method, flags, None, 0))
                .await,
        );
    }
    (greedy, held)
}

/// Settings of a caller that reads next to nothing of each reply.
fn narrow() -> quinn::TransportConfig {
    let mut config = quinn::TransportConfig::default();
    config.stream_receive_window(VarInt::from_u32(1024));
    config
}

#[tokio::test]
async fn a_trickling_body_is_reset() {
    let config = TransportConfig::default()
        .with_stall_timeout(Duration::from_millis(500))
        .with_transfer_rate_min(NonZeroU32::new(1 << 20).unwrap());
    let server = serve(echo(), config);
    let greedy = Caller::connect(&server).await;
    let (mut send, mut recv) = greedy
        .send_on_new_stream(&request("echo", RequestFlags::default(), None, 100 * KIB))
        .await;
    let drip = async {
        while send.write_all(&[0; 8]).await.is_ok() {
            // The pace is what is tested: far below the minimum rate, but never silent for long.
            sleep(Duration::from_millis(20)).await;
        }
    };
    within(drip).await;
    assert_eq!(hostile_caller::reset_code(&mut recv).await, RESET_STALLED);
    counts(&server, "stalled calls", 1, |s| s.stalled_calls).await;
}

#[tokio::test]
async fn partly_read_requests_hold_at_most_the_share_of_their_peer() {
    let config = TransportConfig::default()
        .with_stall_timeout(Duration::from_secs(1))
        // The bytes of messages that have a reservation soon count as no progress to the others.
        .with_transfer_rate_min(NonZeroU32::new(4 << 20).unwrap())
        .with_message_bytes_max(256 * KIB)
        .with_buffered_bytes_max(1024 * KIB);
    let server = serve(echo(), config);
    let greedy = Caller::connect(&server).await;
    let mut held = Vec::new();
    for _ in 0..8 {
        let mut bytes = request("echo", RequestFlags::default(), None, 250 * KIB);
        bytes.resize(bytes.len() + 240 * KIB, 0);
        held.push(greedy.send_on_new_stream(&bytes).await);
    }
    until("some wait for reservations", || server.in_flight() >= 8).await;
    let client = connect(&server).await;
    let large = within(client.call("echo", vec![1; 250 * KIB])).await;
    assert_eq!(large.unwrap().len(), 250 * KIB, "beside those that wait");
    until("the large reply has arrived", || {
        server.endpoint().buffered_bytes() <= 512 * KIB
    })
    .await;
    // Two were read in part, and reset when nothing more came. The others got no reservation in
    // time, or those of these two.
    let mut overloaded = 0;
    for (_send, mut recv) in held {
        let answer = within(recv.read_to_end(64 * KIB)).await;
        overloaded += usize::from(answer.is_ok());
    }
    assert!(overloaded >= 4, "{overloaded}");
    until("all is released", || {
        server.endpoint().buffered_bytes() == 0
    })
    .await;
}

/// Waits until some replies of so many calls are overdrafts and the others wait, and asserts that
/// they hold at most twice the share of their peer.
async fn assert_overdrawn(server: &RpcServer, calls: usize) {
    let buffered = || server.endpoint().buffered_bytes();
    until("some replies are overdrafts, others wait", || {
        buffered() > 512 * KIB && server.in_flight() >= calls
    })
    .await;
    assert!(buffered() <= 1024 * KIB);
}

#[tokio::test]
async fn unread_replies_hold_at_most_twice_the_share_of_their_peer() {
    let config = TransportConfig::default()
        .with_message_bytes_max(256 * KIB)
        .with_buffered_bytes_max(1024 * KIB);
    let router = echo().raw("large", |_cx, _body| async move {
        Ok(Bytes::from(vec![0; 200 * KIB]))
    });
    let server = serve(router, config);
    let greedy = Caller::connect_with(&server, narrow()).await;
    let mut held = Vec::new();
    for _ in 0..8 {
        let (mut send, recv) = greedy
            .send_on_new_stream(&request("large", RequestFlags::default(), None, 0))
            .await;
        send.finish().unwrap();
        held.push((send, recv));
    }
    assert_overdrawn(&server, 8).await;
    let client = connect(&server).await;
    let large = within(client.call("large", "")).await;
    assert_eq!(large.unwrap().len(), 200 * KIB, "of another peer");
    // The waiting calls start as the first replies are read.
    for (_send, recv) in &mut held {
        let reply = within(recv.read_to_end(256 * KIB)).await.unwrap();
        assert!(reply.len() > 200 * KIB);
    }
    until("all is released", || {
        server.endpoint().buffered_bytes() == 0
    })
    .await;
    assert_eq!(server.stats().replies_dropped, 0);
}

#[tokio::test]
async fn unread_stream_messages_hold_at_most_twice_the_share_of_their_peer() {
    let config = TransportConfig::default()
        .with_message_bytes_max(256 * KIB)
        .with_buffered_bytes_max(1024 * KIB);
    let router = echo().server_streaming("large", |_cx, (): (), mut out: Sender<Raw>| async move {
        Ok(out.send(Raw(vec![0; 200 * KIB].into())).await?)
    });
    let server = serve(router, config);
    let _held = unread_streams(&server, "large", 8).await;
    assert_overdrawn(&server, 8).await;
    assert_is_served(&connect(&server).await, "echo").await;
}

#[tokio::test]
async fn replies_without_a_waiting_call_are_stopped() {
    let raw = RawServer::new(4, 100).await;
    for number in 0..8 {
        let mut stream = within(raw.connection.open_uni()).await.unwrap();
        let kind = StreamKind::LaneReply;
        let mut bytes = BytesMut::from(&Preface { kind }.encode()[..]);
        wire::encode_reply_to(&mut bytes, 0, number);
        within(stream.write_all(&bytes)).await.unwrap();
        let stopped = within(stream.stopped()).await.unwrap();
        assert!(stopped.is_some(), "it is not wanted");
    }
}

#[tokio::test]
async fn detached_calls_leave_capacity_to_others() {
    let config = TransportConfig::default().with_calls_max(NonZeroUsize::new(40).unwrap());
    let router = echo()
        .raw("forever", |_cx, _body| pending())
        .with_idempotency("forever", IdempotencyCache::new());
    let server = serve(router, config);
    let greedy = endpoint("greedy", TransportConfig::default());
    let mut rejected = 0;
    for key in 0..60 {
        let client = within(greedy.connect(server.local_addr(), SERVER))
            .await
            .unwrap();
        let started = server.stats().calls_started;
        let options = CallOptions::default().with_idempotency_key(key);
        let call = client.call_with("forever", Bytes::new(), options);
        tokio::select! {
            outcome = within(call) => {
                assert_eq!(outcome.unwrap_err().code(), Code::Overloaded);
                rejected += 1;
            }
            () = until("it runs", || server.stats().calls_started > started) => {}
        }
    }
    assert!((39..=45).contains(&rejected), "{rejected}");
    assert_is_served(&connect(&server).await, "echo").await;
}

#[tokio::test]
async fn one_identity_leaves_connections_to_others() {
    let config = TransportConfig::default().with_connections_max(NonZeroUsize::new(40).unwrap());
    let server = serve(echo(), config);
    let greedy = endpoint("greedy", TransportConfig::default());
    let mut held = Vec::new();
    let error = loop {
        match within(greedy.connect(server.local_addr(), SERVER)).await {
            Ok(client) => held.push(client),
            Err(error) => break error,
        }
    };
    assert_eq!(held.len(), 20);
    let text = error.to_string();
    assert!(text.contains("too many connections of this node"), "{text}");
    assert_eq!(server.stats().connections_refused, 1);
    assert_is_served(&connect(&server).await, "echo").await;
}

#[tokio::test]
async fn unfinished_handshakes_make_room_for_new_ones() {
    let patient = TransportConfig::default()
        .with_connect_timeout(10 * TEST_TIMEOUT)
        .with_idle_timeout(10 * TEST_TIMEOUT);
    let config = patient
        .clone()
        .with_handshakes_max(NonZeroUsize::new(20).unwrap());
    newcomers_get_in(config, patient).await;
}

#[tokio::test]
async fn unfinished_handshakes_take_no_connection_slots() {
    let patient = TransportConfig::default()
        .with_connect_timeout(10 * TEST_TIMEOUT)
        .with_idle_timeout(10 * TEST_TIMEOUT);
    let config = patient
        .clone()
        .with_handshakes_max(NonZeroUsize::new(20).unwrap())
        .with_connections_max(NonZeroUsize::new(10).unwrap());
    newcomers_get_in(config, patient).await;
}

/// Checks that a caller is served beside one that holds as many handshakes as it can.
async fn newcomers_get_in(config: TransportConfig, patient: TransportConfig) {
    let server = serve(echo(), config);
    let relay = PacketRelay::to(&server).await;
    relay.keep(RecordedPackets::Ends);
    let stranger = endpoint("greedy", patient);
    let mut stuck = JoinSet::new();
    for _ in 0..30 {
        let (stranger, addr) = (stranger.clone(), relay.addr);
        stuck.spawn(async move { stranger.connect(addr, SERVER).await });
    }
    until("all handshakes are taken", || {
        server.stats().handshakes_refused > 0
    })
    .await;
    let newcomer = endpoint(CLIENT, TransportConfig::default());
    let client = until_some("a connection", async || {
        newcomer.connect(server.local_addr(), SERVER).await.ok()
    });
    assert_is_served(&client.await, "echo").await;
}
