//! Named encoding: MessagePack with the names of fields and variants.
//!
//! It describes itself, so that serde's own rules bridge types that differ: unknown fields are
//! skipped, defaults fill in, and integers are read by value. Structs are maps with names, a unit
//! variant is its name, another variant a map of its name and its content, `()` and unit structs
//! are nil, 128-bit integers are 16 bytes in big-endian order, and `Some` is the value itself.
//!
//! One byte is not MessagePack's: [`SOME`], which is unused there, stands before the content of a
//! `Some` that is nil or begins with it, so `Some(None)`, `Some(())` and `None` are told apart.
//!
//! Both directions count nesting, also that of enums and options. A decoder that did not (that of
//! rmp-serde does not) would overflow the stack: a type that contains itself is as deep as the
//! bytes of a peer say.

mod decoder;
mod encoder;
mod token;

#[cfg(test)]
mod tests;

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};

use self::{decoder::Decoder, encoder::Encoder};
use super::{CodecError, CodecErrorKind};

/// Most levels of nesting: sequences, maps, variants with content, and `Some`.
pub(super) const DEPTH_MAX: u8 = 128;

const NIL: u8 = 0xc0;
const SOME: u8 = 0xc1;

pub(super) fn to_named<T: Serialize + ?Sized>(value: &T) -> Result<Bytes, CodecError> {
    let mut encoder = Encoder::default();
    let written = value.serialize(&mut encoder);
    written.map_err(|error| CodecError::named(CodecErrorKind::Encode, error))?;
    Ok(encoder.into_bytes().into())
}

pub(super) fn from_named<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    let mut decoder = Decoder::new(bytes);
    let value = T::deserialize(&mut decoder);
    let value = value.map_err(|error| CodecError::named(CodecErrorKind::Decode, error))?;
    match decoder.rest_len() {
        0 => Ok(value),
        rest => Err(CodecError::trailing_bytes(rest)),
    }
}
