//! Metadata of requests and replies, and trace contexts, with calls of every kind.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures::StreamExt;
use parking_lot::Mutex;
use rpcnet_testing::within;
use rpcnet_transport::{
    CallContext, CallMetadataExt, CallOptions, Code, LocalChannel, METADATA_BYTES_MAX,
    MemoryNetwork, Metadata, Method, MethodOptions, Priority, Processed, Raw, Replies, Requests,
    Router, RpcClient, RpcServer, Sender, Status, TraceContext, TransportConfig, inherited,
};

use crate::bind_in_memory;

const WHOSE: Method<u32, String> = Method::new("Tenants/whose");
const EACH: Method<u32, Replies<String>> = Method::new("Tenants/each");
const SUM: Method<Requests<u32>, String> = Method::new("Tenants/sum");
const CHAT: Method<Requests<u32>, Replies<String>> = Method::new("Tenants/chat");
const NONE: Method<u32, Replies<String>> = Method::new("Tenants/none");

/// What a handler knows of the caller; sets metadata of the reply.
fn seen(cx: &CallContext) -> String {
    let reply = Metadata::new().with("served-by", cx.method()).unwrap();
    cx.set_reply_metadata(reply);
    let tenant = cx.metadata().text("tenant").unwrap_or("none");
    let trace = cx.trace_context().map(|trace| trace.to_string());
    let trace = trace.as_deref().unwrap_or("untraced");
    format!("{tenant} {trace} {}", cx.metadata().encoded_len())
}

fn router() -> Router {
    Router::new()
        .method_with(WHOSE, |cx, _| async move { seen(&cx) })
        .server_streaming_method(EACH, |cx, _| async move {
            Ok(Replies::of([seen(&cx), "last".to_owned()]))
        })
        .client_streaming_method(SUM, |cx, mut requests: Requests<u32>| async move {
            while requests.message().await?.is_some() {}
            Ok::<_, Status>(seen(&cx))
        })
        .streaming_method(CHAT, |cx, requests: Requests<u32>| async move {
            let first = seen(&cx);
            Ok(Replies::new(requests.map(move |_| first.clone())))
        })
        .raw("raw", |cx, _| async move { Ok(seen(&cx).into()) })
        .raw("fails", |cx, _| async move {
            seen(&cx);
            Err(Status::new(Code::Unavailable, "as told"))
        })
        .raw("plain", |_, body| async move { Ok(body) })
        .raw("waits", |_, _| std::future::pending())
        .server_streaming("plain stream", |_, (): (), _: Sender<String>| async move {
            Ok(())
        })
        .server_streaming_method(NONE, |_, _| async move { Ok(Replies::of([])) })
        .raw("large", |cx, _| async move {
            seen(&cx);
            Ok(Bytes::from(vec![7; 1 << 20]))
        })
        .raw("later", |cx, _| async move {
            tokio::task::yield_now().await;
            Ok(seen(&cx).into())
        })
        .server_streaming(
            "raw stream",
            |cx, (): (), mut out: Sender<String>| async move {
                out.send(seen(&cx)).await?;
                Ok(())
            },
        )
}

async fn connected() -> (RpcServer, RpcClient) {
    let network = MemoryNetwork::new();
    let config = TransportConfig::lan();
    let server = bind_in_memory(&network, "server", config.clone()).serve(router());
    let node = bind_in_memory(&network, "client", config);
    let client = node.connect(server.local_addr(), "server").await;
    (server, client.expect("a connection"))
}

fn tenant() -> Metadata {
    Metadata::new().with("tenant", "acme").unwrap()
}

fn trace() -> TraceContext {
    let header = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    header.parse().unwrap()
}

/// What a handler sees of a call with the tenant and the trace.
fn both() -> String {
    format!("acme {} {}", trace(), tenant().encoded_len())
}

const NEITHER: &str = "none untraced 0";

#[tokio::test]
async fn unary_calls_have_metadata_on_lanes_and_on_streams() {
    let (_server, client) = connected().await;
    for options in [CallOptions::new(), CallOptions::new().with_isolated(true)] {
        for method in ["raw", "later"] {
            let call = client.call_with(method, Bytes::new(), options);
            let call = call.with_metadata(tenant()).with_trace_context(trace());
            let (reply, metadata) = within(call.with_reply_metadata()).await;
            assert_eq!(reply.unwrap(), both(), "{method} {options:?}");
            assert_eq!(metadata.text("served-by"), Some(method));
            // Without it nothing is left of it.
            let reply = within(client.call_with(method, Bytes::new(), options)).await;
            assert_eq!(reply.unwrap(), NEITHER);
        }
        let call = client.call_with("fails", Bytes::new(), options);
        let (failed, metadata) = within(call.with_reply_metadata()).await;
        assert_eq!(failed.unwrap_err().code(), Code::Unavailable);
        assert_eq!(metadata.text("served-by"), Some("fails"));
        let call = client.call_with("large", Bytes::new(), options);
        let (reply, metadata) = within(call.with_reply_metadata()).await;
        assert_eq!(reply.unwrap().len(), 1 << 20);
        assert_eq!(metadata.text("served-by"), Some("large"));
        let large = client.call_with("raw", vec![0; 1 << 20], options);
        let reply = within(large.with_metadata(tenant())).await.unwrap();
        assert_eq!(reply, "acme untraced 13");
    }
}

#[tokio::test]
async fn typed_calls_of_every_kind_have_metadata() {
    let (_server, client) = connected().await;
    let options = MethodOptions::new();
    let numbers = || futures::stream::iter([1, 2]);
    let calls = async {
        let unary = WHOSE.call(&client, &7).await.unwrap();
        let replies = EACH.call_server_streaming(&client, &7, options).await;
        let each: Vec<_> = replies.unwrap().collect().await;
        let sum = SUM.call_client_streaming(&client, numbers(), options).await;
        let chat = CHAT.call_streaming(&client, numbers(), options).await;
        let chat: Vec<_> = chat.unwrap().collect().await;
        let first = |of: Vec<Result<String, _>>| of.into_iter().next().unwrap().unwrap();
        [unary, first(each), sum.unwrap(), first(chat)]
    };
    let seen = within(calls.with_metadata(tenant()).with_trace_context(trace())).await;
    assert_eq!(seen, [both(), both(), both(), both()]);
}

#[tokio::test]
async fn a_stream_that_is_read_to_its_end_has_reply_metadata() {
    let (_server, client) = connected().await;
    let options = MethodOptions::new();
    let calls = async {
        let replies = EACH.call_server_streaming(&client, &7, options).await;
        replies.unwrap().count().await
    };
    let (count, metadata) = within(calls.with_reply_metadata()).await;
    assert_eq!(
        (count, metadata.text("served-by")),
        (2, Some("Tenants/each"))
    );
    let numbers = futures::stream::iter([1, 2]);
    let call = SUM.call_client_streaming(&client, numbers, options);
    let (sum, metadata) = within(call.with_reply_metadata()).await;
    assert_eq!(sum.unwrap(), NEITHER);
    assert_eq!(metadata.text("served-by"), Some("Tenants/sum"));
    let call = async {
        let stream = client.call_server_streaming::<_, String>("raw stream", &());
        stream.await.unwrap().collect::<Vec<_>>().await
    };
    let (messages, metadata) = within(call.with_reply_metadata()).await;
    assert_eq!(messages.len(), 1);
    assert_eq!(metadata.text("served-by"), Some("raw stream"));
}

#[tokio::test]
async fn calls_of_one_connection_do_not_mix_their_metadata() {
    let (_server, client) = connected().await;
    let calls = (0..200_u32).map(|number| {
        let (client, name) = (client.clone(), format!("tenant-{number}"));
        let metadata = Metadata::new().with("tenant", &name).unwrap();
        async move {
            let call = client.call(if number % 2 == 0 { "raw" } else { "later" }, "");
            let seen = match number % 3 {
                0 => (call.await, "none"),
                _ => (call.with_metadata(metadata).await, &*name),
            };
            assert!(seen.0.unwrap().starts_with(seen.1.as_bytes()), "{number}");
        }
    });
    within(futures::future::join_all(calls)).await;
}

#[tokio::test]
async fn the_largest_metadata_fits_and_more_is_rejected_here() {
    let (server, client) = connected().await;
    let value = vec![b'v'; METADATA_BYTES_MAX - 4];
    let largest = Metadata::new().with("k", &value).unwrap();
    for options in [CallOptions::new(), CallOptions::new().with_isolated(true)] {
        let call = client
            .call_with("raw", "", options)
            .with_trace_context(trace());
        let reply = within(call.with_metadata(largest.clone())).await.unwrap();
        assert!(reply.ends_with(b" 4096"), "{reply:?}");
        let call = client.call_with("raw", "", options).with_metadata(tenant());
        let error = within(call.with_metadata(largest.clone()))
            .await
            .unwrap_err();
        assert_eq!(error.code(), Code::PayloadTooLarge);
        assert_eq!(error.processed(), Processed::No);
        assert!(error.is_local());
        let text = "metadata of 4109 bytes exceeds the limit of 4096 bytes";
        assert!(error.to_string().contains(text), "{error}");
    }
    assert_eq!(server.stats().calls_started, 2);
    // The lane is in order.
    assert_eq!(within(client.call("raw", "")).await.unwrap(), NEITHER);
}

#[tokio::test]
async fn a_handler_passes_on_what_it_wants_to() {
    let (_server, client) = connected().await;
    let network = MemoryNetwork::new();
    let relay = Router::new()
        .raw("nothing", {
            let next = client.clone();
            move |_, _| {
                let next = next.clone();
                async move { Ok(next.call("raw", "").await?) }
            }
        })
        .raw("tenant", move |cx: CallContext, _| {
            let next = client.clone();
            async move {
                let metadata = cx.metadata().only(["tenant"]);
                Ok(next.call("raw", "").with_metadata(metadata).await?)
            }
        });
    let config = TransportConfig::lan();
    let server = bind_in_memory(&network, "server", config.clone()).serve(relay);
    let node = bind_in_memory(&network, "client", config);
    let client = node.connect(server.local_addr(), "server").await.unwrap();
    let metadata = tenant().with("token", "secret").unwrap();
    for (method, seen) in [("nothing", NEITHER), ("tenant", "acme untraced 13")] {
        let call = client.call(method, "").with_trace_context(trace());
        let reply = within(call.with_metadata(metadata.clone())).await;
        assert_eq!(reply.unwrap(), seen, "{method}");
    }
}

#[tokio::test]
async fn calls_in_this_process_have_metadata_which_their_handlers_do_not_pass_on() {
    let inner = LocalChannel::new(router());
    const RELAYED: Method<u32, String> = Method::new("relayed");
    let outer = router().method(RELAYED, move |number| {
        let inner = inner.clone();
        async move { WHOSE.call(&inner, &number).await.map_err(Status::from) }
    });
    let channel = LocalChannel::new(outer);
    let call = WHOSE.call(&channel, &7).with_metadata(tenant());
    let (seen, metadata) = within(call.with_trace_context(trace()).with_reply_metadata()).await;
    assert_eq!(seen.unwrap(), both());
    assert_eq!(metadata.text("served-by"), Some("Tenants/whose"));
    let call = RELAYED.call(&channel, &7).with_metadata(tenant());
    assert_eq!(within(call).await.unwrap(), NEITHER);
}

#[tokio::test]
async fn streams_in_this_process_keep_their_metadata_from_nested_calls() {
    let inner = LocalChannel::new(router());
    let outer = Router::new()
        .server_streaming_method(EACH, {
            let inner = inner.clone();
            move |_, number| {
                let inner = inner.clone();
                async move {
                    let call = async move { WHOSE.call(&inner, &number).await.unwrap() };
                    Ok(Replies::new(futures::stream::once(call).boxed()))
                }
            }
        })
        .client_streaming_method(SUM, move |_, mut requests: Requests<u32>| {
            let inner = inner.clone();
            async move {
                while requests.message().await?.is_some() {}
                Ok::<_, Status>(WHOSE.call(&inner, &7).await.unwrap())
            }
        });
    let channel = LocalChannel::new(outer);
    let options = MethodOptions::new();
    let calls = async {
        let replies = EACH.call_server_streaming(&channel, &7, options).await;
        let each: Vec<_> = replies.unwrap().collect().await;
        let numbers = futures::stream::iter([1, 2]);
        let sum = SUM.call_client_streaming(&channel, numbers, options).await;
        (each.into_iter().next().unwrap().unwrap(), sum.unwrap())
    };
    let seen = within(calls.with_metadata(tenant()).with_trace_context(trace())).await;
    assert_eq!(seen, (NEITHER.to_owned(), NEITHER.to_owned()));
}

#[tokio::test]
async fn streams_in_this_process_have_reply_metadata_at_their_end() {
    let channel = LocalChannel::new(router());
    let options = MethodOptions::new();
    let numbers = || futures::stream::iter([1, 2]);
    let call = SUM.call_client_streaming(&channel, numbers(), options);
    let (sum, metadata) = within(call.with_reply_metadata()).await;
    assert_eq!(sum.unwrap(), NEITHER);
    assert_eq!(metadata.text("served-by"), Some("Tenants/sum"));
    let calls = async {
        let replies = EACH.call_server_streaming(&channel, &7, options).await;
        replies.unwrap().count().await
    };
    let (count, metadata) = within(calls.with_reply_metadata()).await;
    assert_eq!(count, 2);
    assert_eq!(metadata.text("served-by"), Some("Tenants/each"));
    let calls = async {
        let replies = CHAT.call_streaming(&channel, numbers(), options).await;
        replies.unwrap().count().await
    };
    let (count, metadata) = within(calls.with_reply_metadata()).await;
    assert_eq!(count, 2);
    assert_eq!(metadata.text("served-by"), Some("Tenants/chat"));
}

#[tokio::test]
async fn requests_that_a_handler_in_this_process_reads_are_made_by_the_caller() {
    let channel = LocalChannel::new(router());
    let told = Arc::new(Mutex::new(None));
    let requests = futures::stream::once({
        let (channel, told) = (channel.clone(), Arc::clone(&told));
        async move {
            let seen = WHOSE.call(&channel, &7).await.unwrap();
            *told.lock() = Some((seen, inherited().priority()));
            7
        }
    });
    let call = SUM.call_client_streaming(&channel, requests, MethodOptions::new());
    let sum = within(call.with_metadata(tenant())).await;
    assert_eq!(sum.unwrap(), "acme untraced 13");
    let told = told.lock().take();
    assert_eq!(told, Some(("acme untraced 13".to_owned(), None)));
}

#[tokio::test]
async fn replies_in_this_process_are_made_with_the_priority_of_their_call() {
    const PRIORITY: Method<(), Replies<String>> = Method::new("Tenants/priority");
    let router = Router::new().server_streaming_method(PRIORITY, |_, ()| {
        let priority = || inherited().priority().map(|priority| priority.to_string());
        let at_start = priority();
        async move {
            let polled = futures::stream::once(async move { (at_start, priority()) });
            let text = polled.map(|of| format!("{of:?}"));
            Ok(Replies::new(text.boxed()))
        }
    });
    let channel = LocalChannel::new(router);
    let options = MethodOptions::new().with_priority(Priority::Sheddable);
    let replies = PRIORITY.call_server_streaming(&channel, &(), options);
    let replies: Vec<_> = within(replies).await.unwrap().collect().await;
    let seen = replies.into_iter().next().unwrap().unwrap();
    assert_eq!(seen, r#"(Some("sheddable"), Some("sheddable"))"#);
}

#[tokio::test]
async fn reply_metadata_is_that_of_the_last_reply() {
    let (_server, client) = connected().await;
    let short = Duration::from_millis(30);
    let options = MethodOptions::new();
    for isolated in [false, true] {
        let call = |method, size, limit: Option<Duration>| {
            let options = CallOptions::new().with_isolated(isolated);
            let options = limit.map_or(options, |limit| options.with_timeout(limit));
            client.call_with(method, vec![0; size], options)
        };
        // The ends of calls without metadata, each after a failure with metadata.
        for (method, size, limit) in [
            ("plain", 1, None),
            ("plain", 1 << 20, None),
            ("unknown", 1, None),
            ("waits", 1, Some(short)),
        ] {
            let calls = async {
                call("fails", 1, None).await.unwrap_err();
                let _ended = call(method, size, limit).await;
            };
            let ((), metadata) = within(calls.with_reply_metadata()).await;
            assert_eq!(
                metadata.text("served-by"),
                None,
                "{method} {size} {isolated}"
            );
        }
        let calls = async {
            call("fails", 1, None).await.unwrap_err();
            let stream = client.call_server_streaming::<_, String>("plain stream", &());
            stream.await.unwrap().collect::<Vec<_>>().await.len()
        };
        let (messages, metadata) = within(calls.with_reply_metadata()).await;
        assert_eq!((messages, metadata.text("served-by")), (0, None));
        // A call that is not sent has no reply.
        let calls = async {
            call("fails", 1, None).await.unwrap_err();
            let late = call("plain", 1, Some(Duration::ZERO)).await.unwrap_err();
            assert_eq!(late.processed(), Processed::No);
        };
        let ((), metadata) = within(calls.with_reply_metadata()).await;
        assert_eq!(metadata.text("served-by"), Some("fails"));
    }
    let channel = LocalChannel::new(router());
    let calls = async {
        WHOSE.call(&channel, &7).await.unwrap();
        let replies = NONE.call_server_streaming(&channel, &7, options).await;
        replies.unwrap().count().await
    };
    let (count, metadata) = within(calls.with_reply_metadata()).await;
    assert_eq!((count, metadata.text("served-by")), (0, None));
}

#[tokio::test]
async fn requests_and_replies_of_bytes_need_no_types() {
    let (_server, client) = connected().await;
    let empty = Raw::default();
    let call = client.call_typed::<_, Raw>("raw", &empty);
    let reply = within(call.with_metadata(tenant())).await.unwrap();
    assert_eq!(reply.0, "acme untraced 13");
}
