//! Reading of requests: the header first, by which a call may be rejected, then the body.

use std::{future::poll_fn, sync::Arc};

use bytes::Bytes;
use tokio::time::{Instant, timeout_at};

use super::caller::Caller;
use crate::{
    Code, Status,
    deadline::within,
    endpoint::EndpointShared,
    metadata::CallHeaders,
    stream::{ReadFailure, RecvHalf, ResetCode, StallTimer, Stalled, within_transfer_time},
    wire::{Frame, RequestHeader, WireError},
};

/// Reason for which a request reaches no handler. It is already counted.
pub(super) enum RequestFailure {
    /// The stream is reset without a status: the caller is gone, or broke the protocol.
    Reset(ResetCode),
    /// The caller gets a status.
    Rejected(Status),
}

impl RequestFailure {
    pub(super) fn rejected(code: Code, message: impl Into<String>) -> Self {
        Self::Rejected(Status::new(code, message).not_processed())
    }
}

/// Request whose header was read.
pub(super) struct ReceivedRequest {
    pub(super) header: RequestHeader,
    /// Its headers, if it has any.
    pub(super) headers: Option<CallHeaders>,
    pub(super) body: Option<Bytes>,
    pub(super) arrived: Instant,
}

/// Reads the header of a request, and the body if the same bytes contained all of it.
pub(super) async fn read_header(
    shared: &EndpointShared,
    recv: &mut RecvHalf,
    arrived: Instant,
) -> Result<ReceivedRequest, RequestFailure> {
    let received = |recv: &mut RecvHalf, header, body| ReceivedRequest {
        header,
        headers: recv.take_headers(),
        body,
        arrived,
    };
    let header_deadline = arrived + shared.config.limits.header_timeout;
    loop {
        if let Some((header, body)) = next_request(shared, recv)? {
            return Ok(received(recv, header, Some(body)));
        }
        if recv.decoder().awaits_body() && !recv.decoder().awaits_headers() {
            let header = recv.decoder().awaited_request().cloned();
            let header = header.ok_or_else(|| {
                shared.counters.malformed_frames.add_one();
                RequestFailure::Reset(ResetCode::Malformed)
            })?;
            return Ok(received(recv, header, None));
        }
        match timeout_at(header_deadline, fill(shared, recv)).await {
            Ok(filled) => filled?,
            Err(_) => {
                shared.counters.header_timeouts.add_one();
                return Err(RequestFailure::Reset(ResetCode::HeaderTimeout));
            }
        }
    }
}

/// Reads the body of a request whose header is known, as long as it makes progress, buffer bytes
/// and time are left, and the server does not shut down.
///
/// Progress is that of the connection: some of the bodies that are sent at the same time are read
/// first, since there is not room for all.
pub(super) async fn read_body(
    shared: &EndpointShared,
    caller: &Caller,
    recv: &mut RecvHalf,
    deadline: Option<Instant>,
) -> Result<Bytes, RequestFailure> {
    let counters = &shared.counters;
    let bytes = recv.decoder().awaited_body_bytes().unwrap_or(0);
    let received = Arc::clone(caller.account.received());
    let stall_timer = StallTimer::new(&shared.config, received).with_deadline(deadline);
    let reserved = stall_timer.wait(poll_fn(|cx| recv.poll_reserve(cx)));
    match within_deadline(shared, deadline, reserved).await? {
        Ok(reserved) => reserved.map_err(|failure| read_failure(shared, failure))?,
        Err(Stalled) => {
            counters.calls_rejected_overloaded.add_one();
            let message = format!("buffer limit reached: request of {bytes} bytes");
            return Err(RequestFailure::rejected(Code::Overloaded, message));
        }
    }
    let read = async {
        loop {
            if let Some((_, body)) = next_request(shared, recv)? {
                return Ok(body);
            }
            match stall_timer.wait(fill(shared, recv)).await {
                Ok(filled) => filled?,
                Err(Stalled) => return Err(stalled_request(shared)),
            }
        }
    };
    // All messages that the connection is reading take turns.
    let at_once = || caller.account.bytes().max(bytes);
    let read = within_transfer_time(&shared.config, at_once, read);
    within_deadline(shared, deadline, read)
        .await?
        .unwrap_or_else(|Stalled| Err(stalled_request(shared)))
}

fn stalled_request(shared: &EndpointShared) -> RequestFailure {
    shared.counters.stalled_calls.add_one();
    RequestFailure::Reset(ResetCode::Stalled)
}

/// Waits for a part of a request until its deadline or a shutdown.
async fn within_deadline<T>(
    shared: &EndpointShared,
    deadline: Option<Instant>,
    part: impl Future<Output = T>,
) -> Result<T, RequestFailure> {
    tokio::select! {
        biased;
        () = shared.served.cancel.cancelled() => {
            shared.counters.calls_rejected_draining.add_one();
            let message = "the server shut down before the request arrived";
            Err(RequestFailure::rejected(Code::Draining, message))
        }
        part = within(deadline, part) => part.map_err(|_| {
            shared.counters.calls_timed_out.add_one();
            let message = "deadline exceeded before the request arrived";
            RequestFailure::rejected(Code::DeadlineExceeded, message)
        }),
    }
}

/// The request, if all of it was read.
fn next_request(
    shared: &EndpointShared,
    recv: &mut RecvHalf,
) -> Result<Option<(RequestHeader, Bytes)>, RequestFailure> {
    match recv.next_frame() {
        Ok(None) => Ok(None),
        Ok(Some(Frame::Request(header, body))) => Ok(Some((header, body))),
        Ok(Some(_)) => {
            shared.counters.malformed_frames.add_one();
            Err(RequestFailure::Reset(ResetCode::Malformed))
        }
        Err(e) => Err(malformed_request(shared, e)),
    }
}

/// Reads once.
async fn fill(shared: &EndpointShared, recv: &mut RecvHalf) -> Result<(), RequestFailure> {
    match poll_fn(|cx| recv.poll_fill(cx)).await {
        Ok(true) => Ok(()),
        Ok(false) => {
            // The stream ended without a frame.
            shared.counters.malformed_frames.add_one();
            Err(RequestFailure::Reset(ResetCode::Malformed))
        }
        Err(failure) => Err(read_failure(shared, failure)),
    }
}

fn read_failure(shared: &EndpointShared, failure: ReadFailure) -> RequestFailure {
    match failure {
        ReadFailure::Wire(e) => malformed_request(shared, e),
        ReadFailure::Reset(_) | ReadFailure::Lost(_) | ReadFailure::TooSlow { .. } => {
            shared.counters.calls_cancelled.add_one();
            RequestFailure::Reset(ResetCode::Cancelled)
        }
    }
}

fn malformed_request(shared: &EndpointShared, error: WireError) -> RequestFailure {
    let counters = &shared.counters;
    match error {
        WireError::Preface(_) => {
            counters.bad_prefaces.add_one();
            RequestFailure::Reset(ResetCode::Malformed)
        }
        WireError::TooLarge { .. } => {
            counters.oversized_messages.add_one();
            RequestFailure::rejected(Code::PayloadTooLarge, error.to_string())
        }
        WireError::Headers(error) => {
            counters.invalid_requests.add_one();
            RequestFailure::rejected(Code::InvalidRequest, error.to_string())
        }
        _ => {
            counters.malformed_frames.add_one();
            RequestFailure::Reset(ResetCode::Malformed)
        }
    }
}

/// Waits until the peer has read what it holds beyond its share.
pub(super) async fn wait_for_overdraft(
    shared: &EndpointShared,
    caller: &Caller,
) -> Result<(), Status> {
    let stall_timer = caller.replies.stall_timer();
    if caller
        .account
        .peer
        .wait_overdraft_cleared(stall_timer)
        .await
        .is_ok()
    {
        return Ok(());
    }
    shared.counters.calls_rejected_overloaded.add_one();
    let message = "buffer limit reached: earlier replies were not read";
    Err(Status::overloaded(message))
}
