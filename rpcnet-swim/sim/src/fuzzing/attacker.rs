//! Attacker of the fuzz target of engines: what it sends, and in whose name.

use std::net::SocketAddr;

use arbitrary::Arbitrary;
use rpcnet_swim::Tags;
use rpcnet_swim::unstable::{Claim, Confirmation, Record, Suspectors, name_key};

/// Apparent sender of an attacker's datagram, and its receiver.
#[derive(Clone, Debug, Arbitrary)]
pub struct AttackerSender {
    pub(super) name: u8,
    pub(super) epoch: FuzzedNumber,
    pub(super) counter: FuzzedNumber,
    pub(super) addr: u8,
    pub(super) to: u8,
    /// Whether it names a wrong receiver (`true`) or none (`false`).
    pub(super) misaddressed: Option<bool>,
}

/// A number on the network: near what is expected, or anything.
#[derive(Clone, Debug, Arbitrary)]
pub enum FuzzedNumber {
    /// Offset from the last one, or from the known value.
    Near(i8),
    /// Any number.
    Any(u64),
}

/// A message of the attacker, with records of any member.
#[derive(Clone, Debug, Arbitrary)]
pub enum AttackerMessage {
    Ping(u64, Vec<AttackerRecord>),
    Ack(u8, u64, Vec<AttackerRecord>),
    PingReq(u8, Vec<AttackerRecord>),
    RelayedAck(u8, u8),
    Nack(u8, u8),
    Gossip(Vec<AttackerRecord>),
    Hello(u64, AttackerRecord),
    Challenge(u64, FuzzedNumber),
    Welcome(FuzzedNumber, u64, AttackerRecord),
    Refused(FuzzedNumber, AttackerRecord),
    Leave(AttackerRecord),
    LeaveAck(u8),
    Digest(u64),
    Summary(u64, u64, Vec<(u8, u64)>),
    Pull(Vec<u8>),
    Records(Vec<AttackerRecord>),
    FullPull(u64),
    FullPage(u64, Option<u64>, Vec<AttackerRecord>),
}

/// A record as the attacker writes it.
#[derive(Clone, Debug, Arbitrary)]
pub struct AttackerRecord {
    name: u8,
    epoch: FuzzedNumber,
    incarnation: FuzzedNumber,
    addr: u8,
    flags: u8,
    confirmations: Vec<(u8, u8)>,
}

impl FuzzedNumber {
    pub(super) fn near(&self, expected: u64) -> u64 {
        match self {
            Self::Near(more) => expected.wrapping_add_signed((*more).into()),
            Self::Any(number) => *number,
        }
    }
}

impl AttackerRecord {
    pub(super) fn record(&self) -> Record {
        let mut suspectors = Suspectors::default();
        for (by, phi_q4) in &self.confirmations {
            let by = name_key(&name(usize::from(*by) % NAMES));
            suspectors.merge(Confirmation {
                by,
                phi_q4: *phi_q4,
            });
        }
        let tags = self
            .confirmations
            .iter()
            .map(|(k, v)| (format!("k{k}"), v.to_string()));
        Record {
            name: name(usize::from(self.name) % NAMES).into(),
            epoch: self.epoch.near(EPOCH),
            incarnation: self.incarnation.near(0) as u32,
            addr: addr(self.addr.into()),
            draining: self.flags & 4 != 0,
            slow: self.flags & 8 != 0,
            unreachable: self.flags & 16 != 0,
            claim: match self.flags & 3 {
                0 => Claim::Alive(Tags::from_pairs(tags.take(16)).unwrap_or_default()),
                1 => Claim::Suspect(suspectors),
                2 => Claim::Failed,
                _ => Claim::Left,
            },
        }
    }
}

pub(super) fn name(n: usize) -> String {
    format!("n-{n}")
}

/// Addresses of any node; the first belong to the nodes of the run.
pub(super) fn addr(n: usize) -> SocketAddr {
    match n {
        0..128 => SocketAddr::from(([10, 0, 0, n as u8 + 1], 7_946)),
        _ => SocketAddr::from(([0xfd00, 0, 0, 0, 0, 0, 0, n as u16], 7_946)),
    }
}

/// Names that are heard of, those of the nodes among them.
pub(super) const NAMES: usize = 16;
/// When the nodes started.
pub(super) const EPOCH: u64 = 1_700_000_000_000;
