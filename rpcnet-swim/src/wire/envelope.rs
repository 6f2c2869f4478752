//! What stands around a message: version, cluster and seal.

use std::num::NonZeroU8;

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::{Malformed, Reader, Write};
use crate::key::{KeyId, KeyRing, NONCE_BYTES, Nonce, SEAL_BYTES, Sealer};

/// Wraps and unwraps the datagrams of one cluster for one life of one node.
#[derive(Debug)]
pub(crate) struct Envelope {
    /// Hash of the cluster's name.
    cluster: u64,
    /// The keys, the one to seal with first; none for insecure gossip.
    sealers: Vec<Sealer>,
    /// What no other life of any node has: the constant part of every nonce.
    nonce_prefix: [u8; NONCE_BYTES - 8],
}

/// One of the keys that an envelope opens with, in a byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct KeySlot(NonZeroU8);

/// Why a datagram was refused. It had no effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    Malformed,
    Version,
    Cluster,
    Unsealed,
    UnknownKey,
    Seal,
}

impl Envelope {
    /// `life` and `seed` together must be unlike those of any other node that has the key.
    pub(crate) fn new(cluster: &str, keys: Option<&KeyRing>, life: u64, seed: u64) -> Self {
        let mut nonce_prefix = [0; NONCE_BYTES - 8];
        nonce_prefix[..8].copy_from_slice(&life.to_le_bytes());
        nonce_prefix[8..].copy_from_slice(&xxh3_64_with_seed(b"nonce", seed).to_le_bytes());
        Self {
            cluster: xxh3_64(cluster.as_bytes()),
            sealers: keys
                .into_iter()
                .flat_map(KeyRing::keys)
                .map(Sealer::new)
                .collect(),
            nonce_prefix,
        }
    }

    /// The public name of a key.
    pub(crate) fn key_id(&self, slot: KeySlot) -> KeyId {
        self.sealers[usize::from(slot.0.get()) - 1].id
    }

    /// Bytes that an envelope adds to a body.
    pub(crate) fn overhead(&self) -> usize {
        match self.sealers.is_empty() {
            true => CLEAR_BYTES,
            false => SEALED_BYTES + SEAL_BYTES,
        }
    }

    /// Starts a datagram: the caller appends the body, then calls [`Envelope::close`].
    pub(crate) fn open(&self, counter: u64, out: &mut Vec<u8>) {
        out.clear();
        out.put_u8(VERSION);
        out.put_u8(u8::from(!self.sealers.is_empty()));
        out.put_u64(self.cluster);
        if let Some(sealer) = self.sealers.first() {
            out.put_u32(sealer.id.0);
            out.put(&self.nonce_prefix);
            out.put_u64(counter);
        }
    }

    /// Seals what was appended since [`Envelope::open`].
    pub(crate) fn close(&self, out: &mut Vec<u8>) {
        let Some(sealer) = self.sealers.first() else {
            return;
        };
        let (head, body) = out.split_at_mut(SEALED_BYTES);
        let nonce = head
            .last_chunk::<NONCE_BYTES>()
            .expect("the nonce ends the head");
        let tag = sealer.seal(nonce, head, body);
        out.put(&tag);
    }

    /// Opens a datagram in place and gives its body, and the key it was sealed with.
    pub(crate) fn unwrap<'a>(
        &self,
        datagram: &'a mut [u8],
    ) -> Result<(&'a [u8], Option<KeySlot>), Refusal> {
        let mut reader = Reader::new(datagram);
        let version = reader.u8()?;
        if version != VERSION {
            let ours = version & VERSION_MASK == VERSION & VERSION_MASK;
            return Err(if ours {
                Refusal::Version
            } else {
                Refusal::Malformed
            });
        }
        let sealed = match reader.u8()? {
            0 => false,
            1 => true,
            _ => return Err(Refusal::Malformed),
        };
        if reader.u64()? != self.cluster {
            return Err(Refusal::Cluster);
        }
        if !sealed {
            return match self.sealers.is_empty() {
                true => Ok((&datagram[CLEAR_BYTES..], None)),
                false => Err(Refusal::Unsealed),
            };
        }
        let id = KeyId(reader.u32()?);
        let nonce: Nonce = reader.array()?;
        let (slot, sealer) = (1..)
            .filter_map(NonZeroU8::new)
            .zip(&self.sealers)
            .find(|(_, sealer)| sealer.id == id)
            .ok_or(Refusal::UnknownKey)?;
        let (head, rest) = datagram.split_at_mut(SEALED_BYTES);
        let body_len = rest
            .len()
            .checked_sub(SEAL_BYTES)
            .ok_or(Refusal::Malformed)?;
        let (body, tag) = rest.split_at_mut(body_len);
        match sealer.open(&nonce, head, body, tag) {
            true => Ok((body, Some(KeySlot(slot)))),
            false => Err(Refusal::Seal),
        }
    }
}

impl From<Malformed> for Refusal {
    fn from(_: Malformed) -> Self {
        Self::Malformed
    }
}

/// First byte: gossip (bit 0x40 clear, which QUIC always sets) of wire version 1.
const VERSION: u8 = 0x20 | 1;
/// The bits that say «gossip», whatever the version.
const VERSION_MASK: u8 = 0xf0;
/// Version, sealed, cluster.
const CLEAR_BYTES: usize = 1 + 1 + 8;
/// The same with key id and nonce.
const SEALED_BYTES: usize = CLEAR_BYTES + 4 + NONCE_BYTES;
