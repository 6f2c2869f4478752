//! Errors of encoding and decoding.

use std::fmt;

use crate::printable::Printable;

/// Value that could not be encoded or decoded. The same value fails again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CodecError {
    kind: CodecErrorKind,
    cause: Cause,
}

/// Kind of a [`CodecError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum CodecErrorKind {
    /// The value cannot be represented.
    Encode,
    /// The bytes are not a value of the expected type.
    Decode,
    /// Bytes are left after the value: it was encoded as another type.
    TrailingBytes,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Cause {
    Postcard(postcard::Error),
    Named(NamedError),
    TrailingBytes(usize),
    Text(Box<str>),
}

impl CodecError {
    /// Error of a codec other than postcard, for types that implement [`Encode`](crate::Encode) or
    /// [`Decode`](crate::Decode) themselves.
    #[must_use]
    pub fn new(kind: CodecErrorKind, message: impl Into<String>) -> Self {
        let cause = Cause::Text(message.into().into());
        Self { kind, cause }
    }

    /// Kind of the error.
    #[must_use]
    pub fn kind(&self) -> CodecErrorKind {
        self.kind
    }

    pub(super) fn postcard(kind: CodecErrorKind, error: postcard::Error) -> Self {
        let cause = Cause::Postcard(error);
        Self { kind, cause }
    }

    pub(super) fn named(kind: CodecErrorKind, error: NamedError) -> Self {
        let cause = Cause::Named(error);
        Self { kind, cause }
    }

    pub(super) fn trailing_bytes(count: usize) -> Self {
        Self {
            kind: CodecErrorKind::TrailingBytes,
            cause: Cause::TrailingBytes(count),
        }
    }
}

impl fmt::Display for CodecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.cause {
            Cause::Postcard(error) => match postcard_reason(error) {
                Some(reason) => write!(f, "malformed body: {reason}"),
                None => error.fmt(f),
            },
            Cause::Named(error) => error.fmt(f),
            Cause::TrailingBytes(count) => write!(f, "{count} trailing bytes after the value"),
            Cause::Text(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for CodecError {}

/// Reason why postcard cannot decode bytes; `None` for its other errors.
fn postcard_reason(error: &postcard::Error) -> Option<&'static str> {
    use postcard::Error::*;
    Some(match error {
        DeserializeUnexpectedEnd => "unexpected end of the bytes",
        DeserializeBadVarint => "an integer that is too large for its type",
        DeserializeBadBool => "a bool that is neither 0 nor 1",
        DeserializeBadChar => "a char that is no Unicode scalar value",
        DeserializeBadUtf8 => "a string that is not UTF-8",
        DeserializeBadOption => "an option that is neither 0 nor 1",
        DeserializeBadEnum => "a variant number that is out of range",
        SerdeDeCustom => "a value that its type rejects",
        _ => return None,
    })
}

/// Error of the named encoding.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum NamedError {
    #[error("unexpected end of the bytes")]
    UnexpectedEnd,
    #[error("nested deeper than {} levels", super::named::DEPTH_MAX)]
    TooDeep,
    #[error("reserved byte or extension type {0:#04x}")]
    Marker(u8),
    #[error("more values written than announced")]
    WrongLength,
    #[error("{0}")]
    Text(Box<str>),
}

/// Length of an error, which may repeat a text of the peer.
const TEXT_CHARS_MAX: usize = 200;

impl NamedError {
    pub(super) fn text(message: impl fmt::Display) -> Self {
        let mut text = message.to_string();
        if let Some((end, _)) = text.char_indices().nth(TEXT_CHARS_MAX) {
            text.truncate(end);
            text.push_str("...");
        }
        Self::Text(Printable(&text).to_string().into())
    }
}
