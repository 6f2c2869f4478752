//! Calls to whichever worker is best.

mod attempts;
mod broadcast;
mod config;
mod connections;
mod error;
mod executor;
mod fast_path;
mod hedged_attempt;
mod method_policy;
mod options;
mod pick;
mod quorum;
mod refused_methods;
mod retry_policy;
mod stats;
mod status;
mod streams;
mod unreadable_requests;

use std::{collections::HashMap, fmt, sync::Arc};

use attempts::AttemptFailure;
pub use broadcast::WorkerReplies;
use bytes::Bytes;
pub use config::ClusterClientConfig;
use connections::WorkerConnections;
pub use error::{Attempt, AttemptReason, ClusterError, StopReason};
use futures::TryFutureExt;
pub use method_policy::MethodPolicy;
use method_policy::MethodState;
pub use options::WorkerCallOptions;
pub use quorum::{QuorumError, QuorumFailure};
use refused_methods::RefusedMethods;
use retry_policy::{IdempotencyKeys, Jitter};
use rpcnet_registry::WorkerRegistry;
use rpcnet_transport::{Decode, Encode};
use stats::CallCounters;
pub use stats::ClusterClientStats;
pub use streams::WorkerStream;

/// Calls workers of a cluster: picks one by tags and load, connects, calls, and goes to another one when that is safe.
///
/// What happens to a call:
/// - A worker is [selected](WorkerRegistry::select), but for those that cannot be connected to, that fail more often than
///   others, and that drain, as they say on their connections, if there are others. It counts as in flight there until it
///   ends or is dropped. What the worker says about its load with the reply is there for the balancer's next pick. One that
///   could not be connected to is connected to anew, beside the calls, when its time is over; see
///   [`WorkerRegistry::with_health`].
/// - The connection to it is shared by all calls, opened when it is first needed, once however many calls wait, replaced
///   when it has died, and closed when the cluster holds the worker for dead, which ends the calls that wait for it. Its
///   certificate must name the worker. While it is saturated, a few more share the calls; see
///   [`with_connections_per_worker_max`](ClusterClientConfig::with_connections_per_worker_max).
/// - A failed attempt is followed by another one, on another worker, if the request was certainly not processed: it was
///   never sent, or it was refused (the worker drains, has too much to do, does not know the method, or cannot read the
///   request). If it may have been processed, only if the call or its method is marked as idempotent or the call has an idempotency key. An answer of the
///   handler is final.
///   One that is not idempotent but has a key goes back once to the worker that may have processed it, which remembers.
/// - A worker that does not know the method, or could not read a request that another one served, is passed over for that
///   method by later calls. One of them finds out now and then whether that is still so.
/// - When every worker was tried, it starts over after a pause.
/// - There is one deadline over all attempts, a limit to their number, and one to the extra load that the attempts of all
///   calls make, the [budget](ClusterClientConfig::with_retry_budget).
/// - If its method [hedges](ClusterClientConfig::with_hedging), it goes to another worker as well when it takes long.
///
/// Dropping the future of a call cancels it, at the worker too.
pub struct ClusterClient {
    registry: Arc<WorkerRegistry>,
    config: ClusterClientConfig,
    connections: WorkerConnections,
    refused_methods: Arc<RefusedMethods>,
    jitter: Jitter,
    keys: IdempotencyKeys,
    /// Those that something is special about.
    methods: HashMap<Box<str>, MethodState>,
    counters: CallCounters,
}

impl ClusterClient {
    /// A client of the workers in `registry`, which should have been [started](WorkerRegistry::start).
    pub fn new(registry: Arc<WorkerRegistry>, config: ClusterClientConfig) -> Self {
        let refused_methods = Arc::<RefusedMethods>::default();
        Self {
            connections: WorkerConnections::new(&config, &registry, &refused_methods),
            refused_methods,
            jitter: config.seed.map_or_else(Jitter::new, Jitter::seeded),
            keys: IdempotencyKeys::new(),
            methods: config
                .methods
                .iter()
                .map(|(name, policy)| (name.clone(), MethodState::new(*policy)))
                .collect(),
            counters: CallCounters::default(),
            registry,
            config,
        }
    }

    /// Calls a method of a worker that matches `filter`, of any one without, with bytes, which get bytes back.
    ///
    /// # Errors
    ///
    /// [`ClusterError`] says who was tried and whether the request may have been processed.
    pub fn call_worker(
        &self,
        method: &str,
        body: impl Into<Bytes>,
        filter: Option<&str>,
    ) -> impl Future<Output = Result<Bytes, ClusterError>> {
        // No future around the one that does it: each costs a call time and space.
        let call = self.call_bytes(method, body.into(), filter, &DEFAULT_OPTIONS);
        call.map_ok(|(reply, _)| reply)
    }

    /// Like [`call_worker`](Self::call_worker), with a timeout of its own and more.
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
        let call = self.call_bytes(method, body.into(), filter, &options);
        let (reply, _) = call.await?;
        Ok(reply)
    }

    /// Calls a method of a worker with a value, which gets a value back, both encoded with postcard.
    ///
    /// # Errors
    ///
    /// As of [`call_worker`](Self::call_worker); and if the values do not encode or decode.
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
        self.call_worker_typed_with(method, request, filter, WorkerCallOptions::new())
            .await
    }

    /// Like [`call_worker_typed`](Self::call_worker_typed), with a timeout of its own and more.
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
        let body = request.encode().map_err(ClusterError::Encode)?;
        let (reply, worker) = self.call_bytes(method, body, filter, &options).await?;
        broadcast::decode(worker.id(), reply)
    }

    /// The workers that calls go to.
    pub fn registry(&self) -> &Arc<WorkerRegistry> {
        &self.registry
    }

    /// The settings.
    pub fn config(&self) -> &ClusterClientConfig {
        &self.config
    }

    /// How many connections to workers there are, those being made included.
    pub fn connections(&self) -> usize {
        self.connections.len()
    }

    /// What the calls came to so far.
    pub fn stats(&self) -> ClusterClientStats {
        self.counters.stats()
    }
}

impl fmt::Debug for ClusterClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClusterClient")
            .field("registry", &self.registry)
            .field("connections", &self.connections())
            .finish_non_exhaustive()
    }
}

static DEFAULT_OPTIONS: WorkerCallOptions = WorkerCallOptions::new();
