//! Methods that are served by services.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    io,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use rpcnet_testing::{until, within};
use rpcnet_transport::{
    CallMetadataExt, Code, Encode, LocalChannel, MemoryNetwork, Metadata, Method, Processed,
    Router, Status, TransportConfig,
    tower::{CallRequest, HandlerService, RpcService, ServerRequest},
};
use tower::{Service, ServiceBuilder, layer::layer_fn, service_fn};

use super::{LONG, SHORT, both_ways, connect, connected, end_of, methods};
use crate::bind_in_memory;

#[tokio::test]
async fn a_service_serves_a_method() {
    const DOUBLE: Method<u32, u32> = Method::new("double");
    let double = service_fn(|request: ServerRequest| async move {
        let (cx, body) = request.into_parts();
        cx.set_reply_metadata(Metadata::new().with("of", cx.peer().name()).unwrap());
        let number = u32::from(*body.first().unwrap_or(&0));
        (2 * number).encode().map_err(io::Error::other)
    });
    let never = service_fn(|_| ready(Ok::<Bytes, Infallible>(Bytes::new())));
    let router = Router::new()
        .tower_service("double", double)
        .tower_service("never", never)
        .tower_layer(ServiceBuilder::new().concurrency_limit(4).into_inner());
    let local = LocalChannel::new(router.clone());
    let (_server, client) = connected(router).await;
    for options in both_ways() {
        let body = 21_u32.encode().unwrap();
        let call = client
            .call_with("double", body, options)
            .with_reply_metadata();
        let (reply, metadata) = within(call).await;
        assert_eq!(reply.unwrap(), 42_u32.encode().unwrap());
        assert_eq!(metadata.text("of"), Some("client"));
        assert!(
            within(client.call_with("never", "", options))
                .await
                .unwrap()
                .is_empty()
        );
    }
    assert_eq!(within(DOUBLE.call(&local, &21)).await.unwrap(), 42);
}

/// Ready as it is told to be.
#[derive(Clone)]
struct NotReady(Poll<Code>);

impl Service<ServerRequest> for NotReady {
    type Response = Bytes;
    type Error = Status;
    type Future = Ready<Result<Bytes, Status>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        self.0.map(|code| Err(Status::new(code, "not ready")))
    }

    fn call(&mut self, _: ServerRequest) -> Self::Future {
        unreachable!("it is not ready")
    }
}

#[tokio::test(start_paused = true)]
async fn a_service_is_called_when_it_is_ready_and_until_the_deadline() {
    let broken = layer_fn(|_: HandlerService| NotReady(Poll::Ready(Code::Unavailable)));
    let router = Router::new()
        .tower_service("pending", NotReady(Poll::Pending))
        .tower_service("broken", NotReady(Poll::Ready(Code::Unavailable)))
        .merge(methods(&Arc::default()).tower_layer(broken));
    let (server, client) = connected(router).await;
    for options in both_ways() {
        for method in ["broken", "echo"] {
            let ended = within(client.call_with(method, "", options)).await;
            assert_eq!(
                end_of(ended),
                (Code::Unavailable, Processed::No),
                "{method}"
            );
        }
        let call = client.call_with("pending", "", options.with_timeout(SHORT));
        assert_eq!(end_of(within(call).await).0, Code::DeadlineExceeded);
        until("the call has ended", || server.in_flight() == 0).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_method_forwards_to_another_node() {
    let network = MemoryNetwork::new();
    let methods = methods(&Arc::default());
    let last = bind_in_memory(&network, "server", TransportConfig::lan()).serve(methods);
    let next = connect(&network, "next", last.local_addr()).await;
    let forward = ServiceBuilder::new()
        .map_request(|request: ServerRequest| {
            let (cx, body) = request.into_parts();
            CallRequest::new(cx.method(), body)
        })
        .timeout(LONG)
        .service(RpcService::new(next));
    let router = Router::new()
        .tower_service("echo", forward.clone())
        .tower_service("fails", forward.clone())
        .tower_service("waits", forward);
    let (_server, client) = connected(router).await;
    for options in both_ways() {
        let reply = within(client.call_with("echo", "abc", options)).await;
        assert_eq!(reply.unwrap(), "abc");
        let error = within(client.call_with("fails", "", options))
            .await
            .unwrap_err();
        assert_eq!(
            (error.code(), error.message()),
            (Code::Unavailable, "as told")
        );
        let call = client.call_with("waits", "", options.with_timeout(SHORT));
        assert_eq!(end_of(within(call).await).0, Code::DeadlineExceeded);
        until("the forwarded call has ended", || last.in_flight() == 0).await;
    }
}
