//! Encoding and decoding of messages.

use std::fmt;

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};

/// Message that is passed through as bytes, where a typed message is expected.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Raw(pub Bytes);

/// Type that can be sent as a message: every serde type, encoded with postcard, and [`Raw`].
pub trait Encode {
    /// Encodes the message.
    ///
    /// # Errors
    ///
    /// [`CodecError`] if the value cannot be represented.
    fn encode(&self) -> Result<Bytes, CodecError>;

    /// Encodes the message in this encoding. A type with a codec of its own has no other.
    ///
    /// # Errors
    ///
    /// As of [`encode`](Self::encode).
    fn encode_as(&self, encoding: Encoding) -> Result<Bytes, CodecError> {
        let _ = encoding;
        self.encode()
    }
}

/// Type that can be decoded from a message: every serde type, encoded with postcard, and [`Raw`].
pub trait Decode: Sized {
    /// Decodes the message, all of whose bytes have to be used.
    ///
    /// # Errors
    ///
    /// [`CodecError`] if the bytes are not a value of this type.
    fn decode(bytes: Bytes) -> Result<Self, CodecError>;

    /// Decodes the message from this encoding. A type with a codec of its own has no other.
    ///
    /// # Errors
    ///
    /// As of [`decode`](Self::decode).
    fn decode_as(bytes: Bytes, encoding: Encoding) -> Result<Self, CodecError> {
        let _ = encoding;
        Self::decode(bytes)
    }
}

/// Encoding of the messages of a method.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// Postcard: compact, without names. Caller and server have the same types.
    #[default]
    Postcard,
    /// MessagePack with the names of fields and variants, for types that differ.
    Named,
}

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
    TrailingBytes(usize),
    Text(Box<str>),
}

impl CodecError {
    /// Error of a codec other than postcard, for types that implement [`Encode`] or [`Decode`]
    /// themselves.
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

    fn postcard(kind: CodecErrorKind, error: postcard::Error) -> Self {
        let cause = Cause::Postcard(error);
        Self { kind, cause }
    }
}

impl fmt::Display for CodecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.cause {
            Cause::Postcard(error) => error.fmt(f),
            Cause::TrailingBytes(count) => write!(f, "{count} trailing bytes after the value"),
            Cause::Text(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for CodecError {}

impl<T: Serialize + ?Sized> Encode for T {
    fn encode(&self) -> Result<Bytes, CodecError> {
        to_postcard(self)
    }
}

impl<T: DeserializeOwned> Decode for T {
    fn decode(bytes: Bytes) -> Result<Self, CodecError> {
        from_postcard(&bytes)
    }
}

impl Encode for Raw {
    fn encode(&self) -> Result<Bytes, CodecError> {
        Ok(self.0.clone())
    }
}

impl Decode for Raw {
    fn decode(bytes: Bytes) -> Result<Self, CodecError> {
        Ok(Self(bytes))
    }
}

impl<T: Into<Bytes>> From<T> for Raw {
    fn from(bytes: T) -> Self {
        Self(bytes.into())
    }
}

pub(crate) fn to_postcard<T: Serialize + ?Sized>(value: &T) -> Result<Bytes, CodecError> {
    let bytes = postcard::to_stdvec(value);
    let bytes = bytes.map_err(|e| CodecError::postcard(CodecErrorKind::Encode, e))?;
    Ok(bytes.into())
}

pub(crate) fn from_postcard<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    let taken = postcard::take_from_bytes(bytes);
    let (value, rest) = taken.map_err(|e| CodecError::postcard(CodecErrorKind::Decode, e))?;
    if rest.is_empty() {
        Ok(value)
    } else {
        Err(CodecError {
            kind: CodecErrorKind::TrailingBytes,
            cause: Cause::TrailingBytes(rest.len()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trailing_bytes_are_rejected() {
        let mut bytes = to_postcard(&(7u32, "seven")).unwrap().to_vec();
        assert_eq!(
            from_postcard::<(u32, String)>(&bytes),
            Ok((7, "seven".to_owned()))
        );
        let text = str::encode("without a size of its own").unwrap();
        assert_eq!(
            from_postcard(&text),
            Ok("without a size of its own".to_owned())
        );
        bytes.push(0);
        let error = from_postcard::<(u32, String)>(&bytes).unwrap_err();
        assert_eq!(error.kind(), CodecErrorKind::TrailingBytes);
        assert_eq!(error.to_string(), "1 trailing bytes after the value");
        let error = from_postcard::<(u32, String)>(&bytes[..1]).unwrap_err();
        assert_eq!(error.kind(), CodecErrorKind::Decode);
    }

    #[test]
    fn raw_passes_bytes_unchanged() {
        let bytes = Bytes::from_static(b"as they are");
        assert_eq!(Raw(bytes.clone()).encode().unwrap(), bytes);
        assert_eq!(Raw::decode(bytes.clone()).unwrap().0, bytes);
    }
}
