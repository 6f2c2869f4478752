//! Attacker of the fuzz target of engines: what it sends, and in whose name.

use std::net::SocketAddr;

use arbitrary::Arbitrary;
use rpcnet_swim::Tags;
use rpcnet_swim::unstable::{
    Claim, Confirmation, DIGEST_BUCKETS, Payload, ProbeTarget, Record, Suspectors, SyncPage,
    Welcome, name_key,
};

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

impl AttackerMessage {
    /// The message as `sender` sends it. `seq` is the last sequence number that a node used.
    pub(super) fn payload(&self, sender: &AttackerSender, seq: u32) -> Payload {
        match self {
            Self::Ping(..)
            | Self::Ack(..)
            | Self::PingReq(..)
            | Self::RelayedAck(..)
            | Self::Nack(..) => self.probe_payload(seq),
            Self::Gossip(records) => Payload::Gossip {
                updates: encoded(records),
            },
            Self::Hello(..) | Self::Challenge(..) | Self::Welcome(..) | Self::Refused(..) => {
                self.join_payload(sender)
            }
            Self::Leave(me) => Payload::Leave {
                seq: 1,
                me: me.record_of(sender),
            },
            Self::LeaveAck(back) => Payload::LeaveAck {
                seq: seq_before(seq, *back),
            },
            Self::Digest(..)
            | Self::Summary(..)
            | Self::Pull(..)
            | Self::Records(..)
            | Self::FullPull(..)
            | Self::FullPage(..) => self.anti_entropy_payload(),
        }
    }

    /// A message of a probe round.
    fn probe_payload(&self, seq: u32) -> Payload {
        match self {
            Self::Ping(view, records) => Payload::Ping {
                seq: *view as u32,
                view: *view,
                updates: encoded(records),
            },
            Self::Ack(back, view, records) => Payload::Ack {
                seq: seq_before(seq, *back),
                view: *view,
                updates: encoded(records),
            },
            Self::PingReq(target, records) => Payload::PingReq {
                seq: u32::from(*target),
                target: ProbeTarget {
                    key: key(*target),
                    epoch: EPOCH,
                    addr: addr((*target).into()),
                },
                updates: encoded(records),
            },
            Self::RelayedAck(back, target) => Payload::RelayedAck {
                seq: seq_before(seq, *back),
                target: key(*target),
            },
            Self::Nack(back, target) => Payload::Nack {
                seq: seq_before(seq, *back),
                target: key(*target),
            },
            _ => unreachable!("no message of a probe round"),
        }
    }

    /// A hello or an answer to one.
    fn join_payload(&self, sender: &AttackerSender) -> Payload {
        match self {
            Self::Hello(cookie, me) => Payload::Hello {
                cookie: *cookie,
                me: me.record_of(sender),
            },
            Self::Challenge(cookie, echo) => Payload::Challenge {
                cookie: *cookie,
                echo: echo.near(1),
                seen: cookie
                    .is_multiple_of(2)
                    .then(|| addr((*cookie % 256) as usize)),
            },
            Self::Welcome(echo, view, me) => Payload::Welcome(Welcome {
                echo: echo.near(1),
                view: *view,
                seen: addr((*view % 256) as usize),
                me: me.record_of(sender),
            }),
            Self::Refused(echo, known) => Payload::HelloRefused {
                echo: echo.near(1),
                known: known.record(),
            },
            _ => unreachable!("no hello, and no answer to one"),
        }
    }

    /// A message of anti-entropy.
    fn anti_entropy_payload(&self) -> Payload {
        match self {
            Self::Digest(hash) => Payload::SyncDigest {
                buckets: Box::new([*hash; DIGEST_BUCKETS]),
            },
            Self::Summary(first, last, entries) => {
                let mut entries: Vec<_> = entries.iter().map(|(n, v)| (key(*n), *v)).collect();
                entries.sort_unstable();
                entries.dedup_by_key(|(key, _)| *key);
                Payload::SyncSummary(SyncPage {
                    first: *first,
                    last: *last,
                    entries,
                })
            }
            Self::Pull(names) => Payload::SyncPull {
                keys: names.iter().take(128).map(|n| key(*n)).collect(),
            },
            Self::Records(records) => Payload::SyncRecords {
                records: encoded(records),
            },
            Self::FullPull(cursor) => Payload::FullPull { cursor: *cursor },
            Self::FullPage(cursor, next, records) => Payload::FullPage {
                cursor: *cursor,
                next: *next,
                records: encoded(records),
            },
            _ => unreachable!("no message of anti-entropy"),
        }
    }
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
    /// The record as one of the sender itself.
    fn record_of(&self, sender: &AttackerSender) -> Record {
        Record {
            name: name(usize::from(sender.name) % NAMES).into(),
            epoch: sender.epoch.near(EPOCH),
            ..self.record()
        }
    }

    fn record(&self) -> Record {
        let mut suspectors = Suspectors::default();
        for (by, phi_q4) in &self.confirmations {
            let (by, phi_q4) = (key(*by), *phi_q4);
            suspectors.merge(Confirmation { by, phi_q4 });
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

fn encoded(records: &[AttackerRecord]) -> Vec<Record> {
    let records = records.iter().take(16);
    records.map(AttackerRecord::record).collect()
}

fn key(n: u8) -> u64 {
    name_key(&name(usize::from(n) % NAMES))
}

fn seq_before(seq: u32, back: u8) -> u32 {
    seq.wrapping_sub(back.into())
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
