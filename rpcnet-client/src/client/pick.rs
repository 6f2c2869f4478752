//! The worker of an attempt, and what the balancer is told of its outcome.

use std::{sync::Arc, time::Duration};

use rpcnet_balance::{ExclusionFlags, Outcome, OutcomeKind, PickContext, ReportedLoad, Time};
use rpcnet_registry::{NodeInfo, NodeState, SelectError, Worker};
use rpcnet_transport::{
    Code, CodecError, ConnectError, LoadReport, Processed, RpcClient, RpcError,
    pool::PooledConnection,
};
use tokio::time::Instant;

use super::{
    AttemptFailure, ClusterClient,
    attempts::Attempts,
    executor::{CallTarget, ProbeMode},
    options::CallPlan,
    refused_methods::{RefusingWorkers, is_as_known},
};

impl ClusterClient {
    /// A worker that is not among `tried`, and the way to it. If there is another, not one that could not be reached a
    /// moment ago, nor one that takes no calls, as it has said on its connection.
    pub(super) fn pick(
        &self,
        target: CallTarget<'_>,
        tried: &[u64],
        key: Option<u64>,
        now: Instant,
    ) -> Result<(Worker, PooledConnection), SelectError> {
        let now = self.registry.time(now.into_std());
        let mut cx = PickContext::new().with_excluded(tried).with_now(now);
        if let Some(key) = key {
            cx = cx.with_key(key);
        }
        let (mut worker, connection) = match self.refused_methods.workers_refusing(target.method) {
            None => self.pick_not_draining(target.filter, &cx)?,
            Some(refusing) => self.pick_avoiding_refusals(&refusing, target, &cx)?,
        };
        target.set_latency_kind(&mut worker, now);
        Ok((worker, connection))
    }

    /// A worker that has not refused the method, but for the one call that shall find out whether it takes it by now.
    #[cold]
    fn pick_avoiding_refusals(
        &self,
        refusing: &RefusingWorkers,
        target: CallTarget<'_>,
        cx: &PickContext<'_>,
    ) -> Result<(Worker, PooledConnection), SelectError> {
        let is_first = cx.excluded().is_empty();
        if is_first && target.probe_mode != ProbeMode::Never {
            let is_repeatable = target.probe_mode == ProbeMode::WhenDue;
            let pick = |node: &NodeInfo| self.pick_healthy_named(target.filter, node);
            if let Some(picked) = refusing.claim_probe(cx.now(), is_repeatable, pick) {
                return Ok(picked);
            }
        }
        match self.pick_not_draining(target.filter, &cx.with_incompatible(refusing.ids())) {
            // All have refused it: one is asked, once, since that may have changed; each in its turn, which balancers promise only
            // for one pick a call.
            Err(SelectError::AllExcluded { .. }) if is_first => {
                let mut turns = (0..REFUSING_TRIED_MAX).map(|_| refusing.next_in_rotation());
                turns
                    .find_map(|node| self.pick_healthy_named(target.filter, node))
                    .map_or_else(|| self.pick_not_draining(target.filter, cx), Ok)
            }
            picked => picked,
        }
    }

    /// That worker, if there is no other reason to pass it over and no need to wait for it.
    fn pick_healthy_named(
        &self,
        filter: Option<&str>,
        node: &NodeInfo,
    ) -> Option<(Worker, PooledConnection)> {
        let worker = self.registry.select_named(filter, &node.id.name).ok()?;
        let is_well =
            worker.node().state == NodeState::Alive && worker.endpoint().flags().is_empty();
        match self.connections.connection(&worker) {
            PooledConnection::Ready(client) if is_well && !client.is_draining() => {
                Some((worker, PooledConnection::Ready(client)))
            }
            _ => None,
        }
    }

    fn pick_not_draining(
        &self,
        filter: Option<&str>,
        cx: &PickContext<'_>,
    ) -> Result<(Worker, PooledConnection), SelectError> {
        let worker = self.registry.select(filter, cx)?;
        let (mut worker, mut connection) = match self.connections.connection(&worker) {
            // Whether there is a way to it again is found out beside the call, which goes where there is one.
            PooledConnection::Pending(pending) if worker.is_probe() => {
                self.connections.probe(worker, pending);
                self.pick_without_probe(filter, cx)?
            }
            connection => (worker, connection),
        };
        // Each round marks one more, unless somebody's balancer picks marked ones all the same.
        while connection.is_draining()
            && !worker.endpoint().flags().contains(ExclusionFlags::DRAINING)
        {
            self.registry.set_draining(worker.endpoint(), true);
            // It may have ended before that was noted, and nobody would say so again.
            if !connection.is_draining() {
                self.registry.set_draining(worker.endpoint(), false);
            }
            (worker, connection) = self.pick_without_probe(filter, cx)?;
        }
        Ok((worker, connection))
    }

    fn pick_without_probe(
        &self,
        filter: Option<&str>,
        cx: &PickContext<'_>,
    ) -> Result<(Worker, PooledConnection), SelectError> {
        let worker = self.registry.select_without_probe(filter, cx)?;
        let connection = self.connections.connection(&worker);
        Ok((worker, connection))
    }

    /// Tells the balancer, and the next picks, what an attempt says about the worker.
    pub(super) fn report<T>(
        &self,
        method: &str,
        plan: &CallPlan<'_>,
        worker: &Worker,
        client: Option<&RpcClient>,
        outcome: &Result<T, AttemptFailure>,
        when: (Duration, Time),
    ) {
        match (outcome, client) {
            (Err(failure), client) => {
                self.report_failure(method, plan, worker, client, failure, when);
            }
            // What came of it is not known yet.
            (Ok(_), _) if plan.is_stream => {}
            (Ok(_), Some(client)) => {
                self.refused_methods.on_served(method, worker.endpoint_id());
                self.report_success(worker, client, when);
            }
            (Ok(_), None) => {}
        }
    }

    /// Workers that could not read some requests in a row which others have served are passed over from now on. Of one that is
    /// served nowhere, the request is to blame.
    pub(super) fn note_unreadable(&self, method: &str, course: &Attempts) {
        for (id, node) in &course.unreadable_workers {
            if self.refused_methods.note_unreadable(method, *id) {
                self.note_refusal(method, (*id, node));
            }
        }
    }

    pub(super) fn note_refusal(&self, method: &str, worker: (u64, &Arc<NodeInfo>)) {
        let (registry, now) = (&self.registry, self.registry.now());
        self.refused_methods
            .note_refusal(method, worker, now, |node| is_as_known(registry, node));
    }

    pub(super) fn report_success(
        &self,
        worker: &Worker,
        client: &RpcClient,
        (latency, ended): (Duration, Time),
    ) {
        let load = client.load().map(reported_load);
        let outcome = Outcome::new(OutcomeKind::Success, latency).with_now(ended);
        worker.report(&outcome.with_reported_load(load));
    }

    pub(super) fn report_failure(
        &self,
        method: &str,
        plan: &CallPlan<'_>,
        worker: &Worker,
        client: Option<&RpcClient>,
        failure: &AttemptFailure,
        (latency, ended): (Duration, Time),
    ) {
        let (error, code) = (&failure.error, failure.error.code());
        let addr = failure.addr.unwrap_or(worker.addr);
        if code == Code::Unavailable && self.connections.has_moved(worker.id(), addr) {
            // Where it was, and not where it is.
            return;
        }
        if code == Code::Unimplemented && error.is_retryable() {
            self.note_refusal(method, (worker.endpoint_id(), worker.node()));
        } else if error.processed() == Processed::Yes {
            self.refused_methods.on_served(method, worker.endpoint_id());
        }
        let is_lost = client.is_some_and(RpcClient::is_closed);
        if is_lost {
            // Before anybody else is sent that way.
            self.connections.prune_closed(worker);
        }
        let says_so = client.is_some_and(|client| client.is_draining() && !client.is_closed());
        let kind = match code {
            // It is well, and calls will pass it over.
            Code::Draining if says_so => OutcomeKind::Overloaded,
            // No worker is to blame for what lies with this process.
            _ if error.is_local() => OutcomeKind::Cancelled,
            Code::Unavailable if is_lost => OutcomeKind::Unreachable,
            // Also one that denies this node access.
            _ if is_unreachable(error, client) => OutcomeKind::Unreachable,
            _ => outcome_kind(error, plan.application_errors_fail),
        };
        // That of an answer, or not to try again, is about the call and not about the worker.
        let wish = error
            .retry_after()
            .filter(|_| !is_about_the_call(code) && !error.forbids_retry());
        // Without an answer, what the connection knows is from before the attempt.
        let answered = !matches!(code, Code::Unavailable | Code::DeadlineExceeded);
        let load = client.filter(|_| answered).and_then(RpcClient::load);
        let outcome = Outcome::new(kind, latency)
            .with_now(ended)
            .with_retry_after(wish)
            .with_reported_load(load.map(reported_load));
        worker.report(&outcome);
        if code == Code::Draining && !says_so {
            // While it says so itself, it is passed over until it says otherwise. Else it refuses quickly, so by load alone
            // it would look like the best choice until the cluster has heard.
            self.registry.on_unreachable(worker.endpoint());
        }
    }
}

/// What the error of a call says about the worker, whatever is known of the connection to it.
pub(super) fn outcome_kind(error: &RpcError, application_errors_fail: bool) -> OutcomeKind {
    match error.code() {
        Code::Overloaded => OutcomeKind::Overloaded,
        // The worker has answered. That caller and worker disagree on the types is no failure of
        // it.
        _ if is_undecodable(error) => OutcomeKind::Success,
        code if !is_about_the_call(code) => OutcomeKind::Failure,
        // However quickly it said so, that is not how quickly it serves.
        _ if error.processed() == Processed::No => OutcomeKind::Refused,
        _ if application_errors_fail => OutcomeKind::Failure,
        _ => OutcomeKind::Success,
    }
}

/// Whether this side could not decode what the worker sent.
fn is_undecodable(error: &RpcError) -> bool {
    let source = std::error::Error::source(error);
    source.is_some_and(|source| source.is::<CodecError>())
}

/// Whether the worker answers so for reasons that lie in the call.
fn is_about_the_call(code: Code) -> bool {
    !matches!(
        code,
        Code::Overloaded
            | Code::Draining
            | Code::Unavailable
            | Code::DeadlineExceeded
            | Code::Cancelled
            | Code::Internal
    )
}

/// How many of those that refused a method are looked at for one to be asked again, if all have refused it.
const REFUSING_TRIED_MAX: usize = 4;

/// Whether no connection could be made, and not for a reason of this side's.
fn is_unreachable(error: &RpcError, client: Option<&RpcClient>) -> bool {
    let source = std::error::Error::source(error);
    let connect: Option<&ConnectError> = source.and_then(|source| source.downcast_ref());
    client.is_none() && connect.is_some_and(|error| !error.is_local())
}

/// In the terms of the balancer, which knows no transport.
fn reported_load(load: LoadReport) -> ReportedLoad {
    ReportedLoad::new()
        .with_in_flight(load.in_flight.into())
        .with_queue_delay(load.queue_delay)
        .with_busy(load.busy)
        .with_draining(load.draining)
}
