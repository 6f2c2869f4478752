//! Workers of a cluster as a service of [tower](https://docs.rs/tower) (feature `tower`).
//!
//! [`WorkerService`] is what layers are put around with `tower::ServiceBuilder`. Layers and
//! services of a worker go into its [`Router`](crate::Router): see
//! [`rpcnet_transport::tower`].

use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use futures::future::BoxFuture;
use tower_service::Service;

pub use rpcnet_transport::tower::{
    CallReply, CallRequest, HandlerService, RpcService, ServerRequest,
};

use crate::{ClusterClient, ClusterError, WorkerCallOptions};

/// Workers of a cluster that match a filter, as a service of tower. Cheap to clone.
///
/// Each call selects a worker, and is retried and hedged as described at [`ClusterClient`]: a retry
/// layer around it repeats whole calls. Its request has [`WorkerCallOptions`].
///
/// It is always ready: workers come and go, and a call that finds none says so
/// ([`ClusterError::Select`]). A call that a layer drops is cancelled at the worker too.
///
/// ```
/// use std::{sync::Arc, time::Duration};
///
/// use rpcnet_client::{
///     ClusterClient, WorkerCallOptions,
///     tower::{CallRequest, WorkerService},
/// };
/// use tower::{BoxError, Service, ServiceBuilder, ServiceExt};
///
/// async fn render(client: Arc<ClusterClient>) -> Result<(), BoxError> {
///     let mut workers = ServiceBuilder::new()
///         .rate_limit(100, Duration::from_secs(1))
///         .concurrency_limit(16)
///         .service(WorkerService::new(client, Some("role=worker")));
///     let request = CallRequest::new("render", "frame 7")
///         .with_options(WorkerCallOptions::new().with_idempotent(true));
///     let reply = workers.ready().await?.call(request).await?;
///     println!("{} bytes", reply.body().len());
///     Ok(())
/// }
/// ```
#[derive(Clone)]
pub struct WorkerService {
    client: Arc<ClusterClient>,
    filter: Option<Arc<str>>,
}

impl WorkerService {
    /// The workers that match `filter`; all workers without a filter.
    #[must_use]
    pub fn new(client: Arc<ClusterClient>, filter: Option<&str>) -> Self {
        Self {
            client,
            filter: filter.map(Arc::from),
        }
    }

    /// The client that makes the calls.
    #[must_use]
    pub fn client(&self) -> &Arc<ClusterClient> {
        &self.client
    }

    /// Filter of the workers; `None` for all.
    #[must_use]
    pub fn filter(&self) -> Option<&str> {
        self.filter.as_deref()
    }
}

impl Service<CallRequest<WorkerCallOptions>> for WorkerService {
    type Response = CallReply;
    type Error = ClusterError;
    type Future = BoxFuture<'static, Result<CallReply, ClusterError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ClusterError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: CallRequest<WorkerCallOptions>) -> Self::Future {
        let Self { client, filter } = self.clone();
        request.send_with(|method, body, options| async move {
            let call = client.call_worker_with(&method, body, filter.as_deref(), options);
            call.await
        })
    }
}

impl fmt::Debug for WorkerService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkerService")
            .field("filter", &self.filter)
            .finish_non_exhaustive()
    }
}
