//! Call of a lane that has a task of its own.

use std::{
    future::poll_fn,
    panic::{AssertUnwindSafe, resume_unwind},
    sync::Arc,
    task::Poll,
};

use bytes::Bytes;
use futures::FutureExt;
use tokio::time::Instant;

use super::{late_admission::LateAdmission, start_once::StartOnce};
use crate::{
    Code, IncomingCall, Status,
    accounts::PeerAccount,
    deadline::has_passed,
    endpoint::EndpointShared,
    layers::LayeredCall,
    server::{
        CallContext,
        admission::{PendingAdmission, Permits},
        call_checks::{expired_status, runs_detached},
        detached_call::DetachedCall,
        handler::UnaryMethod,
        handler_future::HandlerFuture,
        handler_result::{HandlerResult, check_reply_size},
    },
};

/// A call with a task of its own.
pub(super) struct SpawnedCall {
    pub(super) unary: UnaryMethod,
    pub(super) body: Bytes,
    /// The future of the handler, if it was polled before.
    pub(super) handler_future: Option<HandlerFuture>,
    pub(super) arrived: Instant,
    pub(super) permits: Permits,
    /// Present if the call has to wait for permits.
    pub(super) queued: Option<Box<QueuedStart>>,
    /// Present if the method has layers.
    pub(super) layered: Option<Box<LayeredCall<IncomingCall>>>,
    /// Present if the call needs permits once its layers have let it pass.
    pub(super) admission: Option<Box<LateAdmission>>,
}

/// Start of a call that waits for permits.
pub(super) struct QueuedStart {
    pub(super) admission: PendingAdmission,
    pub(super) once: Arc<StartOnce>,
}

impl SpawnedCall {
    /// A call whose handler was not polled and that waits for no permit.
    pub(super) fn new(unary: UnaryMethod, body: Bytes, arrived: Instant, permits: Permits) -> Self {
        Self {
            unary,
            body,
            handler_future: None,
            arrived,
            permits,
            queued: None,
            layered: None,
            admission: None,
        }
    }

    /// Runs the call, and tells its layers.
    pub(super) async fn run(
        mut self,
        context: CallContext,
        shared: &Arc<EndpointShared>,
        account: Arc<PeerAccount>,
    ) -> HandlerResult {
        let limit = shared.config.message_bytes_max;
        let Some(mut layered) = self.layered.take() else {
            let outcome = self.run_handler(context, shared, account).await;
            return outcome.and_then(|reply| check_reply_size(reply, limit));
        };
        if layered.has_more_layers() {
            self.pass_layers(&mut layered, &context, shared).await?;
        }
        // A layer may have changed the priority since the task began.
        let inherited = context.inherited();
        let run = self.run_handler(context, shared, account);
        let run = AssertUnwindSafe(inherited.scope(run));
        match run.catch_unwind().await {
            Ok(outcome) => {
                let outcome = outcome.and_then(|reply| check_reply_size(reply, limit));
                layered.end(&outcome);
                outcome
            }
            Err(panic) => {
                layered.end_without_result(Code::Internal);
                resume_unwind(panic)
            }
        }
    }

    /// Waits for the layers that are left, and then for the permits.
    async fn pass_layers(
        &mut self,
        layered: &mut LayeredCall<IncomingCall>,
        context: &CallContext,
        shared: &EndpointShared,
    ) -> Result<(), Status> {
        if let Err(status) = layered.run_rest().await {
            shared.record_layer_rejection(layered.call(), &status);
            return Err(status);
        }
        let meta = layered.call().meta();
        context.limit_priority(meta.priority);
        if let Some(admission) = self.admission.take() {
            let acquired = admission.acquire(&self.unary, &meta, shared).await;
            self.permits = acquired.inspect_err(|status| layered.end_rejected(status))?;
            self.permits.measure();
        }
        if has_passed(meta.deadline) {
            let status = expired_status(shared);
            layered.end_rejected(&status);
            return Err(status);
        }
        shared.counters.calls_started.add_one();
        Ok(())
    }

    async fn run_handler(
        self,
        context: CallContext,
        shared: &Arc<EndpointShared>,
        account: Arc<PeerAccount>,
    ) -> HandlerResult {
        let Self {
            unary,
            body,
            handler_future: started,
            arrived,
            mut permits,
            queued,
            ..
        } = self;
        if let Some(queued) = queued {
            let QueuedStart { admission, once } = *queued;
            permits = Box::pin(admission.wait_admitted(&shared.counters)).await?;
            if !once.try_start() {
                return Err(Status::new(Code::Cancelled, "cancelled by the caller").not_processed());
            }
            if has_passed(context.meta().deadline) {
                return Err(expired_status(shared));
            }
            permits.measure();
            shared.counters.calls_started.add_one();
        }
        if let Some(started) = started {
            let outcome = started.finish().await;
            permits.record(&outcome);
            return outcome;
        }
        if has_passed(context.meta().deadline) {
            return Err(expired_status(shared));
        }
        shared.queue_delay.record(arrived.elapsed());
        if runs_detached(unary.config.as_deref(), &context.meta()) {
            let permits = std::mem::take(&mut permits);
            let (served, counters) = (&shared.served, &shared.counters);
            context.set_detached(DetachedCall::new(served, counters, &account, permits));
        }
        let mut started = HandlerFuture::default();
        let began = Instant::now();
        unary.start(context, body, &mut started);
        let first = poll_fn(|cx| Poll::Ready(started.poll(cx))).await;
        let now = Instant::now();
        unary.poll_cost.record(now.duration_since(began), now);
        let outcome = match first {
            Poll::Ready(Some(outcome)) => outcome,
            Poll::Ready(None) | Poll::Pending => started.finish().await,
        };
        permits.record(&outcome);
        outcome
    }
}
