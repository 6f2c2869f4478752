//! Member info: what is claimed of a member, equal in most views.

use std::net::SocketAddr;
use std::sync::Arc;

use super::compact_addr::CompactAddr;
use crate::tags::Tags;
use crate::wire::{Claim, Record};

/// Name, version, address and tags of a member.
///
/// With the feature `unstable` the engines of a simulation share equal ones
/// (`Interner`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MemberInfo {
    /// Hash of the name.
    pub(crate) key: u64,
    pub(crate) epoch: u64,
    pub(crate) incarnation: u32,
    pub(super) flags: SelfReport,
    pub(super) addr: CompactAddr,
    pub(crate) name: Arc<str>,
    pub(crate) tags: Tags,
}

/// Flags that a member reports of itself beside its address and tags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SelfReport(u8);

impl MemberInfo {
    pub(super) fn new(record: &Record, tags: Tags) -> Self {
        Self {
            key: record.key(),
            epoch: record.epoch,
            incarnation: record.incarnation,
            flags: SelfReport::new(record),
            addr: record.addr.into(),
            name: record.name.clone(),
            tags,
        }
    }

    /// Takes over what a record says beside name and claim.
    pub(super) fn update(&mut self, record: &Record) {
        self.epoch = record.epoch;
        self.incarnation = record.incarnation;
        self.flags = SelfReport::new(record);
        self.addr = record.addr.into();
    }

    /// Advertised address.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr.into()
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.flags.0 & DRAINING != 0
    }

    /// Whether the member reports that all answers take it long.
    pub(crate) fn self_reports_slow(&self) -> bool {
        self.flags.0 & SLOW != 0
    }

    /// Whether the member reports that no peer reaches it.
    pub(crate) fn self_reports_unreachable(&self) -> bool {
        self.flags.0 & UNREACHABLE != 0
    }

    /// Record with this claim.
    pub(super) fn record(&self, claim: Claim) -> Record {
        Record {
            name: self.name.clone(),
            epoch: self.epoch,
            incarnation: self.incarnation,
            addr: self.addr(),
            draining: self.is_draining(),
            slow: self.self_reports_slow(),
            unreachable: self.self_reports_unreachable(),
            claim,
        }
    }
}

impl SelfReport {
    fn new(record: &Record) -> Self {
        let flag = |is_set: bool, flag: u8| if is_set { flag } else { 0 };
        Self(
            flag(record.draining, DRAINING)
                | flag(record.slow, SLOW)
                | flag(record.unreachable, UNREACHABLE),
        )
    }
}

const DRAINING: u8 = 1;
const SLOW: u8 = 2;
const UNREACHABLE: u8 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_takes_few_bytes() {
        assert!(size_of::<MemberInfo>() <= 72);
    }
}
