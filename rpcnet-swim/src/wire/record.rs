//! Records: what is claimed about one member.

use std::net::SocketAddr;
use std::sync::Arc;

use super::{Malformed, Reader, Writer};
use crate::id::{is_valid_name, name_key};
use crate::limits::tags_bytes_max;
use crate::tags::Tags;

/// A claim about a member. Records travel on pings, in gossip and in syncs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub name: Arc<str>,
    pub epoch: u64,
    pub incarnation: u32,
    pub addr: SocketAddr,
    /// Whether the member drains: it takes no new work, or is leaving.
    pub draining: bool,
    /// Whether the member finds that all answers take it long.
    pub slow: bool,
    /// Whether the member finds that no peer reaches it at its advertised address.
    pub unreachable: bool,
    pub claim: Claim,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    Alive(Tags),
    Suspect(Suspectors),
    Failed,
    Left,
}

impl Record {
    pub fn key(&self) -> u64 {
        name_key(&self.name)
    }

    pub fn encode(&self, out: &mut impl Writer) {
        let kind = match &self.claim {
            Claim::Alive(_) => ALIVE,
            Claim::Suspect(_) => SUSPECT,
            Claim::Failed => FAILED,
            Claim::Left => LEFT,
        };
        let draining = if self.draining { DRAINING } else { 0 };
        let slow = if self.slow { SLOW } else { 0 };
        let unreachable = if self.unreachable { UNREACHABLE } else { 0 };
        out.put_u8(kind | draining | slow | unreachable);
        out.put_short_str(&self.name);
        out.put_varint(self.epoch);
        out.put_varint(self.incarnation.into());
        out.put_addr(self.addr);
        match &self.claim {
            Claim::Alive(tags) => {
                out.put_varint(tags.encoded().len() as u64);
                out.put(tags.encoded());
            }
            Claim::Suspect(suspectors) => suspectors.encode(out),
            Claim::Failed | Claim::Left => {}
        }
    }

    /// Reads a record. Most repeat what is known: then its name and tags are those in `known`.
    pub fn decode(reader: &mut Reader<'_>, known: &impl KnownMembers) -> Result<Self, Malformed> {
        let head = reader.u8()?;
        let name = reader.short_str()?;
        let known = known.by_name(name);
        if known.is_none() && !is_valid_name(name) {
            return Err(Malformed);
        }
        let epoch = reader.varint()?;
        let incarnation = u32::try_from(reader.varint()?).map_err(|_| Malformed)?;
        let addr = reader.addr()?;
        let claim = match head & !(DRAINING | SLOW | UNREACHABLE) {
            ALIVE => {
                let len = usize::try_from(reader.varint()?).map_err(|_| Malformed)?;
                let encoded = reader.bytes(len)?;
                // Tags that are passed on have to fit a datagram.
                if len > tags_bytes_max(name) {
                    return Err(Malformed);
                }
                Claim::Alive(match known {
                    Some((_, tags)) if tags.encoded() == encoded => tags.clone(),
                    _ => Tags::decode(encoded)?,
                })
            }
            SUSPECT => Claim::Suspect(Suspectors::decode(reader)?),
            FAILED => Claim::Failed,
            LEFT => Claim::Left,
            _ => return Err(Malformed),
        };
        let draining = head & DRAINING != 0;
        Ok(Self {
            name: known.map_or_else(|| name.into(), |(name, _)| name.clone()),
            epoch,
            incarnation,
            addr,
            draining,
            slow: head & SLOW != 0,
            unreachable: head & UNREACHABLE != 0,
            claim,
        })
    }
}

/// Names and tags that a reader of records has already, to share them.
pub trait KnownMembers {
    /// Name and tags of the member of this name, if it is known.
    fn by_name(&self, name: &str) -> Option<(&Arc<str>, &Tags)>;
}

/// Known members where there are none.
#[cfg(any(test, feature = "unstable"))]
#[derive(Clone, Copy, Debug)]
pub struct NoKnownMembers;

#[cfg(any(test, feature = "unstable"))]
impl KnownMembers for NoKnownMembers {
    fn by_name(&self, _: &str) -> Option<(&Arc<str>, &Tags)> {
        None
    }
}

/// The suspectors of a member, each with its evidence: a set that only grows, by merging.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Suspectors {
    confirmations: [Confirmation; MAX_SUSPECTORS],
    len: u8,
}

/// Confirmation of a suspicion: one suspector's evidence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Confirmation {
    /// The suspector's key.
    pub by: u64,
    /// The suspector's phi in sixteenths.
    pub phi_q4: u8,
}

impl Confirmation {
    pub fn new(by: u64, phi: f64) -> Self {
        // A float cast saturates.
        Self {
            by,
            phi_q4: (phi * 16.0) as u8,
        }
    }

    pub fn phi(self) -> f64 {
        f64::from(self.phi_q4) / 16.0
    }
}

impl Suspectors {
    pub fn confirmations(&self) -> &[Confirmation] {
        &self.confirmations[..self.len.into()]
    }

    /// Merges a confirmation: keeps the higher phi of each suspector, and the surest suspectors if
    /// there are too many. Returns whether anything changed.
    pub fn merge(&mut self, confirmation: Confirmation) -> bool {
        let len = usize::from(self.len);
        if let Some(known) = self.confirmations[..len]
            .iter_mut()
            .find(|known| known.by == confirmation.by)
        {
            let grows = confirmation.phi_q4 > known.phi_q4;
            known.phi_q4 = known.phi_q4.max(confirmation.phi_q4);
            return grows;
        }
        if len < MAX_SUSPECTORS {
            self.confirmations[len] = confirmation;
            self.len += 1;
            return true;
        }
        let weakest = self
            .confirmations
            .iter_mut()
            .min_by_key(|known| (known.phi_q4, known.by));
        let weakest = weakest.expect("the set is full");
        let stronger = (confirmation.phi_q4, confirmation.by) > (weakest.phi_q4, weakest.by);
        if stronger {
            *weakest = confirmation;
        }
        stronger
    }

    /// Removes a suspector's confirmation.
    pub fn retract(&mut self, by: u64) {
        if let Some(at) = self
            .confirmations()
            .iter()
            .position(|confirmation| confirmation.by == by)
        {
            self.len -= 1;
            self.confirmations.swap(at, self.len.into());
        }
    }

    pub fn contains(&self, by: u64) -> bool {
        self.confirmations()
            .iter()
            .any(|confirmation| confirmation.by == by)
    }

    fn encode(&self, out: &mut impl Writer) {
        out.put_u8(self.len);
        for confirmation in self.confirmations() {
            out.put_u64(confirmation.by);
            out.put_u8(confirmation.phi_q4);
        }
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let len = reader.u8()?;
        if usize::from(len) > MAX_SUSPECTORS {
            return Err(Malformed);
        }
        let mut suspectors = Self::default();
        for _ in 0..len {
            let confirmation = Confirmation {
                by: reader.u64()?,
                phi_q4: reader.u8()?,
            };
            if suspectors.contains(confirmation.by) {
                return Err(Malformed);
            }
            suspectors.merge(confirmation);
        }
        Ok(suspectors)
    }
}

/// Most suspectors that a suspicion names.
pub(crate) const MAX_SUSPECTORS: usize = 4;

const ALIVE: u8 = 0;
const SUSPECT: u8 = 1;
const FAILED: u8 = 2;
const LEFT: u8 = 3;
const DRAINING: u8 = 0x80;
const SLOW: u8 = 0x40;
const UNREACHABLE: u8 = 0x20;
