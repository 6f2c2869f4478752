//! Calls by name alone whose requests are integers: a literal without its type is an `i32`.

use std::{
    num::NonZeroU8,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
};

use rpcnet_testing::within;
use rpcnet_transport::{
    CallOptions, Code, Message, Method, Processed, Raw, Router, RpcClient, RpcError,
    TransportConfig,
};

use serde::{Deserialize, Serialize};

use super::{connected, connected_with};

const SQUARE: Method<u64, u64> = Method::new("square");

/// Methods of several types, and the number of their runs.
fn methods() -> (Router, Arc<AtomicU32>) {
    let runs = Arc::new(AtomicU32::new(0));
    let ran = || {
        let runs = Arc::clone(&runs);
        move || {
            runs.fetch_add(1, SeqCst);
        }
    };
    let (double, add, square, raw) = (ran(), ran(), ran(), ran());
    let router = Router::new()
        .typed("double", move |n: u32| {
            double();
            async move { n * 2 }
        })
        .typed("add", move |(a, b): (u32, u32)| {
            add();
            async move { a + b }
        })
        .method(SQUARE, move |n| {
            square();
            async move { n * n }
        })
        .raw("raw", move |_, body| {
            raw();
            async move { Ok(body) }
        });
    (router, runs)
}

/// On a lane, and with a stream of its own.
fn ways() -> [CallOptions; 2] {
    [false, true].map(|isolated| CallOptions::new().with_isolated(isolated))
}

async fn call<Req: rpcnet_transport::Encode>(
    client: &RpcClient,
    method: &str,
    request: Req,
    options: CallOptions,
) -> Result<u64, RpcError> {
    within(client.call_typed_with(method, &request, options)).await
}

#[tokio::test]
async fn an_integer_that_would_be_read_as_another_number_is_rejected_before_the_handler_runs() {
    let (router, runs) = methods();
    let (server, client) = connected(router).await;
    let mut rejected = 0;
    for options in ways() {
        for (method, expected) in [("double", "u32"), ("square", "u64")] {
            for _ in 0..2 {
                // An `i32`, as no type is written.
                let error = call(&client, method, 21, options).await.unwrap_err();
                assert_eq!(error.code(), Code::Incompatible, "{error}");
                assert_eq!(error.processed(), Processed::No);
                let text = error.to_string();
                assert!(text.contains("of type i32"), "{text}");
                assert!(text.contains(&format!("takes {expected}")), "{text}");
                rejected += 1;
            }
        }
        let error = call(&client, "double", 21_u8, options).await.unwrap_err();
        assert_eq!(error.code(), Code::Incompatible, "{error}");
        rejected += 1;
    }
    assert_eq!(runs.load(SeqCst), 0);
    assert_eq!(server.stats().calls_rejected_incompatible, rejected);
}

#[tokio::test]
async fn integers_that_are_read_as_they_were_written_are_served() {
    let (router, runs) = methods();
    let (_server, client) = connected(router).await;
    for options in ways() {
        assert_eq!(call(&client, "double", 21_u32, options).await.unwrap(), 42);
        assert_eq!(call(&client, "double", 21_u64, options).await.unwrap(), 42);
        assert_eq!(
            call(&client, "double", 21_usize, options).await.unwrap(),
            42
        );
        assert_eq!(call(&client, "square", 9_u16, options).await.unwrap(), 81);
        // Bytes have no type to compare with.
        assert_eq!(call(&client, "raw", -1, options).await.unwrap(), 1);
        // Nor have integers within other types.
        assert_eq!(call(&client, "add", (1, 2), options).await.unwrap(), 6);
        // A number that does not fit is no other number.
        let error = call(&client, "double", u64::MAX, options).await;
        assert_eq!(error.unwrap_err().code(), Code::InvalidRequest);
    }
    assert_eq!(runs.load(SeqCst), 12);
}

#[tokio::test]
async fn types_of_one_name_are_kept_apart_on_a_lane() {
    let (router, runs) = methods();
    let (_server, client) =
        connected_with(router, TransportConfig::lan().with_lanes(NonZeroU8::MIN)).await;
    for _ in 0..3 {
        let options = CallOptions::new();
        assert!(call(&client, "double", 21, options).await.is_err());
        assert_eq!(call(&client, "double", 21_u32, options).await.unwrap(), 42);
        let body = within(client.call("double", vec![21])).await.unwrap();
        assert_eq!(body[..], [42]);
        let squared = within(SQUARE.call(&client, &4)).await;
        assert_eq!(squared.unwrap(), 16);
    }
    assert_eq!(runs.load(SeqCst), 9);
}

/// A type that postcard cannot carry: it writes a field that it does not read.
#[derive(Debug, Clone, Serialize, Deserialize, Message)]
struct Stamped {
    #[serde(skip_deserializing)]
    stamp: u32,
    count: u32,
}

#[tokio::test]
async fn types_that_postcard_cannot_carry_are_not_called_by_an_integer_alone() {
    const STAMP: Method<u64, Stamped> = Method::new("stamp");
    let runs = Arc::new(AtomicU32::new(0));
    let router = {
        let runs = Arc::clone(&runs);
        Router::new().method(STAMP, move |_| {
            let count = runs.fetch_add(1, SeqCst);
            async move { Stamped { stamp: 7, count } }
        })
    };
    let (_server, client) = connected(router).await;
    for options in ways() {
        let of_integer = within(client.call_typed_with::<_, Raw>("stamp", &7_u64, options)).await;
        let of_tuple = within(client.call_typed_with::<_, Raw>("stamp", &(7_u64,), options)).await;
        for error in [of_integer.unwrap_err(), of_tuple.unwrap_err()] {
            assert_eq!(error.code(), Code::Incompatible, "{error}");
            assert_eq!(error.processed(), Processed::No);
        }
    }
    assert_eq!(runs.load(SeqCst), 0);
}
