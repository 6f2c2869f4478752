//! Result of a call: from a reply, a failed read or a lost connection to the caller's error.

use bytes::Bytes;
use quinn::ConnectionError;

use crate::{
    CloseReason, Code, Processed, RpcError,
    close::{CLOSE_DENIED, CLOSE_DISCONNECTED, CLOSE_SHUTDOWN, streams_accepted},
    printable::printable,
    quic,
    runtime::RuntimeEnded,
    stream::{ReadFailure, reset_to_error},
    wire::{Frame, ReplyHeader, WireError},
};

/// Body of a successful reply, or the error that the reply carries.
pub(crate) fn into_result(header: ReplyHeader, body: Bytes) -> Result<Bytes, RpcError> {
    if header.code == Code::Ok {
        return Ok(body);
    }
    let error = RpcError::new(header.code, header.processed, header.message);
    let error = error.with_details(detached(body));
    Err(match header.retry_after {
        Some(wait) => error.with_retry_after(wait),
        None => error,
    })
}

/// Bytes with memory of their own if they are small: otherwise they keep the packets that they came
/// in.
pub(super) fn detached(bytes: Bytes) -> Bytes {
    if bytes.len() <= COPIED_BYTES_MAX {
        Bytes::copy_from_slice(&bytes)
    } else {
        bytes
    }
}

/// Largest body that is copied. A larger one keeps the packets that it came in, some 64 KiB: at
/// most thirty times its size.
const COPIED_BYTES_MAX: usize = 2048;

/// Error of a call whose request was sent and that got something else than a reply.
pub(crate) fn read_error(
    failure: Result<Option<Frame>, ReadFailure>,
    stream_index: u64,
) -> RpcError {
    match failure {
        Err(ReadFailure::Reset(code)) => {
            let (code, processed, message) = reset_to_error(code);
            RpcError::new(code, processed, message)
        }
        Err(ReadFailure::Lost(e)) => lost_after_sending(e, stream_index),
        Err(ReadFailure::TooSlow { body_bytes, took }) => RpcError::new(
            Code::Unavailable,
            Processed::Maybe,
            format!(
                "stall timeout: the response of {body_bytes} bytes did not arrive within {took:?}"
            ),
        ),
        Err(ReadFailure::Wire(e @ WireError::TooLarge { .. })) => response_too_large(&e),
        Err(ReadFailure::Wire(e)) => {
            RpcError::new(Code::Internal, Processed::Maybe, "malformed response").with_source(e)
        }
        Ok(Some(_)) => RpcError::new(
            Code::Internal,
            Processed::Maybe,
            "malformed response: unexpected frame",
        ),
        Ok(None) => RpcError::new(
            Code::Unavailable,
            Processed::Maybe,
            "the response stream ended without a reply",
        ),
    }
}

/// Error of a call whose reply exceeds the size limit.
pub(crate) fn too_large(bytes: usize, limit: usize) -> RpcError {
    response_too_large(&WireError::TooLarge {
        what: "a message",
        bytes: bytes as u64,
        limit: limit as u64,
    })
}

fn response_too_large(error: &WireError) -> RpcError {
    RpcError::new(
        Code::PayloadTooLarge,
        Processed::Yes,
        format!("the response is too large: {error}"),
    )
}

/// Error of a call whose connection was lost before the whole request was handed to QUIC.
pub(crate) fn lost_before_sending(error: ConnectionError) -> RpcError {
    connection_lost(error, Code::Unavailable, Processed::No)
}

/// Error of a call whose connection was lost afterwards. A server that shuts down says how many
/// streams it accepted: calls on later streams were certainly not processed.
fn lost_after_sending(error: ConnectionError, stream_index: u64) -> RpcError {
    match is_stream_not_accepted(&error, stream_index) {
        true => stream_not_accepted(error),
        false => connection_lost(error, Code::Unavailable, Processed::Maybe),
    }
}

/// Error of a call whose stream the server did not accept before it closed the connection.
pub(crate) fn stream_not_accepted(error: ConnectionError) -> RpcError {
    connection_lost(error, Code::Draining, Processed::No)
}

/// Whether a server that shuts down says that it did not accept this stream.
pub(crate) fn is_stream_not_accepted(error: &ConnectionError, stream_index: u64) -> bool {
    let ConnectionError::ApplicationClosed(close) = error else {
        return false;
    };
    streams_accepted(close).is_some_and(|accepted| stream_index >= accepted)
}

fn connection_lost(error: ConnectionError, code: Code, processed: Processed) -> RpcError {
    if quic::is_driver_lost(&error) {
        return RuntimeEnded.into_error(processed);
    }
    // The server denies a peer before it reads anything of the connection.
    let (code, processed) = match &error {
        ConnectionError::ApplicationClosed(close) if close.error_code == CLOSE_DENIED => {
            (Code::PermissionDenied, Processed::No)
        }
        _ => (code, processed),
    };
    let message = message_of(&error);
    RpcError::new(code, processed, message).with_source(quic::with_printable_reason(error))
}

/// Error of a call on a lane or with streams whose connection was lost. How far the server got is
/// not known.
pub(crate) fn lost_during_call(error: ConnectionError) -> RpcError {
    connection_lost(error, Code::Unavailable, Processed::Maybe)
}

fn message_of(error: &ConnectionError) -> String {
    match error {
        ConnectionError::ApplicationClosed(close) if close.error_code == CLOSE_SHUTDOWN => {
            "the server shut down".to_owned()
        }
        ConnectionError::ApplicationClosed(close) if close.error_code == CLOSE_DISCONNECTED => {
            "the server disconnected this node".to_owned()
        }
        ConnectionError::ApplicationClosed(close) if close.error_code == CLOSE_DENIED => {
            let reason = printable(&close.reason);
            format!("permission denied by the server: {reason}")
        }
        // `LocalCloseReason` adds the reason if it is known.
        ConnectionError::LocallyClosed => "connection closed by this node".to_owned(),
        other => format!("the connection was lost: {}", CloseReason::of(other)),
    }
}

#[cfg(test)]
mod tests {
    use quinn::ApplicationClose;

    use super::*;

    #[test]
    fn streams_that_a_stopping_server_did_not_accept_are_unprocessed() {
        let closed = || {
            ConnectionError::ApplicationClosed(ApplicationClose {
                error_code: CLOSE_SHUTDOWN,
                reason: Bytes::copy_from_slice(&3u64.to_le_bytes()),
            })
        };
        let error = lost_after_sending(closed(), 2);
        assert_eq!(
            (error.code(), error.processed()),
            (Code::Unavailable, Processed::Maybe)
        );
        let error = lost_after_sending(closed(), 3);
        assert_eq!(
            (error.code(), error.processed()),
            (Code::Draining, Processed::No)
        );
        assert!(error.is_retryable());
    }

    #[test]
    fn a_close_reason_without_a_stream_count_proves_nothing() {
        let closed = ConnectionError::ApplicationClosed(ApplicationClose {
            error_code: CLOSE_SHUTDOWN,
            reason: Bytes::from_static(b"bye"),
        });
        assert_eq!(lost_after_sending(closed, 99).processed(), Processed::Maybe);
    }
}
