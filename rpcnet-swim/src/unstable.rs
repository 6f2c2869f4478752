//! Unstable access to engines and to the wire format, for simulators, fuzz targets and other
//! failure detectors.
//!
//! - Other failure detectors: [`DetectorHooks`], [`Engine::with_detector`](crate::Engine), and what
//!   a detector may touch ([`Internals`]).
//! - Checks of whole clusters: what an engine holds and has decided ([`MemberView`],
//!   [`MemberChange`], [`FailureDecision`], [`Occupancy`]), and values shared between engines
//!   ([`Interner`]); and faults that a checker has to notice ([`Tampering`]).
//! - Fuzz targets: the wire format ([`Envelope`], [`GossipMessage`], [`Record`]).
//!
//! Not covered by semantic versioning.

pub use crate::engine::evidence::Evidence;
pub use crate::engine::hooks::{ClaimView, DetectorHooks, PhiSwim};
pub use crate::engine::inspect::{
    DatagramWork, FailureDecision, MemberChange, MemberVersion, MemberView, Occupancy,
};
pub use crate::engine::internals::{Internals, TestClaim};
pub use crate::engine::interner::Interner;
pub use crate::engine::probe_round::ProbeRound;
pub use crate::engine::sender::Sender;
pub use crate::engine::sent_by_kind::SentByKind;
pub use crate::engine::tampering::Tampering;
pub use crate::id::{instance_key, name_key, short_instance_key};
pub use crate::wire::{
    Claim, Confirmation, DIGEST_BUCKETS, Envelope, GossipMessage, KeySlot, KnownMembers, Malformed,
    MismatchNotice, NoKnownMembers, OpenError, Origin, Payload, ProbeTarget, Reader, Record,
    Suspectors, SyncPage, Welcome, Writer,
};

use crate::tags::Tags;

/// Tags in their encoding.
///
/// # Errors
/// [`Malformed`] if no tags encode to these bytes.
pub fn decode_tags(encoded: &[u8]) -> Result<Tags, Malformed> {
    Tags::decode(encoded)
}

/// Encoding of tags.
pub fn encoded_tags(tags: &Tags) -> &[u8] {
    tags.encoded()
}
