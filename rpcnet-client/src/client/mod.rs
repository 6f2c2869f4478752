//! Calls to whichever worker is best.

mod all;
mod config;
mod down;
mod error;
mod hedge;
mod options;
mod policy;
mod pool;
mod quorum;
mod race;
mod retry;
mod run;
mod stats;
mod streams;

use std::{collections::HashMap, fmt, sync::Arc, time::Duration};

pub use all::Replies;
use bytes::Bytes;
pub use config::ClusterClientConfig;
pub use error::{Attempt, AttemptReason, ClusterError, GaveUp};
pub use hedge::Hedging;
pub use options::WorkerCallOptions;
use policy::Method;
pub use policy::MethodPolicy;
use pool::{Connection, Pool};
pub use quorum::{NoVote, QuorumError};
use retry::{Jitter, Keys};
use rpcnet_balance::{Outcome, OutcomeKind, PickContext, ReportedLoad, Time};
use rpcnet_registry::{SelectError, Worker, WorkerRegistry};
use rpcnet_transport::{Code, Decode, Encode, LoadReport, RpcClient};
use run::Failure;
pub use stats::ClusterClientStats;
use stats::Counters;
pub use streams::OnWorker;
use tokio::time::Instant;

/// Calls workers of a cluster: picks one by tags and load, connects, calls, and goes to another one when that is safe.
///
/// What happens to a call:
/// - A worker is [selected](WorkerRegistry::select), but for those that could not be connected to a moment ago, and those
///   that drain, as they say on their connections, if there are others. It counts as in flight there until it ends or is
///   dropped. What the worker says about its load with the reply is there for the balancer's next pick.
/// - The connection to it is shared by all calls, opened when it is first needed, once however many calls wait, replaced
///   when it has died, and closed when the cluster holds the worker for dead, which ends the calls that wait for it. Its
///   certificate must name the worker. While it is saturated, a few more share the calls; see
///   [`with_connections_per_worker_max`](ClusterClientConfig::with_connections_per_worker_max).
/// - A failed attempt is followed by another one, on another worker, if the request was certainly not processed: it was
///   never sent, or it was refused (the worker drains, has too much to do, or does not know the method). If it may have been
///   processed, only if the call or its method is marked as idempotent or the call has an idempotency key. An answer of the
///   handler is final.
/// - When every worker was tried, it starts over after a pause.
/// - There is one deadline over all attempts, a limit to their number, and one to the extra load that the attempts of all
///   calls make, the [budget](ClusterClientConfig::with_retry_budget).
/// - If its method [hedges](ClusterClientConfig::with_hedging), it goes to another worker as well when it takes long.
///
/// Dropping the future of a call cancels it, at the worker too.
pub struct ClusterClient {
    registry: Arc<WorkerRegistry>,
    config: ClusterClientConfig,
    pool: Pool,
    jitter: Jitter,
    keys: Keys,
    /// Those that something is special about.
    methods: HashMap<Box<str>, Method>,
    counters: Counters,
    began: Instant,
}

impl ClusterClient {
    /// A client of the workers in `registry`, which should have been [started](WorkerRegistry::start).
    pub fn new(registry: Arc<WorkerRegistry>, config: ClusterClientConfig) -> Self {
        Self {
            pool: Pool::new(&config, &registry),
            jitter: config.seed.map_or_else(Jitter::new, Jitter::seeded),
            keys: Keys::new(),
            methods: config
                .methods
                .iter()
                .map(|(name, policy)| (name.clone(), Method::new(*policy)))
                .collect(),
            counters: Counters::default(),
            began: Instant::now(),
            registry,
            config,
        }
    }

    /// Calls a method of a worker that matches `filter`, of any one without, with bytes, which get bytes back.
    ///
    /// # Errors
    ///
    /// [`ClusterError`] says who was tried and whether the request may have been processed.
    pub async fn call_worker(
        &self,
        method: &str,
        body: impl Into<Bytes>,
        filter: Option<&str>,
    ) -> Result<Bytes, ClusterError> {
        self.call_worker_with(method, body, filter, WorkerCallOptions::new())
            .await
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
        let (reply, _) = self
            .call_bytes(method, body.into(), filter, options)
            .await?;
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
        let (reply, worker) = self.call_bytes(method, body, filter, options).await?;
        all::decode(worker.id(), reply)
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
        self.pool.len()
    }

    /// What the calls came to so far.
    pub fn stats(&self) -> ClusterClientStats {
        self.counters.stats()
    }

    async fn call_bytes(
        &self,
        method: &str,
        body: Bytes,
        filter: Option<&str>,
        options: WorkerCallOptions,
    ) -> Result<(Bytes, Worker), ClusterError> {
        let plan = options.plan(self, method);
        self.run(plan, filter, |client, options| {
            let body = body.clone();
            async move { client.call_with(method, body, options).await }
        })
        .await
    }

    /// A worker that is not among `tried`, and the way to it. If there is another, not one that could not be reached a
    /// moment ago, nor one that takes no calls, as it has said on its connection.
    fn pick(
        &self,
        filter: Option<&str>,
        tried: &[u64],
        key: Option<u64>,
    ) -> Result<(Worker, Connection), SelectError> {
        let select = |excluded: &[u64]| {
            let mut cx = PickContext::new().with_excluded(excluded);
            if let Some(key) = key {
                cx = cx.with_key(key);
            }
            let worker = self.registry.select(filter, &cx)?;
            let connection = self.pool.connection(&worker);
            Ok((worker, connection))
        };
        let (mut down, mut draining) = (Vec::new(), Vec::new());
        if !self.pool.down().is_empty() {
            self.pool.down().extend(&mut down);
        }
        loop {
            let picked = if down.is_empty() && draining.is_empty() {
                select(tried)
            } else {
                select(&[tried, &down, &draining].concat())
            };
            match picked {
                Ok((worker, connection)) => {
                    let id = worker.endpoint_id();
                    // Somebody's balancer may pick it all the same.
                    if !connection.is_draining() || draining.contains(&id) {
                        return Ok((worker, connection));
                    }
                    draining.push(id);
                }
                // One that may not be reached is better than one that will refuse, and that is better than none.
                Err(SelectError::AllExcluded { .. }) if !down.is_empty() => down.clear(),
                Err(SelectError::AllExcluded { .. }) if !draining.is_empty() => {
                    return select(tried);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Tells the balancer, and the next picks, what an attempt says about the worker.
    fn report<T>(
        &self,
        worker: &Worker,
        client: Option<&RpcClient>,
        outcome: &Result<T, Failure>,
        latency: Duration,
    ) {
        let (kind, code) = match outcome {
            Ok(_) => (OutcomeKind::Success, Code::Ok),
            Err(failure) => (failure.kind(), failure.error.code()),
        };
        // Without an answer, what the connection knows is from before the attempt.
        let answered = !matches!(code, Code::Unavailable | Code::DeadlineExceeded);
        let load = client.filter(|_| answered).and_then(RpcClient::load);
        worker.report(&Outcome::new(kind, latency).with_reported_load(load.map(reported)));
        if code == Code::Draining {
            let says_so = client.is_some_and(|client| client.is_draining() && !client.is_closed());
            // While it says so itself, it is passed over until it says otherwise. Else it refuses quickly, so by load alone
            // it would look like the best choice until the cluster has heard.
            if !says_so {
                self.pool.avoid(worker);
            }
        }
    }

    /// Tells the balancer that another worker was faster.
    fn report_abandoned(&self, worker: &Worker, latency: Duration) {
        worker.report(&Outcome::new(OutcomeKind::Abandoned, latency));
    }

    fn now(&self) -> Time {
        Time::from(self.began.elapsed())
    }
}

/// In the terms of the balancer, which knows no transport.
fn reported(load: LoadReport) -> ReportedLoad {
    ReportedLoad::new()
        .with_in_flight(load.in_flight.into())
        .with_queue_delay(load.queue_delay)
        .with_busy(load.busy)
        .with_draining(load.draining)
}

impl fmt::Debug for ClusterClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClusterClient")
            .field("registry", &self.registry)
            .field("connections", &self.connections())
            .finish_non_exhaustive()
    }
}

impl Failure {
    /// In the terms of the balancer.
    fn kind(&self) -> OutcomeKind {
        match self.error.code() {
            Code::Overloaded => OutcomeKind::Overloaded,
            Code::Draining
            | Code::Unavailable
            | Code::DeadlineExceeded
            | Code::Cancelled
            | Code::Internal => OutcomeKind::Failure,
            _ => OutcomeKind::Success,
        }
    }
}
