//! Checks that every call passes before its handler starts: capacity, deadline, and admission.

use std::sync::Arc;

use tokio::time::Instant;

use super::{
    admission::{self, AdmissionOutcome, AdmissionRequest, CallQuotas, CallerQuota},
    call_properties::CallProperties,
    call_status,
    call_type::CallType,
    caller::Caller,
    handler::Handler,
    method_config::MethodConfig,
};
use crate::{
    Code, IntegerRequest, Status, codec::Encoding, endpoint::EndpointShared, schema::MethodSchema,
    wire::CallSchema,
};

/// Rejects calls while the server drains or has too many calls, and counts them.
#[inline(always)]
pub(super) fn check_capacity(
    shared: &EndpointShared,
    in_flight: usize,
    is_full: bool,
) -> Result<(), Status> {
    if shared.lifecycle.rejects_calls() {
        return Err(draining_status(shared));
    }
    if is_full || in_flight > shared.config.limits.calls_max.get() {
        return Err(overloaded_status(shared, in_flight));
    }
    Ok(())
}

/// Rejects a request, headers included, that is larger than a message may be.
#[inline]
pub(super) fn check_request_size(
    shared: &EndpointShared,
    bytes: usize,
    limit: usize,
) -> Result<(), Status> {
    if bytes <= limit {
        return Ok(());
    }
    shared.counters.oversized_messages.add_one();
    let message = format!("the request of {bytes} bytes exceeds the limit of {limit} bytes");
    Err(Status::new(Code::PayloadTooLarge, message).not_processed())
}

/// Status of a call whose deadline passed before its handler started.
#[cold]
pub(super) fn expired_status(shared: &EndpointShared) -> Status {
    shared.counters.calls_expired.add_one();
    call_status::expired()
}

/// Status of a call that comes while the server drains.
#[cold]
fn draining_status(shared: &EndpointShared) -> Status {
    shared.counters.calls_rejected_draining.add_one();
    Status::new(Code::Draining, "the server takes no new calls").not_processed()
}

/// Status of a call above the limit of the server, or above the share of its caller.
#[cold]
fn overloaded_status(shared: &EndpointShared, in_flight: usize) -> Status {
    shared.counters.calls_rejected_overloaded.add_one();
    let others = in_flight.saturating_sub(1);
    let message = format!("limit of concurrent calls reached: {others} calls in flight");
    Status::overloaded(message)
}

/// Status of a call of a method that the server does not have.
#[cold]
pub(super) fn unknown_method_status(shared: &EndpointShared, method: &str) -> Status {
    shared.counters.unknown_methods.add_one();
    let message = format!("unknown method {method:?}");
    Status::new(Code::Unimplemented, message).not_processed()
}

/// Status of a call whose type is not that of its method.
#[cold]
pub(super) fn call_type_mismatch_status(
    shared: &EndpointShared,
    method: CallType,
    call: CallType,
    is_typed: bool,
) -> Status {
    let message = format!("call type mismatch: the method is {method}, the call is {call}");
    // A typed caller has another version of the method.
    let code = match is_typed {
        true => {
            shared.counters.calls_rejected_incompatible.add_one();
            Code::Incompatible
        }
        false => Code::InvalidRequest,
    };
    Status::new(code, message).not_processed()
}

/// The encoding of the calls of a method, by the schema of its handler and that of its caller.
///
/// # Errors
///
/// The status of all calls with this schema. Its details are the schema of the handler, so that the
/// caller can compare them.
pub(super) fn check_schema(
    handler: &Handler,
    caller: Option<CallSchema>,
) -> Result<Encoding, Status> {
    let unchecked = caller.filter(|it| *it == CallSchema::unchecked(it.hash));
    let needs_names = handler
        .schema()
        .is_some_and(MethodSchema::needs_named_encoding);
    // A call by name alone says the type of its request and no other, if that is an integer. Its
    // messages are in postcard, which cannot carry the types of every method.
    if let Some(written) = unchecked.and_then(|it| IntegerRequest::of_hash(it.hash))
        && !needs_names
    {
        if let Some(read) = handler.integer_request() {
            read.check(written)?;
        }
        return Ok(Encoding::Postcard);
    }
    compare_schemas(handler.schema(), caller)
}

fn compare_schemas(
    handler: Option<&'static MethodSchema>,
    caller: Option<CallSchema>,
) -> Result<Encoding, Status> {
    let incompatible = |message: &str| Status::new(Code::Incompatible, message).not_processed();
    let Some(handler) = handler else {
        return match caller.map(|caller| caller.encoding) {
            None | Some(Encoding::Postcard) => Ok(Encoding::Postcard),
            Some(Encoding::Named) => Err(incompatible("the server knows no schema of the method")),
        };
    };
    let encoding = caller.map_or(Encoding::Postcard, |caller| caller.encoding);
    let is_encodable = encoding == Encoding::Named || !handler.needs_named_encoding();
    if caller.is_none_or(|caller| caller.is_checked || caller.hash == handler.hash())
        && is_encodable
    {
        return Ok(encoding);
    }
    Err(match handler.encode() {
        Some(schema) => {
            incompatible("the types of the caller are not those of the server").with_details(schema)
        }
        None => incompatible("the types of the method are too many to compare"),
    })
}

/// Counts a call whose types do not fit those of its method.
pub(super) fn incompatible_status(shared: &EndpointShared, status: &Status) -> Status {
    shared.counters.calls_rejected_incompatible.add_one();
    status.clone()
}

/// The quotas that apply to a call: at the gate of its method, and at the gate of the server.
pub(super) fn quotas_for<'a>(
    caller: &'a Caller,
    config: Option<&MethodConfig>,
    method: Option<&'a Arc<CallerQuota>>,
) -> CallQuotas<'a> {
    let is_exempt = config.is_some_and(|config| config.bypasses_server_limit);
    let server = caller.admission.as_ref().filter(|_| !is_exempt);
    CallQuotas { method, server }
}

/// Asks the gates to admit a call. `now` may lag a little behind the clock.
pub(super) fn request_admission(
    shared: &EndpointShared,
    quotas: CallQuotas<'_>,
    now: Instant,
    meta: &CallProperties,
) -> AdmissionOutcome {
    admission::admit(&shared.counters, quotas, now, || admission_request(meta))
}

/// The rejection of a call that the gates would reject already, if they would.
pub(super) fn early_rejection(
    shared: &EndpointShared,
    quotas: CallQuotas<'_>,
    meta: &CallProperties,
) -> Option<Status> {
    admission::early_rejection(
        &shared.counters,
        quotas,
        Instant::now(),
        admission_request(meta),
    )
}

fn admission_request(meta: &CallProperties) -> AdmissionRequest {
    AdmissionRequest {
        priority: meta.priority,
        is_retry: meta.attempt > 0,
        deadline: meta.deadline,
    }
}

/// Whether the handler of a call goes on when its caller is gone.
pub(super) fn runs_detached(config: Option<&MethodConfig>, meta: &CallProperties) -> bool {
    config.is_some_and(|config| config.uses_idempotency_cache) && meta.idempotency_key.is_some()
}
