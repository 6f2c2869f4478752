//! A server that speaks QUIC and TLS correctly, and breaks the rules of lanes.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use bytes::{Bytes, BytesMut};
use futures::{StreamExt, stream::FuturesUnordered};
use quinn::{Connection, RecvStream, SendStream, crypto::rustls::QuicServerConfig};
use rpcnet_transport::{
    CallMetadataExt, CallOptions, Code, LoadReport, Metadata, Method, MethodOptions, Processed,
    Replies, RpcError, TraceContext,
    wire::{self, Hello, LaneDecoder, LaneFrame, PREFACE_BYTES, Preface, ReplyHeader, StreamKind},
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

use super::*;

const LANE_BODY_BYTES_MAX: u16 = 8_192;

/// One connection of a raw QUIC server, and the client at its other end.
pub(crate) struct RawServer {
    _endpoint: quinn::Endpoint,
    pub(crate) connection: Connection,
    control: SendStream,
    client: RpcClient,
}

/// A lane as the server sees it.
struct Lane {
    send: SendStream,
    recv: RecvStream,
    decoder: LaneDecoder,
}

impl RawServer {
    /// A server whose hello announces so many lanes of so many calls.
    pub(crate) async fn new(lanes_max: u8, lane_calls_max: u16) -> Self {
        Self::with_features(lanes_max, lane_calls_max, true).await
    }

    /// Like [`new`](Self::new), of a version that may know neither schemas nor headers of calls.
    async fn with_features(lanes_max: u8, lane_calls_max: u16, has_features: bool) -> Self {
        let pem = CA.issue_pem(SERVER).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![CertificateDer::from_pem_slice(pem.cert.as_bytes()).unwrap()],
                PrivateKeyDer::from_pem_slice(pem.key.as_bytes()).unwrap(),
            )
            .unwrap();
        tls.alpn_protocols = vec![b"rpcnet/1".to_vec()];
        let crypto = Arc::new(QuicServerConfig::try_from(tls).unwrap());
        let config = quinn::ServerConfig::with_crypto(crypto);
        let endpoint = hostile_caller::quic_endpoint();
        endpoint.set_server_config(Some(config));
        let addr = endpoint.local_addr().unwrap();
        let accept = async {
            let connection = endpoint.accept().await.unwrap().await.unwrap();
            let mut control = connection.open_uni().await.unwrap();
            let kind = StreamKind::Control;
            let mut hello = BytesMut::from(&Preface { kind }.encode()[..]);
            wire::encode_hello(
                &mut hello,
                &Hello {
                    draining: false,
                    message_bytes_max: 1 << 20,
                    streams_max: 100,
                    lanes_max,
                    lane_calls_max,
                    lane_body_bytes_max: LANE_BODY_BYTES_MAX,
                    has_schemas: has_features,
                    has_headers: has_features,
                },
            );
            control.write_all(&hello).await.unwrap();
            (connection, control)
        };
        let caller = self::endpoint(CLIENT, TransportConfig::default());
        let ((connection, control), client) =
            within(async { tokio::join!(accept, caller.connect(addr, SERVER)) }).await;
        let client = client.expect("a connection");
        Self {
            _endpoint: endpoint,
            connection,
            control,
            client,
        }
    }

    fn call(&self) -> JoinHandle<Result<Bytes, RpcError>> {
        let client = self.client.clone();
        tokio::spawn(async move { client.call("any", "x").await })
    }

    /// The next stream, which has to be of this kind.
    async fn stream(&self, kind: StreamKind) -> Lane {
        let (found, stream) = self.any_stream().await;
        assert_eq!(found, kind);
        stream
    }

    /// The next stream, and its kind.
    async fn any_stream(&self) -> (StreamKind, Lane) {
        let (send, mut recv) = within(self.connection.accept_bi()).await.unwrap();
        let mut preface = [0; PREFACE_BYTES];
        within(recv.read_exact(&mut preface)).await.unwrap();
        let decoder = LaneDecoder::new();
        let stream = Lane {
            send,
            recv,
            decoder,
        };
        (Preface::decode(preface).unwrap().kind, stream)
    }

    /// Checks that the next call of the client has a stream of its own.
    async fn assert_no_lane(&self) {
        let call = self.call();
        let _stream = self.stream(StreamKind::Call).await;
        call.abort();
        let _ = call.await;
    }
}

impl Lane {
    /// The number of the next request.
    async fn request(&mut self) -> u32 {
        loop {
            match self.frame().await {
                LaneFrame::Request(request, _) => return request.id,
                LaneFrame::Method { .. } => {}
                other => panic!("no request: {other:?}"),
            }
        }
    }

    async fn frame(&mut self) -> LaneFrame {
        loop {
            if let Some(frame) = self.decoder.next_frame().unwrap() {
                return frame;
            }
            let chunk = within(self.recv.read_chunk(1 << 20, true)).await.unwrap();
            self.decoder.push(chunk.expect("no end").bytes);
        }
    }

    async fn reply(&mut self, id: u32, body: &[u8]) {
        let mut out = BytesMut::new();
        wire::encode_lane_reply(&mut out, id, LoadReport::default(), body);
        within(self.send.write_all(&out)).await.unwrap();
    }
}

async fn failure(call: JoinHandle<Result<Bytes, RpcError>>) -> (Code, Processed) {
    let error = within(call).await.unwrap().expect_err("no reply");
    (error.code(), error.processed())
}

#[tokio::test]
async fn a_malformed_lane_is_abandoned() {
    let raw = RawServer::new(2, 100).await;
    for _ in 0..2 {
        let calls = [(); 3].map(|()| raw.call());
        let mut lane = raw.stream(StreamKind::Lane).await;
        lane.request().await;
        within(lane.send.write_all(&[0xff; 40])).await.unwrap();
        for call in calls {
            assert_eq!(failure(call).await, (Code::Internal, Processed::Maybe));
        }
    }
    for _ in 0..3 {
        raw.assert_no_lane().await;
    }
    assert_eq!(raw.client.in_flight(), 0);
}

#[tokio::test]
async fn a_reset_lane_is_reopened_after_a_pause() {
    let raw = RawServer::new(1, 100).await;
    let mut calls = vec![raw.call()];
    let mut lane = raw.stream(StreamKind::Lane).await;
    for _ in 0..2 {
        calls.extend([(); 2].map(|()| raw.call()));
        // The new lane does not know the methods of the old one, so the client defines the method
        // again.
        let first = lane.frame().await;
        assert!(
            matches!(first, LaneFrame::Method { method: 0, .. }),
            "{first:?}"
        );
        let answered = lane.request().await;
        lane.reply(answered, b"y").await;
        until("it is taken", || {
            calls.iter().any(|call| call.is_finished())
        })
        .await;
        lane.send.reset(1u32.into()).unwrap();
        let mut codes = Vec::new();
        for call in calls.drain(..) {
            let ended = within(call).await.unwrap();
            codes.push(ended.map_or_else(|error| error.code(), |_| Code::Ok));
        }
        codes.sort_by_key(|code| *code != Code::Ok);
        assert_eq!(codes, [Code::Ok, Code::Internal, Code::Internal]);
        // Calls have streams of their own until the lane is opened again.
        (calls, lane) = until_some("the lane is opened again", async || {
            let call = raw.call();
            match raw.any_stream().await {
                (StreamKind::Lane, lane) => return Some((vec![call], lane)),
                (kind, _stream) => assert_eq!(kind, StreamKind::Call),
            }
            call.abort();
            None
        })
        .await;
    }
}

#[tokio::test]
async fn replies_to_unknown_calls_are_ignored() {
    let raw = RawServer::new(1, 100).await;
    let call = raw.call();
    let mut lane = raw.stream(StreamKind::Lane).await;
    let id = lane.request().await;
    for wrong in [id + 1, id | 1 << 16, u32::MAX] {
        lane.reply(wrong, b"wrong").await;
    }
    lane.reply(id, b"right").await;
    lane.reply(id, b"twice").await;
    assert_eq!(within(call).await.unwrap().unwrap(), "right");
    let call = raw.call();
    let next = lane.request().await;
    assert_ne!(next, id);
    lane.reply(next, b"next").await;
    assert_eq!(within(call).await.unwrap().unwrap(), "next");
}

/// Replies that are too large for a lane have streams of their own.
#[tokio::test]
async fn only_one_of_several_replies_to_a_call_is_read() {
    let raw = RawServer::new(1, 100).await;
    let call = raw.call();
    let mut lane = raw.stream(StreamKind::Lane).await;
    let id = lane.request().await;
    let index = lane.recv.id().index();
    let mut begun = Vec::new();
    for _ in 0..8 {
        let mut stream = within(raw.connection.open_uni()).await.unwrap();
        let kind = StreamKind::LaneReply;
        let mut head = BytesMut::from(&Preface { kind }.encode()[..]);
        wire::encode_reply_to(&mut head, index, id);
        within(stream.write_all(&head)).await.unwrap();
        begun.push(stream);
    }
    // The order of arrival decides which one is read.
    let stopped = FuturesUnordered::from_iter(begun.iter().map(|stream| stream.stopped()));
    let stopped = within(stopped.take(7).collect::<Vec<_>>()).await;
    assert!(stopped.iter().all(|stopped| matches!(stopped, Ok(Some(_)))));
    for stream in &mut begun {
        let mut reply = BytesMut::new();
        let header = ReplyHeader::new(Code::Ok, Processed::Yes);
        wire::encode_reply(&mut reply, &header, 5);
        reply.extend_from_slice(b"large");
        // Seven are stopped.
        let _ = within(stream.write_all(&reply)).await;
    }
    assert_eq!(within(call).await.unwrap().unwrap(), "large");
}

#[tokio::test]
async fn a_clean_end_of_the_lane_means_not_processed() {
    let raw = RawServer::new(1, 100).await;
    let calls = [(); 2].map(|()| raw.call());
    let mut lane = raw.stream(StreamKind::Lane).await;
    lane.request().await;
    lane.send.finish().unwrap();
    for call in calls {
        assert_eq!(failure(call).await, (Code::Draining, Processed::No));
    }
    assert_eq!(failure(raw.call()).await, (Code::Draining, Processed::No));
}

#[tokio::test]
async fn a_lane_that_has_ended_takes_no_calls_while_another_is_left() {
    let raw = RawServer::new(2, 100).await;
    let call = raw.call();
    let mut lane = raw.stream(StreamKind::Lane).await;
    lane.request().await;
    lane.send.finish().unwrap();
    assert_eq!(failure(call).await, (Code::Draining, Processed::No));
    let call = raw.call();
    let mut other = raw.stream(StreamKind::Lane).await;
    let id = other.request().await;
    other.reply(id, b"y").await;
    assert_eq!(within(call).await.unwrap().unwrap(), "y");
    let call = raw.call();
    other.request().await;
    other.send.finish().unwrap();
    assert_eq!(failure(call).await, (Code::Draining, Processed::No));
    assert_eq!(failure(raw.call()).await, (Code::Draining, Processed::No));
}

#[tokio::test]
async fn a_lane_that_the_server_reads_no_more_takes_no_calls_while_another_is_left() {
    let raw = RawServer::new(2, 100).await;
    let mut calls = vec![raw.call()];
    let mut lane = raw.stream(StreamKind::Lane).await;
    let first = lane.request().await;
    lane.recv.stop(0u32.into()).unwrap();
    // Calls that are made before the client knows wait for the end of the lane.
    let (send, mut recv) = until_some("another lane is opened", async || {
        calls.push(raw.call());
        let opened = raw.connection.accept_bi();
        let opened = timeout(Duration::from_millis(5), opened).await;
        Some(opened.ok()?.unwrap())
    })
    .await;
    let mut preface = [0; PREFACE_BYTES];
    within(recv.read_exact(&mut preface)).await.unwrap();
    let decoder = LaneDecoder::new();
    let mut other = Lane {
        send,
        recv,
        decoder,
    };
    for call in [calls.pop().unwrap(), raw.call(), raw.call()] {
        let id = other.request().await;
        other.reply(id, b"other").await;
        assert_eq!(within(call).await.unwrap().unwrap(), "other");
    }
    // What was sent on the first one is still answered.
    lane.reply(first, b"first").await;
    assert_eq!(within(calls.remove(0)).await.unwrap().unwrap(), "first");
    lane.send.finish().unwrap();
    for call in calls {
        assert_eq!(failure(call).await, (Code::Draining, Processed::No));
    }
    let call = raw.call();
    let id = other.request().await;
    other.reply(id, b"other").await;
    assert_eq!(within(call).await.unwrap().unwrap(), "other");
}

#[tokio::test]
async fn calls_that_wait_for_a_lane_fail_when_the_last_one_ends() {
    let raw = RawServer::new(1, 1).await;
    let call = raw.call();
    let mut lane = raw.stream(StreamKind::Lane).await;
    lane.request().await;
    let waiting = raw.call();
    until("it waits", || raw.client.is_saturated()).await;
    lane.send.finish().unwrap();
    for call in [call, waiting] {
        assert_eq!(failure(call).await, (Code::Draining, Processed::No));
    }
}

#[tokio::test]
async fn all_calls_that_wait_for_a_lane_fail_when_the_server_reads_it_no_more() {
    let raw = RawServer::new(1, 2).await;
    let calls = [raw.call(), raw.call()];
    let mut lane = raw.stream(StreamKind::Lane).await;
    lane.request().await;
    lane.request().await;
    let waiting = [raw.call(), raw.call(), raw.call()];
    until("they wait", || raw.client.is_saturated()).await;
    let client = raw.client.clone();
    let options = CallOptions::new().with_isolated(true);
    let isolated = tokio::spawn(async move { client.call_with("any", "x", options).await });
    let mut own_stream = raw.stream(StreamKind::Call).await;
    lane.recv.stop(0u32.into()).unwrap();
    own_stream.send.reset(0u32.into()).unwrap();
    within(isolated).await.unwrap().unwrap_err();
    // So the client knows, and its next write finds the lane stopped. The other call goes on.
    let [given_up, _left] = calls;
    given_up.abort();
    for call in waiting {
        assert_eq!(failure(call).await, (Code::Draining, Processed::No));
    }
}

#[tokio::test]
async fn an_end_inside_a_frame_means_maybe_processed() {
    let raw = RawServer::new(1, 100).await;
    let call = raw.call();
    let mut lane = raw.stream(StreamKind::Lane).await;
    lane.request().await;
    within(lane.send.write_all(&[17, 0, 9])).await.unwrap();
    lane.send.finish().unwrap();
    assert_eq!(failure(call).await, (Code::Internal, Processed::Maybe));
}

#[tokio::test]
async fn a_server_without_lane_slots_has_no_lanes() {
    let raw = RawServer::new(4, 0).await;
    raw.assert_no_lane().await;
}

#[tokio::test]
async fn an_expired_call_is_cancelled_once_and_its_late_reply_is_dropped() {
    let raw = RawServer::new(1, 1).await;
    let options = CallOptions::new().with_timeout(Duration::from_millis(50));
    let late = within(raw.client.call_with("any", "x", options)).await;
    assert_eq!(late.unwrap_err().code(), Code::DeadlineExceeded);
    let mut lane = raw.stream(StreamKind::Lane).await;
    let id = lane.request().await;
    assert_eq!(lane.frame().await, LaneFrame::Cancel { id });
    let call = raw.call();
    let next = lane.request().await;
    lane.reply(id, b"late").await;
    lane.reply(next, b"in time").await;
    assert_eq!(within(call).await.unwrap().unwrap(), "in time");
}

#[tokio::test]
async fn a_client_holds_bounded_bytes_for_a_server_that_reads_nothing() {
    // Requests of cancelled calls stay behind: 16 MiB of them, without a limit.
    let raw = RawServer::new(1, 16).await;
    let options = CallOptions::new().with_timeout(Duration::from_millis(20));
    let (mut held, mut full_rounds, mut rounds) = (0, 0, 0);
    while full_rounds < 3 {
        rounds += 1;
        assert!(rounds < 1_000, "it never rejects a call");
        let calls = (0..16).map(|_| raw.client.call_with("any", vec![0; 8_000], options));
        let mut overloaded = 0;
        for outcome in within(futures::future::join_all(calls)).await {
            let error = outcome.unwrap_err();
            match error.code() {
                Code::DeadlineExceeded if error.processed() == Processed::Maybe => held += 1,
                // The deadline passed before the request was written.
                Code::DeadlineExceeded => {}
                Code::Overloaded => {
                    assert_eq!(error.processed(), Processed::No);
                    overloaded += 1;
                }
                other => panic!("{other:?}"),
            }
        }
        full_rounds = if overloaded == 16 { full_rounds + 1 } else { 0 };
        // QUIC accepts a window of 1.25 MB by default, and the lane 4 MiB.
        assert!(held * 8_000 < 8_000_000, "{held} requests are held");
    }
    // As soon as the server reads, there is room again.
    let mut lane = raw.stream(StreamKind::Lane).await;
    let reading = tokio::spawn(async move {
        loop {
            if let LaneFrame::Request(request, body) = lane.frame().await
                && body == "x"
            {
                return lane.reply(request.id, b"read").await;
            }
        }
    });
    assert_eq!(within(raw.call()).await.unwrap().unwrap(), "read");
    within(reading).await.unwrap();
}

#[tokio::test]
async fn an_oversized_reply_breaks_the_lane() {
    let raw = RawServer::new(2, 100).await;
    let call = raw.call();
    let mut lane = raw.stream(StreamKind::Lane).await;
    let id = lane.request().await;
    lane.reply(id, &[0; LANE_BODY_BYTES_MAX as usize]).await;
    let reply = within(call).await.unwrap().unwrap();
    assert_eq!(reply.len(), usize::from(LANE_BODY_BYTES_MAX));

    let call = raw.call();
    let id = lane.request().await;
    lane.reply(id, &[0; LANE_BODY_BYTES_MAX as usize + 1]).await;
    assert_eq!(failure(call).await, (Code::Internal, Processed::Maybe));
}

#[tokio::test]
async fn requests_past_the_announced_limit_avoid_lanes() {
    // The client's own limit is larger.
    let config = TransportConfig::default().with_lane_body_bytes_max(65_535);
    let server = serve(
        Router::new().raw("echo", |_cx, body| async move { Ok(body) }),
        TransportConfig::default().with_lane_body_bytes_max(100),
    );
    let client = connect_with(&server, config).await;
    for bytes in [100, 101, 65_535] {
        let body = vec![1; bytes];
        assert_eq!(
            within(client.call("echo", body.clone())).await.unwrap(),
            body
        );
    }
    assert_eq!(server.stats().malformed_frames, 0);
}

#[tokio::test]
async fn rapid_drain_announcements_are_reported_at_a_bounded_rate() {
    let mut raw = RawServer::new(1, 100).await;
    let told = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&told);
    raw.client.on_event(move |_| {
        count.fetch_add(1, SeqCst);
    });
    let begun = Instant::now();
    let mut frames = BytesMut::new();
    for _ in 0..50_000 {
        wire::encode_draining(&mut frames, true);
        wire::encode_draining(&mut frames, false);
    }
    within(raw.control.write_all(&frames)).await.unwrap();
    // The last announcement counts, whenever it arrives.
    let mut last = BytesMut::new();
    wire::encode_draining(&mut last, true);
    within(raw.control.write_all(&last)).await.unwrap();
    // What follows arrives after all of it.
    raw.control.finish().unwrap();
    within(raw.control.stopped()).await.unwrap();
    until("the last one is heard", || raw.client.is_draining()).await;
    let told_max = begun.elapsed().as_millis() as usize / 10 + 2;
    let told = told.load(SeqCst);
    assert!(told <= told_max, "{told} times in {:?}", begun.elapsed());
}

#[tokio::test]
async fn a_check_of_types_that_is_lost_was_not_processed() {
    const COUNT: Method<u32, Replies<u32>> = Method::new("count");
    let raw = RawServer::new(1, 100).await;
    let client = raw.client.clone();
    let call = tokio::spawn(async move {
        let options = MethodOptions::new();
        let opened = COUNT.call_server_streaming(&client, &1, options).await;
        opened.map(drop)
    });
    let _stream = raw.stream(StreamKind::Call).await;
    raw.connection.close(0_u32.into(), b"gone");
    let error = within(call).await.unwrap().expect_err("no stream");
    assert_eq!(
        (error.code(), error.processed()),
        (Code::Unavailable, Processed::No)
    );
}

#[tokio::test]
async fn types_that_need_names_are_not_sent_to_a_server_without_schemas() {
    #[derive(Debug, serde::Serialize, serde::Deserialize, rpcnet_transport::Message)]
    #[message(self_describing)]
    struct Flat {
        id: u32,
    }
    const FLAT: Method<Flat, Flat> = Method::new("flat");
    let raw = RawServer::with_features(1, 100, false).await;
    for _ in 0..2 {
        let error = within(FLAT.call(&raw.client, &Flat { id: 1 })).await;
        let error = error.expect_err("no call");
        assert_eq!(
            (error.code(), error.processed()),
            (Code::Incompatible, Processed::No)
        );
    }
}

#[tokio::test]
async fn metadata_is_not_sent_to_a_server_that_is_older_and_a_trace_is_left_out() {
    let raw = RawServer::with_features(1, 100, false).await;
    let metadata = Metadata::new().with("tenant", "acme").expect("a key");
    for options in [CallOptions::new(), CallOptions::new().with_isolated(true)] {
        let call = raw.client.call_with("any", "x", options);
        let error = within(call.with_metadata(metadata.clone())).await;
        let error = error.expect_err("no call");
        assert_eq!(
            (error.code(), error.processed()),
            (Code::Incompatible, Processed::No)
        );
        assert!(!error.is_local() && !error.rejects_method());
        assert!(error.to_string().contains("takes no metadata"), "{error}");
    }
    let trace = TraceContext::new([1; 16], [2; 8], 0).expect("two ids");
    let client = raw.client.clone();
    let call = async move { client.call("any", "x").with_trace_context(trace).await };
    let call = tokio::spawn(call);
    let mut lane = raw.stream(StreamKind::Lane).await;
    let frames = [lane.frame().await, lane.frame().await];
    assert!(
        matches!(frames, [LaneFrame::Method { .. }, LaneFrame::Request(..)]),
        "{frames:?}"
    );
    drop(call);
}
