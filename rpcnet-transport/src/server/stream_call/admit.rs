//! Admission of a call with a stream of its own: its handler, its body, and its permits.

use std::{future::Future, sync::Arc};

use bytes::Bytes;
use tokio::time::Instant;

use crate::{
    IncomingCall, Status,
    accounts::InFlightGuard,
    codec::Encoding,
    deadline::{has_passed, reached},
    endpoint::EndpointShared,
    layers::LayeredCall,
    metadata::CallHeaders,
    server::{
        admission::{AdmissionOutcome, CallQuotas, Permits},
        call_checks::{
            call_type_mismatch_status, check_capacity, check_request_size, check_schema,
            early_rejection, expired_status, incompatible_status, quotas_for, request_admission,
            unknown_method_status,
        },
        call_parts::CallParts,
        call_properties::CallProperties,
        call_status,
        call_type::CallType,
        caller::Caller,
        handler::Handler,
        read_request::{ReceivedRequest, RequestFailure, read_body, wait_for_overdraft},
    },
    stream::{RecvHalf, ResetCode, SendHalf},
    wire::{CallSchema, RequestHeader},
};

/// A call that has a handler, a whole request and its permits.
pub(super) struct AdmittedCall {
    pub(super) name: Arc<str>,
    pub(super) handler: Handler,
    pub(super) header: RequestHeader,
    pub(super) body: Bytes,
    pub(super) encoding: Encoding,
    pub(super) meta: CallProperties,
    pub(super) parts: CallParts,
    pub(super) permits: Permits,
    pub(super) in_flight: InFlightGuard,
}

impl AdmittedCall {
    /// Rejects a call by its header where that is possible, reads the body, and acquires the
    /// permits only then: a call that waits for its caller holds none.
    pub(super) async fn admit(
        shared: &EndpointShared,
        caller: &Caller,
        send: &SendHalf,
        recv: &mut RecvHalf,
        mut request: ReceivedRequest,
    ) -> Result<Self, RejectedCall> {
        let mut parts = CallParts::of_headers(request.headers.take());
        let admitted = Self::pass_checks(shared, caller, (send, recv), request, &mut parts);
        match admitted.await {
            Ok(admitted) => Ok(Self { parts, ..admitted }),
            Err(why) => {
                if let RequestFailure::Rejected(status) = &why {
                    parts.end_rejected(status);
                }
                let headers = parts.take_reply_headers();
                Err(RejectedCall { why, headers })
            }
        }
    }

    async fn pass_checks(
        shared: &EndpointShared,
        caller: &Caller,
        (send, recv): (&SendHalf, &mut RecvHalf),
        request: ReceivedRequest,
        parts: &mut CallParts,
    ) -> Result<Self, RequestFailure> {
        let ReceivedRequest {
            header,
            body,
            arrived,
            ..
        } = request;
        let account = &caller.account.peer;
        let (guard, in_flight) = account.begin_call(&shared.served.in_flight);
        let is_full = account.exceeds_call_limit(in_flight, true);
        let deadline = header.deadline.and_then(|left| arrived.checked_add(left));
        let (name, handler, encoding) =
            find_handler(shared, &header, deadline, in_flight, is_full)?;
        let body_bytes = body.as_ref().map(Bytes::len);
        let body_bytes = body_bytes.or_else(|| recv.decoder().awaited_body_bytes());
        let body_bytes = body_bytes.unwrap_or(0);
        let mut meta = call_meta(&header, deadline);
        if let Some(attachments) = &parts.attachments {
            let bytes = body_bytes + attachments.headers.encoded_len();
            check_request_size(shared, bytes, shared.config.message_bytes_max)
                .map_err(RequestFailure::Rejected)?;
        }
        let only_checks = header.schema.is_some_and(|schema| schema.only_checks);
        if !only_checks && !handler.layers().all().is_empty() {
            let attachments = Arc::clone(parts.attachments.get_or_insert_default());
            let call = IncomingCall::new(&caller.peer, &name, &meta, attachments, body_bytes);
            let layered = LayeredCall::new(handler.layers().all(), call);
            let layered = parts.layered.insert(layered);
            pass_layers(shared, layered, send).await?;
            meta = layered.call().meta();
        }
        let mut call = Self {
            name,
            handler,
            header,
            body: Bytes::new(),
            encoding,
            meta,
            parts: CallParts::default(),
            permits: Permits::default(),
            in_flight: guard,
        };
        call.acquire(shared, caller, (send, recv), body).await?;
        Ok(call)
    }

    /// Waits for the body, unless all of it is there, and then for the permits.
    async fn acquire(
        &mut self,
        shared: &EndpointShared,
        caller: &Caller,
        (send, recv): (&SendHalf, &mut RecvHalf),
        body: Option<Bytes>,
    ) -> Result<(), RequestFailure> {
        let (meta, deadline) = (self.meta, self.meta.deadline);
        let config = self.handler.config();
        let is_limited = shared.admission.is_some() || config.is_some();
        let method_quota = config.and_then(|config| config.gate.as_ref());
        let method_quota = method_quota.map(|gate| gate.quota_of(caller.peer.shared_name()));
        let quotas = quotas_for(caller, config, method_quota.as_ref());
        let body = match body {
            Some(body) => body,
            None => {
                if is_limited && let Some(status) = early_rejection(shared, quotas, &meta) {
                    return Err(RequestFailure::Rejected(status));
                }
                wait_for_body(shared, caller, send, recv, deadline).await?
            }
        };
        self.body = end_check(&self.header, &self.handler, body, self.encoding)?;
        if caller.account.peer.is_overdrawn() {
            let settled = Box::pin(wait_for_overdraft(shared, caller));
            wait_for_admission(shared, settled, send.stopped(), deadline).await?;
        }
        if is_limited {
            self.permits = acquire_permits(shared, quotas, send, &meta).await?;
        }
        // The call may have waited for its body or its permit.
        if has_passed(deadline) {
            return Err(RequestFailure::Rejected(expired_status(shared)));
        }
        if !self.header.flags.streams_requests {
            recv.record_end();
        }
        Ok(())
    }
}

/// A call that reaches no handler.
pub(super) struct RejectedCall {
    pub(super) why: RequestFailure,
    /// Headers of the reply.
    pub(super) headers: Option<Box<CallHeaders>>,
}

/// Runs the layers of a call, as long as its caller waits for the reply.
async fn pass_layers(
    shared: &EndpointShared,
    layered: &mut LayeredCall<IncomingCall>,
    send: &SendHalf,
) -> Result<(), RequestFailure> {
    let passed = match layered.run_ready() {
        Ok(true) => Ok(()),
        Ok(false) => {
            let deadline = layered.call().meta().deadline;
            let rest = Box::pin(layered.run_rest());
            wait_for_admission(shared, rest, send.stopped(), deadline).await
        }
        Err(status) => Err(RequestFailure::Rejected(status)),
    };
    if let Err(RequestFailure::Rejected(status)) = &passed
        && layered.was_rejected()
    {
        shared.record_layer_rejection(layered.call(), status);
    }
    passed
}

fn call_meta(header: &RequestHeader, deadline: Option<Instant>) -> CallProperties {
    CallProperties {
        attempt: header.attempt,
        idempotent: header.flags.idempotent,
        priority: header.priority,
        idempotency_key: header.idempotency_key.map(u128::to_le_bytes),
        deadline,
    }
}

/// Answers a caller that only asks whether its request can be read.
fn end_check(
    header: &RequestHeader,
    handler: &Handler,
    body: Bytes,
    encoding: Encoding,
) -> Result<Bytes, RequestFailure> {
    if !header.schema.is_some_and(|schema| schema.only_checks) {
        return Ok(body);
    }
    let checked = handler.check_request(body, encoding);
    let status = checked.err().unwrap_or_else(call_status::check_passed);
    Err(RequestFailure::Rejected(status))
}

/// Reads the body of a request, as long as its caller waits for the reply.
async fn wait_for_body(
    shared: &EndpointShared,
    caller: &Caller,
    send: &SendHalf,
    recv: &mut RecvHalf,
    deadline: Option<Instant>,
) -> Result<Bytes, RequestFailure> {
    let body = read_body(shared, caller, recv, deadline);
    tokio::select! {
        biased;
        body = body => body,
        // The end of the stream is not read while the call waits for buffer bytes.
        _ = send.stopped() => {
            shared.counters.calls_cancelled.add_one();
            Err(RequestFailure::Reset(ResetCode::Cancelled))
        }
    }
}

/// Acquires the permits of a call, which may be queued for them.
async fn acquire_permits(
    shared: &EndpointShared,
    quotas: CallQuotas<'_>,
    send: &SendHalf,
    meta: &CallProperties,
) -> Result<Permits, RequestFailure> {
    match request_admission(shared, quotas, Instant::now(), meta) {
        AdmissionOutcome::Admitted(permits) => Ok(permits),
        AdmissionOutcome::Queued(queued) => {
            let began = Instant::now();
            let admitted = Box::pin(queued.wait_admitted(&shared.counters));
            let permits =
                wait_for_admission(shared, admitted, send.stopped(), meta.deadline).await?;
            shared.queue_delay.record(began.elapsed());
            Ok(permits)
        }
        AdmissionOutcome::Rejected(status) => Err(RequestFailure::Rejected(status)),
    }
}

/// Waits until a call may run, as long as its caller waits for the reply.
async fn wait_for_admission<T>(
    shared: &EndpointShared,
    turn: impl Future<Output = Result<T, Status>>,
    stopped: impl Future<Output = bool>,
    deadline: Option<Instant>,
) -> Result<T, RequestFailure> {
    tokio::select! {
        biased;
        turn = turn => turn.map_err(RequestFailure::Rejected),
        _ = stopped => {
            shared.counters.calls_cancelled.add_one();
            Err(RequestFailure::Reset(ResetCode::Cancelled))
        }
        () = shared.served.cancel.cancelled() => {
            Err(RequestFailure::Rejected(call_status::not_started_in_shutdown()))
        }
        () = reached(deadline) => {
            Err(RequestFailure::Rejected(expired_status(shared)))
        }
    }
}

/// Finds the handler of a call, or the status with which the call is rejected.
fn find_handler(
    shared: &EndpointShared,
    header: &RequestHeader,
    deadline: Option<Instant>,
    in_flight: usize,
    is_full: bool,
) -> Result<(Arc<str>, Handler, Encoding), RequestFailure> {
    check_capacity(shared, in_flight, is_full).map_err(RequestFailure::Rejected)?;
    let router = shared.router();
    let Some((name, handler)) = router.find(&header.method) else {
        return Err(RequestFailure::Rejected(unknown_method_status(
            shared,
            &header.method,
        )));
    };
    // A request whose schema is checked already is checked itself, when it is there.
    let checks_schema = |schema: &CallSchema| schema.only_checks && !schema.is_checked;
    let checks_schema = header.schema.as_ref().is_some_and(checks_schema);
    let (call_type, wanted) = (handler.call_type(), CallType::from(header.flags));
    // A check for calls of any type is made as for a unary one.
    let is_any = checks_schema && wanted == CallType::Unary;
    if wanted != call_type && !is_any {
        let is_typed = header.schema.is_some();
        let status = call_type_mismatch_status(shared, call_type, wanted, is_typed);
        return Err(RequestFailure::Rejected(status));
    }
    let encoding = check_schema(handler, header.schema)
        .map_err(|status| RequestFailure::Rejected(incompatible_status(shared, &status)))?;
    if has_passed(deadline) {
        return Err(RequestFailure::Rejected(expired_status(shared)));
    }
    if checks_schema {
        return Err(RequestFailure::Rejected(call_status::check_passed()));
    }
    Ok((Arc::clone(name), handler.clone(), encoding))
}
