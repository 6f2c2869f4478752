//! Calls to all workers.

use bytes::Bytes;
use futures::{StreamExt, stream};
use rpcnet_registry::{NodeId, Worker};

use super::{ClusterClient, ClusterError, Trail, Verdict, WorkerCallOptions, options::Plan};

impl ClusterClient {
    /// Calls a method of every worker that matches `filter` and can be reached, several at a time, and says what each
    /// replied, alive workers first.
    ///
    /// Each has the client's timeout for itself, and is tried again as any call is, but never replaced by another.
    ///
    /// # Errors
    ///
    /// [`ClusterError::Select`] if there is nobody to call. What a worker failed with stands with that worker.
    pub async fn call_all_workers(
        &self,
        method: &str,
        body: impl Into<Bytes>,
        filter: Option<&str>,
    ) -> Result<Vec<(NodeId, Result<Bytes, ClusterError>)>, ClusterError> {
        self.call_all_workers_with(method, body, filter, WorkerCallOptions::new())
            .await
    }

    /// Like [`call_all_workers`](Self::call_all_workers), with a timeout of its own and more. A deadline holds for all of
    /// them together.
    ///
    /// # Errors
    ///
    /// As of [`call_all_workers`](Self::call_all_workers).
    pub async fn call_all_workers_with(
        &self,
        method: &str,
        body: impl Into<Bytes>,
        filter: Option<&str>,
        options: WorkerCallOptions,
    ) -> Result<Vec<(NodeId, Result<Bytes, ClusterError>)>, ClusterError> {
        let body = body.into();
        self.pool.follow(&self.registry);
        let workers = self.registry.select_all(filter)?;
        let calls = workers.into_iter().enumerate().map(|(index, worker)| {
            let body = body.clone();
            async move {
                let plan = options.plan(&self.config, method);
                let reply = self.call_this(&worker, method, body, plan).await;
                (index, (worker.id().clone(), reply))
            }
        });
        let calls: Vec<_> = calls.collect();
        // Not in order, in which one that hangs would hold up those behind it.
        let mut replies: Vec<_> = stream::iter(calls)
            .buffer_unordered(self.config.concurrency_max.get())
            .collect()
            .await;
        replies.sort_unstable_by_key(|(index, _)| *index);
        Ok(replies.into_iter().map(|(_, reply)| reply).collect())
    }

    /// Attempts on one worker until one succeeds or no other makes sense.
    async fn call_this(
        &self,
        worker: &Worker,
        method: &str,
        body: Bytes,
        plan: Plan,
    ) -> Result<Bytes, ClusterError> {
        let mut trail = Trail::default();
        loop {
            let connection = self.pool.connection(worker);
            let outcome = self
                .attempt(worker, connection, &plan, trail.len(), |client, options| {
                    let body = body.clone();
                    async move { client.call_with(method, body, options).await }
                })
                .await;
            let failure = match outcome {
                Ok(reply) => return Ok(reply),
                Err(failure) => failure,
            };
            let again = failure.verdict == Verdict::AnyWorker;
            trail.push(worker, failure);
            let over = !again || trail.len() >= plan.attempts_max;
            if over || !self.pause(&plan, &mut trail).await {
                return Err(trail.end());
            }
        }
    }
}
