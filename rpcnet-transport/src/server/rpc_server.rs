//! Server on the port of an endpoint: registering of methods, draining, and shutdown.

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;

use super::{CallContext, IntoReply, Router};
use crate::{
    BindError, Decode, Encode, Endpoint, Receiver, Sender, ShutdownReport, Status, Tls,
    TransportConfig, TransportStats,
};

/// A server that answers calls on the port of an [`Endpoint`].
///
/// Created by [`Endpoint::serve`], or by [`bind`](Self::bind) for a program that only serves. It
/// serves until the last handle of its endpoint is dropped or [`shutdown`](Self::shutdown) ends it.
#[derive(Debug, Clone)]
pub struct RpcServer {
    endpoint: Endpoint,
}

impl RpcServer {
    /// Opens a port with default settings and serves on it, at first without methods: see
    /// [`register`](Self::register).
    ///
    /// # Errors
    ///
    /// Those of [`Endpoint::bind`].
    pub fn bind(addr: SocketAddr, tls: Tls) -> Result<Self, BindError> {
        Ok(Endpoint::bind(addr, TransportConfig::default(), tls)?.serve(Router::new()))
    }

    pub(crate) fn new(endpoint: Endpoint) -> Self {
        Self { endpoint }
    }

    /// Adds a method that takes and returns bytes, also while calls come in. See [`Router::raw`].
    ///
    /// # Panics
    ///
    /// If the server already has a method of this name.
    #[track_caller]
    pub fn register<F, Fut>(&self, name: &str, handler: F)
    where
        F: Fn(CallContext, Bytes) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Bytes, Status>> + Send + 'static,
    {
        self.endpoint.add_methods(Router::new().raw(name, handler));
    }

    /// Adds a method that takes and returns values. See [`Router::typed`].
    ///
    /// # Panics
    ///
    /// If the server already has a method of this name.
    #[track_caller]
    pub fn register_typed<Req, Fut, By, F>(&self, name: &str, handler: F)
    where
        F: Fn(Req) -> Fut + Send + Sync + 'static,
        Fut: Future + Send + 'static,
        Fut::Output: IntoReply<By>,
        Req: Decode + 'static,
    {
        self.endpoint
            .add_methods(Router::new().typed(name, handler));
    }

    /// Adds a method that answers a stream with a stream. See [`Router::streaming`].
    ///
    /// # Panics
    ///
    /// If the server already has a method of this name.
    #[track_caller]
    pub fn register_streaming<Req, Resp, Fut, F>(&self, name: &str, handler: F)
    where
        F: Fn(CallContext, Receiver<Req>, Sender<Resp>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), Status>> + Send + 'static,
        Req: Decode + 'static,
        Resp: Encode + 'static,
    {
        self.endpoint
            .add_methods(Router::new().streaming(name, handler));
    }

    /// Adds all methods of a router.
    ///
    /// # Panics
    ///
    /// If the server already has a method of one of the names.
    #[track_caller]
    pub fn register_all(&self, router: Router) {
        self.endpoint.add_methods(router);
    }

    /// The endpoint on which the server serves.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Address of the port.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.endpoint.local_addr()
    }

    /// Advertises that the endpoint drains, so that callers go elsewhere, and goes on accepting
    /// calls; `false` withdraws it. As [`Endpoint::advertise_draining`].
    pub fn advertise_draining(&self, draining: bool) {
        self.endpoint.advertise_draining(draining);
    }

    /// Starts or ends a drain: callers are told to go elsewhere, and new calls are rejected after
    /// the drain grace. Calls being served go on. As [`Endpoint::set_draining`].
    pub fn set_draining(&self, draining: bool) {
        self.endpoint.set_draining(draining);
    }

    /// Calls being served. A lane that is being read at this moment may count as one more.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.endpoint.in_flight()
    }

    /// Counters of the endpoint.
    #[must_use]
    pub fn stats(&self) -> TransportStats {
        self.endpoint.stats()
    }

    /// Stops the server: new calls are rejected, those being served have the time `within` to end,
    /// then connections and the port are closed. As [`Endpoint::shutdown`].
    pub async fn shutdown(&self, within: Duration) -> ShutdownReport {
        self.endpoint.shutdown(within).await
    }
}
