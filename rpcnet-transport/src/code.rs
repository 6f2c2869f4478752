//! Outcome of a call: its code, and whether the request was processed.

use std::fmt;

use crate::printable::Printable;

/// Code with which a call ended. Its number is that on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Code {
    /// The call succeeded.
    Ok = 0,
    /// The caller, or a shutdown at its deadline, cancelled the call while it ran.
    Cancelled = 1,
    /// The deadline of the call passed before its reply.
    DeadlineExceeded = 2,
    /// The server has no such method.
    Unimplemented = 3,
    /// The request does not decode, or is not a call of the kind that the method serves.
    InvalidRequest = 4,
    /// The server does not know the identity of the caller.
    Unauthenticated = 5,
    /// The caller is not allowed to do this.
    PermissionDenied = 6,
    /// The server is overloaded and did not start the call.
    Overloaded = 7,
    /// The server drains and accepts no new calls.
    Draining = 8,
    /// The connection could not be established, or was lost.
    Unavailable = 9,
    /// A message exceeds the size limit.
    PayloadTooLarge = 10,
    /// The server failed by its own fault, as by a panic of the handler. Also a message that the
    /// caller could not encode or decode.
    Internal = 11,
    /// The handler failed with an error of the application, whose value is in the details.
    App = 12,
    /// The call came as early data, before the handshake was complete, and its method is not
    /// declared replay-safe. Clients repeat it after the handshake; see
    /// [`Router::with_replay_safe`](crate::Router::with_replay_safe).
    TooEarly = 13,
    /// The types that caller and server have for the method do not fit. The details of a rejection
    /// by the server are its [schema](crate::schema::MethodSchema), so that an unprocessed one by a
    /// layer or a unary handler is sent without details. Or the server is older than the
    /// [metadata](crate::Metadata) of the call, which was not sent then. Unprocessed, except where
    /// a reply could not be decoded.
    Incompatible = 14,
}

/// Whether the server's handler has seen the request: what a retry may rely on. In order of how
/// likely that is: the largest of several attempts is that of their call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Processed {
    /// Certainly not processed: a retry cannot run it twice.
    No,
    /// Unknown: it may have run, completely or in part.
    Maybe,
    /// The handler ran and this is its answer.
    Yes,
}

impl Code {
    pub(crate) const fn to_wire(self) -> u8 {
        self as u8
    }

    pub(crate) fn from_wire(byte: u8) -> Option<Self> {
        Self::ALL.get(usize::from(byte)).copied()
    }

    /// All codes, in the order of their numbers.
    pub(crate) const ALL: [Self; 15] = [
        Self::Ok,
        Self::Cancelled,
        Self::DeadlineExceeded,
        Self::Unimplemented,
        Self::InvalidRequest,
        Self::Unauthenticated,
        Self::PermissionDenied,
        Self::Overloaded,
        Self::Draining,
        Self::Unavailable,
        Self::PayloadTooLarge,
        Self::Internal,
        Self::App,
        Self::TooEarly,
        Self::Incompatible,
    ];
}

impl Code {
    /// Writes the code and a message, which may be a peer's: unprintable characters are escaped. A
    /// message that starts with the text of the code is written alone.
    pub(crate) fn fmt_with(self, message: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if message.is_empty() {
            return f.write_str(self.text());
        }
        if !message.starts_with(self.text()) {
            write!(f, "{self}: ")?;
        }
        write!(f, "{}", Printable(message))
    }

    const fn text(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Cancelled => "cancelled",
            Self::DeadlineExceeded => "deadline exceeded",
            Self::Unimplemented => "unimplemented",
            Self::InvalidRequest => "invalid request",
            Self::Unauthenticated => "unauthenticated",
            Self::PermissionDenied => "permission denied",
            Self::Overloaded => "overloaded",
            Self::Draining => "draining",
            Self::Unavailable => "unavailable",
            Self::PayloadTooLarge => "payload too large",
            Self::Internal => "internal error",
            Self::App => "application error",
            Self::TooEarly => "too early",
            Self::Incompatible => "incompatible types",
        }
    }
}

impl Processed {
    pub(crate) const fn to_wire(self) -> u8 {
        match self {
            Self::No => 0,
            Self::Maybe => 1,
            Self::Yes => 2,
        }
    }

    pub(crate) const fn from_wire(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::No),
            1 => Some(Self::Maybe),
            2 => Some(Self::Yes),
            _ => None,
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RpcError;

    #[test]
    fn a_code_is_not_written_before_a_message_that_begins_with_it() {
        let text = |code, message: &str| crate::Status::new(code, message).to_string();
        assert_eq!(text(Code::Overloaded, ""), "overloaded");
        assert_eq!(text(Code::Overloaded, "no permit"), "overloaded: no permit");
        let message = "permission denied by the server: unknown tenant";
        assert_eq!(text(Code::PermissionDenied, message), message);
        let error = RpcError::new(Code::PermissionDenied, Processed::No, message);
        assert_eq!(error.to_string(), message);
        assert_eq!(error.code(), Code::PermissionDenied);
    }

    #[test]
    fn control_characters_of_a_message_are_escaped() {
        let message = "no\n\u{1b}[2J ERROR \"disk\"";
        let shown = "internal error: no\\n\\u{1b}[2J ERROR \"disk\"";
        let error = RpcError::new(Code::Internal, Processed::Yes, message);
        assert_eq!(error.to_string(), shown);
        assert_eq!(error.message(), message);
        assert_eq!(crate::Status::from(error).to_string(), shown);
    }

    #[test]
    fn code_numbers_match_their_order() {
        for (number, code) in Code::ALL.into_iter().enumerate() {
            assert_eq!(usize::from(code.to_wire()), number);
            assert_eq!(Code::from_wire(number as u8), Some(code));
        }
        assert_eq!(Code::from_wire(Code::ALL.len() as u8), None);
    }
}
