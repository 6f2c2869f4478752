//! Layers around methods with an idempotency cache.

use std::sync::{Arc, atomic::Ordering::SeqCst};

use rpcnet_testing::within;
use rpcnet_transport::{Admission, IdempotencyCache, Router, TransportConfig};
use tower::layer::layer_fn;

use super::{Deciding, Log, both_ways, connected, connected_with, logging, methods};

#[tokio::test]
async fn repeats_of_a_key_pass_the_layers_and_run_once() {
    let log = Log::default();
    let cached = |router: Router| router.with_idempotency("count", IdempotencyCache::new());
    let layered = |router: Router| router.tower_layer(logging("layer", &log));
    let started = Arc::default();
    for router in [
        layered(cached(methods(&started))),
        cached(layered(methods(&started))),
    ] {
        let (_server, client) = connected(router).await;
        for (key, options) in (1..).zip(both_ways()) {
            let options = options.with_idempotency_key(key);
            let first = within(client.call_with("count", "", options))
                .await
                .unwrap();
            let again = within(client.call_with("count", "", options))
                .await
                .unwrap();
            assert_eq!(first, again);
            assert_eq!(std::mem::take(&mut *log.lock()).len(), 2);
        }
    }
    assert_eq!(started.load(SeqCst), 4);
}

#[tokio::test]
async fn a_call_with_a_key_that_a_layer_answers_gives_its_permit_back() {
    let layer = layer_fn(|handler| Deciding {
        handler,
        kept: Arc::default(),
    });
    let router = methods(&Arc::default())
        .with_idempotency("count", IdempotencyCache::new())
        .tower_layer(layer)
        .raw("other", |_, body| async move { Ok(body) });
    let admission = Admission::fixed(1).with_queue_len(0);
    let config = TransportConfig::lan().with_admission(admission);
    let (_server, client) = connected_with(router, config).await;
    for (key, options) in (1..).zip(both_ways()) {
        for body in ["reply", "reject"] {
            let keyed = options.with_idempotency_key(key);
            let ended = within(client.call_with("count", body, keyed)).await;
            assert_eq!(ended.is_ok(), body == "reply", "{ended:?}");
            let reply = within(client.call_with("other", "abc", options)).await;
            assert_eq!(reply.unwrap(), "abc", "the only permit is free");
        }
    }
}
