//! Named encoding: MessagePack with the names of fields and variants, by rmp-serde.
//!
//! It describes itself, so that serde's own rules bridge types that differ: unknown fields are
//! skipped, defaults fill in, and integers are read by value. Structs are maps with names, a unit
//! variant is its name, another variant a map of its name and its content, `()` is nil, a unit
//! struct is an empty sequence, 128-bit integers are 16 bytes in big-endian order, and `Some` is
//! the value itself.
//!
//! `Some(None)`, `Some(())` and `None` are all nil, so types that hold such an option do not fit
//! this encoding. A [scan](scan::check_value) before the decoder bounds how deep a type that
//! contains itself gets: rmp-serde counts sequences and maps alone, not variants. Of what is left,
//! `Some` and a newtype struct nest without a byte of their own, and a type that nests by these
//! alone is an option of an option.

mod scan;

#[cfg(test)]
mod tests;

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};

use super::{CodecError, CodecErrorKind, NamedError};

/// Most sequences and maps that are nested in each other. A variant with content is a map.
pub(super) const DEPTH_MAX: usize = 128;

pub(super) fn to_named<T: Serialize + ?Sized>(value: &T) -> Result<Bytes, CodecError> {
    let failed = |error| CodecError::named(CodecErrorKind::Encode, error);
    let bytes = rmp_serde::to_vec_named(value).map_err(|error| failed(NamedError::text(error)))?;
    // What no decoder would accept is an error here: rmp-serde checks neither the depth nor the
    // lengths that a type announces.
    match scan::check_value(&bytes).map_err(failed)? {
        0 => Ok(bytes.into()),
        _ => Err(failed(NamedError::WrongLength)),
    }
}

pub(super) fn from_named<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    let failed = |error| CodecError::named(CodecErrorKind::Decode, error);
    match scan::check_value(bytes).map_err(failed)? {
        0 => rmp_serde::from_slice(bytes).map_err(|error| failed(NamedError::text(error))),
        rest => Err(CodecError::trailing_bytes(rest)),
    }
}
