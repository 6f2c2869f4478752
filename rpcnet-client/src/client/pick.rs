//! Whom an attempt goes to, and what is learned from it.

use std::time::Duration;

use rpcnet_balance::{Marks, Outcome, OutcomeKind, PickContext, ReportedLoad, Time};
use rpcnet_registry::{SelectError, Worker};
use rpcnet_transport::{Code, ConnectError, LoadReport, RpcClient, RpcError};
use tokio::time::Instant;

use super::{ClusterClient, Failure, pool::Connection};

impl ClusterClient {
    /// A worker that is not among `tried`, and the way to it. If there is another, not one that could not be reached a
    /// moment ago, nor one that takes no calls, as it has said on its connection.
    pub(super) fn pick(
        &self,
        filter: Option<&str>,
        tried: &[u64],
        key: Option<u64>,
        now: Instant,
    ) -> Result<(Worker, Connection), SelectError> {
        let now = self.registry.time(now.into_std());
        let mut cx = PickContext::new().with_excluded(tried).with_now(now);
        if let Some(key) = key {
            cx = cx.with_key(key);
        }
        let worker = self.registry.select(filter, &cx)?;
        let (mut worker, mut connection) = match self.pool.connection(&worker) {
            // Whether there is a way to it again is found out beside the call, which goes where there is one.
            Connection::Pending(pending) if worker.is_probe() => {
                self.pool.probe(worker, pending);
                self.pick_sure(filter, &cx)?
            }
            connection => (worker, connection),
        };
        // Each round marks one more, unless somebody's balancer picks marked ones all the same.
        while connection.is_draining() && !worker.endpoint().marks().contains(Marks::DRAINING) {
            self.registry.note_draining(worker.endpoint(), true);
            // It may have ended before that was noted, and nobody would say so again.
            if !connection.is_draining() {
                self.registry.note_draining(worker.endpoint(), false);
            }
            (worker, connection) = self.pick_sure(filter, &cx)?;
        }
        Ok((worker, connection))
    }

    fn pick_sure(
        &self,
        filter: Option<&str>,
        cx: &PickContext<'_>,
    ) -> Result<(Worker, Connection), SelectError> {
        let worker = self.registry.select_without_probe(filter, cx)?;
        let connection = self.pool.connection(&worker);
        Ok((worker, connection))
    }

    /// Tells the balancer, and the next picks, what an attempt says about the worker.
    pub(super) fn report<T>(
        &self,
        worker: &Worker,
        client: Option<&RpcClient>,
        outcome: &Result<T, Failure>,
        when: (Duration, Time),
    ) {
        match (outcome, client) {
            (Err(failure), client) => self.report_failure(worker, client, failure, when),
            (Ok(_), Some(client)) => self.report_success(worker, client, when),
            (Ok(_), None) => {}
        }
    }

    pub(super) fn report_success(
        &self,
        worker: &Worker,
        client: &RpcClient,
        (latency, ended): (Duration, Time),
    ) {
        let load = client.load().map(reported);
        let outcome = Outcome::new(OutcomeKind::Success, latency).with_now(ended);
        worker.report(&outcome.with_reported_load(load));
    }

    pub(super) fn report_failure(
        &self,
        worker: &Worker,
        client: Option<&RpcClient>,
        failure: &Failure,
        (latency, ended): (Duration, Time),
    ) {
        let (error, code) = (&failure.error, failure.error.code());
        let is_lost = client.is_some_and(RpcClient::is_closed);
        if is_lost {
            // Before anybody else is sent that way.
            self.pool.look_at(worker);
        }
        let says_so = client.is_some_and(|client| client.is_draining() && !client.is_closed());
        let kind = match code {
            // It is well, and calls will pass it over.
            Code::Draining if says_so => OutcomeKind::Overloaded,
            // No worker is to blame for what lies with this process.
            _ if error.is_local() => OutcomeKind::Abandoned,
            Code::Unavailable if is_lost || is_unreachable(error, client) => {
                OutcomeKind::Unreachable
            }
            Code::Overloaded => OutcomeKind::Overloaded,
            Code::Draining
            | Code::Unavailable
            | Code::DeadlineExceeded
            | Code::Cancelled
            | Code::Internal => OutcomeKind::Failure,
            _ => OutcomeKind::Success,
        };
        // That of an answer, or not to try again, is about the call and not about the worker.
        let wish = error
            .retry_after()
            .filter(|_| kind != OutcomeKind::Success && !error.forbids_retry());
        // Without an answer, what the connection knows is from before the attempt.
        let answered = !matches!(code, Code::Unavailable | Code::DeadlineExceeded);
        let load = client.filter(|_| answered).and_then(RpcClient::load);
        let outcome = Outcome::new(kind, latency)
            .with_now(ended)
            .with_retry_after(wish)
            .with_reported_load(load.map(reported));
        worker.report(&outcome);
        if code == Code::Draining && !says_so {
            // While it says so itself, it is passed over until it says otherwise. Else it refuses quickly, so by load alone
            // it would look like the best choice until the cluster has heard.
            self.registry.note_unreachable(worker.endpoint());
        }
    }
}

/// Whether no connection could be made, and not for a reason of this side's.
fn is_unreachable(error: &RpcError, client: Option<&RpcClient>) -> bool {
    let source = std::error::Error::source(error);
    let connect: Option<&ConnectError> = source.and_then(|source| source.downcast_ref());
    client.is_none() && connect.is_some_and(|error| !error.is_local())
}

/// In the terms of the balancer, which knows no transport.
fn reported(load: LoadReport) -> ReportedLoad {
    ReportedLoad::new()
        .with_in_flight(load.in_flight.into())
        .with_queue_delay(load.queue_delay)
        .with_busy(load.busy)
        .with_draining(load.draining)
}
