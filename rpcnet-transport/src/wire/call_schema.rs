//! Schema of a typed call, as its header carries it.

use super::WireError;
use crate::codec::Encoding;

/// Schema that a typed call is made with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallSchema {
    /// Hash of the caller's schema of the method.
    pub hash: u64,
    /// Encoding of the messages.
    pub encoding: Encoding,
    /// The caller has compared its schema with the server's, and found them compatible.
    pub is_checked: bool,
    /// The caller only asks whether the schemas are equal or, if it has compared them, whether the
    /// request can be read: the handler does not run. Never on a lane.
    pub only_checks: bool,
}

impl CallSchema {
    /// A call whose schema was not compared with the server's, encoded with postcard.
    #[must_use]
    pub const fn unchecked(hash: u64) -> Self {
        Self {
            hash,
            encoding: Encoding::Postcard,
            is_checked: false,
            only_checks: false,
        }
    }

    pub(super) fn flags(self) -> u8 {
        u8::from(self.encoding == Encoding::Named)
            | u8::from(self.is_checked) << 1
            | u8::from(self.only_checks) << 2
    }

    /// Decodes the flags, of which a lane permits `permitted`.
    pub(super) fn from_parts(flags: u8, hash: u64, permitted: u8) -> Result<Self, WireError> {
        if flags & !permitted != 0 {
            return Err(WireError::UnknownValue {
                field: "schema flags",
                value: flags,
            });
        }
        Ok(Self {
            hash,
            encoding: match flags & 1 {
                0 => Encoding::Postcard,
                _ => Encoding::Named,
            },
            is_checked: flags & 2 != 0,
            only_checks: flags & 4 != 0,
        })
    }

    /// Encodes the schema of a call with a stream of its own.
    pub(super) fn encode(self) -> [u8; CALL_SCHEMA_BYTES] {
        let mut bytes = [0; CALL_SCHEMA_BYTES];
        bytes[..8].copy_from_slice(&self.hash.to_le_bytes());
        bytes[8] = self.flags();
        bytes
    }

    /// Decodes the schema of a call with a stream of its own.
    pub(super) fn decode(bytes: [u8; CALL_SCHEMA_BYTES]) -> Result<Self, WireError> {
        let [hash @ .., flags] = bytes;
        Self::from_parts(flags, u64::from_le_bytes(hash), CALL_SCHEMA_FLAGS)
    }
}

pub(super) const CALL_SCHEMA_BYTES: usize = 9;

/// Flags of a call with a stream of its own.
const CALL_SCHEMA_FLAGS: u8 = 0b111;

/// Flags of a method of a lane.
pub(super) const LANE_SCHEMA_FLAGS: u8 = 0b011;
