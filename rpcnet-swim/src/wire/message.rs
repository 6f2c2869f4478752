//! Messages between nodes: kinds of payloads and their fields.

use std::net::SocketAddr;

use crate::error::JoinRefusal;

use super::Record;

/// A whole message: its receiver and its payload.
#[derive(Clone, Debug, PartialEq)]
pub struct GossipMessage {
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
    /// Admission of the sender of a hello.
    Welcome(Welcome),
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

/// Admission of the sender of a hello.
#[derive(Clone, Debug, PartialEq)]
pub struct Welcome {
    /// Counter of the hello.
    pub echo: u64,
    /// View hash of the member that lets the sender in.
    pub view: u64,
    /// Source address of the hello.
    pub seen: SocketAddr,
    pub me: Record,
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

impl Payload {
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
            | Self::Welcome(Welcome { me: record, .. })
            | Self::HelloRefused { known: record, .. }
            | Self::Leave { me: record, .. } => {
                is_sound = record.epoch <= limit;
                if !is_sound {
                    beyond.record(record);
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
}

/// Summary of records whose epoch is too high.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FutureRecords {
    pub count: u64,
    /// Claimed address of the first of them, and its epoch.
    pub first: Option<(SocketAddr, u64)>,
}

impl FutureRecords {
    fn record(&mut self, record: &Record) {
        self.count += 1;
        self.first.get_or_insert((record.addr, record.epoch));
    }

    fn remove_from(&mut self, records: &mut Vec<Record>, limit: u64) {
        records.retain(|record| {
            let is_beyond = record.epoch > limit;
            if is_beyond {
                self.record(record);
            }
            !is_beyond
        });
    }
}

/// Number of parts into which a digest divides the keys.
pub const DIGEST_BUCKETS: usize = 64;
