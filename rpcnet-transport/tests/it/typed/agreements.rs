//! Agreements on the types of a method: how often they are reached, what single values cannot
//! cross, and methods that need another encoding.

use std::collections::BTreeMap;

use futures::TryStreamExt;
use rpcnet_testing::within;
use rpcnet_transport::{
    CallMetadataExt, CallOptions, Code, IdempotencyCache, IncomingCall, Message, Metadata, Method,
    MethodOptions, Processed, Replies, Requests, Router, ServerLayer, Status, TransportConfig,
    UntypedMethod,
};
use serde::{Deserialize, Serialize};

use super::{connected, connected_with};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Message)]
struct OldJob {
    id: u32,
    codec: OldCodec,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Message)]
struct NewJob {
    id: u64,
    codec: NewCodec,
    #[serde(default)]
    note: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Message)]
enum OldCodec {
    H264,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Message)]
enum NewCodec {
    H264,
    Av1,
}

fn old_job(id: u32) -> OldJob {
    let codec = OldCodec::H264;
    OldJob { id, codec }
}

fn new_job(id: u64, codec: NewCodec) -> NewJob {
    let note = "soon".to_owned();
    NewJob { id, codec, note }
}

const OLD: Method<OldJob, OldJob> = Method::new("encode");
const NEW: Method<NewJob, NewJob> = Method::new("encode");
const TEXT: Method<String, String> = Method::new("encode");

fn echo<T: Message + Send>(method: Method<T, T>) -> Router {
    Router::new().method(method, |job| async move { job })
}

#[tokio::test]
async fn schemas_are_compared_once_a_connection() {
    let (server, client) = connected(echo(OLD)).await;
    for id in 0..10 {
        let encoded = NEW
            .call(&client, &new_job(id, NewCodec::H264))
            .await
            .unwrap();
        // The old server does not know the note.
        assert_eq!((encoded.id, encoded.note), (id, String::new()));
    }
    assert_eq!(server.stats().calls_rejected_incompatible, 1);
}

#[tokio::test]
async fn a_method_with_incompatible_types_is_not_tried_again_on_a_connection() {
    let (server, client) = connected(echo(OLD)).await;
    for _ in 0..10 {
        let error = TEXT.call(&client, &"job".to_owned()).await.unwrap_err();
        assert_eq!(error.code(), Code::Incompatible);
        assert_eq!(error.processed(), Processed::No);
        let text = error.to_string();
        for part in ["encode", "request", "string", "OldJob"] {
            assert!(text.contains(part), "{part} in {text:?}");
        }
    }
    assert_eq!(server.stats().calls_rejected_incompatible, 1);
    assert_eq!(server.stats().calls_completed, 0);
    // Other types of the same name are another matter.
    assert_eq!(OLD.call(&client, &old_job(1)).await.unwrap(), old_job(1));
}

/// The rejection of a call of another method, as its server has sent it.
fn nested_rejection() -> Status {
    let schema = TEXT.schema().encode().expect("a small schema");
    let status = Status::new(Code::Incompatible, "of another server");
    status.with_details(schema).not_processed()
}

struct ForwardsRejection;

impl ServerLayer for ForwardsRejection {
    fn before(&self, call: &mut IncomingCall) -> Result<(), Status> {
        match call.metadata().get("token") {
            Some(_) => Err(nested_rejection()),
            None => Ok(()),
        }
    }
}

#[tokio::test]
async fn a_forwarded_rejection_of_other_types_ends_no_later_call() {
    let by_layer = echo(OLD).layer(ForwardsRejection);
    let by_handler = Router::new().method(OLD, |job: OldJob| async move {
        match job.id {
            0 => Err(nested_rejection()),
            _ => Ok(job),
        }
    });
    for router in [by_layer, by_handler] {
        let (server, client) = connected(router).await;
        for _ in 0..3 {
            let token = Metadata::new().with("token", "t").unwrap();
            let rejected = old_job(0);
            let call = OLD.call(&client, &rejected).with_metadata(token);
            let error = within(call).await.unwrap_err();
            assert_eq!(error.code(), Code::Incompatible, "{error}");
            assert_eq!(error.processed(), Processed::No, "{error}");
            let served = within(OLD.call(&client, &old_job(1))).await;
            assert_eq!(served.unwrap(), old_job(1));
        }
        assert_eq!(server.stats().calls_rejected_incompatible, 0);
        assert_eq!(server.stats().calls_completed, 3);
    }
}

#[tokio::test]
async fn a_value_that_the_server_does_not_know_is_rejected_alone() {
    let (server, client) = connected(echo(OLD)).await;
    for job in [new_job(1, NewCodec::Av1), new_job(1 << 40, NewCodec::H264)] {
        let error = NEW.call(&client, &job).await.unwrap_err();
        assert_eq!(error.code(), Code::Incompatible, "{error}");
        assert_eq!(error.processed(), Processed::No, "{error}");
        let known = new_job(7, NewCodec::H264);
        assert_eq!(NEW.call(&client, &known).await.unwrap().id, 7);
    }
    assert_eq!(server.stats().calls_completed, 2);
}

#[tokio::test]
async fn a_reply_that_the_caller_does_not_know_was_processed() {
    const OLD: Method<u8, OldCodec> = Method::new("codec");
    const NEW: Method<u8, NewCodec> = Method::new("codec");
    let router = Router::new().method(NEW, |n| async move {
        match n {
            0 => NewCodec::H264,
            _ => NewCodec::Av1,
        }
    });
    let (_server, client) = connected(router).await;
    assert_eq!(OLD.call(&client, &0).await.unwrap(), OldCodec::H264);
    let error = OLD.call(&client, &1).await.unwrap_err();
    assert_eq!(error.code(), Code::Incompatible, "{error}");
    assert_eq!(error.processed(), Processed::Yes, "{error}");
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Message)]
#[message(self_describing)]
struct Flat {
    id: u32,
    #[serde(flatten)]
    rest: BTreeMap<String, u32>,
}

#[tokio::test]
async fn types_that_describe_themselves_need_no_equal_schema_and_no_second_exchange() {
    const FLAT: Method<Flat, Flat> = Method::new("flat");
    let (server, client) = connected(echo(FLAT)).await;
    let flat = Flat {
        id: 1,
        rest: BTreeMap::from([("more".to_owned(), 2)]),
    };
    for _ in 0..3 {
        assert_eq!(FLAT.call(&client, &flat).await.unwrap(), flat);
    }
    assert_eq!(server.stats().calls_rejected_incompatible, 0);
}

#[tokio::test]
async fn types_without_a_schema_are_compatible_by_their_version() {
    const FIRST: Method<u32, u32> = Method::opaque("opaque", 1);
    const SECOND: Method<u32, u32> = Method::opaque("opaque", 2);
    let (_server, client) = connected(echo(FIRST)).await;
    assert_eq!(FIRST.call(&client, &3).await.unwrap(), 3);
    let error = SECOND.call(&client, &3).await.unwrap_err();
    assert_eq!(error.code(), Code::Incompatible);
}

#[tokio::test]
async fn a_schema_that_is_too_large_for_a_lane_comes_on_a_stream() {
    let config = TransportConfig::lan().with_lane_body_bytes_max(64);
    let (server, client) = connected_with(echo(OLD), config).await;
    let job = new_job(5, NewCodec::H264);
    for _ in 0..3 {
        assert_eq!(NEW.call(&client, &job).await.unwrap().id, 5);
    }
    assert_eq!(server.stats().calls_rejected_incompatible, 2);
}

#[tokio::test]
async fn calls_with_streams_of_their_own_are_compared_too() {
    let (server, client) = connected(echo(OLD)).await;
    let isolated = MethodOptions::new().with_isolated(true);
    for id in 0..3 {
        let job = new_job(id, NewCodec::H264);
        let encoded = NEW.call_with(&client, &job, isolated).await.unwrap();
        assert_eq!(encoded.id, id);
    }
    assert_eq!(server.stats().calls_rejected_incompatible, 1);
}

#[tokio::test]
async fn a_call_with_an_idempotency_key_runs_once_after_the_comparison() {
    let router = echo(OLD).with_idempotency("encode", IdempotencyCache::new());
    let (server, client) = connected(router).await;
    let keys = MethodOptions::new().with_generated_keys(true);
    let job = new_job(3, NewCodec::H264);
    assert_eq!(NEW.call_with(&client, &job, keys).await.unwrap().id, 3);
    assert_eq!(server.stats().calls_started, 1);
}

#[tokio::test]
async fn concurrent_first_calls_of_other_types_all_succeed() {
    let (_server, client) = connected(echo(OLD)).await;
    let jobs: Vec<_> = (0..50).map(|id| new_job(id, NewCodec::H264)).collect();
    let calls = jobs.iter().map(|job| NEW.call(&client, job));
    for (id, encoded) in (0..).zip(within(futures::future::join_all(calls)).await) {
        assert_eq!(encoded.unwrap().id, id);
    }
}

#[tokio::test]
async fn a_check_of_a_method_says_whether_its_types_fit_and_calls_nothing() {
    const COUNT: Method<u64, Replies<u64>> = Method::new("count");
    const COUNT_AS_TEXT: Method<u64, Replies<String>> = Method::new("count");
    const OTHER: Method<u64, u64> = Method::new("other");
    let router =
        echo(OLD).server_streaming_method(COUNT, |_, to| async move { Ok(Replies::of(0..to)) });
    let (server, client) = connected(router).await;
    let check = async |method: UntypedMethod| {
        let checked = within(client.check_method(method, CallOptions::new())).await;
        checked.map_err(|error| (error.code(), error.incompatibility().is_some()))
    };
    let incompatible = Err((Code::Incompatible, true));
    for _ in 0..3 {
        for fitting in [OLD.untyped(), NEW.untyped(), COUNT.untyped()] {
            assert_eq!(check(fitting).await, Ok(()), "{fitting:?}");
        }
        assert_eq!(check(TEXT.untyped()).await, incompatible);
        assert_eq!(check(COUNT_AS_TEXT.untyped()).await, incompatible);
    }
    let unknown = Err((Code::Unimplemented, false));
    assert_eq!(check(OTHER.untyped()).await, unknown);
    let stats = server.stats();
    assert_eq!(stats.calls_rejected_incompatible, 3);
    assert_eq!(stats.calls_started, 0);
    // Calls know the outcome.
    let job = new_job(3, NewCodec::H264);
    assert_eq!(NEW.call(&client, &job).await.unwrap().id, 3);
    let counted = COUNT.call_server_streaming(&client, &2, MethodOptions::new());
    let counted: Vec<_> = counted.await.unwrap().try_collect().await.unwrap();
    assert_eq!(counted, [0, 1]);
    assert_eq!(server.stats().calls_rejected_incompatible, 3);
}

/// Methods of one name and with the same messages, of which others stream.
const ONE_REQUEST: Method<u32, u64> = Method::new("Stock/restock");
const MANY_REQUESTS: Method<Requests<u32>, u64> = Method::new("Stock/restock");

#[tokio::test]
async fn a_method_that_streams_for_one_side_alone_is_incompatible_before_anything_runs() {
    let options = MethodOptions::new();
    let one = Router::new().method(ONE_REQUEST, |n| async move { u64::from(n) });
    let (server, client) = connected(one).await;
    for _ in 0..2 {
        let requests = futures::stream::iter([1, 2]);
        let called = MANY_REQUESTS.call_client_streaming(&client, requests, options);
        let error = within(called).await.unwrap_err();
        assert_eq!(
            (error.code(), error.processed()),
            (Code::Incompatible, Processed::No)
        );
        assert!(error.rejects_method(), "{error}");
        assert!(error.to_string().contains("call type mismatch"), "{error}");
    }
    assert!(
        client
            .check_method(MANY_REQUESTS.untyped(), CallOptions::new())
            .await
            .is_err()
    );
    let many = Router::new()
        .client_streaming_method(MANY_REQUESTS, |_, _: Requests<u32>| async move {
            Ok::<_, Status>(0)
        });
    let (other, client) = connected(many).await;
    for _ in 0..2 {
        let error = within(ONE_REQUEST.call(&client, &7)).await.unwrap_err();
        assert_eq!(
            (error.code(), error.processed()),
            (Code::Incompatible, Processed::No)
        );
        assert!(error.to_string().contains("call type mismatch"), "{error}");
    }
    assert_eq!(
        (server.stats().calls_started, other.stats().calls_started),
        (0, 0)
    );
}
