//! Layers and services of tower in a router.

use std::sync::Arc;

use parking_lot::Mutex;
use tower_layer::Layer;
use tower_service::Service;

use super::{
    CallReply, HandlerService, ServerRequest,
    call_status::{BoxError, call_when_ready, into_body},
};
use crate::{
    Router,
    server::{HandlerWrapper, StartHandler},
};

/// Layers and services of tower: see [`tower`](crate::tower).
impl Router {
    /// Adds a layer of tower around all unary methods of the router, those that are added later
    /// too. It runs inside of the layers of tower that were added before it. Streaming methods are
    /// served without it.
    ///
    /// The layer is applied once, and the methods share the service that it makes: a limit of rate
    /// or concurrency is one for all of them. The methods of a [merged](Self::merge) router pass
    /// the layers of this one first and then their own, so a layer for one method is added to a
    /// router of that method alone.
    ///
    /// Each call clones the service, waits until it is ready and calls it, within the deadline of
    /// the call: at that it is dropped, as when its caller cancels. A call that waits counts as a
    /// running one, and holds its permit of [`Admission`](crate::Admission). Layers of this crate
    /// ([`layer`](Self::layer)) and admission come before those of tower, and the
    /// [idempotency cache](Self::with_idempotency) after them, so that repeats pass them too. A
    /// layer may run a handler several times, but not that of a call that the cache serves.
    ///
    /// A service that cannot be cloned, such as that of `rate_limit`, needs a `buffer` in front:
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build()?.block_on(async {
    /// use std::time::Duration;
    ///
    /// use rpcnet_transport::{Code, Router, Status};
    /// use tower::{BoxError, ServiceBuilder, timeout::error::Elapsed};
    ///
    /// let layer = ServiceBuilder::new()
    ///     .map_err(|error: BoxError| match error.is::<Elapsed>() {
    ///         true => Status::new(Code::DeadlineExceeded, "took more than a second").into(),
    ///         false => error,
    ///     })
    ///     .buffer(64)
    ///     .rate_limit(100, Duration::from_secs(1))
    ///     .timeout(Duration::from_secs(1));
    /// let router = Router::new()
    ///     .tower_layer(layer.into_inner())
    ///     .raw("echo", |_, body| async move { Ok(body) });
    /// # drop(router);
    /// # });
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors of layers
    ///
    /// The caller gets the [`Status`](crate::Status) that an error is or was caused by; that of the
    /// handler stays as it is. Any other error is [`Code::Internal`](crate::Code::Internal) with
    /// its text. If the handler has not started when the layer fails a call, the call was not
    /// processed, whatever the layer says, and the handler does not start afterwards. If it has
    /// started and has not returned, as at a timeout, the call may have been processed.
    #[must_use]
    pub fn tower_layer<L>(self, layer: L) -> Self
    where
        L: Layer<HandlerService>,
        L::Service: Service<
                ServerRequest,
                Response: Into<CallReply>,
                Error: Into<BoxError>,
                Future: Send + 'static,
            > + Clone
            + Send
            + 'static,
    {
        let service = layer.layer(HandlerService::new());
        self.wrap_handlers(Arc::new(LayerWrapper(Arc::new(SharedService::new(
            service,
        )))))
    }

    /// Adds a unary method that is served by a service of tower.
    ///
    /// Each call clones the service, waits until it is ready and calls it, as for
    /// [`tower_layer`](Self::tower_layer). Errors become those of the caller as there; if the
    /// service fails before it is ready, the call was not processed.
    ///
    /// ```
    /// use rpcnet_transport::{
    ///     Router, RpcClient,
    ///     tower::{CallRequest, RpcService, ServerRequest},
    /// };
    /// use tower::ServiceBuilder;
    ///
    /// /// Forwards calls to another node.
    /// fn forwarding(next: RpcClient) -> Router {
    ///     let forward = |request: ServerRequest| {
    ///         CallRequest::new(request.method(), request.body().clone())
    ///             .with_metadata(request.metadata().only(["tenant"]))
    ///     };
    ///     let service = ServiceBuilder::new()
    ///         .map_request(forward)
    ///         .concurrency_limit(8)
    ///         .service(RpcService::new(next));
    ///     Router::new().tower_service("render", service)
    /// }
    /// ```
    ///
    /// # Panics
    ///
    /// Those of [`raw`](Self::raw).
    #[must_use]
    #[track_caller]
    pub fn tower_service<S>(self, name: &str, service: S) -> Self
    where
        S: Service<
                ServerRequest,
                Response: Into<CallReply>,
                Error: Into<BoxError>,
                Future: Send + 'static,
            > + Clone
            + Send
            + 'static,
    {
        let service = SharedService::new(service);
        self.add_unary(name, move |cx, body, started| {
            let service = service.get();
            started.set(async move {
                let request = ServerRequest::new(cx.clone(), body);
                match call_when_ready(service, request).await {
                    Ok(reply) => Ok(into_body(reply, &cx)),
                    Err(failure) => Err(failure.into_status()),
                }
            });
        })
    }
}

/// Service of which each call has a clone. The lock lets threads share one that is not [`Sync`].
struct SharedService<S>(Mutex<S>);

impl<S: Clone> SharedService<S> {
    fn new(service: S) -> Self {
        Self(Mutex::new(service))
    }

    fn get(&self) -> S {
        self.0.lock().clone()
    }
}

/// The service that a layer has made.
struct LayerWrapper<S>(Arc<SharedService<S>>);

impl<S> HandlerWrapper for LayerWrapper<S>
where
    S: Service<
            ServerRequest,
            Response: Into<CallReply>,
            Error: Into<BoxError>,
            Future: Send + 'static,
        > + Clone
        + Send
        + 'static,
{
    fn wrap(&self, next: Arc<StartHandler>) -> Arc<StartHandler> {
        let service = Arc::clone(&self.0);
        Arc::new(move |cx, body, started| {
            let (service, next) = (service.get(), Arc::clone(&next));
            started.set(async move {
                let (request, runs) = ServerRequest::with_handler(cx.clone(), body, next);
                let reply = call_when_ready(service, request).await;
                // A layer may have answered in place of the idempotency cache, which needs them.
                cx.drop_detached();
                match reply {
                    Ok(reply) => Ok(into_body(reply, &cx)),
                    Err(failure) => Err(failure.into_status_around(runs.end())),
                }
            });
        })
    }
}
