//! Layers around handlers: their order, what they change, and how the calls end that they fail.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering::SeqCst},
};

use futures::StreamExt;
use rpcnet_testing::within;
use rpcnet_transport::{
    CallMetadataExt, Code, Metadata, Processed, Receiver, Router, Sender, Status,
    tower::{CallReply, ServerRequest},
};
use tower::{BoxError, ServiceBuilder, layer::layer_fn, timeout::error::Elapsed};

use super::{Deciding, LONG, Log, SHORT, both_ways, connected, end_of, logging, methods};

#[tokio::test]
async fn layers_of_tower_nest_around_unary_methods_as_they_were_added() {
    let log = Log::default();
    let inner = methods(&Arc::default())
        .server_streaming("stream", |_, (): (), mut out: Sender<u32>| async move {
            Ok(out.send(7).await?)
        })
        .tower_layer(logging("inner", &log));
    let router = Router::new()
        .tower_layer(logging("first", &log))
        .merge(inner)
        .tower_layer(logging("second", &log))
        .raw("later", |_, body| async move { Ok(body) });
    let (_server, client) = connected(router).await;
    let take = || std::mem::take(&mut *log.lock());
    for options in both_ways() {
        let reply = within(client.call_with("echo", "abc", options)).await;
        assert_eq!(reply.unwrap(), "abc");
        assert_eq!(take(), ["first echo 3", "second echo 3", "inner echo 3"]);
        let reply = within(client.call_with("later", "a", options)).await;
        assert_eq!(reply.unwrap(), "a");
        assert_eq!(take(), ["first later 1", "second later 1"]);
    }
    let replies: Receiver<u32> = client.call_server_streaming("stream", &()).await.unwrap();
    let replies: Vec<_> = within(replies.collect()).await;
    assert_eq!(replies.len(), 1);
    assert!(
        take().is_empty(),
        "streaming methods have no layers of tower"
    );
}

#[tokio::test]
async fn a_layer_changes_request_and_reply_and_their_metadata() {
    let layer = ServiceBuilder::new()
        .map_request(|request: ServerRequest| {
            let tenant = request.metadata().text("tenant").unwrap_or_default();
            let body = [tenant.as_bytes(), request.body()].concat();
            request.with_body(body)
        })
        .map_response(|reply: CallReply| {
            let seen = reply.metadata().text("tenant-seen").unwrap_or("nothing");
            let metadata = Metadata::new()
                .with("layer", format!("saw {seen}"))
                .unwrap();
            let body = [reply.body(), &b"!"[..]].concat();
            reply.with_body(body).with_metadata(metadata)
        });
    let router = methods(&Arc::default()).tower_layer(layer.into_inner());
    let (_server, client) = connected(router).await;
    for options in both_ways() {
        let call = client.call_with("echo", "abc", options);
        let call = call.with_metadata(Metadata::new().with("tenant", "acme-").unwrap());
        let (reply, metadata) = within(call.with_reply_metadata()).await;
        assert_eq!(reply.unwrap(), "acme-abc!");
        assert_eq!(metadata.text("layer"), Some("saw acme-"));
        assert_eq!(metadata.text("tenant-seen"), None);
    }
}

#[tokio::test]
async fn the_status_of_a_handler_passes_layers_that_box_it() {
    let layer = ServiceBuilder::new().buffer(8).timeout(LONG);
    let router = methods(&Arc::default()).tower_layer(layer.into_inner());
    let (_server, client) = connected(router).await;
    for options in both_ways() {
        let error = within(client.call_with("fails", "", options))
            .await
            .unwrap_err();
        assert_eq!(
            (error.code(), error.processed()),
            (Code::Unavailable, Processed::Yes)
        );
        assert_eq!(
            (error.message(), &error.details()[..]),
            ("as told", &b"why"[..])
        );
        assert_eq!(error.retry_after(), Some(LONG));
    }
}

#[tokio::test]
async fn a_rate_limit_is_one_for_all_methods_and_rejects_unprocessed() {
    for options in both_ways() {
        let started = Arc::new(AtomicU32::new(0));
        let layer = ServiceBuilder::new()
            .buffer(8)
            .load_shed()
            .rate_limit(2, LONG);
        let router = methods(&started).tower_layer(layer.into_inner());
        let (_server, client) = connected(router).await;
        for method in ["echo", "count"] {
            within(client.call_with(method, "", options)).await.unwrap();
        }
        let error = within(client.call_with("echo", "", options))
            .await
            .unwrap_err();
        assert_eq!(
            (error.code(), error.processed()),
            (Code::Internal, Processed::No)
        );
        assert!(error.to_string().contains("overloaded"), "{error}");
        assert_eq!(started.load(SeqCst), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn a_timeout_around_a_handler_may_have_been_processed() {
    let router =
        methods(&Arc::default()).tower_layer(ServiceBuilder::new().timeout(SHORT).into_inner());
    let mapped = ServiceBuilder::new()
        .map_err(|error: BoxError| match error.is::<Elapsed>() {
            true => Status::new(Code::DeadlineExceeded, "too slow").into(),
            false => error,
        })
        .timeout(SHORT);
    let mapped = methods(&Arc::default()).tower_layer(mapped.into_inner());
    for (router, code) in [(router, Code::Internal), (mapped, Code::DeadlineExceeded)] {
        let (server, client) = connected(router).await;
        for options in both_ways() {
            let ended = within(client.call_with("waits", "", options)).await;
            assert_eq!(end_of(ended), (code, Processed::Maybe));
        }
        assert_eq!(server.stats().calls_started, 2);
    }
}

#[tokio::test]
async fn a_call_that_a_layer_fails_before_its_handler_is_unprocessed() {
    let started = Arc::new(AtomicU32::new(0));
    let kept = Arc::default();
    let layer = layer_fn(|handler| Deciding {
        handler,
        kept: Arc::clone(&kept),
    });
    let (_server, client) = connected(methods(&started).tower_layer(layer)).await;
    for options in both_ways() {
        let call = |body: &'static str| within(client.call_with("count", body, options));
        assert_eq!(call("reply").await.unwrap(), "from the layer");
        assert_eq!(
            end_of(call("reject").await),
            (Code::PermissionDenied, Processed::No)
        );
        assert_eq!(end_of(call("fail").await), (Code::Internal, Processed::No));
        assert_eq!(
            end_of(call("panic").await),
            (Code::Internal, Processed::Maybe)
        );
        assert_eq!(end_of(call("keep").await), (Code::Internal, Processed::No));
        let late = kept.lock().take().expect("the layer has kept it");
        assert_eq!(late.await.unwrap_err().code(), Code::Cancelled);
        assert_eq!(
            started.swap(0, SeqCst),
            0,
            "no handler has started, nor does one later"
        );
        assert_eq!(
            end_of(call("replace").await),
            (Code::InvalidRequest, Processed::Yes)
        );
        assert_eq!(started.swap(0, SeqCst), 1);
    }
}
