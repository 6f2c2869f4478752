//! Payload codec: the kinds of messages on the wire, and the fields of each.

use super::message::{DIGEST_BUCKETS, Payload, ProbeTarget, SyncPage};
use super::{KnownMembers, Malformed, Reader, Record, Writer};
use crate::error::JoinRefusal;

impl Payload {
    pub(super) fn kind(&self) -> u8 {
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

    pub(super) fn encode(&self, out: &mut impl Writer) {
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

    pub(super) fn decode(
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
