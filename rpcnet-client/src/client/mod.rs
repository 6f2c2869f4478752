//! Cluster client: calls to selected workers, with retries, hedging, streams and quorums.

mod attempts;
mod broadcast;
mod call_plan;
mod channel;
mod config;
mod connections;
mod error;
mod executor;
mod first_attempt;
mod operation;
mod options;
mod outcome;
mod plain_call;
mod quorum;
mod registry_link;
mod retry_decision;
mod route_cache;
mod routes;
mod rpc_error;
mod schema_checks;
mod status;
mod streams;
mod worker_route;
mod workers;

use std::{
    fmt,
    hash::{BuildHasher, RandomState},
    sync::Arc,
};

use bytes::Bytes;
use rpcnet_balance::retry::{RetryBackoff, RetryControl};
use rpcnet_registry::{Worker, WorkerRegistry};
use rpcnet_transport::{Decode, Encode, IntegerRequest};

pub use rpcnet_balance::retry::{
    AttemptReason, CallStats as ClusterClientStats, MethodPolicy, StopReason,
};

pub use self::{
    broadcast::WorkerReplies,
    channel::WorkerChannel,
    config::ClusterClientConfig,
    error::{Attempt, ClusterError},
    options::WorkerCallOptions,
    quorum::{QuorumCall, QuorumError, QuorumFailure},
    streams::WorkerStream,
    worker_route::WorkerRoute,
};
use self::{
    call_plan::CallSettings, executor::Executor, operation::UnaryCall, plain_call::NamedCall,
    routes::Route, workers::Workers,
};

/// Client of a cluster: selects a worker by tags and load, connects, calls, and retries on another
/// worker when that is safe.
///
/// Steps of a call:
/// - **Selection.** A worker is [selected](WorkerRegistry::select). Workers that cannot be
///   connected to, that fail more often than others, or that say on their connections that they
///   drain, are passed over if there are others. The call counts as in flight until it ends or is
///   dropped. What the worker says about its load with the reply is there for the balancer's next
///   pick. A worker that could not be connected to is probed beside the calls; see
///   [`WorkerRegistry::with_health`].
/// - **Connection.** It is shared by all calls, opened when it is first needed, once however many
///   calls wait, replaced when it has died, and closed when the cluster declares the worker failed,
///   which ends the calls that wait for it. Its certificate must name the worker. While it is
///   saturated, a few more share the calls; see
///   [`with_connections_per_worker_max`](ClusterClientConfig::with_connections_per_worker_max).
/// - **Retry.** A failed attempt is followed by another one, on another worker, if the request was
///   certainly not processed: it was never sent, or it was rejected (the worker drains, is
///   overloaded, does not know the method or its types, or cannot read the request). If it may have
///   been processed, only if the call or its method is marked as idempotent or the call has an
///   idempotency key; a call with a key goes back once to the worker that may have processed it,
///   which remembers. An answer of the handler is final.
/// - **Rejected methods.** A worker that does not know the method, or whose types do not fit, or
///   that could not read a request that another one served, is passed over for that method by later
///   calls. One of them probes now and then whether that is still so. A worker that announces the
///   types of its services, as nodes do, is passed over for them before a call is spent on it.
/// - **Backoff.** When every worker was tried, the call waits before it starts over.
/// - **Limits.** There is one deadline over all attempts, a limit to their number, and one to the
///   extra load that the attempts of all calls make, the
///   [retry budget](ClusterClientConfig::with_retry_budget).
/// - **Hedging.** If its method [hedges](ClusterClientConfig::with_hedging), a call that takes long
///   goes to another worker as well.
///
/// Dropping the future of a call cancels it, at the worker too.
pub struct ClusterClient {
    settings: CallSettings,
    executor: Executor,
}

impl ClusterClient {
    /// A client of the workers in `registry`, which should have been
    /// [started](WorkerRegistry::start).
    #[must_use]
    pub fn new(registry: Arc<WorkerRegistry>, config: ClusterClientConfig) -> Self {
        let random = || RandomState::new().hash_one(0_u64);
        let seed = config.seed.unwrap_or_else(random);
        let backoff = RetryBackoff::seeded(seed, config.backoff);
        Self {
            executor: Executor {
                workers: Workers::new(registry, &config),
                retries: RetryControl::new(config.budget.clone(), backoff),
                budget_created_at: config.budget_created_at,
            },
            settings: CallSettings::new(config),
        }
    }

    /// Calls a method of a worker that matches `filter`, of any worker without a filter. Request
    /// and reply are bytes.
    ///
    /// # Errors
    ///
    /// [`ClusterError`] says which workers were tried and whether the request may have been
    /// processed.
    pub fn call_worker<'a>(
        &'a self,
        method: &'a str,
        body: impl Into<Bytes>,
        filter: Option<&'a str>,
    ) -> impl Future<Output = Result<Bytes, ClusterError>> {
        // No future around the one that does it: each costs a call time and space.
        let method = (method, None);
        self.call_bytes(method, body.into(), (filter, None), None, |reply, _| reply)
    }

    /// Like [`call_worker`](Self::call_worker), with options.
    ///
    /// # Errors
    ///
    /// As of [`call_worker`](Self::call_worker).
    pub async fn call_worker_with(
        &self,
        method: &str,
        body: impl Into<Bytes>,
        filter: Option<&str>,
        options: WorkerCallOptions,
    ) -> Result<Bytes, ClusterError> {
        let (method, options) = ((method, None), Some(&options));
        let call = self.call_bytes(method, body.into(), (filter, None), options, |reply, _| {
            reply
        });
        call.await
    }

    /// Calls a method of a worker. Request and reply are values, encoded with postcard.
    ///
    /// It is for quick work: nothing checks that both sides mean the same types, as calls over
    /// [`workers`](Self::workers) do. An integer literal is an `i32` unless its type is written,
    /// which a worker reads as another number than it was if it takes a `u32`. It rejects the call
    /// if the integer is the whole request, and runs it if the integer is within a tuple or another
    /// type; see [`RpcClient::call_typed`](crate::RpcClient::call_typed).
    ///
    /// # Errors
    ///
    /// As of [`call_worker`](Self::call_worker); and if a value does not encode or decode.
    pub async fn call_worker_typed<Req, Resp>(
        &self,
        method: &str,
        request: &Req,
        filter: Option<&str>,
    ) -> Result<Resp, ClusterError>
    where
        Req: Encode + ?Sized,
        Resp: Decode,
    {
        self.call_encoded(method, request, (filter, None), None)
            .await
    }

    /// Like [`call_worker_typed`](Self::call_worker_typed), with options.
    ///
    /// # Errors
    ///
    /// As of [`call_worker_typed`](Self::call_worker_typed).
    pub async fn call_worker_typed_with<Req, Resp>(
        &self,
        method: &str,
        request: &Req,
        filter: Option<&str>,
        options: WorkerCallOptions,
    ) -> Result<Resp, ClusterError>
    where
        Req: Encode + ?Sized,
        Resp: Decode,
    {
        self.call_encoded(method, request, (filter, None), Some(&options))
            .await
    }

    /// The workers that calls go to.
    #[must_use]
    pub fn registry(&self) -> &Arc<WorkerRegistry> {
        &self.executor.workers.registry
    }

    /// The settings.
    #[must_use]
    pub fn config(&self) -> &ClusterClientConfig {
        &self.settings.config
    }

    /// The number of connections to workers, those being made included.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.executor.workers.connections.len()
    }

    /// Counts of calls and attempts so far.
    #[must_use]
    pub fn stats(&self) -> ClusterClientStats {
        let mut stats = self.executor.retries.stats();
        stats.schema_mismatches = self.executor.workers.link.schemas.passed_over();
        stats
    }

    /// Calls a method by its name with a typed request, and decodes the reply.
    async fn call_encoded<Req, Resp>(
        &self,
        method: &str,
        request: &Req,
        target: (Option<&str>, Option<&Route>),
        options: Option<&WorkerCallOptions>,
    ) -> Result<Resp, ClusterError>
    where
        Req: Encode + ?Sized,
        Resp: Decode,
    {
        let body = request.encode().map_err(ClusterError::Encode)?;
        let method = (method, IntegerRequest::of::<Req>());
        let call = self.call_bytes(method, body, target, options, broadcast::with_worker);
        let (reply, worker) = call.await?;
        broadcast::decode(worker.id(), reply)
    }

    /// Calls a method by its name, whose request is an integer of this type or anything else.
    fn call_bytes<'a, T>(
        &'a self,
        (method, integer): (&'a str, Option<IntegerRequest>),
        body: Bytes,
        (filter, route): (Option<&'a str>, Option<&'a Route>),
        options: Option<&'a WorkerCallOptions>,
        finish: impl FnOnce(Bytes, Worker) -> T,
    ) -> impl Future<Output = Result<T, ClusterError>> {
        let call = NamedCall {
            settings: &self.settings,
            method,
            filter,
            route,
            options,
        };
        let operation = UnaryCall {
            method,
            integer,
            body,
        };
        self.executor.execute(call, operation, finish)
    }
}

impl fmt::Debug for ClusterClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClusterClient")
            .field("registry", self.registry())
            .field("connections", &self.connections())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use rpcnet_registry::{LoadBalancingStrategy, StaticMembership};
    use rpcnet_transport::{DevCa, MemoryNetwork, TransportConfig};

    use super::*;

    /// Settings of a client whose endpoint is on a network of its own.
    pub(super) fn config() -> ClusterClientConfig {
        let any = (Ipv4Addr::UNSPECIFIED, 0).into();
        let tls = DevCa::new("client").issue("caller").expect("a node name");
        let bound = MemoryNetwork::new().bind(any, TransportConfig::default(), tls);
        ClusterClientConfig::new(bound.expect("a free address"))
    }

    #[tokio::test]
    async fn a_typed_call_without_options_holds_no_copy_of_them() {
        let registry =
            WorkerRegistry::new(StaticMembership::new(), LoadBalancingStrategy::RoundRobin);
        let client = ClusterClient::new(Arc::new(registry), config());
        let plain = client.call_worker_typed::<u32, u32>("any", &1, None);
        let options = WorkerCallOptions::new();
        let with_options = client.call_worker_typed_with::<u32, u32>("any", &1, None, options);
        let saved = size_of_val(&with_options).saturating_sub(size_of_val(&plain));
        assert!(saved >= size_of::<WorkerCallOptions>(), "{saved}");
    }
}
