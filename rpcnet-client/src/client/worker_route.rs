//! Prepared route: calls to the workers that match one filter.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use rpcnet_registry::NodeId;
use rpcnet_transport::{Decode, Encode};

use super::{ClusterClient, ClusterError, WorkerCallOptions, WorkerChannel, routes::Route};

impl ClusterClient {
    /// The route to the workers that match `filter`, for callers that make many calls with it.
    ///
    /// It is no other way to make a call: [`call_worker`](Self::call_worker) finds the route of its
    /// filter by a hash of the text, among those of the 64 filters that are used most, or so, and
    /// this saves that look-up.
    ///
    /// The empty filter matches all workers, as `None` does elsewhere. One that is no tag
    /// expression fails with each call, as [`SelectError::InvalidFilter`] or, of a typed call, as
    /// [`Code::InvalidRequest`]. To find out before, parse it as a
    /// [`Filter`](rpcnet_registry::Filter).
    ///
    /// [`SelectError::InvalidFilter`]: rpcnet_registry::SelectError::InvalidFilter
    /// [`Code::InvalidRequest`]: rpcnet_transport::Code::InvalidRequest
    #[must_use]
    pub fn route(self: &Arc<Self>, filter: &str) -> WorkerRoute {
        WorkerRoute {
            client: Arc::clone(self),
            route: self.executor.workers.route(Some(filter)),
        }
    }
}

/// Route to the workers that match a filter; made by [`ClusterClient::route`]. Cheap to clone.
///
/// It keeps the workers that match, in their health tiers, and the connections to them, until
/// either changes: the next call notices that. Calls are those of [`ClusterClient`] with this
/// filter, in all respects.
///
/// ```
/// use std::sync::Arc;
///
/// use rpcnet_client::{ClusterClient, ClusterError};
///
/// async fn squares(client: &Arc<ClusterClient>) -> Result<Vec<u64>, ClusterError> {
///     let workers = client.route("role=worker");
///     let mut squares = Vec::new();
///     for n in 0..1000_u64 {
///         squares.push(workers.call_typed("square", &n).await?);
///     }
///     Ok(squares)
/// }
/// ```
#[derive(Clone)]
pub struct WorkerRoute {
    client: Arc<ClusterClient>,
    route: Arc<Route>,
}

impl WorkerRoute {
    /// Calls a method of a worker, as [`ClusterClient::call_worker`] does.
    ///
    /// # Errors
    ///
    /// As of [`ClusterClient::call_worker`].
    pub fn call<'a>(
        &'a self,
        method: &'a str,
        body: impl Into<Bytes>,
    ) -> impl Future<Output = Result<Bytes, ClusterError>> {
        let (target, client) = (self.target(), &self.client);
        client.call_bytes((method, None), body.into(), target, None, |reply, _| reply)
    }

    /// Like [`call`](Self::call), with options.
    ///
    /// # Errors
    ///
    /// As of [`ClusterClient::call_worker`].
    pub async fn call_with(
        &self,
        method: &str,
        body: impl Into<Bytes>,
        options: WorkerCallOptions,
    ) -> Result<Bytes, ClusterError> {
        let (target, options) = (self.target(), Some(&options));
        let method = (method, None);
        let call = self
            .client
            .call_bytes(method, body.into(), target, options, |reply, _| reply);
        call.await
    }

    /// Calls a method of a worker, as [`ClusterClient::call_worker_typed`] does.
    ///
    /// # Errors
    ///
    /// As of [`ClusterClient::call_worker_typed`].
    pub async fn call_typed<Req, Resp>(
        &self,
        method: &str,
        request: &Req,
    ) -> Result<Resp, ClusterError>
    where
        Req: Encode + ?Sized,
        Resp: Decode,
    {
        let call = self
            .client
            .call_encoded(method, request, self.target(), None);
        call.await
    }

    /// Like [`call_typed`](Self::call_typed), with options.
    ///
    /// # Errors
    ///
    /// As of [`ClusterClient::call_worker_typed`].
    pub async fn call_typed_with<Req, Resp>(
        &self,
        method: &str,
        request: &Req,
        options: WorkerCallOptions,
    ) -> Result<Resp, ClusterError>
    where
        Req: Encode + ?Sized,
        Resp: Decode,
    {
        let call = self
            .client
            .call_encoded(method, request, self.target(), Some(&options));
        call.await
    }

    /// Calls a method of every worker, as [`ClusterClient::call_all_workers`] does.
    ///
    /// # Errors
    ///
    /// As of [`ClusterClient::call_all_workers`].
    pub async fn call_all(
        &self,
        method: &str,
        body: impl Into<Bytes>,
    ) -> Result<Vec<(NodeId, Result<Bytes, ClusterError>)>, ClusterError> {
        self.client
            .call_all_workers(method, body, self.filter())
            .await
    }

    /// The workers as a channel of typed calls and streams, on the same route.
    #[must_use]
    pub fn channel(&self) -> WorkerChannel {
        WorkerChannel::new(&self.client, &self.route)
    }

    /// The client that makes the calls.
    #[must_use]
    pub fn client(&self) -> &Arc<ClusterClient> {
        &self.client
    }

    /// Filter of the workers.
    #[must_use]
    pub fn filter(&self) -> Option<&str> {
        self.route.filter()
    }

    fn target(&self) -> (Option<&str>, Option<&Route>) {
        (self.route.filter(), Some(&self.route))
    }
}

impl fmt::Debug for WorkerRoute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkerRoute")
            .field("filter", &self.filter())
            .finish_non_exhaustive()
    }
}
