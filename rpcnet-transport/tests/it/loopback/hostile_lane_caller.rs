//! A caller that breaks the rules of lanes.

use std::{
    num::{NonZeroU8, NonZeroU32},
    sync::Arc,
};

use bytes::{Bytes, BytesMut};
use futures::future::pending;
use quinn::{RecvStream, SendStream, WriteError};
use rpcnet_transport::{
    Code, Dispatch, LoadReport, Processed,
    wire::{self, Decoder, Frame, LaneDecoder, LaneFrame, LaneRequest, Preface, StreamKind},
};
use tokio::sync::Semaphore;

use super::{hostile_caller::Caller, *};

const CALLS_MAX: u32 = 8;
const RESET_MALFORMED: u64 = 1;
const RESET_STALLED: u64 = 3;

fn config() -> TransportConfig {
    no_drain_grace()
        .with_lanes(NonZeroU8::new(2).unwrap())
        .with_lane_calls_max(NonZeroU32::new(CALLS_MAX).unwrap())
        .with_message_bytes_max(100_000)
}

fn router() -> Router {
    Router::new()
        .raw("hang", |_cx, _body| pending())
        .raw(
            "grow",
            |_cx, _body| async move { Ok(vec![0; 50_000].into()) },
        )
        .raw("echo", |_cx, body| async move { Ok(body) })
        // Answered before the next request is read, however busy the machine is: floods reuse their
        // numbers.
        .with_dispatch("echo", Dispatch::Inline)
}

fn preface() -> BytesMut {
    let kind = StreamKind::Lane;
    BytesMut::from(&Preface { kind }.encode()[..])
}

/// The beginning of a lane with these methods, numbered from 0.
fn lane(methods: &[&str]) -> BytesMut {
    let mut out = preface();
    for (number, name) in (0..).zip(methods) {
        wire::encode_lane_method(&mut out, number, name);
    }
    out
}

fn request(out: &mut BytesMut, id: u32, method: u16, body: &[u8]) {
    let request = LaneRequest {
        id,
        method,
        ..LaneRequest::default()
    };
    wire::encode_lane_request(out, &request, body);
}

/// A caller that has accepted the control stream of the server.
async fn connect_and_listen(server: &RpcServer) -> Caller {
    let caller = Caller::connect(server).await;
    within(caller.connection.accept_uni()).await.unwrap();
    caller
}

/// The frames that come back on a lane.
struct Answers {
    recv: RecvStream,
    decoder: LaneDecoder,
}

impl Answers {
    fn new(recv: RecvStream) -> Self {
        let decoder = LaneDecoder::new();
        Self { recv, decoder }
    }

    async fn next(&mut self) -> LaneFrame {
        loop {
            if let Some(frame) = self.decoder.next_frame().unwrap() {
                return frame;
            }
            let chunk = within(self.recv.read_chunk(1 << 20, true)).await;
            self.decoder.push(chunk.unwrap().expect("no end").bytes);
        }
    }

    async fn reply(&mut self) -> (u32, Bytes) {
        match self.next().await {
            LaneFrame::Reply { id, body, .. } => (id, body),
            other => panic!("no reply: {other:?}"),
        }
    }

    async fn failure(&mut self) -> (u32, Code, Processed) {
        match self.next().await {
            LaneFrame::Failure { id, header, .. } => (id, header.code, header.processed),
            other => panic!("no failure: {other:?}"),
        }
    }
}

/// The code with which the server reset the lane, which it also has to stop reading.
async fn reset_of(send: &mut SendStream, recv: &mut RecvStream) -> u64 {
    let code = match within(recv.read_to_end(16 << 20)).await {
        Err(quinn::ReadToEndError::Read(quinn::ReadError::Reset(code))) => code.into_inner(),
        other => panic!("not reset: {other:?}"),
    };
    assert!(within(send.stopped()).await.unwrap().is_some());
    code
}

/// What is wrong with a lane, and its bytes.
type MalformedLane = (&'static str, BytesMut);

fn malformed(what: &'static str, begun: &BytesMut, add: impl Fn(&mut BytesMut)) -> MalformedLane {
    let mut bytes = begun.clone();
    add(&mut bytes);
    (what, bytes)
}

fn malformed_requests() -> [MalformedLane; 5] {
    let hang = lane(&["hang"]);
    [
        malformed("a number past the limit", &hang, |out| {
            request(out, CALLS_MAX, 0, b"");
        }),
        malformed("a body past the limit", &hang, |out| {
            request(out, 0, 0, &[0; 8_193]);
        }),
        malformed("a number in use", &hang, |out| {
            request(out, 3, 0, b"");
            request(out, 1 << 16 | 3, 0, b"");
        }),
        malformed("an unknown method", &hang, |out| request(out, 0, 1, b"")),
        malformed("an unknown flag", &hang, |out| {
            let at = out.len();
            request(out, 0, 0, b"");
            out[at + 1] = 0x80;
        }),
    ]
}

fn malformed_methods() -> [MalformedLane; 4] {
    let hang = lane(&["hang"]);
    [
        malformed("a method out of order", &hang, |out| {
            wire::encode_lane_method(out, 2, "x");
        }),
        malformed("a method twice", &hang, |out| {
            wire::encode_lane_method(out, 0, "hang");
        }),
        malformed("a method without name", &hang, |out| {
            out.extend_from_slice(&[20, 0, 1, 0]);
        }),
        malformed("too many methods", &preface(), |out| {
            (0..=1_024).for_each(|n| wire::encode_lane_method(out, n, "echo"));
        }),
    ]
}

fn unexpected_frames() -> [MalformedLane; 3] {
    let hang = lane(&["hang"]);
    [
        malformed("no frame", &preface(), |out| {
            out.extend_from_slice(&[0; 16]);
        }),
        malformed("a reply", &hang, |out| {
            wire::encode_lane_reply(out, 0, LoadReport::default(), b"");
        }),
        malformed("a receipt for what is not sent", &hang, |out| {
            request(out, 0, 0, b"");
            wire::encode_lane_received(out, 0);
        }),
    ]
}

#[tokio::test]
async fn malformed_lanes_are_reset_and_counted() {
    let server = serve(router(), config());
    let lanes = malformed_requests().into_iter();
    let lanes = lanes.chain(malformed_methods()).chain(unexpected_frames());
    for (count, (what, bytes)) in (1..).zip(lanes) {
        let caller = Caller::connect(&server).await;
        let (mut send, mut recv) = caller.send_on_new_stream(&bytes).await;
        assert_eq!(
            reset_of(&mut send, &mut recv).await,
            RESET_MALFORMED,
            "{what}"
        );
        counts(&server, what, count, |s| s.malformed_frames).await;
        until("no call is left", || server.in_flight() == 0).await;
        assert!(caller.connection.close_reason().is_none());
    }
    assert_serves(&server).await;
}

#[tokio::test]
async fn lanes_past_the_limit_are_reset_and_the_others_stay() {
    let server = serve(router(), config());
    let caller = Caller::connect(&server).await;
    let mut begun = lane(&["echo"]);
    request(&mut begun, 0, 0, b"x");
    let mut good = Vec::new();
    for _ in 0..2 {
        let (send, recv) = caller.send_on_new_stream(&begun).await;
        let mut answers = Answers::new(recv);
        assert_eq!(answers.reply().await, (0, Bytes::from_static(b"x")));
        good.push((send, answers));
    }
    let (mut send, mut recv) = caller.send_on_new_stream(&begun).await;
    assert_eq!(reset_of(&mut send, &mut recv).await, RESET_MALFORMED);
    for (send, answers) in &mut good {
        let mut more = BytesMut::new();
        request(&mut more, 1, 0, b"y");
        within(send.write_all(&more)).await.unwrap();
        assert_eq!(answers.reply().await, (1, Bytes::from_static(b"y")));
    }
    // A lane that has ended makes room for another.
    let (mut send, _answers) = good.pop().expect("two");
    send.finish().unwrap();
    until_some("another lane is accepted", async || {
        let (_send, mut recv) = caller.send_on_new_stream(&begun).await;
        recv.read_chunk(99, true).await.ok().flatten()
    })
    .await;
}

#[tokio::test]
async fn half_a_frame_and_silence_hold_up_no_other_caller() {
    let server = serve(router(), config());
    let caller = connect_and_listen(&server).await;
    let mut bytes = lane(&["grow", "echo"]);
    request(&mut bytes, 0, 0, &[1; 8_192]);
    let (mut send, recv) = caller.send_on_new_stream(&bytes[..5_000]).await;
    assert_serves(&server).await;
    assert_eq!(server.in_flight(), 0, "half a call is none");
    // The rest of the frame completes it. An end in the middle of a frame is an error.
    within(send.write_all(&bytes[5_000..])).await.unwrap();
    let mut answers = Answers::new(recv);
    let apart = async {
        let mut stream = within(caller.connection.accept_uni()).await.unwrap();
        answer_apart(&mut stream).await
    };
    assert_eq!(apart.await.2.len(), 50_000);
    let mut more = BytesMut::new();
    wire::encode_lane_received(&mut more, 0);
    request(&mut more, 0, 1, b"z");
    within(send.write_all(&more)).await.unwrap();
    assert_eq!(answers.reply().await.1, "z");
    within(send.write_all(&bytes[..20])).await.unwrap();
    send.finish().unwrap();
    counts(&server, "malformed frames", 1, |s| s.malformed_frames).await;
}

/// Reads a reply that has a stream of its own. Returns the lane and the number of its call, and the
/// body.
async fn answer_apart(stream: &mut RecvStream) -> (u64, u32, Bytes) {
    let mut decoder = Decoder::new(StreamKind::LaneReply, 1 << 20);
    let mut to = None;
    loop {
        match decoder.next_frame().unwrap() {
            Some(Frame::ReplyTo { lane, id }) => to = Some((lane, id)),
            Some(Frame::Reply(_, body)) => {
                let (lane, id) = to.expect("it says whose it is");
                return (lane, id, body);
            }
            Some(other) => panic!("no answer: {other:?}"),
            None => {
                let chunk = within(stream.read_chunk(1 << 20, true)).await.unwrap();
                decoder.push(chunk.expect("no end").bytes);
            }
        }
    }
}

#[tokio::test]
async fn a_request_past_the_message_limit_is_rejected() {
    let server = serve(router(), config().with_message_bytes_max(1_000));
    let caller = Caller::connect(&server).await;
    let mut bytes = lane(&["echo"]);
    request(&mut bytes, 0, 0, &[1; 1_001]);
    request(&mut bytes, 0, 0, &[1; 1_000]);
    let (_send, recv) = caller.send_on_new_stream(&bytes).await;
    let mut answers = Answers::new(recv);
    assert_eq!(
        answers.failure().await,
        (0, Code::PayloadTooLarge, Processed::No)
    );
    assert_eq!(answers.reply().await.1.len(), 1_000);
    assert_eq!(server.stats().oversized_messages, 1);
}

#[tokio::test]
async fn a_flood_of_cancellations_holds_up_no_other_caller() {
    let server = serve(router(), config());
    let (caller, other) = (Caller::connect(&server).await, connect(&server).await);
    let mut flood = BytesMut::new();
    (0..10_000).for_each(|id| wire::encode_lane_cancel(&mut flood, id));
    let (mut send, _recv) = caller.send_on_new_stream(&lane(&["hang"])).await;
    let flooding = tokio::spawn(async move {
        for _ in 0..50 {
            send.write_all(&flood).await?;
        }
        Ok::<_, WriteError>(send)
    });
    while !flooding.is_finished() {
        assert_answers(&other).await;
    }
    within(flooding).await.unwrap().expect("no rule is broken");
    assert_eq!(server.stats().calls_cancelled, 0);
}

#[tokio::test]
async fn calls_cancelled_at_once_leave_nothing_behind() {
    let (router, dropped) = hanging();
    // In a task of its own it may be cancelled before its handler starts, which then drops nothing.
    let router = router.with_dispatch("hang", Dispatch::Inline);
    let server = serve(router, config());
    let caller = Caller::connect(&server).await;
    let mut bytes = lane(&["hang"]);
    for _ in 0..1_000 {
        // The very same number, which a caller that keeps the rules does not reuse so soon.
        request(&mut bytes, 5, 0, b"");
        wire::encode_lane_cancel(&mut bytes, 5);
    }
    let (_send, _recv) = caller.send_on_new_stream(&bytes).await;
    for _ in 0..1_000 {
        within(dropped.next()).await;
    }
    until("nothing is served", || server.in_flight() == 0).await;
    counts(&server, "cancelled calls", 1_000, |s| s.calls_cancelled).await;
}

/// Writes the same bytes again and again, until that fails.
async fn flood(send: &mut SendStream, bytes: &[u8]) -> WriteError {
    loop {
        if let Err(error) = send.write_all(bytes).await {
            return error;
        }
    }
}

#[tokio::test]
async fn a_caller_that_reads_no_replies_is_reset() {
    let server = serve(
        router(),
        config().with_stall_timeout(Duration::from_millis(300)),
    );
    let caller = Caller::connect(&server).await;
    let (mut send, mut recv) = caller.send_on_new_stream(&lane(&["echo"])).await;
    let mut round = BytesMut::new();
    (0..CALLS_MAX).for_each(|id| request(&mut round, id, 0, &[0; 8_000]));
    // More than all windows and buffers on the way back hold.
    let ended = within(flood(&mut send, &round)).await;
    assert!(matches!(ended, WriteError::Stopped(_)));
    assert_eq!(reset_of(&mut send, &mut recv).await, RESET_STALLED);
    counts(&server, "stalled calls", 1, |s| s.stalled_calls).await;
    assert_serves(&server).await;
}

#[tokio::test]
async fn a_caller_that_reads_its_replies_slowly_is_not_reset() {
    // Long enough that a busy machine does not look like a caller that reads nothing.
    let stall = Duration::from_secs(2);
    let server = serve(router(), config().with_stall_timeout(stall));
    let caller = Caller::connect(&server).await;
    let (mut send, mut recv) = caller.send_on_new_stream(&lane(&["echo"])).await;
    let mut round = BytesMut::new();
    (0..CALLS_MAX).for_each(|id| request(&mut round, id, 0, &[0; 8_000]));
    let flooding = tokio::spawn(async move { flood(&mut send, &round).await });
    // For longer than the stall timeout it has never read everything.
    let end = Instant::now() + 2 * stall;
    while Instant::now() < end {
        for _ in 0..100 {
            let chunk = within(recv.read_chunk(8_000, true)).await.unwrap();
            chunk.expect("no end");
        }
        // The pace is what is tested: the caller reads less than the server could send.
        sleep(Duration::from_millis(20)).await;
    }
    assert!(!flooding.is_finished());
    assert_eq!(server.stats().stalled_calls, 0);
    flooding.abort();
}

#[tokio::test]
async fn unread_large_replies_are_bounded_by_the_call_numbers() {
    let server = serve(router(), config());
    let caller = connect_and_listen(&server).await;
    let mut bytes = lane(&["grow"]);
    (0..CALLS_MAX).for_each(|id| request(&mut bytes, id, 0, b""));
    let (mut send, mut recv) = caller.send_on_new_stream(&bytes).await;
    let mut streams = Vec::new();
    for _ in 0..CALLS_MAX {
        let mut stream = within(caller.connection.accept_uni()).await.unwrap();
        let (lane, id, body) = answer_apart(&mut stream).await;
        assert_eq!((lane, body.len()), (send.id().index(), 50_000));
        streams.push(id);
    }
    streams.sort_unstable();
    assert!(streams.into_iter().eq(0..CALLS_MAX));
    // The caller has all replies, acknowledges one, and reuses the number of another.
    let mut more = BytesMut::new();
    wire::encode_lane_received(&mut more, 3);
    request(&mut more, 1 << 16 | 3, 0, b"");
    within(send.write_all(&more)).await.unwrap();
    let mut stream = within(caller.connection.accept_uni()).await.unwrap();
    assert_eq!(answer_apart(&mut stream).await.1, 1 << 16 | 3);
    more.clear();
    request(&mut more, 1 << 16 | 4, 0, b"");
    within(send.write_all(&more)).await.unwrap();
    assert_eq!(reset_of(&mut send, &mut recv).await, RESET_MALFORMED);
}

#[tokio::test]
async fn a_stopped_large_reply_is_a_failure_on_the_lane() {
    let server = serve(router(), config());
    let caller = connect_and_listen(&server).await;
    let mut bytes = lane(&["grow"]);
    request(&mut bytes, 2, 0, b"");
    let (_send, recv) = caller.send_on_new_stream(&bytes).await;
    let mut stream = within(caller.connection.accept_uni()).await.unwrap();
    stream.stop(0u32.into()).unwrap();
    let mut answers = Answers::new(recv);
    // Or all of it had arrived before: then there is no failure.
    let failure = timeout(Duration::from_millis(500), answers.failure()).await;
    if let Ok(failure) = failure {
        assert_eq!(failure, (2, Code::Unavailable, Processed::Maybe));
    } else {
        assert_eq!(server.stats().calls_completed, 1);
    }
}

#[tokio::test]
async fn a_lane_ends_after_all_replies_and_their_receipts() {
    let gate = Arc::new(Semaphore::new(0));
    let opened = Arc::clone(&gate);
    let router = Router::new().raw("wait", move |_cx, body: Bytes| {
        let gate = Arc::clone(&opened);
        async move {
            gate.acquire()
                .await
                .expect("the semaphore stays open")
                .forget();
            Ok(if body.is_empty() {
                body
            } else {
                vec![0; 50_000].into()
            })
        }
    });
    let server = serve(router, config());
    let caller = connect_and_listen(&server).await;
    let mut bytes = lane(&["wait"]);
    request(&mut bytes, 0, 0, b"");
    request(&mut bytes, 1, 0, b"large");
    let (mut send, recv) = caller.send_on_new_stream(&bytes).await;
    until("both are served", || server.in_flight() == 2).await;
    let shutdown = tokio::spawn({
        let server = server.clone();
        async move { server.shutdown(TEST_TIMEOUT).await }
    });
    until("it drains", || server.endpoint().is_draining()).await;
    let mut answers = Answers::new(recv);
    let mut late = BytesMut::new();
    request(&mut late, 2, 0, b"");
    within(send.write_all(&late)).await.unwrap();
    assert_eq!(answers.failure().await, (2, Code::Draining, Processed::No));
    gate.add_permits(2);
    assert_eq!(answers.reply().await.0, 0);
    let mut stream = within(caller.connection.accept_uni()).await.unwrap();
    assert_eq!(answer_apart(&mut stream).await.1, 1);
    // Everything is answered, but the server cannot know that the caller has it.
    let early = timeout(Duration::from_millis(200), answers.recv.read_chunk(1, true)).await;
    assert!(early.is_err(), "{early:?}");
    assert!(!shutdown.is_finished());
    let mut receipt = BytesMut::new();
    wire::encode_lane_received(&mut receipt, 1);
    within(send.write_all(&receipt)).await.unwrap();
    let end = within(answers.recv.read_chunk(1, true)).await;
    assert!(end.expect("no reset").is_none(), "the end");
    let report = within(shutdown).await.unwrap();
    assert_eq!(
        (report.completed, report.cancelled, report.rejected),
        (2, 0, 1)
    );
}

#[tokio::test]
async fn a_shutdown_ends_in_time_beside_hostile_callers() {
    let server = serve(router(), config());
    let caller = Caller::connect(&server).await;
    // One lane is idle, the other has calls that do not end and replies that the caller does not
    // read.
    let _idle = caller.send_on_new_stream(&lane(&["echo"])).await;
    let mut bytes = lane(&["hang", "echo"]);
    request(&mut bytes, 0, 0, b"");
    let (mut send, _recv) = caller.send_on_new_stream(&bytes).await;
    let mut round = BytesMut::new();
    (1..CALLS_MAX).for_each(|id| request(&mut round, id, 1, &[0; 8_000]));
    let flooding = tokio::spawn(async move { while send.write_all(&round).await.is_ok() {} });
    until("it is served", || server.stats().calls_started > 100).await;
    // Neither the call nor the flood ends by itself.
    let report = within(server.shutdown(Duration::from_millis(700))).await;
    assert_eq!(report.cancelled, 1);
    within(flooding).await.unwrap();
}
