//! A record: what is claimed of one member.

use std::net::SocketAddr;
use std::sync::Arc;

use super::{Malformed, Reader, Writer};
use crate::id::{is_valid_name, name_key, tags_bytes_max};
use crate::tags::Tags;

/// What somebody claims of a member. Records travel on pings, in gossip and in syncs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) name: Arc<str>,
    pub(crate) epoch: u64,
    pub(crate) incarnation: u32,
    pub(crate) addr: SocketAddr,
    /// The member takes no new work and is about to leave.
    pub(crate) draining: bool,
    /// The member finds that everybody's answers take it long.
    pub(crate) slow: bool,
    /// The member finds that no peer reaches it at the address that it advertises.
    pub(crate) unreachable: bool,
    pub(crate) claim: Claim,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Claim {
    Alive(Tags),
    Suspect(Suspectors),
    Failed,
    Left,
}

impl Record {
    pub(crate) fn key(&self) -> u64 {
        name_key(&self.name)
    }

    pub(crate) fn encode(&self, out: &mut impl Writer) {
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

    /// Reads a record. Most tell what is known: then its name and tags are those in `known`.
    pub(crate) fn decode(
        reader: &mut Reader<'_>,
        known: &impl KnownMembers,
    ) -> Result<Self, Malformed> {
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
                // What is passed on has to fit a datagram.
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

/// What a reader of records has already, to share it.
pub(crate) trait KnownMembers {
    /// The member of this name, and the tags that are known of it.
    fn by_name(&self, name: &str) -> Option<(&Arc<str>, &Tags)>;
}

/// Who suspects a member and how sure each is: a set that only grows, by merging.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Suspectors {
    confirmations: [Confirmation; MAX_SUSPECTORS],
    len: u8,
}

/// One suspector's evidence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Confirmation {
    /// The suspector's key.
    pub(crate) by: u64,
    /// Its phi in sixteenths.
    pub(crate) phi_q4: u8,
}

impl Confirmation {
    pub(crate) fn new(by: u64, phi: f64) -> Self {
        // A float cast saturates.
        Self {
            by,
            phi_q4: (phi * 16.0) as u8,
        }
    }

    pub(crate) fn phi(self) -> f64 {
        f64::from(self.phi_q4) / 16.0
    }
}

impl Suspectors {
    pub(crate) fn confirmations(&self) -> &[Confirmation] {
        &self.confirmations[..self.len.into()]
    }

    /// Takes a vote in: the higher phi of each suspector, and the surest if there are too many.
    /// Says whether anything changed.
    pub(crate) fn merge(&mut self, vote: Confirmation) -> bool {
        let len = usize::from(self.len);
        if let Some(known) = self.confirmations[..len]
            .iter_mut()
            .find(|known| known.by == vote.by)
        {
            let grows = vote.phi_q4 > known.phi_q4;
            known.phi_q4 = known.phi_q4.max(vote.phi_q4);
            return grows;
        }
        if len < MAX_SUSPECTORS {
            self.confirmations[len] = vote;
            self.len += 1;
            return true;
        }
        let weakest = self
            .confirmations
            .iter_mut()
            .min_by_key(|known| (known.phi_q4, known.by));
        let weakest = weakest.expect("the set is full");
        let stronger = (vote.phi_q4, vote.by) > (weakest.phi_q4, weakest.by);
        if stronger {
            *weakest = vote;
        }
        stronger
    }

    /// Takes a suspector's vote out.
    pub(crate) fn retract(&mut self, by: u64) {
        if let Some(at) = self.confirmations().iter().position(|vote| vote.by == by) {
            self.len -= 1;
            self.confirmations.swap(at, self.len.into());
        }
    }

    pub(crate) fn contains(&self, by: u64) -> bool {
        self.confirmations().iter().any(|vote| vote.by == by)
    }

    fn encode(&self, out: &mut impl Writer) {
        out.put_u8(self.len);
        for vote in self.confirmations() {
            out.put_u64(vote.by);
            out.put_u8(vote.phi_q4);
        }
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let len = reader.u8()?;
        if usize::from(len) > MAX_SUSPECTORS {
            return Err(Malformed);
        }
        let mut suspectors = Self::default();
        for _ in 0..len {
            let vote = Confirmation {
                by: reader.u64()?,
                phi_q4: reader.u8()?,
            };
            if suspectors.contains(vote.by) {
                return Err(Malformed);
            }
            suspectors.merge(vote);
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
