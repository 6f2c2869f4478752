//! Connections as services: readiness, limits, timeouts, retries.

use std::{
    future::{Ready, ready},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
};

use bytes::Bytes;
use futures::FutureExt;
use rpcnet_testing::{until, within};
use rpcnet_transport::{
    CallContext, Code, Metadata, Processed, Router, RpcError, Status, TraceContext,
    tower::{CallReply, CallRequest, RpcService},
};
use tower::{Service, ServiceBuilder, ServiceExt, retry, timeout::error::Elapsed};

use super::{LONG, SHORT, both_ways, connected, end_of, methods};

#[tokio::test]
async fn a_connection_is_a_service_for_the_layers_of_tower() {
    let started = Arc::default();
    let (_server, client) = connected(methods(&started)).await;
    let mut service = ServiceBuilder::new()
        .timeout(LONG)
        .rate_limit(4, LONG)
        .concurrency_limit(1)
        .service(RpcService::new(client));
    for options in both_ways() {
        let plain = CallRequest::new("echo", "abc").with_options(options);
        let ready = within(service.ready()).await.unwrap();
        assert_eq!(
            within(ready.call(plain)).await.unwrap(),
            CallReply::new("abc")
        );
        let tenant = Metadata::new().with("tenant", "acme").unwrap();
        let request = CallRequest::new("echo", "abc").with_options(options);
        let request = request.with_metadata(tenant).with_reply_metadata();
        let ready = within(service.ready()).await.unwrap();
        let reply = within(ready.call(request)).await.unwrap();
        assert_eq!(reply.metadata().text("tenant-seen"), Some("acme"));
    }
    let limited = service.ready().now_or_never();
    assert!(limited.is_none(), "four calls were made, of four");
}

#[tokio::test]
async fn a_concurrency_limit_of_tower_lets_the_next_call_wait_for_the_end_of_the_first() {
    let (_server, client) = connected(methods(&Arc::default())).await;
    let service = ServiceBuilder::new().concurrency_limit(1);
    let (mut first, client) = (service.service(RpcService::new(client.clone())), client);
    let mut second = first.clone();
    let waiting = first
        .ready()
        .await
        .unwrap()
        .call(CallRequest::new("waits", ""));
    assert!(second.ready().now_or_never().is_none());
    drop(waiting);
    let ready = within(second.ready()).await.unwrap();
    let reply = within(ready.call(CallRequest::new("echo", "abc"))).await;
    assert_eq!(reply.unwrap().body(), "abc");
    assert!(!client.is_closed());
}

#[tokio::test(start_paused = true)]
async fn a_timeout_of_tower_cancels_the_call_at_the_server() {
    let cancelled = Arc::new(AtomicU32::new(0));
    let router = Router::new().raw("waits", {
        let cancelled = Arc::clone(&cancelled);
        move |cx: CallContext, _| {
            let cancelled = Arc::clone(&cancelled);
            tokio::spawn(async move {
                cx.cancelled().await;
                cancelled.fetch_add(1, SeqCst);
            });
            std::future::pending()
        }
    });
    let (_server, client) = connected(router).await;
    let service = ServiceBuilder::new().timeout(SHORT);
    let service = service.service(RpcService::new(client));
    for (number, options) in (1..).zip(both_ways()) {
        let call = service
            .clone()
            .oneshot(CallRequest::new("waits", "").with_options(options));
        let error = within(call).await.unwrap_err();
        assert!(error.is::<Elapsed>(), "{error}");
        until("the server cancels", || cancelled.load(SeqCst) == number).await;
    }
}

#[tokio::test]
async fn a_closed_connection_is_not_ready() {
    let (_server, client) = connected(methods(&Arc::default())).await;
    let mut service = RpcService::new(client.clone());
    assert!(service.ready().await.is_ok());
    client.close("enough");
    within(client.closed()).await;
    let error = service.ready().await.unwrap_err();
    assert_eq!(
        (error.code(), error.processed()),
        (Code::Unavailable, Processed::No)
    );
    assert!(error.to_string().contains("enough"), "{error}");
    let called = within(service.call(CallRequest::new("echo", ""))).await;
    assert_eq!(end_of(called), (Code::Unavailable, Processed::No));
}

/// Repeats calls that may be repeated.
#[derive(Clone)]
struct Retryable;

impl<O: Clone> retry::Policy<CallRequest<O>, CallReply, RpcError> for Retryable {
    type Future = Ready<()>;

    fn retry(
        &mut self,
        _: &mut CallRequest<O>,
        result: &mut Result<CallReply, RpcError>,
    ) -> Option<Ready<()>> {
        let error = result.as_ref().err()?;
        error.is_retryable().then(|| ready(()))
    }

    fn clone_request(&mut self, request: &CallRequest<O>) -> Option<CallRequest<O>> {
        Some(request.clone())
    }
}

#[tokio::test]
async fn a_retry_of_tower_repeats_a_request_with_all_that_it_has() {
    let calls = Arc::new(AtomicU32::new(0));
    let trace = TraceContext::new([1; 16], [2; 8], 1).unwrap();
    let router = Router::new().raw("third", {
        let calls = Arc::clone(&calls);
        move |cx: CallContext, body: Bytes| {
            let is_third = calls.fetch_add(1, SeqCst) % 3 == 2;
            assert_eq!(cx.metadata().text("tenant"), Some("acme"));
            assert_eq!(cx.trace_context(), Some(trace));
            ready(
                is_third
                    .then_some(body)
                    .ok_or_else(|| Status::overloaded("not yet")),
            )
        }
    });
    let (_server, client) = connected(router).await;
    let service = ServiceBuilder::new().retry(Retryable);
    let service = service.service(RpcService::from(client));
    for options in both_ways() {
        let request = CallRequest::new("third", "abc")
            .with_options(options)
            .with_metadata(Metadata::new().with("tenant", "acme").unwrap())
            .with_trace_context(trace);
        let reply = within(service.clone().oneshot(request)).await.unwrap();
        assert_eq!(reply.into_parts(), ("abc".into(), Metadata::new()));
    }
    assert_eq!(calls.load(SeqCst), 6);
}
