//! Layers of a client: what they see of calls of every kind, and what they add to them.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use bytes::Bytes;
use futures::StreamExt;
use parking_lot::Mutex;
use rpcnet_testing::{TEST_TIMEOUT, within};
use rpcnet_transport::{
    AsyncClientLayer, CallContext, CallEnd, CallMetadataExt, CallOptions, ClientLayer, Code,
    MemoryNetwork, Metadata, Method, MethodOptions, OutgoingCall, Processed, Replies, Requests,
    Router, RpcClient, RpcServer, Status, TraceContext, TransportConfig,
};

use crate::bind_in_memory;

const WHOSE: Method<u32, String> = Method::new("Tenants/whose");
const EACH: Method<u32, Replies<String>> = Method::new("Tenants/each");
const SUM: Method<Requests<u32>, String> = Method::new("Tenants/sum");

type Log = Arc<Mutex<Vec<String>>>;

/// Sets a tenant and a trace, and writes all that it sees into the log.
struct Tracing(Log);

impl ClientLayer for Tracing {
    fn before(&self, call: &mut OutgoingCall) -> Result<(), Status> {
        if call.metadata().get("refuse").is_some() {
            return Err(Status::new(Code::PermissionDenied, "not from here"));
        }
        let bytes = call.request_bytes();
        self.0.lock().push(format!(
            "before {} on {}: {bytes}",
            call.method(),
            call.peer().name()
        ));
        let set = call.set_metadata("tenant", "acme");
        call.set_trace_context(trace());
        set.map_err(|error| Status::invalid_request(error.to_string()))
    }

    fn after(&self, call: &OutgoingCall, end: &CallEnd) {
        let CallEnd {
            code,
            processed,
            reply_bytes,
            ..
        } = end;
        let method = call.method();
        self.0.lock().push(format!(
            "after {method}: {code:?} {processed:?} {reply_bytes}"
        ));
    }
}

/// Waits for a token, for ever if the call has a key that says so.
struct Token;

impl AsyncClientLayer for Token {
    async fn before(&self, call: &mut OutgoingCall) -> Result<(), Status> {
        if call.metadata().get("wait").is_some() {
            std::future::pending::<()>().await;
        }
        tokio::task::yield_now().await;
        let set = call.set_metadata("token", "t-17");
        set.map_err(|error| Status::invalid_request(error.to_string()))
    }
}

fn trace() -> TraceContext {
    TraceContext::new([1; 16], [2; 8], 1).unwrap()
}

fn seen(cx: &CallContext) -> String {
    cx.set_reply_metadata(Metadata::new().with("seen", "yes").unwrap());
    let text = |key| cx.metadata().text(key).unwrap_or("none");
    format!(
        "{} {} {}",
        text("tenant"),
        text("token"),
        cx.trace_context() == Some(trace())
    )
}

async fn connected(config: TransportConfig) -> (RpcServer, RpcClient) {
    let router = Router::new()
        .method_with(WHOSE, |cx, _| async move { seen(&cx) })
        .server_streaming_method(EACH, |cx, _| async move {
            Ok(Replies::of([seen(&cx), "last".to_owned()]))
        })
        .client_streaming_method(SUM, |cx, mut requests: Requests<u32>| async move {
            while requests.message().await?.is_some() {}
            Ok::<_, Status>(seen(&cx))
        })
        .raw("raw", |cx, _| async move { Ok(seen(&cx).into()) })
        .raw("plain", |cx: CallContext, _| async move {
            Ok(cx.metadata().encoded_len().to_string().into())
        })
        .raw("fails", |_, _| async move {
            Err(Status::new(Code::Unavailable, "as told"))
        })
        .raw("waits", |_, _| std::future::pending());
    let network = MemoryNetwork::new();
    let server = bind_in_memory(&network, "server", TransportConfig::lan()).serve(router);
    let node = bind_in_memory(&network, "client", config);
    let client = node.connect(server.local_addr(), "server").await;
    (server, client.expect("a connection"))
}

fn take(log: &Log) -> Vec<String> {
    std::mem::take(&mut *log.lock())
}

fn both_ways() -> [CallOptions; 2] {
    [CallOptions::new(), CallOptions::new().with_isolated(true)]
}

#[tokio::test]
async fn a_layer_adds_metadata_to_calls_of_every_kind_and_sees_their_ends() {
    let log = Log::default();
    let config = TransportConfig::lan().with_client_layer(Tracing(Arc::clone(&log)));
    let (_server, client) = connected(config).await;
    let seen = "acme none true";
    for options in both_ways() {
        let call = client
            .call_with("raw", "abc", options)
            .with_reply_metadata();
        let (reply, metadata) = within(call).await;
        assert_eq!(reply.unwrap(), seen);
        assert_eq!(metadata.text("seen"), Some("yes"), "it passes the layers");
        assert_eq!(
            take(&log),
            ["before raw on server: 3", "after raw: Ok Yes 14"]
        );
        let body = Bytes::from_static(b"abc");
        assert_eq!(
            within(client.call_ref("raw", &body, options))
                .await
                .unwrap(),
            seen
        );
        assert_eq!(take(&log).len(), 2);
        let failed = within(client.call_with("fails", "", options)).await;
        assert_eq!(failed.unwrap_err().code(), Code::Unavailable);
        assert_eq!(take(&log)[1], "after fails: Unavailable Yes 0");
    }
    let options = MethodOptions::new();
    assert_eq!(within(WHOSE.call(&client, &7)).await.unwrap(), seen);
    assert_eq!(
        take(&log),
        [
            "before Tenants/whose on server: 1",
            "after Tenants/whose: Ok Yes 15"
        ]
    );
    let replies = within(EACH.call_server_streaming(&client, &7, options)).await;
    let replies: Vec<_> = within(replies.unwrap().collect()).await;
    assert_eq!(replies[0].as_ref().unwrap(), seen);
    assert_eq!(
        take(&log),
        [
            "before Tenants/each on server: 1",
            "after Tenants/each: Ok Yes 0"
        ]
    );
    let numbers = futures::stream::iter([1, 2]);
    let sum = within(SUM.call_client_streaming(&client, numbers, options)).await;
    assert_eq!(sum.unwrap(), seen);
    assert_eq!(
        take(&log),
        [
            "before Tenants/sum on server: 0",
            "after Tenants/sum: Ok Yes 15"
        ]
    );
}

#[tokio::test]
async fn a_call_that_is_cancelled_or_late_or_dropped_has_an_end() {
    let log = Log::default();
    let config = TransportConfig::lan().with_client_layer(Tracing(Arc::clone(&log)));
    let (_server, client) = connected(config).await;
    let short = Duration::from_millis(30);
    for options in both_ways() {
        let call = client.call_with("waits", "", options);
        assert!(tokio::time::timeout(short, call).await.is_err());
        assert_eq!(take(&log)[1], "after waits: Cancelled Maybe 0");
        let late = within(client.call_with("waits", "", options.with_timeout(short))).await;
        assert_eq!(late.unwrap_err().code(), Code::DeadlineExceeded);
        assert_eq!(take(&log)[1], "after waits: DeadlineExceeded Maybe 0");
    }
    let replies = EACH.call_server_streaming(&client, &7, MethodOptions::new());
    drop(within(replies).await.unwrap());
    assert_eq!(take(&log)[1], "after Tenants/each: Cancelled Maybe 0");
}

#[tokio::test]
async fn a_layer_refuses_a_call_and_nothing_is_sent() {
    let log = Log::default();
    let config = TransportConfig::lan().with_client_layer(Tracing(Arc::clone(&log)));
    let (server, client) = connected(config).await;
    let refuse = Metadata::new().with("refuse", "").unwrap();
    for options in both_ways() {
        let call = client
            .call_with("raw", "", options)
            .with_metadata(refuse.clone());
        let error = within(call).await.unwrap_err();
        assert_eq!(
            (error.code(), error.processed()),
            (Code::PermissionDenied, Processed::No)
        );
        assert!(error.to_string().contains("not from here"), "{error}");
    }
    let call = WHOSE.call(&client, &7).with_metadata(refuse);
    assert_eq!(
        within(call).await.unwrap_err().code(),
        Code::PermissionDenied
    );
    assert!(take(&log).is_empty(), "no layer has let a call pass");
    assert_eq!(server.stats().calls_started, 0);
}

#[tokio::test]
async fn an_asynchronous_layer_has_the_time_that_the_call_has() {
    let log = Log::default();
    let config = TransportConfig::lan()
        .with_client_layer(Tracing(Arc::clone(&log)))
        .with_async_client_layer(Token);
    let (server, client) = connected(config).await;
    for options in both_ways() {
        let reply = within(client.call_with("raw", "", options)).await.unwrap();
        assert_eq!(reply, "acme t-17 true");
        assert_eq!(take(&log).len(), 2);
    }
    let wait = Metadata::new().with("wait", "").unwrap();
    let options = CallOptions::new().with_timeout(Duration::from_millis(30));
    let call = client.call_with("raw", "", options).with_metadata(wait);
    let error = within(call).await.unwrap_err();
    assert_eq!(
        (error.code(), error.processed()),
        (Code::DeadlineExceeded, Processed::No)
    );
    assert_eq!(take(&log)[1], "after raw: DeadlineExceeded No 0");
    assert_eq!(server.stats().calls_started, 2);
    assert!(TEST_TIMEOUT > Duration::from_millis(30));
}

#[tokio::test]
async fn the_opening_of_a_stream_has_its_time_limit_in_an_asynchronous_layer() {
    let log = Log::default();
    let config = TransportConfig::lan()
        .with_call_timeout(Duration::from_millis(30))
        .with_client_layer(Tracing(Arc::clone(&log)))
        .with_async_client_layer(Token);
    let (server, client) = connected(config).await;
    let wait = Metadata::new().with("wait", "").unwrap();
    let opened = client.call_server_streaming::<_, String>("stream", &());
    let error = within(opened.with_metadata(wait)).await.unwrap_err();
    assert_eq!(
        (error.code(), error.processed()),
        (Code::DeadlineExceeded, Processed::No)
    );
    assert_eq!(take(&log)[1], "after stream: DeadlineExceeded No 0");
    assert_eq!(server.stats().calls_started, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thread_without_a_runtime_calls_through_an_asynchronous_layer() {
    let config = TransportConfig::lan().with_async_client_layer(Token);
    let (_server, client) = connected(config).await;
    let called = std::thread::spawn(move || {
        futures::executor::block_on(async {
            let options = MethodOptions::new();
            let raw = client.call("raw", "").await.unwrap();
            let unary = WHOSE.call(&client, &7).await.unwrap();
            let replies = EACH.call_server_streaming(&client, &7, options).await;
            let each = replies.unwrap().next().await.unwrap().unwrap();
            let wait = Metadata::new().with("wait", "").unwrap();
            let options = CallOptions::new().with_timeout(Duration::from_millis(30));
            let late = client.call_with("raw", "", options).with_metadata(wait);
            (raw, unary, each, late.await.unwrap_err().code())
        })
    });
    let called = within(tokio::task::spawn_blocking(|| called.join())).await;
    let (raw, unary, each, late) = called.unwrap().expect("no panic");
    let seen = "none t-17 false";
    assert_eq!((&raw[..], &*unary, &*each), (seen.as_bytes(), seen, seen));
    assert_eq!(late, Code::DeadlineExceeded);
}

/// Gets a token by a call of its own.
#[derive(Clone, Default)]
struct Issued(Arc<OnceLock<RpcClient>>);

impl AsyncClientLayer for Issued {
    async fn before(&self, call: &mut OutgoingCall) -> Result<(), Status> {
        let client = self.0.get().filter(|_| call.method() != "raw");
        if let Some(client) = client {
            let token = client.call("raw", "").await.map_err(Status::from)?;
            let set = call.set_metadata("token", token);
            set.map_err(|error| Status::internal(error.to_string()))?;
        }
        Ok(())
    }
}

#[tokio::test]
async fn a_call_of_a_layer_has_no_metadata_of_the_call_that_it_serves() {
    let issued = Issued::default();
    let config = TransportConfig::lan().with_async_client_layer(issued.clone());
    let (_server, client) = connected(config).await;
    issued.0.set(client.clone()).unwrap();
    let tenant = Metadata::new().with("tenant", "of the caller").unwrap();
    for options in both_ways() {
        let call = client.call_with("plain", "", options);
        let call = call
            .with_metadata(tenant.clone())
            .with_trace_context(trace());
        let (reply, metadata) = within(call.with_reply_metadata()).await;
        let token = tenant.clone().with("token", "none none false").unwrap();
        assert_eq!(reply.unwrap(), token.encoded_len().to_string());
        assert_eq!(
            metadata.text("seen"),
            None,
            "that of the reply with the token"
        );
    }
}

/// Makes a call of its own, and waits for it, in each of its functions.
struct Blocking {
    client: RpcClient,
    seen: Log,
}

impl Blocking {
    fn call(&self) {
        let reply = futures::executor::block_on(self.client.call("raw", "")).unwrap();
        self.seen
            .lock()
            .push(String::from_utf8(reply.to_vec()).unwrap());
    }
}

impl ClientLayer for Blocking {
    fn before(&self, _: &mut OutgoingCall) -> Result<(), Status> {
        self.call();
        Ok(())
    }

    fn after(&self, _: &OutgoingCall, _: &CallEnd) {
        self.call();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_of_a_synchronous_layer_has_no_metadata_of_the_call_that_it_serves() {
    let (_other, other) = connected(TransportConfig::lan()).await;
    let seen = Log::default();
    let layer = Blocking {
        client: other,
        seen: Arc::clone(&seen),
    };
    let (_server, client) = connected(TransportConfig::lan().with_client_layer(layer)).await;
    let called = tokio::task::spawn_blocking(move || {
        let tenant = Metadata::new().with("tenant", "of the caller").unwrap();
        let call = client.call("plain", "").with_metadata(tenant.clone());
        let runtime = tokio::runtime::Handle::current();
        let (reply, metadata) = runtime.block_on(call.with_reply_metadata());
        assert_eq!(reply.unwrap(), tenant.encoded_len().to_string());
        assert!(metadata.is_empty(), "{metadata:?}");
    });
    within(called).await.unwrap();
    assert_eq!(take(&seen), ["none none false", "none none false"]);
}
