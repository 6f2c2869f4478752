//! Start of a call of a lane that waits for asynchronous layers, in a task of its own.

use std::sync::Arc;

use bytes::Bytes;
use tokio::time::Instant;

use super::{LaneServer, ProtocolViolation, spawned_call::SpawnedCall};
use crate::{
    Status,
    endpoint::EndpointShared,
    server::{
        admission::{AdmissionOutcome, CallerQuota, Permits},
        call_checks::{quotas_for, request_admission},
        call_parts::CallParts,
        call_properties::CallProperties,
        caller::Caller,
        handler::{Handler, UnaryMethod},
    },
    wire::LaneRequest,
};

/// Admission of a call that its layers have yet to let pass.
pub(super) struct LateAdmission {
    caller: Arc<Caller>,
    /// Quota of the caller at the gate of the method.
    quota: Option<Arc<CallerQuota>>,
}

impl LateAdmission {
    /// Waits for the permits of the call.
    ///
    /// # Errors
    ///
    /// The status of a call that is rejected.
    pub(super) async fn acquire(
        self,
        unary: &UnaryMethod,
        meta: &CallProperties,
        shared: &EndpointShared,
    ) -> Result<Permits, Status> {
        let config = unary.config.as_deref();
        let quotas = quotas_for(&self.caller, config, self.quota.as_ref());
        match request_admission(shared, quotas, Instant::now(), meta) {
            AdmissionOutcome::Admitted(permits) => Ok(permits),
            AdmissionOutcome::Rejected(status) => Err(status),
            AdmissionOutcome::Queued(queued) => {
                Box::pin(queued.wait_admitted(&shared.counters)).await
            }
        }
    }
}

impl LaneServer {
    /// Gives a call a task in which its layers run. It needs its permits only afterwards.
    pub(super) fn spawn_layered(
        &mut self,
        request: &LaneRequest,
        meta: &CallProperties,
        body: &Bytes,
        arrived: Instant,
        mut parts: CallParts,
        is_limited: bool,
    ) -> Result<(), ProtocolViolation> {
        let method = self
            .methods
            .find(request.method, &self.shared)
            .map_err(|_| ProtocolViolation)?;
        method.resolve_quota(&self.caller.peer);
        let quota = method.quota.clone();
        let attachments = parts.attachments.take();
        let context = method.take_context(&self.caller.peer, meta, attachments);
        let Some(Handler::Unary(unary)) = &method.handler else {
            return Err(ProtocolViolation);
        };
        let caller = Arc::clone(&self.caller);
        // A copy, so that the packets of the request are freed.
        let body = Bytes::copy_from_slice(body);
        let call = SpawnedCall {
            layered: parts.take_layered(),
            admission: is_limited.then(|| Box::new(LateAdmission { caller, quota })),
            ..SpawnedCall::new(unary.clone(), body, arrived, Permits::default())
        };
        self.spawn_call(request.id, call, context, meta.deadline);
        Ok(())
    }
}
