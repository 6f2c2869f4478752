//! Wire format of a datagram: codec, messages, envelope. No state, no clock.
//!
//! ```text
//! envelope  version u8 | cluster u32 | from u64 | epoch varint | counter varint
//!           | key id u32 | salt u64 | body ... | tag 16
//! body      kind u8 | to u32 | payload
//! ```
//!
//! In clear, key id, salt and tag are missing. The nonce is made of sender, epoch, salt and
//! counter.
//!
//! The first byte has 0x40 clear, which tells gossip from QUIC on a shared port (RFC 9443). A
//! mismatch notice (`notice`) has no envelope: it is in clear and not authenticated.
//!
//! Integers are little-endian; a varint is LEB128.

mod codec;
mod envelope;
mod message;
mod message_codec;
mod notice;
mod record;
mod record_filter;

pub(crate) use codec::ByteCount;
pub use codec::{Malformed, Reader, Writer};
pub use envelope::{Envelope, KeySlot, OpenError, Origin};
pub use message::{DIGEST_BUCKETS, GossipMessage, Payload, ProbeTarget, SyncPage, Welcome};
pub use notice::MismatchNotice;
pub(crate) use notice::NOTICE_BYTES;
#[cfg(feature = "unstable")]
pub use record::NoKnownMembers;
pub use record::{Claim, Confirmation, KnownMembers, Record, Suspectors};

#[cfg(test)]
pub(crate) mod tests;
