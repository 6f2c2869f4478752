use std::future::poll_fn;

use bytes::Bytes;
use tokio::time::{Instant, timeout_at};

use crate::{
    Code, Status,
    endpoint::Shared,
    stream::{Cut, ReadFailure, RecvHalf},
    wire::{Frame, RequestHeader, WireError},
};

/// Why there is no request.
pub(super) enum Unread {
    Cut(Cut),
    Refused(Status),
}

pub(super) async fn read_request(
    shared: &Shared,
    recv: &mut RecvHalf,
    arrived: Instant,
) -> Result<(RequestHeader, Bytes), Unread> {
    let counters = &shared.counters;
    let malformed = |e: WireError| match e {
        WireError::Preface(_) => {
            counters.bad_prefaces.add_one();
            Unread::Cut(Cut::Malformed)
        }
        WireError::TooLarge { .. } => {
            counters.oversized_messages.add_one();
            Unread::Refused(Status::new(Code::PayloadTooLarge, e.to_string()).not_processed())
        }
        _ => {
            counters.malformed_frames.add_one();
            Unread::Cut(Cut::Malformed)
        }
    };
    loop {
        match recv.decoder().next_frame().map_err(malformed)? {
            Some(Frame::Request(header, body)) => return Ok((header, body)),
            Some(_) => {
                counters.malformed_frames.add_one();
                return Err(Unread::Cut(Cut::Malformed));
            }
            None => {}
        }
        let awaits_body = recv.decoder().awaits_body();
        let patience = if awaits_body {
            let stalled = Instant::now() + shared.config.stall_timeout;
            let deadline = recv
                .decoder()
                .awaited_request()
                .and_then(|header| header.deadline)
                .and_then(|d| arrived.checked_add(d));
            deadline.map_or(stalled, |deadline| deadline.min(stalled))
        } else {
            arrived + shared.config.header_timeout
        };
        match timeout_at(patience, poll_fn(|cx| recv.poll_fill(cx))).await {
            Ok(Ok(true)) => {}
            Ok(Ok(false)) => {
                // It ended without a frame: nobody asks for anything.
                counters.malformed_frames.add_one();
                return Err(Unread::Cut(Cut::Malformed));
            }
            Ok(Err(ReadFailure::Wire(e))) => return Err(malformed(e)),
            Ok(Err(ReadFailure::Cut(_) | ReadFailure::Lost(_))) => {
                counters.calls_cancelled.add_one();
                return Err(Unread::Cut(Cut::Cancelled));
            }
            Err(_) if awaits_body => {
                counters.stalled_calls.add_one();
                return Err(Unread::Cut(Cut::Stalled));
            }
            Err(_) => {
                counters.header_timeouts.add_one();
                return Err(Unread::Cut(Cut::HeaderTimeout));
            }
        }
    }
}
