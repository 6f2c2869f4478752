//! Limits, and the errors of calls that exceed them.

use std::num::{NonZeroU8, NonZeroU32, NonZeroUsize};

use bytes::Bytes;
use rpcnet_transport::{Admission, CallOptions, Code, Processed, Raw};

use super::*;

#[tokio::test]
async fn messages_above_the_limit_are_not_sent() {
    let config = TransportConfig::default().with_message_bytes_max(1000);
    let router = Router::new()
        .raw("echo", |_cx, body| async move { Ok(body) })
        .raw("grow", |_cx, _body| async move {
            Ok(Bytes::from(vec![0; 1001]))
        });
    let server = serve(router, config);
    // The client's own limit is larger: the limit that the server announced counts.
    let client = connect(&server).await;
    assert_eq!(
        within(client.call("echo", vec![1; 1000]))
            .await
            .unwrap()
            .len(),
        1000
    );
    let error = within(client.call("echo", vec![1; 1001]))
        .await
        .unwrap_err();
    assert_eq!(outcome_of(&error), (Code::PayloadTooLarge, Processed::No));
    let error = within(client.call("grow", "")).await.unwrap_err();
    assert_eq!(outcome_of(&error), (Code::PayloadTooLarge, Processed::Yes));
    assert_answers(&client).await;
}

#[tokio::test]
async fn a_reply_past_the_callers_limit_is_not_read() {
    let router = Router::new()
        .raw("grow", |_cx, _body| async move {
            Ok(Bytes::from(vec![0; 1001]))
        })
        .server_streaming("items", |_cx, (): (), mut out: Sender<Raw>| async move {
            Ok(out.send(Raw(vec![0; 1001].into())).await?)
        });
    let server = serve(router, TransportConfig::default());
    let client = connect_with(
        &server,
        TransportConfig::default().with_message_bytes_max(1000),
    )
    .await;
    let error = within(client.call("grow", "")).await.unwrap_err();
    assert_eq!(outcome_of(&error), (Code::PayloadTooLarge, Processed::Yes));
    let mut items = client
        .call_server_streaming::<_, Raw>("items", &())
        .await
        .unwrap();
    assert_eq!(
        within(items.message()).await.unwrap_err().code(),
        Code::PayloadTooLarge
    );
    assert_answers(&client).await;
}

/// A server allows few streams at first.
#[tokio::test]
async fn all_streams_of_the_config_are_served_at_once() {
    let (router, gate) = gated(Router::new());
    let server = serve(router, TransportConfig::default());
    let client = connect(&server).await;
    let calls: Vec<_> = (0..128)
        .map(|_| {
            let client = client.clone();
            let options = CallOptions::new().with_isolated(true);
            tokio::spawn(async move { client.call_with("wait", "x", options).await })
        })
        .collect();
    until("all are served", || server.in_flight() == 128).await;
    gate.add_permits(128);
    for call in calls {
        assert_eq!(within(call).await.unwrap().unwrap(), "x");
    }
}

#[tokio::test]
async fn a_call_past_the_stream_limit_waits_no_longer_than_its_deadline() {
    let (router, gate) = gated(Router::new());
    let config = TransportConfig::default().with_streams_max(NonZeroU32::new(2).unwrap());
    let server = serve(router, config);
    let client = connect(&server).await;
    let calls: Vec<_> = (0..2)
        .map(|_| {
            let client = client.clone();
            let options = CallOptions::new().with_isolated(true);
            tokio::spawn(async move { client.call_with("wait", "x", options).await })
        })
        .collect();
    until("both are served", || server.in_flight() == 2).await;
    let options = CallOptions::new()
        .with_isolated(true)
        .with_timeout(Duration::from_millis(100));
    let error = within(client.call_with("wait", "", options))
        .await
        .unwrap_err();
    assert_eq!(outcome_of(&error), (Code::DeadlineExceeded, Processed::No));
    gate.add_permits(2);
    for call in calls {
        assert_eq!(within(call).await.unwrap().unwrap(), "x");
    }
    assert_answers(&client).await;
}

#[tokio::test]
async fn calls_past_the_servers_limit_are_rejected_unprocessed() {
    let (router, gate) = gated(Router::new());
    let config = TransportConfig::default().with_calls_max(NonZeroUsize::new(1).unwrap());
    let server = serve(router, config);
    let client = connect(&server).await;
    let first = tokio::spawn({
        let client = client.clone();
        async move { client.call("wait", "x").await }
    });
    until("one is served", || server.in_flight() == 1).await;
    let error = within(client.call("wait", "")).await.unwrap_err();
    assert_eq!(outcome_of(&error), (Code::Overloaded, Processed::No));
    assert!(error.is_retryable());
    assert_eq!(server.stats().calls_rejected_overloaded, 1);
    gate.add_permits(1);
    assert_eq!(within(first).await.unwrap().unwrap(), "x");
    until("the first is over", || server.in_flight() == 0).await;
    assert_answers(&client).await;
}

#[tokio::test]
async fn connections_past_the_limit_are_refused() {
    let config = TransportConfig::default().with_connections_max(NonZeroUsize::new(1).unwrap());
    let server = serve(Router::new(), config);
    let first = connect(&server).await;
    let second = endpoint("client-2", TransportConfig::default());
    let error = connect_error(&second, &server).await;
    assert!(matches!(error, ConnectError::Refused { .. }), "{error:?}");
    assert!(error.is_retryable());
    counts(&server, "refused handshakes", 1, |s| s.handshakes_refused).await;
    assert_answers(&first).await;
    drop(first);
    let deadline = Instant::now() + TEST_TIMEOUT;
    while second.connect(server.local_addr(), SERVER).await.is_err() {
        assert!(Instant::now() < deadline, "no connection is accepted again");
    }
}

#[tokio::test]
async fn limits_may_have_their_greatest_values() {
    let config = TransportConfig::default()
        .with_calls_max(NonZeroUsize::MAX)
        .with_connections_max(NonZeroUsize::MAX)
        .with_handshakes_max(NonZeroUsize::MAX);
    assert_serves(&serve(Router::new(), config)).await;
}

#[tokio::test]
async fn a_panicking_handler_fails_only_its_own_call() {
    let router = Router::new()
        .raw("panic", |_cx, _body| async move { panic!("on purpose") })
        .raw(
            "panic at once",
            |_cx, _body| -> std::future::Ready<Result<Bytes, Status>> { panic!("on purpose") },
        )
        .server_streaming(
            "panic late",
            |_cx, (): (), mut out: Sender<u8>| async move {
                out.send(1).await?;
                panic!("on purpose")
            },
        );
    let (server, client) = pair(router).await;
    for method in ["panic", "panic at once"] {
        let error = within(client.call(method, "")).await.unwrap_err();
        assert_eq!(outcome_of(&error), (Code::Internal, Processed::Maybe));
    }
    let mut stream = client
        .call_server_streaming::<_, u8>("panic late", &())
        .await
        .unwrap();
    assert_eq!(within(stream.message()).await.unwrap(), Some(1));
    assert_eq!(
        within(stream.message()).await.unwrap_err().code(),
        Code::Internal
    );
    assert_eq!(server.stats().handler_panics, 3);
    assert_answers(&client).await;
}

#[tokio::test]
async fn requests_that_match_no_method_are_rejected_unprocessed() {
    let router = Router::new()
        .typed("typed", |n: u32| async move { n })
        .server_streaming("stream", |_cx, n: u32, mut out: Sender<u32>| async move {
            Ok(out.send(n).await?)
        });
    let (server, client) = pair(router).await;

    let error = within(client.call("nothing", "")).await.unwrap_err();
    assert_eq!(outcome_of(&error), (Code::Unimplemented, Processed::No));
    assert!(error.is_retryable(), "another node may have the method");
    assert_eq!(server.stats().unknown_methods, 1);

    // Not a number; a number and more; a call of another kind, in both directions.
    for (method, body) in [("typed", &b""[..]), ("typed", &[1, 2]), ("stream", &[1])] {
        let error = within(client.call(method, body)).await.unwrap_err();
        assert_eq!(outcome_of(&error), (Code::InvalidRequest, Processed::No));
        assert!(!error.is_retryable());
    }
    let mut stream = client
        .call_server_streaming::<_, u32>("stream", &Raw::default())
        .await
        .unwrap();
    let error = within(stream.message()).await.unwrap_err();
    assert_eq!(outcome_of(&error), (Code::InvalidRequest, Processed::No));
    let mut stream = client
        .call_server_streaming::<_, u32>("typed", &1u32)
        .await
        .unwrap();
    let error = within(stream.message()).await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidRequest);
    let text = "call type mismatch: the method is unary, the call is server-streaming";
    assert_eq!(error.message(), text);
    assert_eq!(server.stats().invalid_requests, 5);

    for method in ["", &"m".repeat(256)] {
        let error = within(client.call(method, "")).await.unwrap_err();
        assert_eq!(outcome_of(&error), (Code::InvalidRequest, Processed::No));
    }
    assert_answers(&client).await;
}

#[tokio::test]
async fn an_undecodable_request_message_is_an_invalid_request() {
    let router =
        Router::new().client_streaming("sum", |_cx, mut numbers: Receiver<u32>| async move {
            let mut sum = 0;
            while let Some(n) = numbers.message().await? {
                sum += n;
            }
            Ok::<u32, RpcError>(sum)
        });
    let (server, client) = pair(router).await;
    let mut upload = client
        .call_client_streaming::<Raw, u32>("sum")
        .await
        .unwrap();
    upload.send(Raw(Bytes::from_static(&[1]))).await.unwrap();
    upload.send(Raw(Bytes::new())).await.unwrap();
    let error = within(upload.finish()).await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidRequest);
    assert_eq!(server.stats().invalid_requests, 1);
    assert_answers(&client).await;
}

#[tokio::test]
async fn an_undecodable_reply_message_is_an_internal_error() {
    let router = Router::new()
        .server_streaming("empty", |_cx, (): (), mut out: Sender<Raw>| async move {
            Ok(out.send(Raw::default()).await?)
        });
    let (_server, client) = pair(router).await;
    let mut stream = client
        .call_server_streaming::<_, u32>("empty", &())
        .await
        .unwrap();
    let error = within(stream.message()).await.unwrap_err();
    assert_eq!(outcome_of(&error), (Code::Internal, Processed::Yes));
    assert_eq!(within(stream.message()).await.unwrap(), None);
    assert_answers(&client).await;
}

#[tokio::test]
async fn half_open_handshakes_hold_at_most_the_handshake_limit() {
    let config = TransportConfig::default()
        .with_handshakes_max(NonZeroUsize::new(1).unwrap())
        // Long enough that the unfinished handshake still counts when the client comes, on a busy
        // machine too.
        .with_connect_timeout(Duration::from_secs(2));
    let server = serve(Router::new(), config);
    // The first packet of a real handshake, forwarded by a sender that never continues it.
    let trap = tokio::net::UdpSocket::bind(loopback()).await.unwrap();
    let stranger = hostile_caller::quic_endpoint();
    let tls = hostile_caller::client_config(None, b"rpcnet/1");
    let _connecting = stranger
        .connect_with(tls, trap.local_addr().unwrap(), SERVER)
        .unwrap();
    let mut first = [0; 2000];
    let (len, _) = within(trap.recv_from(&mut first)).await.unwrap();
    trap.send_to(&first[..len], server.local_addr())
        .await
        .unwrap();
    let mut answer = [0; 2000];
    within(trap.recv_from(&mut answer)).await.unwrap();

    let client = endpoint(CLIENT, TransportConfig::default());
    let error = connect_error(&client, &server).await;
    assert!(matches!(error, ConnectError::Refused { .. }), "{error:?}");
    assert_eq!(
        (
            server.stats().handshakes_retried,
            server.stats().handshakes_refused
        ),
        (1, 1)
    );
    counts(&server, "failed handshakes", 1, |s| s.handshakes_failed).await;
    assert_serves(&server).await;
}

#[tokio::test]
async fn a_connection_reports_saturation() {
    let one = NonZeroU32::MIN;
    let config = TransportConfig::default()
        .with_lane_calls_max(one)
        .with_streams_max(NonZeroU32::new(2).unwrap());
    let (router, gate) = gated(Router::new());
    let server = serve(router, config);
    let config = TransportConfig::default().with_lanes(NonZeroU8::MIN);
    let client = connect_with(&server, config).await;
    let call = |options: CallOptions| {
        let client = client.clone();
        tokio::spawn(async move { client.call_with("wait", "", options).await })
    };
    assert!(!client.is_saturated());
    let shares = [call(CallOptions::new()), call(CallOptions::new())];
    until("the lane is full", || client.is_saturated()).await;
    gate.add_permits(2);
    for call in shares {
        within(call).await.unwrap().unwrap();
    }
    assert!(!client.is_saturated());

    // The server accepts two streams at a time, and one of them is the lane.
    let alone = CallOptions::new().with_isolated(true);
    let first = call(alone);
    until("one call runs", || server.in_flight() == 1).await;
    assert!(!client.is_saturated(), "there is room for a small one");
    let second = call(alone);
    until("a call waits for a stream", || client.is_saturated()).await;
    gate.add_permits(2);
    for call in [first, second] {
        within(call).await.unwrap().unwrap();
    }
    assert!(!client.is_saturated());
}

#[tokio::test]
async fn waiting_calls_end_with_the_connection() {
    let config = TransportConfig::default().with_lane_calls_max(NonZeroU32::MIN);
    let (router, _gate) = gated(Router::new());
    let server = serve(router, config);
    let config = TransportConfig::default().with_lanes(NonZeroU8::MIN);
    let client = connect_with(&server, config).await;
    let options = CallOptions::new().without_deadline();
    let calls: Vec<_> = (0..10)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { client.call_with("wait", "", options).await })
        })
        .collect();
    until("one is served", || server.in_flight() == 1).await;
    client.close("enough");
    let mut unprocessed = 0;
    for call in calls {
        let error = within(call).await.unwrap().unwrap_err();
        assert_eq!(error.code(), Code::Unavailable, "{error}");
        unprocessed += usize::from(error.processed() == Processed::No);
    }
    assert_eq!(unprocessed, 9, "all but the one that was served");
}

#[tokio::test]
async fn the_largest_limits_are_accepted() {
    let config = TransportConfig::default()
        .with_calls_max(NonZeroUsize::MAX)
        .with_buffered_bytes_max(usize::MAX)
        .with_connection_buffered_bytes_max(usize::MAX)
        .with_connections_max(NonZeroUsize::MAX)
        .with_handshakes_max(NonZeroUsize::MAX)
        .with_lane_calls_max(NonZeroU32::MAX)
        .with_queue_len_max(usize::MAX)
        .with_side_channel_len(NonZeroUsize::MAX)
        .with_side_datagram_bytes_max(usize::MAX)
        .with_socket_buffer_bytes(usize::MAX)
        .with_admission(
            Admission::adaptive()
                .with_ceiling(usize::MAX)
                .with_floor(usize::MAX)
                .with_queue_len(usize::MAX),
        );
    let router = Router::new().raw("echo", |_cx, body| async move { Ok(body) });
    let server = serve(router, config.clone());
    let client = connect_with(&server, config).await;
    for size in [1, 100_000, 1_000_000] {
        let reply = within(client.call("echo", vec![1; size])).await.unwrap();
        assert_eq!(reply.len(), size);
    }
}
