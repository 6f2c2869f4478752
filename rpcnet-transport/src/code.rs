//! How calls end, and whether they had an effect.

use std::fmt;

use crate::printable::Printable;

/// How a call ended. The number of each is its number on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Code {
    /// It was answered.
    Ok = 0,
    /// The caller, or a shutdown at its deadline, cancelled the call while it ran.
    Cancelled = 1,
    /// The deadline of the call passed before its reply.
    DeadlineExceeded = 2,
    /// The server has no such method.
    Unimplemented = 3,
    /// The request does not decode, or is no call of the kind that the method takes.
    InvalidRequest = 4,
    /// The server does not know the identity of the caller.
    Unauthenticated = 5,
    /// The caller may not do this.
    PermissionDenied = 6,
    /// The server has too much to do and did not begin.
    Overloaded = 7,
    /// The server is about to stop and takes no new calls.
    Draining = 8,
    /// There is no connection, or it was lost.
    Unavailable = 9,
    /// A message is past the limit for messages.
    PayloadTooLarge = 10,
    /// The server failed in a way that is its own fault; a handler that panics ends so. Also a message
    /// that the caller could not encode or decode.
    Internal = 11,
    /// The handler failed in a way of its own; its value is in the details.
    App = 12,
    /// The call came before the handshake was over, and its method is not declared replay-safe. Callers repeat it by
    /// themselves when it is over; see [`Router::with_replay_safe`](crate::Router::with_replay_safe).
    TooEarly = 13,
}

/// Whether the server's handler has seen the request: what a retry may rely on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Processed {
    /// Certainly not: sending it again cannot do it twice.
    No,
    /// Unknown: it may have been done, in whole or in part.
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

    /// Every code, at the place of its number.
    pub(crate) const ALL: [Self; 14] = [
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
    ];
}

impl Code {
    /// Writes the code and a message, which may be a peer's: unprintable characters are escaped. A
    /// message that begins with the text of the code stands alone.
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
    fn every_code_stands_at_the_place_of_its_number() {
        for (number, code) in Code::ALL.into_iter().enumerate() {
            assert_eq!(usize::from(code.to_wire()), number);
            assert_eq!(Code::from_wire(number as u8), Some(code));
        }
        assert_eq!(Code::from_wire(Code::ALL.len() as u8), None);
    }
}
