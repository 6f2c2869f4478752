//! Rules of layers, of reply metadata and of the encoding of messages that an attack has broken.

use std::{cell::RefCell, sync::Arc, time::Duration};

use bytes::Bytes;
use parking_lot::Mutex;
use rpcnet_testing::within;
use rpcnet_transport::{
    AsyncServerLayer, CallContext, CallMetadataExt, CallOptions, Code, Encode, IncomingCall,
    MemoryNetwork, Metadata, Method, Priority, Router, RpcClient, RpcServer, ServerLayer, Status,
    TransportConfig,
};
use serde::{Serialize, Serializer};
use tokio::sync::Semaphore;

use crate::bind_in_memory;

async fn connected(router: Router, config: TransportConfig) -> (RpcServer, RpcClient) {
    let network = MemoryNetwork::new();
    let server = bind_in_memory(&network, "server", TransportConfig::lan()).serve(router);
    let node = bind_in_memory(&network, "client", config);
    let client = node.connect(server.local_addr(), "server").await;
    (server, client.expect("a connection"))
}

const WHOSE: Method<u32, String> = Method::new("whose");

fn both_ways() -> [CallOptions; 2] {
    [CallOptions::new(), CallOptions::new().with_isolated(true)]
}
struct Shown(String);

impl Serialize for Shown {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

#[test]
fn a_text_that_is_displayed_is_encoded_whatever_its_size() {
    let failed: Vec<_> = (0..2_000)
        .filter(|len| Shown("x".repeat(*len)).encode().is_err())
        .collect();
    assert!(
        failed.is_empty(),
        "{} lengths, first {:?}",
        failed.len(),
        failed.first()
    );
}

struct Drained(RefCell<Vec<u32>>);

impl Serialize for Drained {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.take())
    }
}

#[test]
fn a_value_is_serialized_once() {
    let encoded = Drained(RefCell::new(vec![1, 2, 3])).encode().unwrap();
    assert_eq!(encoded, &[3, 1, 2, 3][..]);
}

struct OneAtATime(Arc<Semaphore>);

impl ServerLayer for OneAtATime {
    fn before(&self, call: &mut IncomingCall) -> Result<(), Status> {
        match Arc::clone(&self.0).try_acquire_owned() {
            Ok(permit) => {
                call.set_extension(permit);
                Ok(())
            }
            Err(_) => Err(Status::overloaded("one at a time")),
        }
    }
}

#[tokio::test]
async fn extensions_are_dropped_with_their_call() {
    let router = Router::new()
        .raw("echo", |_, body| async move { Ok(body) })
        .layer(OneAtATime(Arc::new(Semaphore::new(1))));
    let (_server, client) = connected(router, TransportConfig::lan()).await;
    within(client.call("echo", "1")).await.unwrap();
    let mut last = None;
    for _ in 0..20 {
        match within(client.call("echo", "2")).await {
            Ok(_) => return,
            Err(error) => last = Some(error),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the permit of a call that is over is held: {last:?}");
}

struct Lookup;

impl AsyncServerLayer for Lookup {
    async fn before(&self, _: &IncomingCall) -> Result<(), Status> {
        tokio::task::yield_now().await;
        Ok(())
    }
}

struct BestEffort;

impl ServerLayer for BestEffort {
    fn before(&self, call: &mut IncomingCall) -> Result<(), Status> {
        call.limit_priority(Priority::Sheddable);
        Ok(())
    }
}

#[tokio::test]
async fn a_layer_after_an_asynchronous_one_bounds_the_priority() {
    let router = Router::new()
        .raw("priority", |cx: CallContext, _| async move {
            Ok(cx.priority().to_string().into())
        })
        .async_layer(Lookup)
        .layer(BestEffort);
    let (_server, client) = connected(router, TransportConfig::lan()).await;
    let seen = both_ways().map(|options| {
        let options = options.with_priority(Priority::CriticalPlus);
        client.call_with("priority", "", options)
    });
    let seen = within(futures::future::join_all(seen)).await;
    let seen: Vec<_> = seen.into_iter().map(Result::unwrap).collect();
    assert_eq!(seen, ["sheddable", "sheddable"], "lane, stream");
}

#[tokio::test]
async fn rejections_of_admission_have_the_reply_metadata_of_layers_on_lanes_too() {
    struct Tagging;
    impl ServerLayer for Tagging {
        fn before(&self, call: &mut IncomingCall) -> Result<(), Status> {
            call.set_reply_metadata(Metadata::new().with("request-id", "17").unwrap());
            Ok(())
        }
    }
    let router = Router::new()
        .raw("panics", |_, _| async move { panic!("in a handler") })
        .layer(Tagging);
    let (_server, client) = connected(router, TransportConfig::lan()).await;
    let mut seen = Vec::new();
    for options in both_ways() {
        let call = client.call_with("panics", "", options);
        let (_, metadata) = within(call.with_reply_metadata()).await;
        seen.push(metadata.text("request-id").map(str::to_owned));
    }
    assert_eq!(seen[0], seen[1], "lane, stream");
}

struct Timing;

impl ServerLayer for Timing {
    fn after(&self, call: &IncomingCall, end: &rpcnet_transport::CallEnd) {
        let took = end.duration.as_micros().to_string();
        call.set_reply_metadata(Metadata::new().with("took", took).unwrap());
    }
}

#[tokio::test]
async fn a_layer_sets_reply_metadata_after_the_handler() {
    let router = Router::new()
        .raw("echo", |_, body| async move { Ok(body) })
        .raw("later", |_, body| async move {
            tokio::task::yield_now().await;
            Ok(body)
        })
        .layer(Timing);
    let (_server, client) = connected(router, TransportConfig::lan()).await;
    let mut seen = Vec::new();
    for options in both_ways() {
        for method in ["echo", "later"] {
            let call = client.call_with(method, "", options);
            let (_, metadata) = within(call.with_reply_metadata()).await;
            seen.push(metadata.text("took").is_some());
        }
    }
    let all_same = seen.windows(2).all(|pair| pair[0] == pair[1]);
    assert!(
        all_same,
        "lane echo, lane later, stream echo, stream later: {seen:?}"
    );
}

/// Rejects callers of an old release.
struct Releases;

impl ServerLayer for Releases {
    fn before(&self, call: &mut IncomingCall) -> Result<(), Status> {
        match call.metadata().text("release") {
            Some("old") => {
                let status = Status::new(Code::Incompatible, "release too old");
                Err(status.with_details("need 2.0"))
            }
            _ => Ok(()),
        }
    }
}

#[tokio::test]
async fn what_a_layer_rejects_is_held_against_no_other_call() {
    let router = Router::new()
        .method(WHOSE, |_| async move { "mine".to_owned() })
        .layer(Releases);
    let (_server, client) = connected(router, TransportConfig::lan()).await;
    assert_eq!(within(WHOSE.call(&client, &7)).await.unwrap(), "mine");
    let old = Metadata::new().with("release", "old").unwrap();
    let error = within(WHOSE.call(&client, &7).with_metadata(old))
        .await
        .unwrap_err();
    assert_eq!(error.code(), Code::Incompatible);
    let again = within(WHOSE.call(&client, &7)).await;
    assert_eq!(again.unwrap(), "mine");
}

#[test]
fn a_message_is_encoded_while_a_thread_ends() {
    struct Farewell;
    impl Drop for Farewell {
        fn drop(&mut self) {
            let _ = "bye".encode();
        }
    }
    thread_local!(static FAREWELL: Farewell = const { Farewell });
    let ended = std::thread::spawn(|| {
        FAREWELL.with(|_| ());
        drop("hello".encode());
    });
    assert!(ended.join().is_ok());
}

#[tokio::test]
async fn layers_see_each_call_once() {
    struct Count(Arc<std::sync::atomic::AtomicU32>);
    impl ServerLayer for Count {
        fn before(&self, _: &mut IncomingCall) -> Result<(), Status> {
            self.0.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            Err(Status::new(Code::Incompatible, "release too old"))
        }
    }
    let seen = Arc::default();
    let router = Router::new()
        .method(WHOSE, |_| async move { "mine".to_owned() })
        .layer(Count(Arc::clone(&seen)));
    let (_server, client) = connected(router, TransportConfig::lan()).await;
    within(WHOSE.call(&client, &7)).await.unwrap_err();
    assert_eq!(seen.load(std::sync::atomic::Ordering::SeqCst), 1);
}

#[tokio::test]
async fn layers_see_what_the_caller_gets() {
    #[derive(Clone, Default)]
    struct Ends(Arc<Mutex<Vec<Code>>>);
    impl ServerLayer for Ends {
        fn after(&self, _: &IncomingCall, end: &rpcnet_transport::CallEnd) {
            self.0.lock().push(end.code);
        }
    }
    let ends = Ends::default();
    let router = Router::new()
        .raw(
            "large",
            |_, _| async move { Ok(Bytes::from(vec![7; 1 << 20])) },
        )
        .layer(ends.clone());
    let network = MemoryNetwork::new();
    let config = TransportConfig::lan().with_message_bytes_max(1 << 16);
    let server = bind_in_memory(&network, "server", config).serve(router);
    let node = bind_in_memory(&network, "client", TransportConfig::lan());
    let client = node.connect(server.local_addr(), "server").await.unwrap();
    for options in both_ways() {
        let error = within(client.call_with("large", "", options))
            .await
            .unwrap_err();
        let seen = ends.0.lock().pop();
        assert_eq!(seen, Some(error.code()), "{options:?}");
    }
}

#[tokio::test]
async fn calls_that_an_asynchronous_layer_rejects_are_not_started() {
    struct Reject;
    impl AsyncServerLayer for Reject {
        async fn before(&self, _: &IncomingCall) -> Result<(), Status> {
            Err(Status::new(Code::PermissionDenied, "no"))
        }
    }
    let router = Router::new()
        .raw("echo", |_, body| async move { Ok(body) })
        .async_layer(Reject);
    let (server, client) = connected(router, TransportConfig::lan()).await;
    let mut started = Vec::new();
    for options in both_ways() {
        let before = server.stats().calls_started;
        within(client.call_with("echo", "", options))
            .await
            .unwrap_err();
        started.push(server.stats().calls_started - before);
    }
    assert_eq!(started, [0, 0], "lane, stream");
}
