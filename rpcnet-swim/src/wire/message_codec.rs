//! Message codec: the kinds of payloads on the wire, and the fields of each.

use super::message::{DIGEST_BUCKETS, GossipMessage, Payload, ProbeTarget, SyncPage, Welcome};
use super::{KnownMembers, Malformed, Reader, Record, Writer};
use crate::error::JoinRefusal;

impl GossipMessage {
    /// Reads a message. Names and tags in `known` are not allocated again, and updates go into
    /// `recycled` if it has room.
    pub fn decode(
        body: &[u8],
        known: &impl KnownMembers,
        recycled: &mut Vec<Record>,
    ) -> Result<Self, Malformed> {
        let fields = Reader::new(body);
        let mut reader = PayloadReader {
            fields,
            known,
            recycled,
        };
        let kind = reader.fields.u8()?;
        let to = reader.fields.u32()?;
        let payload = reader.payload(kind)?;
        match reader.fields.is_empty() {
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
            Self::Ping { .. } => PING,
            Self::Ack { .. } => ACK,
            Self::PingReq { .. } => PING_REQ,
            Self::RelayedAck { .. } => RELAYED_ACK,
            Self::Nack { .. } => NACK,
            Self::Gossip { .. } => GOSSIP,
            Self::Hello { .. } => HELLO,
            Self::Challenge { .. } => CHALLENGE,
            Self::Welcome(_) => WELCOME,
            Self::HelloRefused { .. } => HELLO_REFUSED,
            Self::Leave { .. } => LEAVE,
            Self::LeaveAck { .. } => LEAVE_ACK,
            Self::SyncDigest { .. } => SYNC_DIGEST,
            Self::SyncSummary(_) => SYNC_SUMMARY,
            Self::SyncPull { .. } => SYNC_PULL,
            Self::SyncRecords { .. } => SYNC_RECORDS,
            Self::FullPull { .. } => FULL_PULL,
            Self::FullPage { .. } => FULL_PAGE,
            Self::AddrRequest => ADDR_REQUEST,
            Self::AddrObserved { .. } => ADDR_OBSERVED,
            Self::ClockSkew { .. } => CLOCK_SKEW,
            Self::JoinRefused { .. } => JOIN_REFUSED,
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
            } => put_ping_req(out, *seq, target, updates),
            Self::RelayedAck { seq, target } | Self::Nack { seq, target } => {
                out.put_u32(*seq);
                out.put_u64(*target);
            }
            Self::Gossip { updates: records } | Self::SyncRecords { records } => {
                put_records(out, records);
            }
            Self::Hello { cookie, me } => {
                out.put_u64(*cookie);
                me.encode(out);
            }
            Self::Challenge { cookie, echo, seen } => {
                out.put_u64(*cookie);
                out.put_varint(*echo);
                seen.iter().for_each(|seen| out.put_addr(*seen));
            }
            Self::Welcome(welcome) => welcome.encode(out),
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
            Self::SyncSummary(page) => page.encode(out),
            Self::SyncPull { keys } => keys.iter().for_each(|key| out.put_u64(*key)),
            Self::FullPull { cursor } => out.put_u64(*cursor),
            Self::FullPage {
                cursor,
                next,
                records,
            } => put_full_page(out, *cursor, *next, records),
            Self::AddrRequest => {}
            Self::AddrObserved { echo, addr } => {
                out.put_varint(*echo);
                out.put_addr(*addr);
            }
        }
    }
}

/// Reader of payloads. Names and tags that are known are not allocated again, and records go into
/// `recycled` if it has room.
struct PayloadReader<'a, 'b, K> {
    fields: Reader<'b>,
    known: &'a K,
    recycled: &'a mut Vec<Record>,
}

impl<K: KnownMembers> PayloadReader<'_, '_, K> {
    /// Reads a payload of this kind.
    fn payload(&mut self, kind: u8) -> Result<Payload, Malformed> {
        Ok(match kind {
            PING | ACK | PING_REQ | RELAYED_ACK | NACK => self.probe(kind)?,
            GOSSIP => Payload::Gossip {
                updates: self.records()?,
            },
            HELLO | CHALLENGE | WELCOME | HELLO_REFUSED | CLOCK_SKEW | JOIN_REFUSED => {
                self.join(kind)?
            }
            LEAVE => Payload::Leave {
                seq: self.fields.u32()?,
                me: self.record()?,
            },
            LEAVE_ACK => Payload::LeaveAck {
                seq: self.fields.u32()?,
            },
            SYNC_DIGEST | SYNC_SUMMARY | SYNC_PULL | SYNC_RECORDS | FULL_PULL | FULL_PAGE => {
                self.anti_entropy(kind)?
            }
            ADDR_REQUEST => Payload::AddrRequest,
            ADDR_OBSERVED => Payload::AddrObserved {
                echo: self.fields.varint()?,
                addr: self.fields.addr()?,
            },
            _ => return Err(Malformed),
        })
    }

    /// Reads a message of a probe round.
    fn probe(&mut self, kind: u8) -> Result<Payload, Malformed> {
        Ok(match kind {
            PING => Payload::Ping {
                seq: self.fields.u32()?,
                view: self.fields.u64()?,
                updates: self.records()?,
            },
            ACK => Payload::Ack {
                seq: self.fields.u32()?,
                view: self.fields.u64()?,
                updates: self.records()?,
            },
            PING_REQ => Payload::PingReq {
                seq: self.fields.u32()?,
                target: ProbeTarget::decode(&mut self.fields)?,
                updates: self.records()?,
            },
            RELAYED_ACK => Payload::RelayedAck {
                seq: self.fields.u32()?,
                target: self.fields.u64()?,
            },
            NACK => Payload::Nack {
                seq: self.fields.u32()?,
                target: self.fields.u64()?,
            },
            _ => return Err(Malformed),
        })
    }

    /// Reads a hello or an answer to one.
    fn join(&mut self, kind: u8) -> Result<Payload, Malformed> {
        Ok(match kind {
            HELLO => Payload::Hello {
                cookie: self.fields.u64()?,
                me: self.record()?,
            },
            CHALLENGE => Payload::Challenge {
                cookie: self.fields.u64()?,
                echo: self.fields.varint()?,
                seen: match self.fields.is_empty() {
                    true => None,
                    false => Some(self.fields.addr()?),
                },
            },
            WELCOME => Payload::Welcome(Welcome {
                echo: self.fields.varint()?,
                view: self.fields.u64()?,
                seen: self.fields.addr()?,
                me: self.record()?,
            }),
            HELLO_REFUSED => Payload::HelloRefused {
                echo: self.fields.varint()?,
                known: self.record()?,
            },
            CLOCK_SKEW => Payload::ClockSkew {
                echo: self.fields.varint()?,
                clock: self.fields.varint()?,
            },
            JOIN_REFUSED => Payload::JoinRefused {
                echo: self.fields.varint()?,
                reason: join_refusal_from_code(self.fields.u8()?),
            },
            _ => return Err(Malformed),
        })
    }

    /// Reads a message of anti-entropy.
    fn anti_entropy(&mut self, kind: u8) -> Result<Payload, Malformed> {
        Ok(match kind {
            SYNC_DIGEST => {
                let mut buckets = Box::new([0; DIGEST_BUCKETS]);
                for hash in buckets.iter_mut() {
                    *hash = self.fields.u64()?;
                }
                Payload::SyncDigest { buckets }
            }
            SYNC_SUMMARY => Payload::SyncSummary(SyncPage::decode(&mut self.fields)?),
            SYNC_PULL => {
                let mut keys = Vec::new();
                while !self.fields.is_empty() {
                    keys.push(self.fields.u64()?);
                }
                Payload::SyncPull { keys }
            }
            SYNC_RECORDS => Payload::SyncRecords {
                records: self.records()?,
            },
            FULL_PULL => Payload::FullPull {
                cursor: self.fields.u64()?,
            },
            FULL_PAGE => {
                let cursor = self.fields.u64()?;
                let next = Some(self.fields.u64()?).filter(|next| *next > 0);
                if next.is_some_and(|next| next <= cursor) {
                    return Err(Malformed);
                }
                Payload::FullPage {
                    cursor,
                    next,
                    records: self.records()?,
                }
            }
            _ => return Err(Malformed),
        })
    }

    fn record(&mut self) -> Result<Record, Malformed> {
        Record::decode(&mut self.fields, self.known)
    }

    /// Records up to the end of the datagram: its size is their bound.
    fn records(&mut self) -> Result<Vec<Record>, Malformed> {
        let mut records = std::mem::take(self.recycled);
        while !self.fields.is_empty() {
            records.push(self.record()?);
        }
        Ok(records)
    }
}

impl Welcome {
    fn encode(&self, out: &mut impl Writer) {
        out.put_varint(self.echo);
        out.put_u64(self.view);
        out.put_addr(self.seen);
        self.me.encode(out);
    }
}

impl ProbeTarget {
    fn encode(&self, out: &mut impl Writer) {
        out.put_u64(self.key);
        out.put_varint(self.epoch);
        out.put_addr(self.addr);
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            key: reader.u64()?,
            epoch: reader.varint()?,
            addr: reader.addr()?,
        })
    }
}

impl SyncPage {
    fn encode(&self, out: &mut impl Writer) {
        out.put_u64(self.first);
        out.put_u64(self.last);
        for (key, version) in &self.entries {
            out.put_u64(*key);
            out.put_u64(*version);
        }
    }

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

fn put_ping_req(out: &mut impl Writer, seq: u32, target: &ProbeTarget, updates: &[Record]) {
    out.put_u32(seq);
    target.encode(out);
    put_records(out, updates);
}

fn put_full_page(out: &mut impl Writer, cursor: u64, next: Option<u64>, records: &[Record]) {
    out.put_u64(cursor);
    // Keys on the wire start after zero, so zero can mean that there is no more.
    out.put_u64(next.unwrap_or(0));
    put_records(out, records);
}

fn put_records(out: &mut impl Writer, records: &[Record]) {
    records.iter().for_each(|record| record.encode(out));
}

// Kinds of payloads on the wire.
const PING: u8 = 1;
const ACK: u8 = 2;
const PING_REQ: u8 = 3;
const RELAYED_ACK: u8 = 4;
const NACK: u8 = 5;
const GOSSIP: u8 = 6;
const HELLO: u8 = 7;
const CHALLENGE: u8 = 8;
const WELCOME: u8 = 9;
const HELLO_REFUSED: u8 = 10;
const LEAVE: u8 = 11;
const LEAVE_ACK: u8 = 12;
const SYNC_DIGEST: u8 = 13;
const SYNC_SUMMARY: u8 = 14;
const SYNC_PULL: u8 = 15;
const SYNC_RECORDS: u8 = 16;
const FULL_PULL: u8 = 17;
const FULL_PAGE: u8 = 18;
const ADDR_REQUEST: u8 = 19;
const ADDR_OBSERVED: u8 = 20;
const CLOCK_SKEW: u8 = 21;
const JOIN_REFUSED: u8 = 22;
