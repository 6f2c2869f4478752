//! Calls with bytes, and the first attempt of those about which nothing is special: nearly all there is to nearly all calls.

use std::{future::poll_fn, pin::pin, task::Context};

use bytes::Bytes;
use rpcnet_registry::Worker;
use rpcnet_transport::{CallOptions, RpcClient, RpcError};
use tokio::time::Instant;

use super::{
    AttemptReason, ClusterClient, ClusterError, WorkerCallOptions,
    course::{Course, Failure},
    options::Plan,
    pool::Connection,
    run::{Until, dialled},
};

/// An attempt that can begin at once, of a call about which nothing is special.
struct Plain {
    worker: Worker,
    client: RpcClient,
    options: CallOptions,
    made: Instant,
    deadline: Option<Instant>,
}

/// Any other one.
struct Special<'a> {
    plan: Plan<'a>,
    first: (Worker, Connection),
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
        let plain = match self.begin(method, filter, options)? {
            Ok(plain) => plain,
            Err(Special { plan, first }) => {
                let rest = (plan, Course::default());
                return Box::pin(self.go_on(method, &body, filter, rest, Some(first))).await;
            }
        };
        let reply = {
            let Plain { worker, client, .. } = &plain;
            let mut call = pin!(client.call_ref(method, &body, plain.options));
            let mut has_begun = false;
            poll_fn(|cx: &mut Context<'_>| {
                let reply = call.as_mut().poll(cx);
                if !has_begun && reply.is_pending() && client.is_saturated() {
                    self.pool.watch(worker);
                }
                has_begun = true;
                reply
            })
            .await
        };
        match reply {
            Ok(reply) => {
                let ended = Instant::now();
                let took = ended.saturating_duration_since(plain.made);
                let ended = self.registry.time(ended.into_std());
                if self.refused_methods.is_any() {
                    let id = plain.worker.endpoint_id();
                    self.refused_methods.on_served(method, id);
                }
                self.report_success(&plain.worker, &plain.client, (took, ended));
                self.succeeded();
                Ok((reply, plain.worker))
            }
            Err(error) => {
                let rest = self.after_failure(method, options, &plain, error)?;
                drop(plain);
                Box::pin(self.go_on(method, &body, filter, rest, None)).await
            }
        }
    }

    /// Picks a worker for the first attempt.
    fn begin<'a>(
        &'a self,
        method: &str,
        filter: Option<&str>,
        options: &WorkerCallOptions,
    ) -> Result<Result<Plain, Special<'a>>, ClusterError> {
        // Before anybody is picked, so that no failure falls unheard between the two.
        self.pool.follow(&self.registry);
        let plan = options.plan(self, method);
        let target = plan.target(method, filter);
        let (worker, connection) = self.pick(target, &[], plan.key, plan.made)?;
        let is_in_time = plan.deadline.is_none_or(|end| end > plan.made);
        Ok(match connection {
            Connection::Ready(client) if plan.is_plain() && is_in_time => {
                self.counters.calls.add_one();
                Ok(Plain {
                    worker,
                    client,
                    options: plan.call_options(0, plan.deadline),
                    made: plan.made,
                    deadline: plan.deadline,
                })
            }
            connection => Err(Special {
                plan,
                first: (worker, connection),
            }),
        })
    }

    /// Makes the attempts that are left, the first of them where it is told to go.
    async fn go_on(
        &self,
        method: &str,
        body: &Bytes,
        filter: Option<&str>,
        (plan, course): (Plan<'_>, Course),
        first: Option<(Worker, Connection)>,
    ) -> Result<(Bytes, Worker), ClusterError> {
        let attempt = |client: RpcClient, options| async move {
            client.call_ref(method, body, options).await
        };
        let target = plan.target(method, filter);
        self.run(plan, target, course, first, attempt).await
    }

    /// What is left of a call whose plain attempt has failed, if anything.
    fn after_failure(
        &self,
        method: &str,
        options: &WorkerCallOptions,
        plain: &Plain,
        error: RpcError,
    ) -> Result<(Plan<'_>, Course), ClusterError> {
        let ended = Instant::now();
        let plan = Plan {
            made: plain.made,
            deadline: plain.deadline,
            ..options.plan(self, method)
        };
        let end = Until::of_call(plan.deadline);
        let mut failure = Failure::of_call(error, &plan, end, plain.client.is_closed());
        failure.addr = Some(dialled(&plain.client));
        failure.took = ended.saturating_duration_since(plan.made);
        let when = (failure.took, self.registry.time(ended.into_std()));
        let client = Some(&plain.client);
        self.report_failure(method, &plan, &plain.worker, client, &failure, when);
        let mut course = Course::default();
        course.begin();
        course.fail(&plain.worker, AttemptReason::First, failure);
        match self.may_retry(&plan, &mut course) {
            Ok(()) => Ok((plan, course)),
            Err(gave_up) => Err(course.end(gave_up)),
        }
    }
}
