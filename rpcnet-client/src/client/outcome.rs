//! Outcome reports: the result of an attempt, for balancer and passive health.

use std::{sync::Arc, time::Duration};

use rpcnet_balance::{Outcome, OutcomeKind, ReportedLoad, Time};
use rpcnet_registry::{NodeInfo, Worker, rejections::MethodOfTypes};
use rpcnet_transport::{Code, LoadReport, Processed, RpcClient, RpcError};

use super::{attempts::AttemptFailure, call_plan::ClusterCall, workers::Workers};

/// One attempt that has ended.
pub(super) struct EndedAttempt<'a> {
    pub(super) call: &'a ClusterCall<'a>,
    pub(super) worker: &'a Worker,
    /// The connection, if there was one.
    pub(super) client: Option<&'a RpcClient>,
    pub(super) took: Duration,
    pub(super) at: Time,
}

impl Workers {
    /// Records the workers that could not read a request which another one has served. Those that
    /// could not read several in a row are passed over; of a request that is served nowhere, the
    /// request is to blame.
    pub(super) fn record_unreadable(
        &self,
        method: MethodOfTypes<'_>,
        workers: &[(u64, Arc<NodeInfo>)],
    ) {
        for (id, node) in workers {
            let rejected_methods = &self.link.rejected_methods;
            if rejected_methods.record_unreadable(method.name, *id) {
                self.link.record_rejection(method, *id, node);
            }
        }
    }

    /// A worker has served a call: it does not reject the method.
    pub(super) fn learn_served(&self, ended: &EndedAttempt<'_>) {
        let rejected_methods = &self.link.rejected_methods;
        rejected_methods.on_served(ended.call.method, ended.worker.endpoint_id());
        self.learn_compatible(ended);
    }

    pub(super) fn report_success(&self, ended: &EndedAttempt<'_>, client: &RpcClient) {
        self.learn_served(ended);
        let load = client.load().map(reported_load);
        let outcome = Outcome::new(OutcomeKind::Success, ended.took).with_now(ended.at);
        ended.worker.report(&outcome.with_reported_load(load));
    }

    pub(super) fn report_failure(&self, ended: &EndedAttempt<'_>, failure: &AttemptFailure) {
        let EndedAttempt {
            call,
            worker,
            client,
            ..
        } = *ended;
        let (error, code) = (&failure.error, failure.error.code());
        let addr = failure.addr.unwrap_or(worker.addr);
        if code == Code::Unavailable && self.connections.has_moved(worker.id(), addr) {
            // The failure is that of the former address.
            return;
        }
        if error.rejects_method() {
            // What the worker announces says it for all that announce the same.
            if !self.learn_incompatible(ended, error) {
                self.link
                    .record_rejection(call.method, worker.endpoint_id(), worker.node());
            }
        } else if error.processed() == Processed::Yes {
            let rejected_methods = &self.link.rejected_methods;
            rejected_methods.on_served(call.method, worker.endpoint_id());
        }
        let is_lost = client.is_some_and(RpcClient::is_closed);
        if is_lost {
            // Before another call is sent that way.
            self.connections.prune_closed(worker);
        }
        let is_announced = client.is_some_and(|client| client.is_draining() && !client.is_closed());
        let kind = match code {
            // The worker is healthy, and calls will pass it over.
            Code::Draining if is_announced => OutcomeKind::Overloaded,
            // No worker is to blame for a fault of this process.
            _ if error.is_local() => OutcomeKind::Cancelled,
            Code::Unavailable if is_lost => OutcomeKind::Unreachable,
            // Also one that denies this node access.
            _ if client.is_none() && error.connect_error().is_some() => OutcomeKind::Unreachable,
            _ => outcome_kind(error, call.plan.policy.application_errors_fail),
        };
        // The wish of an answer, or not to retry, is about the call and not about the worker.
        let retry_after = error
            .retry_after()
            .filter(|_| !error.is_about_the_call() && !error.forbids_retry());
        // Without an answer, what the connection knows is from before the attempt.
        let is_answered = !matches!(code, Code::Unavailable | Code::DeadlineExceeded);
        let load = client.filter(|_| is_answered).and_then(RpcClient::load);
        let outcome = Outcome::new(kind, ended.took)
            .with_now(ended.at)
            .with_retry_after(retry_after)
            .with_reported_load(load.map(reported_load));
        worker.report(&outcome);
        if code == Code::Draining && !is_announced {
            // A worker that announces its drain is passed over until it says otherwise. This one
            // rejects quickly, so by load alone it would look like the best choice until the
            // cluster has heard.
            self.registry.on_unreachable(worker.endpoint());
        }
    }
}

/// Outcome kind of an error of a call, without regard to the connection.
pub(super) fn outcome_kind(error: &RpcError, application_errors_fail: bool) -> OutcomeKind {
    match error.code() {
        Code::Overloaded => OutcomeKind::Overloaded,
        // The worker has answered. That caller and worker disagree on the types is no failure of
        // the worker.
        _ if error.is_undecodable() => OutcomeKind::Success,
        _ if !error.is_about_the_call() => OutcomeKind::Failure,
        // However quickly it rejected, that is not how quickly it serves.
        _ if error.processed() == Processed::No => OutcomeKind::Rejected,
        _ if application_errors_fail => OutcomeKind::Failure,
        _ => OutcomeKind::Success,
    }
}

/// A load report in the terms of the balancer, which knows no transport.
#[inline]
pub(super) fn reported_load(load: LoadReport) -> ReportedLoad {
    ReportedLoad::new()
        .with_in_flight(load.in_flight.into())
        .with_queue_delay(load.queue_delay)
        .with_busy(load.busy)
        .with_draining(load.draining)
}
