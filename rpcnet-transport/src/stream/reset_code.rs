//! Error codes of stream resets, and what they tell a caller.

use crate::code::{Code, Processed};

/// Error code of a stream reset, which tells the other side the reason (RFC 9000 section 19.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ResetCode {
    /// The stream is no longer wanted.
    Cancelled = 0,
    /// The bytes are not of this protocol, or a frame is not allowed here.
    Malformed = 1,
    /// The header did not arrive in time.
    HeaderTimeout = 2,
    /// The other side stopped reading or writing.
    Stalled = 3,
    /// The message could not be completed.
    Failed = 4,
    /// The server shuts down, and the reply was not complete.
    ShuttingDown = 5,
    /// The deadline of the call passed.
    DeadlineExceeded = 6,
}

impl ResetCode {
    const ALL: [Self; 7] = [
        Self::Cancelled,
        Self::Malformed,
        Self::HeaderTimeout,
        Self::Stalled,
        Self::Failed,
        Self::ShuttingDown,
        Self::DeadlineExceeded,
    ];

    /// Code of a call whose stream the server has reset.
    fn call_code(self) -> Code {
        match self {
            Self::Cancelled => Code::Cancelled,
            Self::Malformed | Self::Failed => Code::Internal,
            Self::HeaderTimeout | Self::Stalled | Self::ShuttingDown => Code::Unavailable,
            Self::DeadlineExceeded => Code::DeadlineExceeded,
        }
    }

    /// Message for the caller of a call whose stream the server has reset.
    fn call_message(self) -> &'static str {
        match self {
            Self::Cancelled => "cancelled by the server",
            Self::Malformed => "the server reset the stream as malformed",
            Self::HeaderTimeout => "header timeout: the request did not reach the server in time",
            Self::Stalled => {
                "stall timeout: the server reset a call whose request or response was too slow"
            }
            Self::Failed => "the server could not complete its response",
            Self::ShuttingDown => "the server shut down before its response was complete",
            Self::DeadlineExceeded => "deadline exceeded before the handler returned",
        }
    }
}

/// Code, processing state and message of a call whose stream was reset with this error code. An
/// unknown one counts as [`ResetCode::Cancelled`].
pub(crate) fn reset_to_error(error_code: u64) -> (Code, Processed, &'static str) {
    let mut known = ResetCode::ALL.into_iter();
    let reset = known.find(|reset| *reset as u64 == error_code);
    let reset = reset.unwrap_or(ResetCode::Cancelled);
    let processed = match reset {
        // The request did not arrive, so its handler did not start.
        ResetCode::HeaderTimeout => Processed::No,
        _ => Processed::Maybe,
    };
    (reset.call_code(), processed, reset.call_message())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_codes_have_errors_of_their_own_and_unknown_ones_are_cancelled() {
        use Processed::{Maybe, No};
        let table = [
            (ResetCode::Cancelled, Code::Cancelled, Maybe),
            (ResetCode::Malformed, Code::Internal, Maybe),
            (ResetCode::HeaderTimeout, Code::Unavailable, No),
            (ResetCode::Stalled, Code::Unavailable, Maybe),
            (ResetCode::Failed, Code::Internal, Maybe),
            (ResetCode::ShuttingDown, Code::Unavailable, Maybe),
            (ResetCode::DeadlineExceeded, Code::DeadlineExceeded, Maybe),
        ];
        assert_eq!(table.map(|row| row.0), ResetCode::ALL);
        for (number, (reset, code, processed)) in (0..).zip(table) {
            let message = reset.call_message();
            assert_eq!(reset as u64, number);
            assert_eq!(reset_to_error(number), (code, processed, message));
        }
        let unknown = reset_to_error(ResetCode::ALL.len() as u64);
        assert_eq!(unknown, reset_to_error(ResetCode::Cancelled as u64));
    }
}
