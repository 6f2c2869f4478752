//! Admission of the requests of a lane: what is rejected, queued, or may start.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::time::Instant;

use super::{
    LaneServer, ProtocolViolation,
    spawned_call::{QueuedStart, SpawnedCall},
};
use crate::{
    Code,
    deadline::has_passed,
    server::{
        admission::{AdmissionOutcome, Permits},
        call_checks::{
            call_type_mismatch_status, check_capacity, check_request_size, expired_status,
            quotas_for, request_admission,
        },
        call_parts::CallParts,
        call_properties::CallProperties,
        call_type::CallType,
        handler::Handler,
    },
    wire::LaneRequest,
};

impl LaneServer {
    /// Checks a request before it needs a permit. `None` if it is rejected.
    #[inline(always)]
    pub(super) fn check_request(
        &mut self,
        request: &LaneRequest,
        request_bytes: usize,
        arrived: Instant,
    ) -> Result<Option<CheckedRequest>, ProtocolViolation> {
        let id = request.id;
        self.pending.check(id).map_err(|_| ProtocolViolation)?;
        let shared = &self.shared;
        let method = self
            .methods
            .find(request.method, shared)
            .map_err(|_| ProtocolViolation)?;
        let in_flight = self.stats.count_request(shared);
        let is_full = self
            .caller
            .account
            .peer
            .exceeds_call_limit(in_flight, false);
        let admitted = check_capacity(shared, in_flight, is_full).and_then(|()| {
            let limit = shared.config.message_bytes_max;
            check_request_size(shared, request_bytes, limit)
        });
        let unary = match admitted {
            Err(status) => Err(status),
            Ok(()) => match &method.handler {
                Some(Handler::Unary(unary)) => Ok(unary),
                Some(handler @ Handler::Streaming(_)) => {
                    let call_type = handler.call_type();
                    let (wanted, is_typed) = (CallType::Unary, method.is_typed());
                    Err(call_type_mismatch_status(
                        shared, call_type, wanted, is_typed,
                    ))
                }
                None => Err(method.missing_handler_status(shared)),
            },
        };
        let unary = match unary {
            Ok(unary) => unary,
            Err(status) => {
                if status.code == Code::InvalidRequest {
                    shared.counters.invalid_requests.add_one();
                }
                self.write_failure(id, status);
                return Ok(None);
            }
        };
        let deadline = request.deadline.and_then(|left| arrived.checked_add(left));
        // The clock is read only where it may decide: earlier handlers may have taken some time
        // since it was last read.
        if deadline.is_some_and(|at| at < self.now + CLOCK_LAG_MAX) && has_passed(deadline) {
            let status = expired_status(shared);
            self.write_failure(id, status);
            return Ok(None);
        }
        let meta = CallProperties {
            attempt: request.attempt,
            idempotent: request.idempotent,
            priority: request.priority,
            idempotency_key: request.idempotency_key,
            deadline,
        };
        Ok(Some(CheckedRequest {
            meta,
            is_limited: shared.admission.is_some() || unary.config.is_some(),
            has_layers: !unary.layers.all().is_empty(),
        }))
    }

    /// Asks the gates to admit a call. `None` if it is rejected, or queued in a task of its own.
    #[inline(never)]
    pub(super) fn admit_call(
        &mut self,
        request: &LaneRequest,
        meta: &CallProperties,
        body: &Bytes,
        arrived: Instant,
        mut parts: Option<&mut CallParts>,
    ) -> Result<Option<Permits>, ProtocolViolation> {
        let (id, shared) = (request.id, &self.shared);
        let method = self
            .methods
            .find(request.method, shared)
            .map_err(|_| ProtocolViolation)?;
        method.resolve_quota(&self.caller.peer);
        let Some(Handler::Unary(unary)) = &method.handler else {
            return Err(ProtocolViolation);
        };
        let method_quota = method.quota.as_ref();
        let quotas = quotas_for(&self.caller, unary.config.as_deref(), method_quota);
        match request_admission(shared, quotas, self.now, meta) {
            AdmissionOutcome::Admitted(permits) => return Ok(Some(permits)),
            AdmissionOutcome::Rejected(status) => {
                if let Some(parts) = parts {
                    parts.end_rejected(&status);
                    let headers = parts.take_reply_headers();
                    headers.inspect(|headers| self.replies.write_headers(id, headers));
                }
                self.write_failure(id, status);
            }
            AdmissionOutcome::Queued(admission) => {
                let mut context = method.new_context(&self.caller.peer, meta);
                if let Some(attachments) = parts.as_mut().and_then(|parts| parts.attachments.take())
                {
                    context = context.with_attachments(attachments);
                }
                // A copy, so that the packets of the request are freed.
                let body = Bytes::copy_from_slice(body);
                let call = SpawnedCall {
                    queued: Some(Box::new(QueuedStart {
                        admission,
                        once: Arc::default(),
                    })),
                    layered: parts.and_then(CallParts::take_layered),
                    ..SpawnedCall::new(unary.clone(), body, arrived, Permits::default())
                };
                self.spawn_call(id, call, context, meta.deadline);
            }
        }
        Ok(None)
    }
}

/// A request that passed the checks that need no permit.
pub(super) struct CheckedRequest {
    pub(super) meta: CallProperties,
    /// Whether the call needs permits of its method or of the server.
    pub(super) is_limited: bool,
    pub(super) has_layers: bool,
}

/// Longest time since the clock was read at which an expired call is still noticed: handlers of a
/// lane may take this long together.
const CLOCK_LAG_MAX: Duration = Duration::from_secs(1);
