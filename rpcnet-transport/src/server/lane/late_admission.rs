//! Admission of a call of a lane after its layers have run.

use std::sync::Arc;

use tokio::time::Instant;

use crate::{
    Status,
    endpoint::EndpointShared,
    server::{
        admission::{AdmissionOutcome, CallerQuota, Permits},
        call_checks::{quotas_for, request_admission},
        call_properties::CallProperties,
        caller::Caller,
        handler::UnaryMethod,
    },
};

/// Admission of a call that its layers have yet to let pass.
pub(super) struct LateAdmission {
    pub(super) caller: Arc<Caller>,
    /// Quota of the caller at the gate of the method.
    pub(super) quota: Option<Arc<CallerQuota>>,
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
