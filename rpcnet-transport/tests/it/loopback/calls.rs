//! Tests of the four kinds of calls without faults.

use bytes::Bytes;
use futures::TryStreamExt;
use rpcnet_transport::{CallOptions, Code, Processed, Raw};
use serde::{Deserialize, Serialize};

use super::*;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Job {
    name: String,
    sizes: Vec<u64>,
}

fn job() -> Job {
    Job {
        name: "sum".to_owned(),
        sizes: vec![1, 2, 3],
    }
}

fn router() -> Router {
    Router::new()
        .raw("echo", |_cx: CallContext, body| async move { Ok(body) })
        .typed(
            "sum",
            |job: Job| async move { job.sizes.iter().sum::<u64>() },
        )
        .typed("divide", |(a, b): (u32, u32)| async move {
            a.checked_div(b)
                .ok_or_else(|| Status::invalid_request("division by zero"))
        })
        .server_streaming("count", |_cx, upto: u32, mut out: Sender<u32>| async move {
            for n in 0..upto {
                out.send(n).await?;
            }
            Ok(())
        })
        .client_streaming("total", |_cx, numbers: Receiver<u64>| async move {
            numbers
                .try_fold(0, |sum, n| async move { Ok(sum + n) })
                .await
        })
        .streaming(
            "upper",
            |_cx, mut texts: Receiver<String>, mut out: Sender<String>| async move {
                while let Some(text) = texts.message().await? {
                    out.send(text.to_uppercase()).await?;
                }
                Ok(())
            },
        )
        .streaming(
            "reflect",
            |_cx, mut bytes: Receiver<Raw>, mut out: Sender<Raw>| async move {
                while let Some(item) = bytes.message().await? {
                    out.send(item).await?;
                }
                Ok(())
            },
        )
}

#[tokio::test]
async fn unary_calls_carry_bytes_of_any_size() {
    let (_server, client) = pair(router()).await;
    for size in [0, 1, 1_000, 100_000, 3_000_000] {
        let body: Bytes = (0..size)
            .map(|i| (i % 251) as u8)
            .collect::<Vec<_>>()
            .into();
        let reply = within(client.call("echo", body.clone())).await.unwrap();
        assert_eq!(reply, body, "{size} bytes");
    }
}

#[tokio::test]
async fn unary_calls_carry_values() {
    let (server, client) = pair(router()).await;
    let sum: u64 = within(client.call_typed("sum", &job())).await.unwrap();
    assert_eq!(sum, 6);
    assert_eq!(client.peer().name(), SERVER);
    counts(&server, "completed calls", 1, |s| s.calls_completed).await;
}

#[tokio::test]
async fn servers_stream_answers() {
    let (_server, client) = pair(router()).await;
    let numbers = within(client.call_server_streaming::<_, u32>("count", &1_000u32))
        .await
        .unwrap();
    let numbers: Vec<u32> = within(numbers.try_collect()).await.unwrap();
    assert_eq!(numbers, (0..1_000).collect::<Vec<_>>());
    until("the call is over", || client.in_flight() == 0).await;
}

#[tokio::test]
async fn an_ended_stream_is_not_in_flight_while_its_receiver_is_kept() {
    let (_server, client) = pair(router()).await;
    let mut numbers = within(client.call_server_streaming::<_, u32>("count", &3u32))
        .await
        .unwrap();
    while within(numbers.message()).await.unwrap().is_some() {
        assert_eq!(client.in_flight(), 1);
    }
    assert_eq!(client.in_flight(), 0);
    assert_eq!(within(numbers.message()).await.unwrap(), None);
}

#[tokio::test]
async fn clients_stream_requests() {
    let (_server, client) = pair(router()).await;
    let mut upload = client
        .call_client_streaming::<u64, u64>("total")
        .await
        .unwrap();
    for n in 1..=1_000 {
        within(upload.send(n)).await.unwrap();
    }
    assert_eq!(within(upload.finish()).await.unwrap(), 500_500);
}

#[tokio::test]
async fn both_sides_stream_alternately() {
    let (_server, client) = pair(router()).await;
    let (mut send, mut recv) = client
        .call_streaming::<String, String>("upper")
        .await
        .unwrap();
    for text in ["one", "two", "three"] {
        within(send.send(text.to_owned())).await.unwrap();
        assert_eq!(
            within(recv.message()).await.unwrap(),
            Some(text.to_uppercase())
        );
    }
    send.finish();
    assert_eq!(within(recv.message()).await.unwrap(), None);
    assert_eq!(
        within(recv.message()).await.unwrap(),
        None,
        "the end stays the end"
    );
}

#[tokio::test]
async fn raw_streams_pass_bytes_unchanged() {
    let (_server, client) = pair(router()).await;
    let (mut send, mut recv) = client.call_streaming::<Raw, Raw>("reflect").await.unwrap();
    let large: Bytes = vec![9; 2_500_000].into();
    let sending = async {
        for item in [Bytes::new(), Bytes::from_static(b"small"), large.clone()] {
            send.send(Raw(item)).await.unwrap();
        }
        send.finish();
    };
    let receiving = async {
        let mut items = Vec::new();
        while let Some(Raw(item)) = recv.message().await.unwrap() {
            items.push(item);
        }
        items
    };
    let ((), items) = within(async { tokio::join!(sending, receiving) }).await;
    assert_eq!(items, [Bytes::new(), Bytes::from_static(b"small"), large]);
}

#[tokio::test]
async fn handlers_see_peer_and_call_metadata() {
    let router = Router::new().typed_with("who", |cx: CallContext, (): ()| async move {
        let remaining = cx.remaining().expect("a deadline");
        (
            cx.peer().name().to_owned(),
            cx.method().to_owned(),
            cx.attempt(),
            cx.is_idempotent(),
            remaining,
        )
    });
    let (_server, client) = pair(router).await;
    let hour = Duration::from_secs(3_600);
    let options = CallOptions::new()
        .with_timeout(hour)
        .with_attempt(2)
        .with_idempotent(true);
    let (name, method, attempt, idempotent, remaining): (String, String, u8, bool, Duration) =
        within(client.call_typed_with("who", &(), options))
            .await
            .unwrap();
    assert_eq!(
        (&*name, &*method, attempt, idempotent),
        (CLIENT, "who", 2, true)
    );
    assert!(remaining <= hour && remaining > hour / 2, "{remaining:?}");
}

#[tokio::test]
async fn a_failure_of_a_handler_reaches_its_caller() {
    let router = router().raw("app", |_cx, _body| async move {
        let details: Result<Bytes, Status> = Err(Status::app(&("quota", 7u32), "quota exceeded"));
        details
    });
    let (_server, client) = pair(router).await;

    let error = within(client.call_typed::<_, u32>("divide", &(1u32, 0u32)))
        .await
        .unwrap_err();
    assert_eq!(outcome_of(&error), (Code::InvalidRequest, Processed::Yes));
    assert_eq!(error.message(), "division by zero");
    assert_eq!(error.peer().map(|peer| peer.name()), Some(SERVER));
    assert!(!error.is_retryable());

    let error = within(client.call("app", Bytes::new())).await.unwrap_err();
    assert_eq!(error.code(), Code::App);
    assert_eq!(error.app::<(String, u32)>(), Some(("quota".to_owned(), 7)));
}

#[tokio::test]
async fn many_calls_share_a_connection() {
    let (server, client) = pair(router()).await;
    let calls = (0u64..500).map(|n| {
        let client = client.clone();
        async move {
            let job = Job {
                name: String::new(),
                sizes: vec![n, 1],
            };
            client
                .call_typed::<_, u64>("sum", &job)
                .await
                .map(|sum| sum == n + 1)
        }
    });
    // More than the 128 streams that the server accepts concurrently: the others wait.
    let right = within(futures::future::try_join_all(calls)).await.unwrap();
    assert!(right.into_iter().all(|right| right));
    assert_eq!(server.stats().connections_accepted, 1);
    assert_eq!(client.in_flight(), 0);
}

#[tokio::test]
async fn methods_can_be_added_to_a_running_server() {
    let server = RpcServer::bind(loopback(), identity(SERVER)).unwrap();
    let client = RpcClient::connect(server.local_addr(), SERVER, &identity(CLIENT))
        .await
        .unwrap();
    let missing = within(client.call("echo", "x")).await.unwrap_err();
    assert_eq!(missing.code(), Code::Unimplemented);
    server.register("echo", |_cx, body| async move { Ok(body) });
    server.register_typed("next", |n: u32| async move { n + 1 });
    server.register_streaming(
        "empty",
        |_cx, _in: Receiver<u32>, _out: Sender<u32>| async { Ok(()) },
    );
    assert_eq!(within(client.call("echo", "x")).await.unwrap(), "x");
    assert_eq!(
        within(client.call_typed::<_, u32>("next", &1u32))
            .await
            .unwrap(),
        2
    );
    let (_send, mut recv) = client.call_streaming::<u32, u32>("empty").await.unwrap();
    assert_eq!(within(recv.message()).await.unwrap(), None);
}

#[tokio::test]
async fn a_node_serves_and_calls_on_one_port() {
    let (a, b) = (
        endpoint("a", TransportConfig::lan()),
        endpoint("b", TransportConfig::lan()),
    );
    for endpoint in [&a, &b] {
        let name = endpoint.node_name().to_owned();
        endpoint.serve(
            Router::new().typed_with("who", move |cx: CallContext, (): ()| {
                let name = name.clone();
                async move { (name, cx.peer().name().to_owned(), cx.peer().addr()) }
            }),
        );
    }
    for (from, to) in [(&a, &b), (&b, &a)] {
        let client = from.connect(to.local_addr(), to.node_name()).await.unwrap();
        let (callee, caller, addr): (String, String, SocketAddr) =
            within(client.call_typed("who", &())).await.unwrap();
        assert_eq!((&*callee, &*caller), (to.node_name(), from.node_name()));
        assert_eq!(addr, from.local_addr());
    }
}
