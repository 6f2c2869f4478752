//! Datagram envelope: version, cluster, sender and seal around a message.

use std::num::NonZeroU8;

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::{Malformed, Reader, Writer};
use crate::id::instance_key;
use crate::key::{KeyId, KeyRing, NONCE_BYTES, Nonce, SEAL_BYTES, Sealer};

/// Seals and opens the datagrams of one cluster.
#[derive(Debug)]
pub struct Envelope {
    /// Half of the hash of the cluster's name: it detects a mistake; keys keep attackers out.
    cluster: u32,
    /// The keys, the one to seal with first; none for insecure gossip.
    sealers: Vec<Sealer>,
    /// Part of every nonce, for instances to which a clock that was set back gave the same epoch.
    salt: u64,
}

/// Sender of a datagram: in clear in front of the sealed body, and authenticated with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Key of the sender.
    pub from: u64,
    /// Epoch of the sender.
    pub epoch: u64,
    /// Counter that rises with each datagram of that epoch, to detect a replay.
    pub counter: u64,
}

/// One of the keys that an envelope opens with, in a byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeySlot(NonZeroU8);

/// Error of opening a datagram, which then has no effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenError {
    Malformed,
    UnknownVersion,
    ForeignCluster,
    Unsealed,
    UnknownKey,
    BadSeal,
}

impl Envelope {
    /// An envelope under these keys. Sender and `seed` together must be unlike those of any other
    /// node that has the keys.
    pub fn new(cluster: &str, keys: Option<&KeyRing>, seed: u64) -> Self {
        Self {
            cluster: xxh3_64(cluster.as_bytes()) as u32,
            sealers: keys
                .into_iter()
                .flat_map(KeyRing::keys)
                .map(Sealer::new)
                .collect(),
            salt: xxh3_64_with_seed(b"nonce", seed),
        }
    }

    /// Public id of a key.
    pub fn key_id(&self, slot: KeySlot) -> KeyId {
        self.sealers[usize::from(slot.0.get()) - 1].id
    }

    /// Most bytes that an envelope adds to a body.
    pub fn overhead(&self) -> usize {
        match self.sealers.is_empty() {
            true => CLEAR_BYTES_MAX,
            false => CLEAR_BYTES_MAX + KEY_BYTES + SEAL_BYTES,
        }
    }

    /// Makes a datagram of the body that `body` appends, sealed if there are keys.
    pub fn seal(&self, origin: Origin, out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) {
        let sealer = self.sealers.first();
        out.clear();
        out.put_u8(if sealer.is_some() { SEALED } else { CLEAR });
        out.put_u32(self.cluster);
        out.put_u64(origin.from);
        out.put_varint(origin.epoch);
        out.put_varint(origin.counter);
        if let Some(sealer) = sealer {
            out.put_u32(sealer.id.0);
            out.put_u64(self.salt);
        }
        let head_len = out.len();
        body(out);
        if let Some(sealer) = sealer {
            let (head, body) = out.split_at_mut(head_len);
            let tag = sealer.seal(&origin.nonce(self.salt), head, body);
            out.put(&tag);
        }
    }

    /// The sender that a datagram of this form names, without authentication.
    pub fn origin(datagram: &[u8]) -> Option<Origin> {
        let mut reader = Reader::new(datagram);
        let is_ours = [CLEAR, SEALED].contains(&reader.u8().ok()?);
        reader.u32().ok().filter(|_| is_ours)?;
        Some(Origin {
            from: reader.u64().ok()?,
            epoch: reader.varint().ok()?,
            counter: reader.varint().ok()?,
        })
    }

    /// Whether a datagram may open: what it says in clear is of this version, cluster and one of
    /// the keys. It authenticates nothing.
    pub fn recognizes(&self, datagram: &[u8]) -> bool {
        let mut reader = Reader::new(datagram);
        let is_sealed = !self.sealers.is_empty();
        let version = if is_sealed { SEALED } else { CLEAR };
        if reader.u8() != Ok(version) || reader.u32() != Ok(self.cluster) {
            return false;
        }
        !is_sealed
            || sealed_with(&mut reader)
                .is_ok_and(|id| self.sealers.iter().any(|sealer| sealer.id == id))
    }

    /// Opens a datagram in place and returns its sender, its body and the key it was sealed with.
    pub fn open<'a>(
        &self,
        datagram: &'a mut [u8],
    ) -> Result<(Origin, &'a [u8], Option<KeySlot>), OpenError> {
        let len = datagram.len();
        let mut reader = Reader::new(datagram);
        let is_sealed = match reader.u8()? {
            CLEAR => false,
            SEALED => true,
            version if version & VERSION_MASK == CLEAR & VERSION_MASK => {
                return Err(OpenError::UnknownVersion);
            }
            _ => return Err(OpenError::Malformed),
        };
        if reader.u32()? != self.cluster {
            return Err(OpenError::ForeignCluster);
        }
        let origin = Origin {
            from: reader.u64()?,
            epoch: reader.varint()?,
            counter: reader.varint()?,
        };
        if !is_sealed {
            let head_len = len - reader.len();
            return match self.sealers.is_empty() {
                true => Ok((origin, &datagram[head_len..], None)),
                false => Err(OpenError::Unsealed),
            };
        }
        let (id, salt) = (KeyId(reader.u32()?), reader.u64()?);
        let body_len = reader
            .len()
            .checked_sub(SEAL_BYTES)
            .ok_or(OpenError::Malformed)?;
        let head_len = len - reader.len();
        let (slot, sealer) = (1..)
            .filter_map(NonZeroU8::new)
            .zip(&self.sealers)
            .find(|(_, sealer)| sealer.id == id)
            .ok_or(OpenError::UnknownKey)?;
        let (head, rest) = datagram.split_at_mut(head_len);
        let (body, tag) = rest.split_at_mut(body_len);
        match sealer.open(&origin.nonce(salt), head, body, tag) {
            true => Ok((origin, body, Some(KeySlot(slot)))),
            false => Err(OpenError::BadSeal),
        }
    }
}

/// Reads the key id of a sealed datagram, after its cluster.
fn sealed_with(reader: &mut Reader<'_>) -> Result<KeyId, Malformed> {
    reader.u64()?;
    reader.varint()?;
    reader.varint()?;
    reader.u32().map(KeyId)
}

impl Origin {
    /// The nonce of a datagram, never the same twice under one key: the counter rises within an
    /// epoch, and no two instances share both epoch and salt.
    fn nonce(self, salt: u64) -> Nonce {
        let mut nonce = [0; NONCE_BYTES];
        nonce[..8].copy_from_slice(&instance_key(self.from, self.epoch).to_le_bytes());
        nonce[8..16].copy_from_slice(&salt.to_le_bytes());
        nonce[16..].copy_from_slice(&self.counter.to_le_bytes());
        nonce
    }
}

impl From<Malformed> for OpenError {
    fn from(_: Malformed) -> Self {
        Self::Malformed
    }
}

/// First byte: gossip (bit 0x40 clear, which QUIC always sets) of wire version 2, in clear.
const CLEAR: u8 = 0x20 | 2;
/// First byte of a sealed datagram.
const SEALED: u8 = CLEAR | 0x08;
/// Mask of the bits that mark gossip, whatever the version.
const VERSION_MASK: u8 = 0xf0;
/// Version, cluster, sender, epoch and counter.
const CLEAR_BYTES_MAX: usize = 1 + 4 + 8 + 10 + 10;
/// Key id and salt.
const KEY_BYTES: usize = 4 + 8;
