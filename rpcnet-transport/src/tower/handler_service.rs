//! Handler of a method as a service of tower, for layers around it.

use std::task::{Context, Poll};

use futures::future::BoxFuture;
use tower_service::Service;

use super::{CallReply, ServerRequest};
use crate::Status;

/// Handlers of a router as a service of tower: what
/// [`Router::tower_layer`](crate::Router::tower_layer) gives to the layer. Each request runs the
/// handler of its method. It is always ready.
///
/// The handler starts when the future of the call is first polled. It may run several times, as for
/// a retry, but not after the layer has failed the request.
///
/// Metadata that the handler sets is a part of its reply, and not of its error.
#[derive(Debug, Clone)]
pub struct HandlerService(());

impl HandlerService {
    pub(super) const fn new() -> Self {
        Self(())
    }
}

impl Service<ServerRequest> for HandlerService {
    type Response = CallReply;
    type Error = Status;
    type Future = BoxFuture<'static, Result<CallReply, Status>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: ServerRequest) -> Self::Future {
        Box::pin(request.run())
    }
}
