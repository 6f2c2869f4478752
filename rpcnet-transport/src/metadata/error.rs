//! Errors of metadata.

use thiserror::Error;

use super::{METADATA_BYTES_MAX, METADATA_KEY_BYTES_MAX};

/// Reason for which bytes or values are no metadata.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum MetadataError {
    /// A key is empty, too long, or has a character that no key has.
    #[error(
        "invalid metadata key {key:?}: it has 1 to {METADATA_KEY_BYTES_MAX} of the characters \
         a-z, 0-9, '.', '_' and '-'"
    )]
    InvalidKey {
        /// The key, or its beginning.
        key: String,
    },
    /// A peer has sent a key twice.
    #[error("metadata key {key:?} is there twice")]
    RepeatedKey {
        /// The key.
        key: String,
    },
    /// All of it is larger than it may be.
    #[error("metadata of {bytes} bytes exceeds the limit of {METADATA_BYTES_MAX} bytes")]
    TooLarge {
        /// Size of keys and values, with three bytes for each key.
        bytes: usize,
    },
    /// The bytes of a peer end inside an entry.
    #[error("metadata ends inside an entry")]
    Truncated,
    /// The trace context of a peer is none.
    #[error("metadata with an invalid trace context: {0}")]
    TraceContext(#[from] super::TraceContextError),
}
