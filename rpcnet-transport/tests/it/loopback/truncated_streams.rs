//! Tests of truncated streams: none of them ends like a complete one.

use std::num::NonZeroU64;

use rpcnet_transport::{CallOptions, Code, Processed, Raw, RpcError, ShutdownReport};
use tokio::sync::mpsc;

use super::*;

/// Pause of the handlers between two messages.
const PAUSE: Duration = Duration::from_millis(1);

/// Handlers that ignore it when they are cut.
fn careless() -> Router {
    Router::new()
        .server_streaming(
            "on_failure",
            |_cx, bytes: u32, mut to: Sender<Raw>| async move {
                while to.send(Raw(vec![7; bytes as usize].into())).await.is_ok() {
                    sleep(PAUSE).await;
                }
                Ok(())
            },
        )
        .server_streaming(
            "on_cancel",
            |cx: CallContext, bytes: u32, mut to: Sender<Raw>| async move {
                loop {
                    tokio::select! {
                        biased;
                        () = cx.cancelled() => return Ok(()),
                        sent = to.send(Raw(vec![7; bytes as usize].into())) => {
                            sent?;
                            sleep(PAUSE).await;
                        }
                    }
                }
            },
        )
        .server_streaming(
            "given_away",
            |_cx, bytes: u32, mut to: Sender<Raw>| async move {
                tokio::spawn(async move {
                    while to.send(Raw(vec![7; bytes as usize].into())).await.is_ok() {
                        sleep(PAUSE).await;
                    }
                });
                Ok(())
            },
        )
        .server_streaming(
            "passed_on",
            |_cx, bytes: u32, mut to: Sender<Raw>| async move {
                loop {
                    to.send(Raw(vec![7; bytes as usize].into())).await?;
                    sleep(PAUSE).await;
                }
            },
        )
}

/// Reads to the end.
async fn end_of(receiver: &mut Receiver<Raw>) -> Result<(), RpcError> {
    while receiver.message().await?.is_some() {}
    Ok(())
}

/// Outcome of the reader of a stream and of the shutdown during which it reads.
async fn shut_down(method: &str, bytes: u32) -> (Result<(), RpcError>, ShutdownReport) {
    // Small messages pass the link in their pauses, so that the status after them arrives. Large
    // ones are cut in the middle.
    let network = MemoryNetwork::new();
    network.set_rate(NonZeroU64::new(1_000_000), 64_000);
    let (server, client) = pair_on(&network, careless()).await;
    let options = CallOptions::new().without_deadline();
    let stream = client.call_server_streaming_with(method, &bytes, options);
    let mut stream: Receiver<Raw> = stream.await.unwrap();
    assert!(stream.message().await.unwrap().is_some());
    let reader = tokio::spawn(async move { end_of(&mut stream).await });
    let report = within(server.shutdown(Duration::from_millis(500))).await;
    (within(reader).await.unwrap(), report)
}

#[tokio::test(start_paused = true)]
async fn a_stream_cut_by_a_shutdown_has_no_clean_end() {
    for method in ["on_failure", "on_cancel", "given_away", "passed_on"] {
        for bytes in [10, 100_000] {
            let (ended, report) = shut_down(method, bytes).await;
            let error = ended.expect_err(method);
            assert_eq!(error.processed(), Processed::Maybe, "{method}: {error:?}");
            let code = error.code();
            let is_cut = matches!(code, Code::Cancelled | Code::Unavailable);
            assert!(is_cut, "{method}: {error:?}");
            assert_eq!((report.completed, report.cancelled), (0, 1), "{method}");
        }
    }
}

#[tokio::test]
async fn a_stream_cut_by_its_deadline_on_the_server_has_no_clean_end() {
    let (server, _) = pair(careless()).await;
    for method in ["on_failure", "given_away"] {
        let mut caller = hostile_caller::Caller::connect(&server).await;
        let before = server.stats();
        let error = within(caller.stream_until(method, Duration::from_millis(30))).await;
        // Reset, if the deadline passed in the middle of a message.
        assert!(
            matches!(error, None | Some(Code::DeadlineExceeded)),
            "{method}: {error:?}"
        );
        let after = server.stats();
        assert_eq!(after.calls_completed, before.calls_completed);
        assert_eq!(after.calls_timed_out, before.calls_timed_out + 1);
    }
}

/// Outcome of reading an upload in its handler.
async fn upload(end: impl AsyncFnOnce(rpcnet_transport::Upload<Raw, ()>)) -> Result<(), RpcError> {
    let (sender, mut outcome) = mpsc::channel(2);
    let router = Router::new().client_streaming("take", move |_cx, mut from: Receiver<Raw>| {
        let sender = sender.clone();
        async move {
            let _ = sender.send(None).await;
            let _ = sender.send(Some(end_of(&mut from).await)).await;
            Ok::<(), Status>(())
        }
    });
    let (_server, client) = pair(router).await;
    let mut upload = client
        .call_client_streaming::<Raw, ()>("take")
        .await
        .unwrap();
    upload.send(Raw("first".into())).await.unwrap();
    assert!(within(outcome.recv()).await.unwrap().is_none());
    end(upload).await;
    // A handler that is dropped has read no end at all.
    let cut = || RpcError::new(Code::Cancelled, Processed::Maybe, "dropped");
    within(outcome.recv())
        .await
        .flatten()
        .unwrap_or_else(|| Err(cut()))
}

#[tokio::test]
async fn an_upload_that_is_not_finished_has_no_clean_end() {
    upload(async |upload| drop(upload)).await.unwrap_err();
    upload(async |mut upload| {
        // Dropped in the middle of a message.
        let large = upload.send(Raw(vec![1; 10_000_000].into()));
        timeout(Duration::ZERO, large).await.unwrap_err();
        // Its handler knows, and may return `Ok` all the same.
        drop(upload.finish().await);
    })
    .await
    .unwrap_err();
    upload(async |upload| drop(upload.finish().await))
        .await
        .unwrap();
}
