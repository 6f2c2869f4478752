//! Admission of a call: by the gate of its method, then by the gate of the server.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::{
    caller_quota::CallerQuota,
    gate::{AdmissionRequest, GateOutcome, Rejection, Ticket},
    permit::Permit,
};
use crate::{Code, Status, server::reply::HandlerResult, stats::Counters};

/// Permits that a call holds while it runs. Empty where nothing is limited.
#[derive(Debug, Default)]
pub(in crate::server) struct Permits {
    // Released in this order: a call that waits for the method needs both.
    server: Option<Permit>,
    method: Option<Permit>,
}

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
    let mut held = None;
    if let Some(quota) = method {
        match quota.admit(now, &request) {
            GateOutcome::Admitted(permit) => held = Some(permit),
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
            method: held,
        });
    };
    match quota.admit(now, request) {
        GateOutcome::Admitted(permit) => AdmissionOutcome::Admitted(Permits {
            server: Some(permit),
            method: held,
        }),
        GateOutcome::Rejected(rejection) => {
            AdmissionOutcome::Rejected(rejection_status(counters, rejection))
        }
        GateOutcome::Queued(ticket) => {
            counters.calls_queued.add_one();
            let method = held;
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

impl Permits {
    /// Starts the latency measurement. The call does not end at its first poll, so its time says
    /// something about the load of the server.
    pub(in crate::server) fn measure(&mut self) {
        if let Some(permit) = &mut self.server {
            permit.measure();
        }
    }

    fn each(&mut self, what: impl Fn(&mut Permit)) {
        self.server.iter_mut().for_each(&what);
        self.method.iter_mut().for_each(&what);
    }

    /// Records the result of the call.
    pub(in crate::server) fn note(&mut self, outcome: &HandlerResult) {
        if let (Some(permit), Ok(_)) = (&mut self.server, outcome) {
            permit.set_succeeded();
        }
    }
}

/// Permits of a call with streams, which yields them while its handler waits for the caller.
///
/// Otherwise a caller that sends nothing, or reads nothing, would hold them for as long as it
/// likes. Before the handler goes on it reacquires its permits, in turns with calls that have not
/// started. A handler that stops waiting for its caller or for its permits, as in a `select!`, goes
/// on at once, and for a while more calls may run than the limit says. With its next message it
/// waits for permits again, in the position that it had.
///
/// A call that need not wait for messages, since all have arrived, yields its permits between two
/// of them when its caller holds more than its share.
#[derive(Debug, Clone)]
pub(crate) struct YieldingPermits(Arc<Mutex<YieldState>>);

#[derive(Debug)]
struct YieldState {
    permits: Permits,
    /// Halves of the call that wait for the caller.
    waiting_halves: u8,
}

/// A wait for the caller, until it is dropped.
#[derive(Debug)]
pub(crate) struct PeerWait {
    state: Arc<Mutex<YieldState>>,
    /// Numbers by which the call waits to reacquire its permits, the method's first; `None` once a
    /// permit is reacquired.
    reacquire_numbers: [Option<u64>; 2],
}

impl YieldingPermits {
    /// Creates the permits of a call with streams. `None` where nothing is limited.
    pub(in crate::server) fn new(permits: Permits) -> Option<Self> {
        let is_limited = permits.server.is_some() || permits.method.is_some();
        is_limited.then(|| {
            Self(Arc::new(Mutex::new(YieldState {
                permits,
                waiting_halves: 0,
            })))
        })
    }

    /// Yields the permits because a half of the handler waits for its caller. The other half may
    /// have reacquired them while it waited.
    pub(crate) fn yield_while_waiting(&self) -> PeerWait {
        let mut state = self.0.lock();
        state.waiting_halves += 1;
        state.permits.each(Permit::yield_to_others);
        PeerWait {
            state: Arc::clone(&self.0),
            reacquire_numbers: [None; 2],
        }
    }

    /// Yields the permits after a message that came or went without a wait, if other callers should
    /// have them before the handler goes on.
    pub(crate) fn yield_if_over_share(&self) -> Option<PeerWait> {
        let is_owed = {
            let YieldState { permits, .. } = &*self.0.lock();
            let mut all = permits.server.iter().chain(&permits.method);
            all.any(Permit::should_yield)
        };
        is_owed.then(|| self.yield_while_waiting())
    }

    /// Resumes the handler, which has stopped waiting, even if its other half still waits.
    pub(crate) fn resume(&self) {
        self.0.lock().permits.each(Permit::resume);
    }

    /// Releases the permits, because the handler has returned or was dropped.
    pub(in crate::server) fn end(&self, outcome: Option<&HandlerResult>) {
        let mut permits = std::mem::take(&mut self.0.lock().permits);
        if let Some(outcome) = outcome {
            permits.note(outcome);
        }
    }
}

impl YieldState {
    /// The permits in the order of admission: the method's first.
    fn in_order(&mut self) -> [Option<&mut Permit>; 2] {
        let Permits { server, method } = &mut self.permits;
        [method.as_mut(), server.as_mut()]
    }

    fn permit(&mut self, index: usize) -> Option<&mut Permit> {
        self.in_order().into_iter().nth(index).flatten()
    }
}

impl PeerWait {
    /// Ends the wait once the handler has reacquired its permits. It goes on, even if its other
    /// half still waits.
    pub(crate) async fn reacquire(mut self) {
        for index in 0..self.reacquire_numbers.len() {
            let reacquiring = self
                .state
                .lock()
                .permit(index)
                .and_then(Permit::begin_reacquire);
            let Some((quota, number)) = reacquiring else {
                continue;
            };
            self.reacquire_numbers[index] = Some(number);
            let reacquired = quota.reacquire(number).await;
            self.reacquire_numbers[index] = None;
            let mut state = self.state.lock();
            let unused = match state.permit(index) {
                Some(permit) if permit.is_yielded() => {
                    permit.set_reacquired(reacquired);
                    None
                }
                // The call has ended meanwhile.
                _ => Some(reacquired),
            };
            drop(state);
            drop(unused);
        }
    }
}

impl Drop for PeerWait {
    fn drop(&mut self) {
        let mut state = self.state.lock();
        for (permit, number) in state.in_order().into_iter().zip(self.reacquire_numbers) {
            if let (Some(permit), Some(number)) = (permit, number) {
                permit.keep_reacquire_number(number);
            }
        }
        state.waiting_halves -= 1;
        // A half that has waited for permits has a message to go on with.
        let goes_on = self.reacquire_numbers.iter().any(Option::is_some);
        if state.waiting_halves == 0 || goes_on {
            state.permits.each(Permit::resume);
        }
    }
}

fn rejection_status(counters: &Counters, rejection: Rejection) -> Status {
    let overloaded = |message, retry_after| {
        counters.calls_refused_overloaded.add_one();
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
            let message = "deadline exceeded before the handler started";
            Status::new(Code::DeadlineExceeded, message).not_processed()
        }
    }
}

#[cfg(test)]
mod tests;
