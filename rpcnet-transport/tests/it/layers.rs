//! Layers of a server: their order, what they see of calls of every kind, and how calls end.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering::SeqCst},
};

use bytes::Bytes;
use futures::StreamExt;
use parking_lot::Mutex;
use rpcnet_testing::{until, within};
use rpcnet_transport::{
    Admission, AsyncServerLayer, CallContext, CallEnd, CallMetadataExt, CallOptions, Code,
    IncomingCall, MemoryNetwork, Metadata, Priority, Processed, Router, RpcClient, RpcServer,
    Sender, ServerLayer, Status, TransportConfig,
};
use tokio::sync::Semaphore;

use crate::bind_in_memory;

/// What the layers of a test saw, in order.
type Log = Arc<Mutex<Vec<String>>>;

/// Writes all that it sees into the log.
#[derive(Clone)]
struct Logging {
    name: &'static str,
    log: Log,
}

impl Logging {
    fn new(name: &'static str, log: &Log) -> Self {
        let log = Arc::clone(log);
        Self { name, log }
    }

    fn record(&self, what: &str, call: &IncomingCall, more: impl std::fmt::Display) {
        let (name, method) = (self.name, call.method());
        self.log
            .lock()
            .push(format!("{name} {what} {method}{more}"));
    }

    fn record_end(&self, call: &IncomingCall, end: &CallEnd) {
        let CallEnd {
            code,
            processed,
            reply_bytes,
            ..
        } = end;
        self.record(
            "after",
            call,
            format_args!(": {code:?} {processed:?} {reply_bytes}"),
        );
    }
}

impl ServerLayer for Logging {
    fn before(&self, call: &mut IncomingCall) -> Result<(), Status> {
        self.record("before", call, format_args!(": {}", call.request_bytes()));
        match call.metadata().text("rejected-by") {
            Some(name) if name == self.name => {
                call.set_reply_metadata(Metadata::new().with("why", "told").unwrap());
                // Whatever a layer says of it.
                Err(Status::new(Code::PermissionDenied, "as told"))
            }
            Some("panic") => panic!("in a layer"),
            _ => Ok(()),
        }
    }

    fn after(&self, call: &IncomingCall, end: &CallEnd) {
        self.record_end(call, end);
    }
}

struct Lookup(Logging);

impl AsyncServerLayer for Lookup {
    async fn before(&self, call: &IncomingCall) -> Result<(), Status> {
        tokio::task::yield_now().await;
        self.0.record("before", call, "");
        match call.metadata().text("token") {
            Some(token) => {
                call.set_extension(format!("account of {token}"));
                Ok(())
            }
            None => Err(Status::new(Code::Unauthenticated, "no token")),
        }
    }

    fn after(&self, call: &IncomingCall, end: &CallEnd) {
        self.0.record_end(call, end);
    }
}

fn methods() -> Router {
    Router::new()
        .raw("echo", |_, body| async move { Ok(body) })
        .raw("later", |_, body| async move {
            tokio::task::yield_now().await;
            Ok(body)
        })
        .raw("fails", |_, _| async move {
            Err(Status::new(Code::Unavailable, "as told"))
        })
        .raw("panics", |_, _| async move { panic!("in a handler") })
        .raw("waits", |_, _| std::future::pending())
        .raw("account", |cx: CallContext, _| async move {
            let account = cx.extension::<String>();
            Ok(account.map_or_else(Bytes::new, |account| account.as_bytes().to_vec().into()))
        })
        .raw("priority", |cx: CallContext, _| async move {
            Ok(cx.priority().to_string().into())
        })
        .server_streaming("count", |_, (): (), mut out: Sender<u32>| async move {
            for number in 0..3 {
                out.send(number).await?;
            }
            Ok(())
        })
}

async fn connected(router: Router) -> (RpcServer, RpcClient) {
    connected_with(router, TransportConfig::lan()).await
}

async fn connected_with(router: Router, config: TransportConfig) -> (RpcServer, RpcClient) {
    let network = MemoryNetwork::new();
    let server = bind_in_memory(&network, "server", config.clone()).serve(router);
    let node = bind_in_memory(&network, "client", config);
    let client = node.connect(server.local_addr(), "server").await;
    (server, client.expect("a connection"))
}

/// Entries of the log, once there are so many.
async fn entries(log: &Log, count: usize) -> Vec<String> {
    until("the layers have seen the end", || log.lock().len() >= count).await;
    std::mem::take(&mut *log.lock())
}

/// On a lane, and on a stream of its own.
fn both_ways() -> [CallOptions; 2] {
    [CallOptions::new(), CallOptions::new().with_isolated(true)]
}

#[tokio::test]
async fn layers_nest_in_the_order_in_which_they_were_added() {
    let log = Log::default();
    let inner = Router::new()
        .merge(methods())
        .layer(Logging::new("inner", &log));
    let router = Router::new()
        .layer(Logging::new("first", &log))
        .merge(inner)
        .layer(Logging::new("second", &log));
    let (_server, client) = connected(router).await;
    for options in both_ways() {
        for method in ["echo", "later"] {
            let reply = within(client.call_with(method, "abc", options)).await;
            assert_eq!(reply.unwrap(), "abc");
            let before =
                ["first", "second", "inner"].map(|name| format!("{name} before {method}: 3"));
            let after =
                ["inner", "second", "first"].map(|name| format!("{name} after {method}: Ok Yes 3"));
            assert_eq!(
                entries(&log, 6).await,
                [before, after].concat(),
                "{options:?}"
            );
        }
    }
}

#[tokio::test]
async fn every_end_of_a_call_is_seen_once() {
    let log = Log::default();
    let (_server, client) = connected(methods().layer(Logging::new("layer", &log))).await;
    for options in both_ways() {
        for (method, end) in [
            ("fails", "Unavailable Yes 0"),
            ("panics", "Internal Maybe 0"),
        ] {
            assert!(within(client.call_with(method, "", options)).await.is_err());
            let expected = [
                format!("layer before {method}: 0"),
                format!("layer after {method}: {end}"),
            ];
            assert_eq!(entries(&log, 2).await, expected, "{options:?}");
        }
        let cancelled = client.call_with("waits", "", options);
        assert!(
            tokio::time::timeout(std::time::Duration::from_millis(30), cancelled)
                .await
                .is_err()
        );
        let seen = entries(&log, 2).await;
        assert_eq!(
            seen[1], "layer after waits: Cancelled Maybe 0",
            "{options:?}"
        );
        let short = options.with_timeout(std::time::Duration::from_millis(30));
        let late = within(client.call_with("waits", "", short))
            .await
            .unwrap_err();
        assert_eq!(late.code(), Code::DeadlineExceeded);
        let seen = entries(&log, 2).await;
        // The caller may have cancelled it first.
        let ends =
            ["DeadlineExceeded", "Cancelled"].map(|c| format!("layer after waits: {c} Maybe 0"));
        assert!(ends.contains(&seen[1]), "{seen:?}");
    }
    let stream = within(client.call_server_streaming::<_, u32>("count", &())).await;
    assert_eq!(within(stream.unwrap().count()).await, 3);
    let expected = ["layer before count: 0", "layer after count: Ok Yes 0"];
    assert_eq!(entries(&log, 2).await, expected);
}

#[tokio::test]
async fn a_layer_rejects_a_call_before_its_handler_and_its_body() {
    let log = Log::default();
    let router = methods()
        .layer(Logging::new("outer", &log))
        .layer(Logging::new("inner", &log));
    let (server, client) = connected(router).await;
    let rejected = |by: &str| Metadata::new().with("rejected-by", by).unwrap();
    for (number, options) in (1..).zip(both_ways()) {
        let call = client.call_with("echo", "abc", options);
        let (failed, metadata) =
            within(call.with_metadata(rejected("inner")).with_reply_metadata()).await;
        let error = failed.unwrap_err();
        assert_eq!(
            (error.code(), error.processed()),
            (Code::PermissionDenied, Processed::No)
        );
        assert_eq!(metadata.text("why"), Some("told"));
        let expected = [
            "outer before echo: 3",
            "inner before echo: 3",
            "outer after echo: PermissionDenied No 0",
        ];
        assert_eq!(entries(&log, 3).await, expected, "{options:?}");
        assert_eq!(server.stats().calls_rejected_by_layers, number);
    }
    // Its body is not read: it is larger than the windows.
    let body = vec![0; 8 << 20];
    let call = client.call("echo", body).with_metadata(rejected("outer"));
    assert_eq!(
        within(call).await.unwrap_err().code(),
        Code::PermissionDenied
    );
    assert_eq!(
        entries(&log, 1).await,
        [format!("outer before echo: {}", 8 << 20)]
    );
    let stream = client.call_server_streaming::<_, u32>("count", &());
    let stream = within(stream.with_metadata(rejected("outer")))
        .await
        .unwrap();
    let first = within(stream.into_future()).await.0.unwrap().unwrap_err();
    assert_eq!(
        (first.code(), first.processed()),
        (Code::PermissionDenied, Processed::No)
    );
    assert_eq!(server.stats().calls_started, 0);
}

#[tokio::test]
async fn a_layer_that_panics_fails_its_call_alone() {
    let log = Log::default();
    let (_server, client) = connected(methods().layer(Logging::new("layer", &log))).await;
    for options in both_ways() {
        let metadata = Metadata::new().with("rejected-by", "panic").unwrap();
        let call = client
            .call_with("echo", "", options)
            .with_metadata(metadata);
        let error = within(call).await.unwrap_err();
        assert_eq!(
            (error.code(), error.processed()),
            (Code::Internal, Processed::No)
        );
        assert_eq!(
            within(client.call_with("echo", "abc", options))
                .await
                .unwrap(),
            "abc"
        );
    }
}

#[tokio::test]
async fn an_asynchronous_layer_passes_what_it_has_found_to_the_handler() {
    let log = Log::default();
    let router = methods()
        .layer(Logging::new("outer", &log))
        .async_layer(Lookup(Logging::new("lookup", &log)))
        .layer(Logging::new("inner", &log));
    let (server, client) = connected(router).await;
    for (number, options) in (1..).zip(both_ways()) {
        let token = Metadata::new().with("token", "t-17").unwrap();
        let call = client
            .call_with("account", "", options)
            .with_metadata(token);
        assert_eq!(within(call).await.unwrap(), "account of t-17");
        let expected = [
            "outer before account: 0",
            "lookup before account",
            "inner before account: 0",
            "inner after account: Ok Yes 15",
            "lookup after account: Ok Yes 15",
            "outer after account: Ok Yes 15",
        ];
        assert_eq!(entries(&log, 6).await, expected, "{options:?}");
        let error = within(client.call_with("account", "", options))
            .await
            .unwrap_err();
        assert_eq!(
            (error.code(), error.processed()),
            (Code::Unauthenticated, Processed::No)
        );
        let expected = [
            "outer before account: 0",
            "lookup before account",
            "outer after account: Unauthenticated No 0",
        ];
        assert_eq!(entries(&log, 3).await, expected, "{options:?}");
        assert_eq!(server.stats().calls_rejected_by_layers, number);
    }
}

/// Bounds the priority of every caller to best effort.
struct BestEffort;

impl ServerLayer for BestEffort {
    fn before(&self, call: &mut IncomingCall) -> Result<(), Status> {
        assert!(call.limit_priority(Priority::Sheddable));
        assert!(!call.limit_priority(Priority::Sheddable));
        Ok(())
    }
}

#[tokio::test]
async fn a_layer_bounds_the_priority_that_a_caller_claims() {
    let (_server, client) = connected(methods().layer(BestEffort)).await;
    for options in both_ways() {
        let options = options.with_priority(Priority::CriticalPlus);
        let reply = within(client.call_with("priority", "", options)).await;
        assert_eq!(reply.unwrap(), "sheddable");
    }
}

#[tokio::test]
async fn layers_learn_of_calls_that_are_rejected_for_overload() {
    let log = Log::default();
    let running = Arc::new(Semaphore::new(0));
    let started = Arc::new(AtomicU32::new(0));
    let router = {
        let (running, started) = (Arc::clone(&running), Arc::clone(&started));
        Router::new()
            .raw("hold", move |_, _| {
                let (running, started) = (Arc::clone(&running), Arc::clone(&started));
                async move {
                    started.fetch_add(1, SeqCst);
                    running.acquire().await.expect("it is open").forget();
                    Ok(Bytes::new())
                }
            })
            .layer(Logging::new("layer", &log))
    };
    // One call at a time, and none that waits.
    let admission = Admission::fixed(1).with_queue_len(0);
    let config = TransportConfig::lan().with_admission(admission);
    let (_server, client) = connected_with(router, config).await;
    for options in both_ways() {
        let before = started.load(SeqCst);
        let first = tokio::spawn({
            let client = client.clone();
            async move { client.call_with("hold", "", options).await }
        });
        until("the first call runs", || started.load(SeqCst) > before).await;
        let second = within(client.call_with("hold", "", options))
            .await
            .unwrap_err();
        assert_eq!(second.code(), Code::Overloaded);
        running.add_permits(1);
        within(first).await.unwrap().unwrap();
        let seen = entries(&log, 4).await;
        let overloaded = seen
            .iter()
            .filter(|entry| *entry == "layer after hold: Overloaded No 0");
        let ok = seen
            .iter()
            .filter(|entry| *entry == "layer after hold: Ok Yes 0");
        assert_eq!((overloaded.count(), ok.count()), (1, 1), "{seen:?}");
    }
}

/// Panics at the end of each call.
struct Careless;

impl ServerLayer for Careless {
    fn after(&self, _: &IncomingCall, _: &CallEnd) {
        panic!("in a layer");
    }
}

#[tokio::test]
async fn a_panic_after_the_call_takes_no_reply_away() {
    let log = Log::default();
    let router = methods().layer(Logging::new("outer", &log)).layer(Careless);
    let (_server, client) = connected(router).await;
    for options in both_ways() {
        for method in ["echo", "later"] {
            let reply = within(client.call_with(method, "abc", options)).await;
            assert_eq!(reply.unwrap(), "abc", "{method}");
            let seen = entries(&log, 2).await;
            assert_eq!(seen[1], format!("outer after {method}: Ok Yes 3"));
        }
    }
}
