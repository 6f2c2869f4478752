//! Sending of a reply to its caller.

use std::{pin::Pin, sync::Arc};

use bytes::Bytes;

use super::{connection_replies::ReplyInProgress, handler_result::HandlerResult};
use crate::{
    Code, Processed, Status,
    accounts::{BufferReservation, PeerAccount},
    busy_poll::Expected,
    endpoint::EndpointShared,
    metadata::CallHeaders,
    stream::{ResetCode, SendHalf, WriteFailure},
    wire::{LoadReport, ReplyHeader},
};

/// Writes the reply and waits until the caller has it, or the stall timeout passes. Returns whether
/// the caller has it.
pub(super) async fn send_reply(
    shared: &EndpointShared,
    mut sending: ReplyInProgress<'_>,
    send: &mut SendHalf,
    stopped: Pin<&mut (impl Future<Output = bool> + ?Sized)>,
    (outcome, headers): (HandlerResult, Option<Box<CallHeaders>>),
) -> bool {
    let counters = &shared.counters;
    let is_processed = match &outcome {
        Ok(_) => true,
        Err(status) => {
            if status.code == Code::InvalidRequest && status.processed == Processed::No {
                counters.invalid_requests.add_one();
            }
            status.processed == Processed::Yes
        }
    };
    // The code for a stream that stopped in the middle of a message, which takes no reply.
    let reset_code = match &outcome {
        Err(Status {
            code,
            processed: Processed::Maybe,
            ..
        }) => match code {
            Code::Cancelled => ResetCode::ShuttingDown,
            Code::DeadlineExceeded => ResetCode::DeadlineExceeded,
            _ => ResetCode::Failed,
        },
        _ => ResetCode::Failed,
    };
    let (header, body) = reply_parts(outcome, shared.load(), shared.config.message_bytes_max);
    let bytes = body.len();
    let write = send.reply(&header, headers, body, &sending.stall_timer);
    let written = sending
        .within_transfer_time(&shared.config, bytes, write)
        .await;
    let written = written.unwrap_or(Err(WriteFailure::Stalled));
    shared.busy_poll.record(Expected::Several);
    // The handler is done, and the acknowledgement may take a while.
    drop(sending.in_flight.take());
    match written {
        Ok(()) => {
            if sending.wait_acknowledged(stopped).await.is_ok() {
                if is_processed {
                    counters.calls_completed.add_one();
                }
                return true;
            }
            counters.stalled_calls.add_one();
            send.reset(ResetCode::Stalled);
        }
        Err(WriteFailure::Stalled) => {
            counters.stalled_calls.add_one();
            send.reset(ResetCode::Stalled);
        }
        Err(WriteFailure::Stopped | WriteFailure::Lost(_)) => {
            // Other outcomes were counted by their status.
            if is_processed {
                counters.calls_cancelled.add_one();
            }
            send.reset(ResetCode::Cancelled);
        }
        Err(WriteFailure::Closed) => send.reset(reset_code),
    }
    false
}

/// Reserves buffer bytes for a reply, until its caller has it.
///
/// # Errors
///
/// The status for the caller if the limit is reached, since it has not read earlier replies. The
/// reply is dropped then.
pub(super) fn reserve_reply(
    shared: &EndpointShared,
    account: &Arc<PeerAccount>,
    outcome: Result<Bytes, Status>,
) -> Result<(Result<Bytes, Status>, BufferReservation), Status> {
    let bytes = match &outcome {
        Ok(body) => body.len(),
        Err(status) => status.details.len(),
    };
    if let Some(reservation) = account.reserve_reply(bytes) {
        return Ok((outcome, reservation));
    }
    Err(reply_dropped_status(shared, bytes))
}

/// Status of a call whose reply is dropped, since its caller has not read earlier ones.
pub(super) fn reply_dropped_status(shared: &EndpointShared, bytes: usize) -> Status {
    shared.counters.replies_dropped.add_one();
    let message =
        format!("buffer limit reached: reply of {bytes} bytes dropped, earlier ones were not read");
    Status::new(Code::Overloaded, message).with_processed(Processed::Yes)
}

pub(super) fn reply_parts(
    outcome: Result<Bytes, Status>,
    load: LoadReport,
    body_bytes_max: usize,
) -> (ReplyHeader, Bytes) {
    match outcome {
        Ok(body) => {
            let header = ReplyHeader {
                load,
                ..ReplyHeader::new(Code::Ok, Processed::Yes)
            };
            (header, body)
        }
        Err(status) => {
            // Details are optional: without them the caller still learns what happened.
            let body = if status.details.len() > body_bytes_max {
                Bytes::new()
            } else {
                status.details
            };
            let header = ReplyHeader {
                code: status.code,
                processed: status.processed,
                retry_after: status.retry_after,
                load,
                message: status.message,
            };
            (header, body)
        }
    }
}
