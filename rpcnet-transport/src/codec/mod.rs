//! Encoding and decoding of messages.

mod error;
mod named;
mod postcard_encoder;

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};

use self::error::NamedError;
pub use self::error::{CodecError, CodecErrorKind};
pub(crate) use self::postcard_encoder::Scratch;
pub(crate) use self::postcard_encoder::owned;

/// Encoding of the serde types of a message.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// postcard: values in the order of their types, for peers of equal types.
    #[default]
    Postcard,
    /// MessagePack with the names of fields and variants, for peers whose types differ.
    Named,
}

/// Message that is passed through as bytes, where a typed message is expected.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Raw(pub Bytes);

/// Type that can be sent as a message: every serde type, encoded with postcard, and [`Raw`].
pub trait Encode {
    /// Encodes the message. A small one may share memory with others that this thread has encoded:
    /// copy it to keep it for long.
    ///
    /// # Errors
    ///
    /// [`CodecError`] if the value cannot be represented.
    fn encode(&self) -> Result<Bytes, CodecError>;

    /// Encodes the message with this encoding. Types that implement this trait themselves have one
    /// encoding, and ignore it.
    ///
    /// # Errors
    ///
    /// [`CodecError`] if the value cannot be represented.
    fn encode_as(&self, encoding: Encoding) -> Result<Bytes, CodecError> {
        let _ = encoding;
        self.encode()
    }

    /// Encodes a message that is copied at once.
    ///
    /// # Errors
    ///
    /// As of [`encode`](Self::encode).
    #[doc(hidden)]
    fn encode_scratch(&self) -> Result<Scratch, CodecError> {
        self.encode().map(Scratch::from)
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

    /// Decodes the message with this encoding. Types that implement this trait themselves have one
    /// encoding, and ignore it.
    ///
    /// # Errors
    ///
    /// [`CodecError`] if the bytes are not a value of this type.
    fn decode_as(bytes: Bytes, encoding: Encoding) -> Result<Self, CodecError> {
        let _ = encoding;
        Self::decode(bytes)
    }
}

impl<T: Serialize + ?Sized> Encode for T {
    fn encode(&self) -> Result<Bytes, CodecError> {
        to_postcard(self)
    }

    fn encode_as(&self, encoding: Encoding) -> Result<Bytes, CodecError> {
        match encoding {
            Encoding::Postcard => to_postcard(self),
            Encoding::Named => named::to_named(self),
        }
    }

    #[inline]
    fn encode_scratch(&self) -> Result<Scratch, CodecError> {
        let encoded = postcard_encoder::to_scratch(self);
        encoded.map_err(|e| CodecError::postcard(CodecErrorKind::Encode, e))
    }
}

impl<T: DeserializeOwned> Decode for T {
    fn decode(bytes: Bytes) -> Result<Self, CodecError> {
        from_postcard(&bytes)
    }

    fn decode_as(bytes: Bytes, encoding: Encoding) -> Result<Self, CodecError> {
        match encoding {
            Encoding::Postcard => from_postcard(&bytes),
            Encoding::Named => named::from_named(&bytes),
        }
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
    let encoded = postcard_encoder::to_postcard(value);
    encoded.map_err(|e| CodecError::postcard(CodecErrorKind::Encode, e))
}

pub(crate) fn from_postcard<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    let taken = postcard::take_from_bytes(bytes);
    let (value, rest) = taken.map_err(|e| CodecError::postcard(CodecErrorKind::Decode, e))?;
    if rest.is_empty() {
        Ok(value)
    } else {
        Err(CodecError::trailing_bytes(rest.len()))
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
        let told = "malformed body: unexpected end of the bytes";
        assert_eq!(error.to_string(), told);
        let endless = from_postcard::<u32>(&[0xff; 9]).unwrap_err().to_string();
        assert!(
            endless.starts_with("malformed body: an integer"),
            "{endless}"
        );
    }

    #[test]
    fn raw_passes_bytes_unchanged() {
        let bytes = Bytes::from_static(b"as they are");
        assert_eq!(Raw(bytes.clone()).encode().unwrap(), bytes);
        assert_eq!(Raw::decode(bytes.clone()).unwrap().0, bytes);
        for encoding in [Encoding::Postcard, Encoding::Named] {
            assert_eq!(Raw(bytes.clone()).encode_as(encoding).unwrap(), bytes);
            assert_eq!(Raw::decode_as(bytes.clone(), encoding).unwrap().0, bytes);
        }
    }
}
