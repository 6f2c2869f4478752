//! Calls with bytes, and the first attempt of those about which nothing is special: nearly all there is to nearly all calls.

use std::{future::poll_fn, pin::pin, task::Context};

use bytes::Bytes;
use rpcnet_registry::Worker;
use rpcnet_transport::{CallOptions, RpcClient, RpcError, pool::PooledConnection};
use tokio::time::Instant;

use super::{
    AttemptReason, ClusterClient, ClusterError, WorkerCallOptions,
    attempts::{AttemptFailure, Attempts},
    executor::{AttemptDeadline, dialled_addr},
    options::CallPlan,
};

/// An attempt that can begin at once, of a call about which nothing is special.
struct FastPath {
    worker: Worker,
    client: RpcClient,
    options: CallOptions,
    started_at: Instant,
    deadline: Option<Instant>,
}

/// Any other one.
struct SlowPath<'a> {
    plan: CallPlan<'a>,
    first: (Worker, PooledConnection),
}

impl ClusterClient {
    /// Calls a method of a worker with bytes. What a call needs that waits for a connection, hedges or fails is on the heap, so
    /// that the many that do not are small and quick.
    pub(super) async fn call_bytes(
        &self,
        method: &str,
        body: Bytes,
        filter: Option<&str>,
        options: &WorkerCallOptions,
    ) -> Result<(Bytes, Worker), ClusterError> {
        let plain = match self.prepare(method, filter, options)? {
            Ok(plain) => plain,
            Err(SlowPath { plan, first }) => {
                let rest = (plan, Attempts::default());
                return Box::pin(self.run_slow_path(method, &body, filter, rest, Some(first)))
                    .await;
            }
        };
        let reply = {
            let FastPath { worker, client, .. } = &plain;
            let mut call = pin!(client.call_ref(method, &body, plain.options));
            let mut has_begun = false;
            poll_fn(|cx: &mut Context<'_>| {
                let reply = call.as_mut().poll(cx);
                if !has_begun && reply.is_pending() && client.is_saturated() {
                    self.connections.on_saturated(worker);
                }
                has_begun = true;
                reply
            })
            .await
        };
        match reply {
            Ok(reply) => {
                let ended = Instant::now();
                let took = ended.saturating_duration_since(plain.started_at);
                let ended = self.registry.time(ended.into_std());
                if self.refused_methods.is_any() {
                    let id = plain.worker.endpoint_id();
                    self.refused_methods.on_served(method, id);
                }
                self.report_success(&plain.worker, &plain.client, (took, ended));
                self.on_call_succeeded();
                Ok((reply, plain.worker))
            }
            Err(error) => {
                let rest = self.retry_after_failure(method, options, &plain, error)?;
                drop(plain);
                Box::pin(self.run_slow_path(method, &body, filter, rest, None)).await
            }
        }
    }

    /// Picks a worker for the first attempt.
    fn prepare<'a>(
        &'a self,
        method: &str,
        filter: Option<&str>,
        options: &WorkerCallOptions,
    ) -> Result<Result<FastPath, SlowPath<'a>>, ClusterError> {
        // Before anybody is picked, so that no failure falls unheard between the two.
        self.connections.follow(&self.registry);
        let plan = options.call_plan(self, method);
        let target = plan.target(method, filter);
        let (worker, connection) = self.pick(target, &[], plan.key, plan.started_at)?;
        let is_in_time = plan.deadline.is_none_or(|end| end > plan.started_at);
        Ok(match connection {
            PooledConnection::Ready(client) if plan.fits_fast_path() && is_in_time => {
                self.counters.calls.add_one();
                Ok(FastPath {
                    worker,
                    client,
                    options: plan.attempt_options(0, plan.deadline),
                    started_at: plan.started_at,
                    deadline: plan.deadline,
                })
            }
            connection => Err(SlowPath {
                plan,
                first: (worker, connection),
            }),
        })
    }

    /// Makes the attempts that are left, the first of them where it is told to go.
    async fn run_slow_path(
        &self,
        method: &str,
        body: &Bytes,
        filter: Option<&str>,
        (plan, course): (CallPlan<'_>, Attempts),
        first: Option<(Worker, PooledConnection)>,
    ) -> Result<(Bytes, Worker), ClusterError> {
        let attempt = |client: RpcClient, options| async move {
            client.call_ref(method, body, options).await
        };
        let target = plan.target(method, filter);
        self.run_attempts(plan, target, course, first, attempt)
            .await
    }

    /// What is left of a call whose plain attempt has failed, if anything.
    fn retry_after_failure(
        &self,
        method: &str,
        options: &WorkerCallOptions,
        plain: &FastPath,
        error: RpcError,
    ) -> Result<(CallPlan<'_>, Attempts), ClusterError> {
        let ended = Instant::now();
        let plan = CallPlan {
            started_at: plain.started_at,
            deadline: plain.deadline,
            ..options.call_plan(self, method)
        };
        let end = AttemptDeadline::for_call(plan.deadline);
        let mut failure =
            AttemptFailure::from_call_error(error, &plan, end, plain.client.is_closed());
        failure.addr = Some(dialled_addr(&plain.client));
        failure.took = ended.saturating_duration_since(plan.started_at);
        let when = (failure.took, self.registry.time(ended.into_std()));
        let client = Some(&plain.client);
        self.report_failure(method, &plan, &plain.worker, client, &failure, when);
        let mut course = Attempts::default();
        course.start_next();
        course.record_failure(&plain.worker, AttemptReason::First, failure);
        match self.plan_retry(&plan, &mut course) {
            Ok(()) => Ok((plan, course)),
            Err(gave_up) => Err(course.into_error(gave_up)),
        }
    }
}
