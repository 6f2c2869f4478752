//! Admission of a call: by the gate of its method, then by the gate of the server.

use std::sync::Arc;

use tokio::time::Instant;

use super::{
    caller_quota::CallerQuota,
    gate::Rejection,
    gate_admission::{AdmissionRequest, GateOutcome, Ticket},
    permit::Permit,
    permits::Permits,
};
use crate::{Status, server::call_status, stats::Counters};

/// Outcome of the admission of a call.
#[derive(Debug)]
pub(in crate::server) enum AdmissionOutcome {
    Admitted(Permits),
    Queued(PendingAdmission),
    Rejected(Status),
}

/// A call that is queued at one of the gates.
#[derive(Debug)]
pub(in crate::server) enum PendingAdmission {
    AtMethod {
        ticket: Ticket,
        /// The gate of the server, which comes next.
        next: Option<(Arc<CallerQuota>, AdmissionRequest)>,
    },
    AtServer {
        ticket: Ticket,
        /// The permit of the method, which the call already holds.
        method: Option<Permit>,
    },
}

/// Quotas of a caller at the gates that its call has to pass.
#[derive(Debug, Clone, Copy)]
pub(in crate::server) struct CallQuotas<'a> {
    pub(in crate::server) method: Option<&'a Arc<CallerQuota>>,
    pub(in crate::server) server: Option<&'a Arc<CallerQuota>>,
}

/// Admits, queues or rejects a call at these gates.
pub(in crate::server) fn admit(
    counters: &Counters,
    CallQuotas { method, server }: CallQuotas<'_>,
    now: Instant,
    request: impl Fn() -> AdmissionRequest,
) -> AdmissionOutcome {
    let mut method_permit = None;
    if let Some(quota) = method {
        match quota.admit(now, &request) {
            GateOutcome::Admitted(permit) => method_permit = Some(permit),
            GateOutcome::Rejected(rejection) => {
                return AdmissionOutcome::Rejected(rejection_status(counters, rejection));
            }
            GateOutcome::Queued(ticket) => {
                counters.calls_queued.add_one();
                let next = server.map(|server| (Arc::clone(server), request()));
                return AdmissionOutcome::Queued(PendingAdmission::AtMethod { ticket, next });
            }
        }
    }
    let Some(quota) = server else {
        return AdmissionOutcome::Admitted(Permits {
            server: None,
            method: method_permit,
        });
    };
    match quota.admit(now, request) {
        GateOutcome::Admitted(permit) => AdmissionOutcome::Admitted(Permits {
            server: Some(permit),
            method: method_permit,
        }),
        GateOutcome::Rejected(rejection) => {
            AdmissionOutcome::Rejected(rejection_status(counters, rejection))
        }
        GateOutcome::Queued(ticket) => {
            counters.calls_queued.add_one();
            let method = method_permit;
            AdmissionOutcome::Queued(PendingAdmission::AtServer { ticket, method })
        }
    }
}

/// The rejection of a call that would be rejected at once, if it came now.
pub(in crate::server) fn early_rejection(
    counters: &Counters,
    CallQuotas { method, server }: CallQuotas<'_>,
    now: Instant,
    request: AdmissionRequest,
) -> Option<Status> {
    let mut quotas = method.into_iter().chain(server);
    let rejection = quotas.find_map(|quota| quota.early_rejection(now, &request))?;
    Some(rejection_status(counters, rejection))
}

impl PendingAdmission {
    /// Waits until the call is admitted or rejected.
    pub(in crate::server) async fn wait_admitted(
        self,
        counters: &Counters,
    ) -> Result<Permits, Status> {
        let status_of = |rejection| rejection_status(counters, rejection);
        match self {
            Self::AtServer { ticket, method } => {
                let server = ticket.wait_admitted().await.map_err(status_of)?;
                Ok(Permits {
                    server: Some(server),
                    method,
                })
            }
            Self::AtMethod { ticket, next } => {
                let method = ticket.wait_admitted().await.map_err(status_of)?;
                let mut server = None;
                if let Some((quota, request)) = next {
                    server = Some(match quota.admit(Instant::now(), || request) {
                        GateOutcome::Admitted(permit) => permit,
                        GateOutcome::Rejected(rejection) => return Err(status_of(rejection)),
                        GateOutcome::Queued(ticket) => {
                            ticket.wait_admitted().await.map_err(status_of)?
                        }
                    });
                }
                Ok(Permits {
                    server,
                    method: Some(method),
                })
            }
        }
    }
}

fn rejection_status(counters: &Counters, rejection: Rejection) -> Status {
    let overloaded = |message, retry_after| {
        counters.calls_rejected_overloaded.add_one();
        Status::overloaded(message).with_retry_after(retry_after)
    };
    match rejection {
        Rejection::QueueFull { retry_after } => {
            overloaded("the admission queue is full", retry_after)
        }
        Rejection::Shed { retry_after } => {
            counters.calls_shed.add_one();
            overloaded("the call was shed from the admission queue", retry_after)
        }
        Rejection::Expired => {
            counters.calls_expired.add_one();
            call_status::expired()
        }
    }
}
