//! Calls to whichever worker is best.

mod all;
mod config;
mod down;
mod error;
mod options;
mod pool;
mod retry;
mod status;
mod streams;

use std::{fmt, future::poll_fn, pin::pin, sync::Arc, time::Duration};

use bytes::Bytes;
pub use config::ClusterClientConfig;
pub use error::{Attempt, ClusterError};
use options::Plan;
pub use options::WorkerCallOptions;
use pool::{Connection, Pool};
use retry::{Jitter, Verdict, verdict};
use rpcnet_balance::{Outcome, OutcomeKind, PickContext, ReportedLoad};
use rpcnet_registry::{SelectError, Worker, WorkerRegistry};
use rpcnet_transport::{
    CallOptions, Code, ConnectError, Decode, Encode, LoadReport, Processed, RpcClient, RpcError,
};
pub use streams::OnWorker;
use tokio::time::{Instant, sleep, timeout_at};

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
///   processed, only if the call or its method is marked as idempotent. An answer of the handler is final.
/// - When every worker was tried, it starts over after a pause.
/// - There is one deadline over all attempts, and a limit to their number.
///
/// Dropping the future of a call cancels it, at the worker too.
pub struct ClusterClient {
    registry: Arc<WorkerRegistry>,
    config: ClusterClientConfig,
    pool: Pool,
    jitter: Jitter,
}

impl ClusterClient {
    /// A client of the workers in `registry`, which should have been [started](WorkerRegistry::start).
    pub fn new(registry: Arc<WorkerRegistry>, config: ClusterClientConfig) -> Self {
        Self {
            pool: Pool::new(&config, &registry),
            jitter: Jitter::new(),
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
        Resp::decode(reply).map_err(|error| ClusterError::Decode {
            node: worker.id().clone(),
            error,
        })
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

    async fn call_bytes(
        &self,
        method: &str,
        body: Bytes,
        filter: Option<&str>,
        options: WorkerCallOptions,
    ) -> Result<(Bytes, Worker), ClusterError> {
        let plan = options.plan(&self.config, method);
        self.run(plan, filter, |client, options| {
            let body = body.clone();
            async move { client.call_with(method, body, options).await }
        })
        .await
    }

    /// Attempts until one succeeds or no other makes sense.
    async fn run<T, F>(
        &self,
        plan: Plan,
        filter: Option<&str>,
        attempt: impl Fn(RpcClient, CallOptions) -> F,
    ) -> Result<(T, Worker), ClusterError>
    where
        F: Future<Output = Result<T, RpcError>>,
    {
        // Before anybody is picked, so that no failure falls unheard between the two.
        self.pool.follow(&self.registry);
        let mut trail = Trail::default();
        // Those who will not do it soon come first and stay; the others have another turn after a pause.
        let (mut tried, mut unfit) = (Vec::new(), 0);
        loop {
            let (worker, connection) = match self.pick(filter, &tried, plan.key) {
                Ok(picked) => picked,
                Err(error) => {
                    let Some(failure) = &trail.last else {
                        return Err(error.into());
                    };
                    // Everybody was tried, or nobody is left for the moment.
                    let hope = tried.len() > unfit || failure.verdict == Verdict::AnyWorker;
                    let patience = hope && trail.pauses < plan.attempts_max;
                    if !patience || !self.pause(&plan, &mut trail).await {
                        return Err(trail.end());
                    }
                    tried.truncate(unfit);
                    continue;
                }
            };
            let outcome = self
                .attempt(&worker, connection, &plan, trail.len(), &attempt)
                .await;
            let failure = match outcome {
                Ok(value) => return Ok((value, worker)),
                Err(failure) => failure,
            };
            // On a connection that had died unnoticed, nothing is known about the worker itself.
            if failure.verdict == Verdict::OtherWorkerOnly {
                tried.insert(unfit, worker.endpoint_id());
                unfit += 1;
            } else if !failure.stale_connection {
                tried.push(worker.endpoint_id());
            }
            let over = failure.verdict == Verdict::GiveUp;
            trail.push(&worker, failure);
            if over || trail.len() >= plan.attempts_max {
                return Err(trail.end());
            }
        }
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

    /// One attempt on one worker, of which the balancer is told.
    async fn attempt<T, F>(
        &self,
        worker: &Worker,
        connection: Connection,
        plan: &Plan,
        number: usize,
        attempt: impl Fn(RpcClient, CallOptions) -> F,
    ) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, RpcError>>,
    {
        let started = Instant::now();
        let mut used = None;
        let outcome = async {
            let (client, reused) = connect(connection, plan).await?;
            let client = used.insert(client);
            // A timer may be late; a request that is not sent was certainly not processed.
            if plan.deadline.is_some_and(|end| end <= Instant::now()) {
                return Err(Failure::out_of_time());
            }
            let mut options = CallOptions::new()
                .with_attempt(u8::try_from(number).unwrap_or(u8::MAX))
                .with_idempotent(plan.idempotent);
            options = match plan.deadline {
                Some(deadline) => options.with_deadline(deadline.into_std()),
                None => options.without_deadline(),
            };
            let mut call = pin!(attempt(client.clone(), options));
            let mut has_begun = false;
            let reply = poll_fn(|cx| {
                let reply = call.as_mut().poll(cx);
                if reply.is_pending() && !has_begun && client.is_saturated() {
                    self.pool.watch(worker);
                }
                has_begun = true;
                reply
            });
            reply
                .await
                .map_err(|error| Failure::of_call(error, plan, reused && client.is_closed()))
        };
        let outcome = outcome.await;
        self.report(worker, used.as_ref(), &outcome, started.elapsed());
        outcome
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

    /// Waits before another attempt on a worker that was tried before. `false` if that would take too long.
    async fn pause(&self, plan: &Plan, trail: &mut Trail) -> bool {
        let times = u32::try_from(trail.pauses).unwrap_or(u32::MAX);
        let suggested = trail
            .last
            .as_ref()
            .and_then(|failure| failure.error.retry_after());
        let pause = self.jitter.pause(self.config.backoff, times);
        let pause = pause.max(suggested.unwrap_or_default());
        trail.pauses += 1;
        let end = Instant::now().checked_add(pause);
        let too_long = |deadline| end.is_none_or(|end| deadline <= end);
        if plan.deadline.is_some_and(too_long) {
            return false;
        }
        sleep(pause).await;
        true
    }
}

/// The client to make a call with, and whether its connection was there before.
async fn connect(connection: Connection, plan: &Plan) -> Result<(RpcClient, bool), Failure> {
    let pending = match connection {
        Connection::Ready(client) => return Ok((client, true)),
        Connection::Pending(pending) => pending,
    };
    let connected = match plan.deadline {
        Some(deadline) => timeout_at(deadline, pending)
            .await
            .map_err(|_| Failure::out_of_time())?,
        None => pending.await,
    };
    match connected {
        Ok(client) => Ok((client, false)),
        Err(error) => Err(Failure::of_connect(error)),
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

/// What came of the attempts of a call so far.
#[derive(Default)]
struct Trail {
    attempts: Vec<Attempt>,
    last: Option<Failure>,
    /// How often it was waited before starting over.
    pauses: usize,
}

impl Trail {
    fn len(&self) -> usize {
        self.attempts.len()
    }

    fn push(&mut self, worker: &Worker, failure: Failure) {
        self.attempts.push(Attempt {
            node: worker.id().clone(),
            addr: worker.addr,
            error: failure.error.clone(),
        });
        self.last = Some(failure);
    }

    /// The outcome of a call that ends with its last failure.
    fn end(self) -> ClusterError {
        let attempts = self.attempts;
        let failure = self.last.expect("a call ends after an attempt");
        let Failure { error, connect, .. } = failure;
        if let Some(error) = connect {
            ClusterError::Connect { error, attempts }
        } else if error.code() == Code::DeadlineExceeded && error.processed() != Processed::Yes {
            ClusterError::DeadlineExceeded { attempts }
        } else {
            ClusterError::Rpc { error, attempts }
        }
    }
}

/// Why an attempt failed, and what follows.
struct Failure {
    error: RpcError,
    connect: Option<ConnectError>,
    verdict: Verdict,
    /// The request was never sent, because the connection it was to use had died before.
    stale_connection: bool,
}

impl Failure {
    fn of_connect(error: ConnectError) -> Self {
        let verdict = match error {
            // Ours is closed: no worker can be reached.
            ConnectError::EndpointClosed => Verdict::GiveUp,
            _ => Verdict::AnyWorker,
        };
        Self {
            error: error.clone().into(),
            connect: Some(error),
            verdict,
            stale_connection: false,
        }
    }

    fn of_call(error: RpcError, plan: &Plan, connection_died: bool) -> Self {
        Self {
            verdict: verdict(&error, plan.idempotent),
            stale_connection: connection_died
                && error.code() == Code::Unavailable
                && error.processed() == Processed::No,
            error,
            connect: None,
        }
    }

    fn out_of_time() -> Self {
        Self {
            error: RpcError::new(
                Code::DeadlineExceeded,
                Processed::No,
                "the request was not sent in time",
            ),
            connect: None,
            verdict: Verdict::GiveUp,
            stale_connection: false,
        }
    }

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
