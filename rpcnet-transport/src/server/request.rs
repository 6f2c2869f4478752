//! Reading a request: refused, if it is, from its header.

use std::future::poll_fn;

use bytes::Bytes;
use tokio::time::{Instant, timeout_at};

use crate::{
    Code, Status,
    endpoint::Shared,
    stream::{Cut, ReadFailure, RecvHalf},
    wire::{Frame, RequestHeader, WireError},
};

/// Why a stream does not reach a handler. What is counted about it has been counted.
pub(super) enum Unserved {
    /// There is nobody to answer, or nothing to say.
    Cut(Cut),
    /// The caller is told.
    Refused(Status),
}

impl Unserved {
    pub(super) fn refused(code: Code, message: impl Into<String>) -> Self {
        Self::Refused(Status::new(code, message).not_processed())
    }
}

/// Reads the header of a request. The body comes along if the same bytes had all of it.
pub(super) async fn read_header(
    shared: &Shared,
    recv: &mut RecvHalf,
    arrived: Instant,
) -> Result<(RequestHeader, Option<Bytes>), Unserved> {
    let patience = arrived + shared.config.header_timeout;
    loop {
        if let Some((header, body)) = next_request(shared, recv)? {
            return Ok((header, Some(body)));
        }
        if recv.decoder().awaits_body() {
            let header = recv.decoder().awaited_request().cloned();
            return header.map(|header| (header, None)).ok_or_else(|| {
                shared.counters.malformed_frames.add_one();
                Unserved::Cut(Cut::Malformed)
            });
        }
        match timeout_at(patience, fill(shared, recv)).await {
            Ok(filled) => filled?,
            Err(_) => {
                shared.counters.header_timeouts.add_one();
                return Err(Unserved::Cut(Cut::HeaderTimeout));
            }
        }
    }
}

/// Reads the body of a request whose header is known, as long as there is progress at a fair rate, room, time, and no shutdown.
pub(super) async fn read_body(
    shared: &Shared,
    recv: &mut RecvHalf,
    deadline: Option<Instant>,
) -> Result<Bytes, Unserved> {
    let counters = &shared.counters;
    let bytes = recv.decoder().awaited_body_bytes().unwrap_or(0);
    let too_slow = Instant::now() + shared.config.transfer_time(bytes);
    loop {
        if let Some((_, body)) = next_request(shared, recv)? {
            return Ok(body);
        }
        let stalled = too_slow.min(Instant::now() + shared.config.stall_timeout);
        let patience = deadline.map_or(stalled, |deadline| deadline.min(stalled));
        let filled = tokio::select! {
            biased;
            () = shared.cancel_calls.cancelled() => {
                counters.calls_refused_draining.add_one();
                let message = "the server shut down before the request was there";
                return Err(Unserved::refused(Code::Draining, message));
            }
            filled = timeout_at(patience, fill(shared, recv)) => filled,
        };
        match filled {
            Ok(filled) => filled?,
            Err(_) if patience < stalled => {
                counters.calls_timed_out.add_one();
                let message = "the time was over before the request was there";
                return Err(Unserved::refused(Code::DeadlineExceeded, message));
            }
            Err(_) if recv.waits_for_room() => {
                counters.calls_refused_overloaded.add_one();
                let message = format!("buffer limit reached: request of {bytes} bytes");
                return Err(Unserved::refused(Code::Overloaded, message));
            }
            Err(_) => {
                counters.stalled_calls.add_one();
                return Err(Unserved::Cut(Cut::Stalled));
            }
        }
    }
}

/// The request, if all of it was read.
fn next_request(
    shared: &Shared,
    recv: &mut RecvHalf,
) -> Result<Option<(RequestHeader, Bytes)>, Unserved> {
    match recv.next_frame() {
        Ok(None) => Ok(None),
        Ok(Some(Frame::Request(header, body))) => Ok(Some((header, body))),
        Ok(Some(_)) => {
            shared.counters.malformed_frames.add_one();
            Err(Unserved::Cut(Cut::Malformed))
        }
        Err(e) => Err(malformed(shared, e)),
    }
}

/// Reads once.
async fn fill(shared: &Shared, recv: &mut RecvHalf) -> Result<(), Unserved> {
    match poll_fn(|cx| recv.poll_fill(cx)).await {
        Ok(true) => Ok(()),
        Ok(false) => {
            // It ended without a frame: nobody asks for anything.
            shared.counters.malformed_frames.add_one();
            Err(Unserved::Cut(Cut::Malformed))
        }
        Err(ReadFailure::Wire(e)) => Err(malformed(shared, e)),
        Err(ReadFailure::Cut(_) | ReadFailure::Lost(_)) => {
            shared.counters.calls_cancelled.add_one();
            Err(Unserved::Cut(Cut::Cancelled))
        }
    }
}

fn malformed(shared: &Shared, error: WireError) -> Unserved {
    let counters = &shared.counters;
    match error {
        WireError::Preface(_) => {
            counters.bad_prefaces.add_one();
            Unserved::Cut(Cut::Malformed)
        }
        WireError::TooLarge { .. } => {
            counters.oversized_messages.add_one();
            Unserved::refused(Code::PayloadTooLarge, error.to_string())
        }
        _ => {
            counters.malformed_frames.add_one();
            Unserved::Cut(Cut::Malformed)
        }
    }
}
