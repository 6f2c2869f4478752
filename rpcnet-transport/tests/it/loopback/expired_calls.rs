//! Tests of calls whose deadlines pass at the server before their handlers start.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    thread,
};

use bytes::BytesMut;
use rpcnet_transport::{
    Code, Dispatch, Processed,
    wire::{self, LaneDecoder, LaneFrame, LaneRequest, Preface, StreamKind},
};

use super::{hostile_caller::Caller, *};

const DEADLINE: Duration = Duration::from_millis(20);

/// Time for which a handler blocks the thread of the server.
const BLOCK: Duration = Duration::from_millis(100);

/// A method that blocks its thread, and one for each dispatch that counts its starts.
fn router(begun: &Arc<AtomicUsize>) -> Router {
    let count = || {
        let begun = Arc::clone(begun);
        move |_cx: CallContext, body| {
            begun.fetch_add(1, SeqCst);
            async move { Ok(body) }
        }
    };
    Router::new()
        .raw("block", |_cx, body| {
            thread::sleep(BLOCK);
            async move { Ok(body) }
        })
        .with_dispatch("block", Dispatch::Inline)
        .raw("inline", count())
        .with_dispatch("inline", Dispatch::Inline)
        .raw("spawned", count())
        .with_dispatch("spawned", Dispatch::Spawned)
}

fn request(out: &mut BytesMut, id: u32, method: u16, deadline: Option<Duration>) {
    let request = LaneRequest {
        id,
        method,
        deadline,
        ..LaneRequest::default()
    };
    wire::encode_lane_request(out, &request, b"");
}

/// Sends a packet of requests on a lane, by method number and deadline; returns the outcome of
/// each, in order.
async fn answers(
    server: &RpcServer,
    requests: &[(u16, Option<Duration>)],
) -> Vec<(Code, Processed)> {
    let caller = Caller::connect(server).await;
    let kind = StreamKind::Lane;
    let mut out = BytesMut::from(&Preface { kind }.encode()[..]);
    for (number, name) in (0..).zip(["block", "inline", "spawned"]) {
        wire::encode_lane_method(&mut out, number, name);
    }
    for (id, (method, deadline)) in (0..).zip(requests) {
        request(&mut out, id, *method, *deadline);
    }
    let (_send, mut recv) = caller.send_on_new_stream(&out).await;
    let mut answers = vec![None; requests.len()];
    let mut decoder = LaneDecoder::new();
    while answers.contains(&None) {
        let chunk = within(recv.read_chunk(1 << 20, true)).await;
        decoder.push(chunk.unwrap().expect("no end").bytes);
        while let Some(frame) = decoder.next_frame().unwrap() {
            let (id, answer) = match frame {
                LaneFrame::Reply { id, .. } => (id, (Code::Ok, Processed::Yes)),
                LaneFrame::Failure { id, header, .. } => (id, (header.code, header.processed)),
                other => panic!("no answer: {other:?}"),
            };
            answers[id as usize] = Some(answer);
        }
    }
    answers.into_iter().flatten().collect()
}

const OK: (Code, Processed) = (Code::Ok, Processed::Yes);
const EXPIRED: (Code, Processed) = (Code::DeadlineExceeded, Processed::No);

#[tokio::test]
async fn a_call_that_expires_behind_another_one_is_not_started() {
    let begun = Arc::new(AtomicUsize::new(0));
    let server = serve(router(&begun), TransportConfig::default());
    let requests = [
        (1, None),
        (0, None),
        (1, Some(DEADLINE)),
        (2, Some(DEADLINE)),
        (1, Some(TEST_TIMEOUT)),
        (1, None),
    ];
    let expected = [OK, OK, EXPIRED, EXPIRED, OK, OK];
    assert_eq!(answers(&server, &requests).await, expected);
    assert_eq!(begun.load(SeqCst), 3);
    let stats = server.stats();
    assert_eq!((stats.calls_expired, stats.calls_started), (2, 4));
}

#[tokio::test]
async fn a_call_that_expires_before_its_task_runs_is_not_started() {
    let begun = Arc::new(AtomicUsize::new(0));
    let server = serve(router(&begun), TransportConfig::default());
    // The second call blocks the thread that would run the task of the first one.
    let requests = [(2, Some(DEADLINE)), (2, None), (0, None)];
    assert_eq!(answers(&server, &requests).await, [EXPIRED, OK, OK]);
    assert_eq!(begun.load(SeqCst), 1);
    assert_eq!(server.stats().calls_expired, 1);
}
