//! Services and layers of [tower](https://docs.rs/tower), on both sides (feature `tower`).
//!
//! - A caller: [`RpcService`] is a connection as a service, which layers are put around with
//!   `tower::ServiceBuilder`. It takes a [`CallRequest`] and returns a [`CallReply`].
//! - A server: [`Router::tower_layer`](crate::Router::tower_layer) puts a layer around the handlers
//!   of a router, and [`Router::tower_service`](crate::Router::tower_service) serves a method by a
//!   service. Both take a [`ServerRequest`].
//!
//! Bodies are bytes: encoded values pass as they are. Only unary calls pass; streaming methods of a
//! router are served without its tower layers.
//!
//! ```
//! use std::time::Duration;
//!
//! use rpcnet_transport::{
//!     Router, RpcClient,
//!     tower::{CallRequest, RpcService},
//! };
//! use tower::{Service, ServiceBuilder, ServiceExt};
//!
//! # async fn call(client: RpcClient) -> Result<(), tower::BoxError> {
//! let mut service = ServiceBuilder::new()
//!     .timeout(Duration::from_secs(1))
//!     .rate_limit(100, Duration::from_secs(1))
//!     .concurrency_limit(16)
//!     .service(RpcService::new(client));
//! let reply = service.ready().await?.call(CallRequest::new("echo", "hello")).await?;
//! assert_eq!(reply.body(), "hello");
//! # Ok(())
//! # }
//!
//! // At most 16 calls of both methods together run at a time.
//! let router = Router::new()
//!     .tower_layer(ServiceBuilder::new().concurrency_limit(16).into_inner())
//!     .raw("echo", |_, body| async move { Ok(body) })
//!     .typed("double", |n: u32| async move { n * 2 });
//! # drop(router);
//! ```
//!
//! [Layers of this crate](crate::ServerLayer) cost less, see streams too, and reject a call before
//! its body has arrived; those of tower exist already, and may answer or repeat a call.

mod call_reply;
mod call_request;
mod call_status;
mod handler_service;
mod router;
mod rpc_service;
mod server_request;

pub use self::{
    call_reply::CallReply, call_request::CallRequest, handler_service::HandlerService,
    rpc_service::RpcService, server_request::ServerRequest,
};
