//! Encoding and decoding of messages.

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
}

/// Type that can be decoded from a message: every serde type, encoded with postcard, and [`Raw`].
pub trait Decode: Sized {
    /// Decodes the message, all of whose bytes have to be used.
    ///
    /// # Errors
    ///
    /// [`CodecError`] if the bytes are not a value of this type.
    fn decode(bytes: Bytes) -> Result<Self, CodecError>;
}

/// Value that could not be encoded or decoded. The same value fails again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CodecError {
    /// The encoder or decoder failed.
    #[error(transparent)]
    Postcard(#[from] postcard::Error),
    /// Bytes are left after the value: it was encoded as another type.
    #[error("{0} trailing bytes after the value")]
    TrailingBytes(usize),
}

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
    Ok(postcard::to_stdvec(value)?.into())
}

pub(crate) fn from_postcard<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    let (value, rest) = postcard::take_from_bytes(bytes)?;
    if rest.is_empty() {
        Ok(value)
    } else {
        Err(CodecError::TrailingBytes(rest.len()))
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
        assert_eq!(
            from_postcard::<(u32, String)>(&bytes),
            Err(CodecError::TrailingBytes(1))
        );
    }

    #[test]
    fn raw_passes_bytes_unchanged() {
        let bytes = Bytes::from_static(b"as they are");
        assert_eq!(Raw(bytes.clone()).encode().unwrap(), bytes);
        assert_eq!(Raw::decode(bytes.clone()).unwrap().0, bytes);
    }
}
