//! Services and layers of tower: what they see and decide on both sides, and how calls end.

mod connection;
mod keys;
mod layers;
mod methods;

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    task::{Context, Poll},
    time::Duration,
};

use futures::{
    FutureExt,
    future::{BoxFuture, ready},
};
use parking_lot::Mutex;
use rpcnet_transport::{
    CallContext, CallOptions, Code, MemoryNetwork, Metadata, Processed, Router, RpcClient,
    RpcError, RpcServer, Status, TransportConfig,
    tower::{CallReply, HandlerService, ServerRequest},
};
use tower::{BoxError, Service, util::MapRequestLayer};

use crate::bind_in_memory;

/// What a test saw, in order.
type Log = Arc<Mutex<Vec<String>>>;

const SHORT: Duration = Duration::from_millis(30);
const LONG: Duration = Duration::from_secs(3600);

/// Counts how often its handlers have started.
fn methods(started: &Arc<AtomicU32>) -> Router {
    let count = |started: &Arc<AtomicU32>| {
        let started = Arc::clone(started);
        move || started.fetch_add(1, SeqCst)
    };
    let (echoed, waiting, failed) = (count(started), count(started), count(started));
    let counted = count(started);
    Router::new()
        .raw("echo", move |cx: CallContext, body| {
            echoed();
            let seen = cx.metadata().text("tenant").unwrap_or("none");
            cx.set_reply_metadata(Metadata::new().with("tenant-seen", seen).unwrap());
            async move {
                tokio::task::yield_now().await;
                Ok(body)
            }
        })
        .raw("waits", move |_, _| {
            waiting();
            std::future::pending()
        })
        .raw("fails", move |_, _| {
            failed();
            let status = Status::new(Code::Unavailable, "as told").with_details("why");
            ready(Err(status.with_retry_after(LONG)))
        })
        .raw("count", move |_, _| {
            let number = counted();
            ready(Ok(number.to_string().into()))
        })
}

async fn connected(router: Router) -> (RpcServer, RpcClient) {
    connected_with(router, TransportConfig::lan()).await
}

async fn connected_with(router: Router, config: TransportConfig) -> (RpcServer, RpcClient) {
    let network = MemoryNetwork::new();
    let server = bind_in_memory(&network, "server", config.clone()).serve(router);
    let client = connect(&network, "client", server.local_addr()).await;
    (server, client)
}

async fn connect(network: &MemoryNetwork, name: &str, addr: SocketAddr) -> RpcClient {
    let node = bind_in_memory(network, name, TransportConfig::lan());
    node.connect(addr, "server").await.expect("a connection")
}

/// On a lane, and on a stream of its own.
fn both_ways() -> [CallOptions; 2] {
    [CallOptions::new(), CallOptions::new().with_isolated(true)]
}

fn end_of<T: std::fmt::Debug>(ended: Result<T, RpcError>) -> (Code, Processed) {
    let error = ended.expect_err("it fails");
    (error.code(), error.processed())
}

/// Writes each request into the log.
fn logging(
    name: &'static str,
    log: &Log,
) -> MapRequestLayer<impl Fn(ServerRequest) -> ServerRequest + Clone + Send + 'static> {
    let log = Arc::clone(log);
    MapRequestLayer::new(move |request: ServerRequest| {
        let bytes = request.body().len();
        log.lock()
            .push(format!("{name} {} {bytes}", request.method()));
        request
    })
}

type HandlerCall = BoxFuture<'static, Result<CallReply, Status>>;

/// Decides on each request by its body.
#[derive(Clone)]
struct Deciding {
    handler: HandlerService,
    kept: Arc<Mutex<Option<HandlerCall>>>,
}

impl Service<ServerRequest> for Deciding {
    type Response = CallReply;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<CallReply, BoxError>>;

    fn poll_ready(&mut self, task: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.handler.poll_ready(task).map_err(Into::into)
    }

    fn call(&mut self, request: ServerRequest) -> Self::Future {
        let (mut handler, kept) = (self.handler.clone(), Arc::clone(&self.kept));
        async move {
            match &request.body()[..] {
                b"reply" => Ok(CallReply::new("from the layer")),
                b"reject" => Err(Status::permission_denied("not you").into()),
                b"fail" => Err(std::io::Error::other("no disk").into()),
                b"panic" => panic!("in a layer"),
                b"keep" => {
                    *kept.lock() = Some(handler.call(request));
                    Err(Status::internal("kept").into())
                }
                b"replace" => {
                    handler.call(request).await?;
                    Err(Status::new(Code::InvalidRequest, "after the handler").into())
                }
                _ => Ok(handler.call(request).await?),
            }
        }
        .boxed()
    }
}
