//! Messages between nodes, and their encoding.

use std::net::SocketAddr;

use crate::error::JoinRefusal;

use super::{KnownMembers, Malformed, Reader, Record, Writer};

/// A whole message: its receiver and its payload.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// [Short instance key](crate::id::short_instance_key) of the receiver, or zero when the sender
    /// does not know which node it will reach.
    pub to: u32,
    pub payload: Payload,
}

/// Target of an indirect probe: a member as the helper needs it, which may not have it in its own
/// table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProbeTarget {
    pub key: u64,
    pub epoch: u64,
    pub addr: SocketAddr,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Payload {
    /// Ping (SWIM section 3.1).
    Ping {
        seq: u32,
        view: u64,
        updates: Vec<Record>,
    },
    /// Ack of a ping, whose sequence number it echoes.
    Ack {
        seq: u32,
        view: u64,
        updates: Vec<Record>,
    },
    /// Request for an indirect probe of the target.
    PingReq {
        seq: u32,
        target: ProbeTarget,
        updates: Vec<Record>,
    },
    /// The helper's report that the target answered; echoes the sequence number of the ping-req.
    RelayedAck { seq: u32, target: u64 },
    /// The helper's report that the target did not answer, and that it hears the requester (nack,
    /// Lifeguard section IV-A).
    Nack { seq: u32, target: u64 },
    /// Gossip on its own.
    Gossip { updates: Vec<Record> },
    /// Request to be let in, with the cookie of a challenge, or zero.
    Hello { cookie: u64, me: Record },
    /// Challenge to an unknown sender to say hello with this cookie, which proves that it is there
    /// now. Also reports the source address of a hello; not of anything smaller, lest the answer be
    /// larger.
    Challenge {
        cookie: u64,
        echo: u64,
        seen: Option<SocketAddr>,
    },
    /// Admission; echoes the counter of the hello and reports its source address.
    Welcome {
        echo: u64,
        view: u64,
        seen: SocketAddr,
        me: Record,
    },
    /// Refusal of a hello: a newer instance of the sender's name is known, or it has left, or a
    /// newer node has the advertised address.
    HelloRefused { echo: u64, known: Record },
    /// Refusal of a hello whose epoch is too far ahead of the clock that this shows.
    ClockSkew { echo: u64, clock: u64 },
    /// Refusal to let the sender in; echoes the counter of the hello.
    JoinRefused { echo: u64, reason: JoinRefusal },
    /// Announcement that the sender leaves.
    Leave { seq: u32, me: Record },
    /// Acknowledgement of a leave.
    LeaveAck { seq: u32 },
    /// Digest of anti-entropy: hashes of the live members, by the top bits of their keys.
    SyncDigest { buckets: Box<[u64; DIGEST_BUCKETS]> },
    /// Versions of the sender's live members in a range of keys.
    SyncSummary(SyncPage),
    /// Request for the records of these keys.
    SyncPull { keys: Vec<u64> },
    /// Records that were requested or missing.
    SyncRecords { records: Vec<Record> },
    /// Request for all live records, from this key on.
    FullPull { cursor: u64 },
    /// One page of the answer, and the key to go on from, if there is more.
    FullPage {
        cursor: u64,
        next: Option<u64>,
        records: Vec<Record>,
    },
    /// Request for the source address that the receiver sees.
    AddrRequest,
    /// The source address that the datagram with this counter came from.
    AddrObserved { echo: u64, addr: SocketAddr },
}

/// Every live member of a range of keys, with a hash of its version.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SyncPage {
    /// First key of the range.
    pub first: u64,
    /// Last key of the range.
    pub last: u64,
    /// (key, version), sorted by key.
    pub entries: Vec<(u64, u64)>,
}

impl Message {
    /// Reads a message. Names and tags in `known` are not allocated again, and updates go into
    /// `recycled` if it has room.
    pub fn decode(
        body: &[u8],
        known: &impl KnownMembers,
        recycled: &mut Vec<Record>,
    ) -> Result<Self, Malformed> {
        let mut reader = Reader::new(body);
        let kind = reader.u8()?;
        let to = reader.u32()?;
        let payload = Payload::decode(kind, &mut reader, known, recycled)?;
        match reader.is_empty() {
            true => Ok(Self { to, payload }),
            false => Err(Malformed),
        }
    }

    /// Writes the message; the caller has made sure that it fits a datagram.
    pub fn encode(&self, out: &mut impl Writer) {
        out.put_u8(self.payload.kind());
        out.put_u32(self.to);
        self.payload.encode(out);
    }
}

impl Payload {
    fn kind(&self) -> u8 {
        match self {
            Self::Ping { .. } => 1,
            Self::Ack { .. } => 2,
            Self::PingReq { .. } => 3,
            Self::RelayedAck { .. } => 4,
            Self::Nack { .. } => 5,
            Self::Gossip { .. } => 6,
            Self::Hello { .. } => 7,
            Self::Challenge { .. } => 8,
            Self::Welcome { .. } => 9,
            Self::HelloRefused { .. } => 10,
            Self::Leave { .. } => 11,
            Self::LeaveAck { .. } => 12,
            Self::SyncDigest { .. } => 13,
            Self::SyncSummary(_) => 14,
            Self::SyncPull { .. } => 15,
            Self::SyncRecords { .. } => 16,
            Self::FullPull { .. } => 17,
            Self::FullPage { .. } => 18,
            Self::AddrRequest => 19,
            Self::AddrObserved { .. } => 20,
            Self::ClockSkew { .. } => CLOCK_SKEW,
            Self::JoinRefused { .. } => 22,
        }
    }

    /// Number of records, keys and versions in it, by which the work it causes is measured.
    #[cfg(any(test, feature = "unstable"))]
    pub fn item_count(&self) -> usize {
        match self {
            Self::Ping { updates, .. }
            | Self::Ack { updates, .. }
            | Self::PingReq { updates, .. }
            | Self::Gossip { updates } => updates.len(),
            Self::SyncRecords { records } | Self::FullPage { records, .. } => records.len(),
            Self::SyncSummary(page) => page.entries.len(),
            Self::SyncPull { keys } => keys.len(),
            Self::SyncDigest { buckets } => buckets.len(),
            _ => 1,
        }
    }

    fn encode(&self, out: &mut impl Writer) {
        match self {
            Self::Ping { seq, view, updates } | Self::Ack { seq, view, updates } => {
                out.put_u32(*seq);
                out.put_u64(*view);
                put_records(out, updates);
            }
            Self::PingReq {
                seq,
                target,
                updates,
            } => {
                out.put_u32(*seq);
                out.put_u64(target.key);
                out.put_varint(target.epoch);
                out.put_addr(target.addr);
                put_records(out, updates);
            }
            Self::RelayedAck { seq, target } | Self::Nack { seq, target } => {
                out.put_u32(*seq);
                out.put_u64(*target);
            }
            Self::Gossip { updates } => put_records(out, updates),
            Self::Hello { cookie, me } => {
                out.put_u64(*cookie);
                me.encode(out);
            }
            Self::Challenge { cookie, echo, seen } => {
                out.put_u64(*cookie);
                out.put_varint(*echo);
                seen.iter().for_each(|seen| out.put_addr(*seen));
            }
            Self::Welcome {
                echo,
                view,
                seen,
                me,
            } => {
                out.put_varint(*echo);
                out.put_u64(*view);
                out.put_addr(*seen);
                me.encode(out);
            }
            Self::HelloRefused { echo, known } => {
                out.put_varint(*echo);
                known.encode(out);
            }
            Self::ClockSkew { echo, clock } => {
                out.put_varint(*echo);
                out.put_varint(*clock);
            }
            Self::JoinRefused { echo, reason } => {
                out.put_varint(*echo);
                out.put_u8(join_refusal_code(*reason));
            }
            Self::Leave { seq, me } => {
                out.put_u32(*seq);
                me.encode(out);
            }
            Self::LeaveAck { seq } => out.put_u32(*seq),
            Self::SyncDigest { buckets } => buckets.iter().for_each(|hash| out.put_u64(*hash)),
            Self::SyncSummary(page) => {
                out.put_u64(page.first);
                out.put_u64(page.last);
                for (key, version) in &page.entries {
                    out.put_u64(*key);
                    out.put_u64(*version);
                }
            }
            Self::SyncPull { keys } => keys.iter().for_each(|key| out.put_u64(*key)),
            Self::SyncRecords { records } => put_records(out, records),
            Self::FullPull { cursor } => out.put_u64(*cursor),
            Self::FullPage {
                cursor,
                next,
                records,
            } => {
                out.put_u64(*cursor);
                // Keys on the wire start after zero, so zero can mean that there is no more.
                out.put_u64(next.unwrap_or(0));
                put_records(out, records);
            }
            Self::AddrRequest => {}
            Self::AddrObserved { echo, addr } => {
                out.put_varint(*echo);
                out.put_addr(*addr);
            }
        }
    }

    /// Removes the records of a list whose epoch is higher than `limit`, and returns them in sum.
    /// The second value is `false` if the message is about one instance whose epoch is too high, so
    /// that it is to be dropped.
    pub fn remove_future_epochs(&mut self, limit: u64) -> (FutureRecords, bool) {
        let mut beyond = FutureRecords::default();
        let mut is_sound = true;
        match self {
            Self::Ping { updates, .. } | Self::Ack { updates, .. } | Self::Gossip { updates } => {
                beyond.remove_from(updates, limit);
            }
            Self::PingReq {
                target, updates, ..
            } => {
                is_sound = target.epoch <= limit;
                beyond.remove_from(updates, limit);
            }
            Self::SyncRecords { records } | Self::FullPage { records, .. } => {
                beyond.remove_from(records, limit);
            }
            Self::Hello { me: record, .. }
            | Self::Welcome { me: record, .. }
            | Self::HelloRefused { known: record, .. }
            | Self::Leave { me: record, .. } => {
                is_sound = record.epoch <= limit;
                if !is_sound {
                    beyond.note(record);
                }
            }
            Self::RelayedAck { .. }
            | Self::Nack { .. }
            | Self::Challenge { .. }
            | Self::ClockSkew { .. }
            | Self::JoinRefused { .. }
            | Self::AddrRequest
            | Self::AddrObserved { .. }
            | Self::LeaveAck { .. }
            | Self::SyncDigest { .. }
            | Self::SyncSummary(_)
            | Self::SyncPull { .. }
            | Self::FullPull { .. } => {}
        }
        (beyond, is_sound)
    }

    /// The updates that it piggybacks.
    pub fn into_updates(self) -> Option<Vec<Record>> {
        match self {
            Self::Ping { updates, .. }
            | Self::Ack { updates, .. }
            | Self::PingReq { updates, .. }
            | Self::Gossip { updates } => Some(updates),
            _ => None,
        }
    }

    fn decode(
        kind: u8,
        reader: &mut Reader<'_>,
        known: &impl KnownMembers,
        recycled: &mut Vec<Record>,
    ) -> Result<Self, Malformed> {
        Ok(match kind {
            1 => Self::Ping {
                seq: reader.u32()?,
                view: reader.u64()?,
                updates: records(reader, known, recycled)?,
            },
            2 => Self::Ack {
                seq: reader.u32()?,
                view: reader.u64()?,
                updates: records(reader, known, recycled)?,
            },
            3 => Self::PingReq {
                seq: reader.u32()?,
                target: ProbeTarget {
                    key: reader.u64()?,
                    epoch: reader.varint()?,
                    addr: reader.addr()?,
                },
                updates: records(reader, known, recycled)?,
            },
            4 => Self::RelayedAck {
                seq: reader.u32()?,
                target: reader.u64()?,
            },
            5 => Self::Nack {
                seq: reader.u32()?,
                target: reader.u64()?,
            },
            6 => Self::Gossip {
                updates: records(reader, known, recycled)?,
            },
            7 => Self::Hello {
                cookie: reader.u64()?,
                me: Record::decode(reader, known)?,
            },
            8 => Self::Challenge {
                cookie: reader.u64()?,
                echo: reader.varint()?,
                seen: match reader.is_empty() {
                    true => None,
                    false => Some(reader.addr()?),
                },
            },
            9 => Self::Welcome {
                echo: reader.varint()?,
                view: reader.u64()?,
                seen: reader.addr()?,
                me: Record::decode(reader, known)?,
            },
            10 => Self::HelloRefused {
                echo: reader.varint()?,
                known: Record::decode(reader, known)?,
            },
            11 => Self::Leave {
                seq: reader.u32()?,
                me: Record::decode(reader, known)?,
            },
            12 => Self::LeaveAck { seq: reader.u32()? },
            13 => {
                let mut buckets = Box::new([0; DIGEST_BUCKETS]);
                for hash in buckets.iter_mut() {
                    *hash = reader.u64()?;
                }
                Self::SyncDigest { buckets }
            }
            14 => Self::SyncSummary(SyncPage::decode(reader)?),
            15 => {
                let mut keys = Vec::new();
                while !reader.is_empty() {
                    keys.push(reader.u64()?);
                }
                Self::SyncPull { keys }
            }
            16 => Self::SyncRecords {
                records: records(reader, known, recycled)?,
            },
            17 => Self::FullPull {
                cursor: reader.u64()?,
            },
            18 => {
                let cursor = reader.u64()?;
                let next = Some(reader.u64()?).filter(|next| *next > 0);
                if next.is_some_and(|next| next <= cursor) {
                    return Err(Malformed);
                }
                Self::FullPage {
                    cursor,
                    next,
                    records: records(reader, known, recycled)?,
                }
            }
            19 => Self::AddrRequest,
            20 => Self::AddrObserved {
                echo: reader.varint()?,
                addr: reader.addr()?,
            },
            CLOCK_SKEW => Self::ClockSkew {
                echo: reader.varint()?,
                clock: reader.varint()?,
            },
            22 => Self::JoinRefused {
                echo: reader.varint()?,
                reason: join_refusal_from_code(reader.u8()?),
            },
            _ => return Err(Malformed),
        })
    }
}

/// Summary of records whose epoch is too high.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FutureRecords {
    pub count: u64,
    /// Claimed address of the first of them, and its epoch.
    pub first: Option<(SocketAddr, u64)>,
}

impl FutureRecords {
    fn note(&mut self, record: &Record) {
        self.count += 1;
        self.first.get_or_insert((record.addr, record.epoch));
    }

    fn remove_from(&mut self, records: &mut Vec<Record>, limit: u64) {
        records.retain(|record| {
            let is_beyond = record.epoch > limit;
            if is_beyond {
                self.note(record);
            }
            !is_beyond
        });
    }
}

fn join_refusal_code(reason: JoinRefusal) -> u8 {
    match reason {
        JoinRefusal::Unknown => 0,
        JoinRefusal::TableFull => 1,
        JoinRefusal::UnusableAddress => 2,
        JoinRefusal::NameCollision => 3,
        JoinRefusal::NotAdmitted => 4,
    }
}

fn join_refusal_from_code(code: u8) -> JoinRefusal {
    match code {
        1 => JoinRefusal::TableFull,
        2 => JoinRefusal::UnusableAddress,
        3 => JoinRefusal::NameCollision,
        4 => JoinRefusal::NotAdmitted,
        _ => JoinRefusal::Unknown,
    }
}

impl SyncPage {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let (first, last) = (reader.u64()?, reader.u64()?);
        let mut entries: Vec<(u64, u64)> = Vec::new();
        while !reader.is_empty() {
            let (key, version) = (reader.u64()?, reader.u64()?);
            let sorted = entries.last().is_none_or(|(before, _)| *before < key);
            if !sorted || !(first..=last).contains(&key) {
                return Err(Malformed);
            }
            entries.push((key, version));
        }
        match first <= last {
            true => Ok(Self {
                first,
                last,
                entries,
            }),
            false => Err(Malformed),
        }
    }
}

/// Records up to the end of the datagram: its size is their bound.
fn records(
    reader: &mut Reader<'_>,
    known: &impl KnownMembers,
    recycled: &mut Vec<Record>,
) -> Result<Vec<Record>, Malformed> {
    let mut records = std::mem::take(recycled);
    while !reader.is_empty() {
        records.push(Record::decode(reader, known)?);
    }
    Ok(records)
}

fn put_records(out: &mut impl Writer, records: &[Record]) {
    records.iter().for_each(|record| record.encode(out));
}

/// Kind of a [`Payload::ClockSkew`] on the wire.
const CLOCK_SKEW: u8 = 21;
/// Number of parts into which a digest divides the keys.
pub const DIGEST_BUCKETS: usize = 64;
