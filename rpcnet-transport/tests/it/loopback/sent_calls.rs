//! Calls that are sent at once, for callers that do more than make them.

use std::{future::poll_fn, task::Poll, time::Instant};

use bytes::Bytes;
use rpcnet_transport::{CallOptions, Method, SentCall, SmallCall, SmallCallMethod};

use super::*;

const SQUARE: Method<u64, u64> = Method::new("square");

/// Sends a call in the current task, or gives the client back.
async fn try_send(
    client: &RpcClient,
    method: SmallCallMethod<'_>,
    body: &Bytes,
    options: &CallOptions,
) -> Result<SentCall, RpcClient> {
    let now = Instant::now();
    let call = SmallCall {
        method,
        body,
        options,
        now,
    };
    poll_fn(|cx| Poll::Ready(client.clone().try_send(&call, cx.waker()))).await
}

#[tokio::test]
async fn a_sent_call_completes_with_its_reply_and_the_time_at_which_it_was_read() {
    let router = Router::new()
        .raw("echo", |_, body| async move { Ok(body) })
        .method(SQUARE, |n| async move { n * n });
    let (_server, client) = pair(router).await;
    let (echo, body) = (SmallCallMethod::Named("echo", None), Bytes::from("abc"));
    let before = Instant::now();
    let mut sent = try_send(&client, echo, &body, &CallOptions::new())
        .await
        .expect("it is sent");
    assert_eq!(within(&mut sent).await.expect("a reply"), body);
    let read_at = client.created_at() + sent.read_after();
    assert!(before <= read_at && read_at <= Instant::now());
    assert!(sent.load().is_some());
    let first = sent.read_after();
    within(client.call("echo", "")).await.expect("a reply");
    assert!(sent.read_after() > first, "each read has its time");

    let (square, seven) = (
        SmallCallMethod::Typed(SQUARE.untyped()),
        Bytes::from_static(&[7]),
    );
    let sent = try_send(&client, square, &seven, &CallOptions::new()).await;
    let reply = within(sent.expect("it is sent")).await.expect("a reply");
    assert_eq!(&reply[..], [49]);
}

#[tokio::test]
async fn a_call_that_cannot_be_sent_at_once_gives_its_client_back() {
    let router = Router::new().raw("echo", |_, body| async move { Ok(body) });
    let (server, client) = pair(router).await;
    let echo = SmallCallMethod::Named("echo", None);
    let (small, large) = (Bytes::new(), Bytes::from(vec![7; 1 << 20]));
    let new = CallOptions::new();
    let late = new.with_timeout(Duration::ZERO);
    let no_name = SmallCallMethod::Named("", None);
    for (method, body, options) in [
        (echo, &large, new),
        (echo, &small, new.with_isolated(true)),
        (echo, &small, late),
        (echo, &small, late.resolved(Instant::now(), None)),
        (no_name, &small, new),
    ] {
        let sent = try_send(&client, method, body, &options).await;
        let returned = sent.expect_err("it has another form");
        assert_eq!(returned.in_flight(), 0);
    }
    assert_eq!(server.stats().calls_started, 0);
    client.close("for the test");
    let sent = try_send(&client, echo, &small, &new).await;
    assert!(sent.expect_err("it is closed").is_closed());
}

#[tokio::test]
async fn options_that_were_not_resolved_have_the_time_limits_of_any_call() {
    let router = Router::new()
        .raw("hang", |_, _| std::future::pending())
        .raw("left", |cx: CallContext, _| async move {
            let left = cx.deadline().map(|at| at - Instant::now());
            Ok(Bytes::from(format!("{:?}", left.is_some())))
        });
    let (_server, client) = pair(router).await;
    let (hang, body) = (SmallCallMethod::Named("hang", None), Bytes::new());
    let brief = CallOptions::new().with_timeout(Duration::from_millis(20));
    let sent = try_send(&client, hang, &body, &brief).await;
    let error = within(sent.expect("it is sent")).await.expect_err("late");
    assert_eq!(error.code(), Code::DeadlineExceeded);

    let left = SmallCallMethod::Named("left", None);
    for (options, has_deadline) in [
        (CallOptions::new(), "true"),
        (CallOptions::new().without_deadline(), "false"),
    ] {
        let sent = try_send(&client, left, &body, &options).await;
        let reply = within(sent.expect("it is sent")).await.expect("a reply");
        assert_eq!(reply, has_deadline);
    }
}

#[tokio::test]
async fn a_sent_call_that_is_dropped_is_cancelled() {
    let router = Router::new().raw("hang", |_, _| std::future::pending());
    let (server, client) = pair(router).await;
    let hang = SmallCallMethod::Named("hang", None);
    let sent = try_send(&client, hang, &Bytes::new(), &CallOptions::new()).await;
    let sent = sent.expect("it is sent");
    until("it runs", || server.in_flight() == 1).await;
    assert_eq!(client.in_flight(), 1);
    drop(sent);
    until("it is cancelled", || {
        client.in_flight() + server.in_flight() == 0
    })
    .await;
}
