//! First attempt of a call that is sent at once: all that most calls need.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    task::{Context, Poll},
};

use bytes::Bytes;
use rpcnet_balance::{HedgeLatencies, Time, retry::AdmissionKind};
use rpcnet_registry::Worker;
use rpcnet_transport::{
    CallOptions, RpcClient, RpcError, SentCall, SmallCall,
    pool::{PooledConnection, run_call},
};
use tokio::time::Instant;

use super::{
    ClusterError,
    attempts::{AttemptFailure, AttemptStart},
    call_plan::{AttemptDeadline, ClusterCall},
    executor::Executor,
    operation::Operation,
    outcome::{EndedAttempt, reported_load},
    plain_call::CallSource,
};

/// First attempt whose request was sent, and what its outcome is recorded with.
struct SentAttempt<'c, R> {
    call: SentCall,
    worker: Worker,
    started_at: Time,
    /// `started_at` on the clock of the calls.
    made_at: Instant,
    /// Creation of the connection, from which the times of its replies count.
    connected_at: Time,
    options: CallOptions,
    hedge_latencies: Option<&'c HedgeLatencies>,
    into_reply: fn(Bytes) -> R,
}

/// First attempt of a call that is not sent at once, on the worker that was picked for it.
struct UnsentAttempt<'c> {
    call: ClusterCall<'c>,
    worker: Worker,
    connection: PooledConnection,
}

/// End of the part of a call that needs nothing on the heap.
enum FirstStep<'c, R> {
    /// It has succeeded, which was recorded.
    Replied(R),
    Failed(RpcError),
    Unsent(Box<UnsentAttempt<'c>>),
    /// No worker can be called.
    Ended(Box<ClusterError>),
}

impl Executor {
    /// Makes attempts until one succeeds or no other makes sense; `finish` makes the result.
    ///
    /// The fast path is the first attempt of a plain, small call on an established connection: the
    /// slot of its reply, its worker, its time and its options are all that it keeps. What the
    /// other calls need, and those whose first attempt fails, is on the heap, and comes of the full
    /// form of the call.
    #[allow(
        clippy::manual_async_fn,
        reason = "an `async fn` would hold its arguments twice, which costs each call time"
    )]
    pub(super) fn execute<'c, O: Operation, T>(
        &self,
        call: impl CallSource<'c>,
        operation: O,
        finish: impl FnOnce(O::Reply, Worker) -> T,
    ) -> impl Future<Output = Result<T, ClusterError>> {
        async move {
            let mut sent: Option<SentAttempt<'c, O::Reply>> = None;
            // One poll sends the request in the task of the call, the next ones wait.
            let step = poll_fn(|cx| match &mut sent {
                Some(sent) => Pin::new(&mut sent.call).poll(cx).map(|reply| match reply {
                    Ok(bytes) => {
                        self.on_reply(sent, &call);
                        FirstStep::Replied((sent.into_reply)(bytes))
                    }
                    Err(error) => FirstStep::Failed(error),
                }),
                None => self.start(&mut sent, &call, &operation, cx),
            });
            let (reply, worker) = match step.await {
                // The worker alone is moved, not all that was kept of the attempt.
                FirstStep::Replied(reply) => match sent {
                    Some(SentAttempt { worker, .. }) => (reply, worker),
                    None => unreachable!("it was sent"),
                },
                FirstStep::Failed(error) => {
                    let sent = sent.expect("it was sent");
                    Box::pin(self.resume_sent(call.full(), sent, error, &operation)).await?
                }
                FirstStep::Unsent(unsent) => {
                    Box::pin(self.execute_unsent(*unsent, &operation)).await?
                }
                FirstStep::Ended(error) => return Err(*error),
            };
            Ok(finish(reply, worker))
        }
    }

    /// Picks a worker, and sends it the request if it can be sent at once.
    #[inline]
    fn start<'c, O: Operation>(
        &self,
        sent: &mut Option<SentAttempt<'c, O::Reply>>,
        call: &impl CallSource<'c>,
        operation: &O,
        cx: &Context<'_>,
    ) -> Poll<FirstStep<'c, O::Reply>> {
        // Before a worker is picked, so that no failure between the two is missed.
        self.workers.follow();
        let small = operation.small_call();
        let Some((small, plain)) = small.and_then(|small| Some((small, call.plain()?))) else {
            return Poll::Ready(self.start_full(call.full(), None));
        };
        let started_at = self.workers.time(plain.started_at);
        let (worker, connection) = match self.workers.pick_plain(&plain, started_at) {
            Some((worker, Some(connection))) => (worker, connection),
            Some((worker, None)) => {
                return Poll::Ready(self.start_full(call.full(), Some((worker, None))));
            }
            None => return Poll::Ready(self.start_full(call.full(), None)),
        };
        let request = SmallCall {
            method: small.method,
            body: small.body,
            options: &plain.options,
            now: plain.started_at.into_std(),
        };
        match connection.client.try_send(&request, cx.waker()) {
            Ok(call) => {
                self.retries.counters().on_attempt(AdmissionKind::First);
                if call.client().is_saturated() {
                    self.workers.connections.on_saturated(&worker);
                }
                *sent = Some(SentAttempt {
                    call,
                    worker,
                    started_at,
                    connected_at: connection.created_at,
                    made_at: plain.started_at,
                    options: plain.options,
                    hedge_latencies: plain.hedge_latencies,
                    into_reply: small.into_reply,
                });
                Poll::Pending
            }
            Err(client) => {
                // If it drains, another worker is picked.
                let usable = Some(client).filter(|client| !client.is_draining());
                Poll::Ready(self.start_full(call.full(), Some((worker, usable))))
            }
        }
    }

    /// Picks a worker for a call that is not sent at once, unless one was picked.
    #[cold]
    fn start_full<'c, R>(
        &self,
        call: ClusterCall<'c>,
        picked: Option<(Worker, Option<RpcClient>)>,
    ) -> FirstStep<'c, R> {
        let plan = &call.plan;
        if plan.deadline.is_some_and(|end| end <= plan.started_at) {
            // No worker has failed.
            let attempts = Vec::new();
            return FirstStep::Ended(Box::new(ClusterError::DeadlineExceeded { attempts }));
        }
        let now = self.workers.time(plan.started_at);
        let picked = match picked {
            Some((worker, Some(client))) => Ok((worker, PooledConnection::Ready(client))),
            Some((worker, None)) => self.workers.connect_picked(&call, worker, now),
            None => self.workers.pick(&call, &[], now),
        };
        match picked {
            Ok((worker, connection)) => FirstStep::Unsent(Box::new(UnsentAttempt {
                call,
                worker,
                connection,
            })),
            Err(error) => FirstStep::Ended(Box::new(error.into())),
        }
    }

    /// A call has succeeded at once.
    #[inline]
    fn on_reply<'c, R>(&self, sent: &SentAttempt<'c, R>, call: &impl CallSource<'c>) {
        let started_at = sent.started_at;
        // One look at the clock for all replies that were read together.
        let mut at = sent.connected_at + sent.call.read_after();
        if at < started_at {
            at = self.workers.time(Instant::now());
        }
        let took = at.since(started_at);
        if self.workers.link.has_records() {
            self.learn_served(&call.full(), &sent.worker, sent.call.client());
        }
        let load = sent.call.load().map(reported_load);
        sent.worker.report_reply(at, took, load);
        if let Some(latencies) = sent.hedge_latencies {
            latencies.record(at, took);
        }
        self.retries.on_call_succeeded();
    }

    #[cold]
    fn learn_served(&self, call: &ClusterCall<'_>, worker: &Worker, client: &RpcClient) {
        self.workers.learn_served(&EndedAttempt {
            call,
            worker,
            client: Some(client),
            took: Default::default(),
            at: self.workers.registry.now(),
        });
    }

    /// Goes on with a call whose request was sent, and which has failed.
    async fn resume_sent<O: Operation>(
        &self,
        mut call: ClusterCall<'_>,
        sent: SentAttempt<'_, O::Reply>,
        error: RpcError,
        operation: &O,
    ) -> Result<(O::Reply, Worker), ClusterError> {
        let SentAttempt {
            made_at,
            options,
            worker,
            ..
        } = sent;
        call.plan = call.plan.restored(made_at, options);
        let client = sent.call.client().clone();
        let reply = operation.resume(&client, error, options).await;
        self.end_first(&call, (worker, client), reply, operation)
            .await
    }

    /// Makes a call whose request could not be sent at once.
    async fn execute_unsent<O: Operation>(
        &self,
        unsent: UnsentAttempt<'_>,
        operation: &O,
    ) -> Result<(O::Reply, Worker), ClusterError> {
        let UnsentAttempt {
            call,
            worker,
            connection,
        } = unsent;
        let plan = &call.plan;
        let client = match connection {
            PooledConnection::Ready(client) if plan.fits_fast_path() => client,
            connection => {
                let attempts = self.no_attempts(&call);
                let first = Some((worker, connection));
                return self.run_attempts(&call, attempts, first, operation).await;
            }
        };
        self.retries.counters().on_attempt(AdmissionKind::First);
        let options = plan.attempt_options(0, plan.deadline);
        let reply = {
            let attempt = pin!(operation.attempt(&client, options));
            let on_saturated = || self.workers.connections.on_saturated(&worker);
            run_call(&client, attempt, on_saturated).await
        };
        self.end_first(&call, (worker, client), reply, operation)
            .await
    }

    /// The first attempt has ended, with an outcome that has not been recorded; others follow if it
    /// has failed.
    async fn end_first<O: Operation>(
        &self,
        call: &ClusterCall<'_>,
        (worker, client): (Worker, RpcClient),
        reply: Result<O::Reply, RpcError>,
        operation: &O,
    ) -> Result<(O::Reply, Worker), ClusterError> {
        let plan = &call.plan;
        let start = AttemptStart {
            worker: &worker,
            number: 0,
            started_at: plan.started_at,
        };
        let outcome = reply.map_err(|error| {
            let deadline = AttemptDeadline::for_call(plan.deadline);
            AttemptFailure::from_call_error(error, plan, deadline, client.is_closed())
        });
        match self.conclude(call, &start, Some(&client), outcome) {
            Ok(reply) => {
                self.retries.on_call_succeeded();
                Ok((reply, worker))
            }
            Err(failure) => {
                let attempts = self.first_failed(call, worker, failure)?;
                drop(client);
                self.run_attempts(call, attempts, None, operation).await
            }
        }
    }
}
