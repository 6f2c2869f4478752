//! The bytes of a datagram: codec, messages, envelope. No state, no clock.
//!
//! ```text
//! envelope  version u8 | sealed u8 | cluster u64 | key id u32 | nonce 24 | body ... | tag 16
//! body      kind u8 | from u64 | epoch varint | counter varint | to u64 | payload
//! ```
//!
//! The first byte has 0x40 clear, which tells gossip from QUIC on a shared port (RFC 9443).
//! Integers are little-endian; a varint is LEB128.

mod codec;
mod envelope;
mod message;
mod record;

pub(crate) use codec::{Malformed, Reader, Write};
pub(crate) use envelope::{Envelope, KeySlot, Refusal};
pub(crate) use message::{Address, BUCKETS, Header, Message, Payload, SyncPage};
pub(crate) use record::{Claim, Known, Record, Suspectors, Vote};

#[cfg(test)]
mod tests;
