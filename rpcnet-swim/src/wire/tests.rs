//! Tests of the wire format: round trips, malformed input, seals, sizes.

mod fuzz_seeds;

use std::net::SocketAddr;

use super::record::{MAX_SUSPECTORS, NoKnownMembers};
use super::*;
use crate::config::DATAGRAM_BYTES_MIN;
use crate::error::JoinRefusal;
use crate::key::{ClusterKey, KeyRing};
use crate::limits::{MAX_NAME_BYTES, tags_bytes_max};
use crate::tags::Tags;

fn decode(body: &[u8]) -> Result<GossipMessage, Malformed> {
    GossipMessage::decode(body, &NoKnownMembers, &mut Vec::new())
}

fn record(claim: Claim) -> Record {
    Record {
        name: "n-1".into(),
        epoch: 1_700_000_000_000,
        incarnation: 300,
        addr: "[::1]:7946".parse().unwrap(),
        draining: true,
        slow: true,
        unreachable: true,
        claim,
    }
}

pub(crate) fn records() -> Vec<Record> {
    let mut suspectors = Suspectors::default();
    suspectors.merge(Confirmation::new(7, 3.5));
    suspectors.merge(Confirmation::new(8, 99.0));
    let tags = Tags::from_pairs([("role", "worker"), ("zone", "eu-1")]).unwrap();
    [
        Claim::Alive(tags),
        Claim::Suspect(suspectors),
        Claim::Failed,
        Claim::Left,
    ]
    .map(record)
    .into()
}

/// A message of each kind. The order is that of the seeds of the fuzz targets.
pub(crate) fn messages() -> Vec<GossipMessage> {
    [
        probe_and_gossip_payloads(),
        join_payloads(),
        leave_payloads(),
        anti_entropy_payloads(),
        address_payloads(),
    ]
    .concat()
    .into_iter()
    .map(|payload| GossipMessage {
        to: u32::MAX,
        payload,
    })
    .collect()
}

fn probe_and_gossip_payloads() -> Vec<Payload> {
    let addr: SocketAddr = "127.0.0.1:1".parse().unwrap();
    let updates = records();
    vec![
        Payload::Ping {
            seq: 1,
            view: 2,
            updates: updates.clone(),
        },
        Payload::Ack {
            seq: 1,
            view: 2,
            updates: Vec::new(),
        },
        Payload::PingReq {
            seq: 3,
            target: ProbeTarget {
                key: 4,
                epoch: 5,
                addr,
            },
            updates: updates.clone(),
        },
        Payload::RelayedAck { seq: 1, target: 2 },
        Payload::Nack { seq: 1, target: 2 },
        Payload::Gossip {
            updates: updates.clone(),
        },
    ]
}

fn join_payloads() -> Vec<Payload> {
    let addr: SocketAddr = "127.0.0.1:1".parse().unwrap();
    let me = records().remove(0);
    vec![
        Payload::Hello {
            cookie: 9,
            me: me.clone(),
        },
        Payload::Challenge {
            cookie: 9,
            echo: 10,
            seen: None,
        },
        Payload::Challenge {
            cookie: 9,
            echo: 10,
            seen: Some("[2001:db8::1]:7946".parse().unwrap()),
        },
        Payload::Welcome(Welcome {
            echo: 9,
            view: 1,
            seen: addr,
            me: me.clone(),
        }),
        Payload::HelloRefused {
            echo: 9,
            known: me.clone(),
        },
        Payload::ClockSkew {
            echo: 9,
            clock: u64::MAX,
        },
        Payload::JoinRefused {
            echo: 9,
            reason: JoinRefusal::NameCollision,
        },
    ]
}

fn leave_payloads() -> Vec<Payload> {
    let me = records().remove(0);
    vec![Payload::Leave { seq: 9, me }, Payload::LeaveAck { seq: 9 }]
}

fn anti_entropy_payloads() -> Vec<Payload> {
    let updates = records();
    let page = SyncPage {
        first: 5,
        last: 9,
        entries: vec![(5, 1), (7, 2)],
    };
    vec![
        Payload::SyncDigest {
            buckets: Box::new([3; DIGEST_BUCKETS]),
        },
        Payload::SyncSummary(page),
        Payload::SyncPull {
            keys: vec![1, 2, 3],
        },
        Payload::SyncRecords {
            records: updates.clone(),
        },
        Payload::FullPull { cursor: 77 },
        Payload::FullPage {
            cursor: 1,
            next: Some(2),
            records: updates,
        },
        Payload::FullPage {
            cursor: 1,
            next: None,
            records: Vec::new(),
        },
    ]
}

fn address_payloads() -> Vec<Payload> {
    let addr: SocketAddr = "127.0.0.1:1".parse().unwrap();
    vec![
        Payload::AddrRequest,
        Payload::AddrObserved { echo: 300, addr },
    ]
}

fn encoded(message: &GossipMessage) -> Vec<u8> {
    let mut bytes = Vec::new();
    message.encode(&mut bytes);
    bytes
}

#[test]
fn every_message_round_trips() {
    for message in messages() {
        assert_eq!(decode(&encoded(&message)).as_ref(), Ok(&message));
    }
}

#[test]
fn each_flag_of_a_record_has_its_bit() {
    let head = |draining, slow, unreachable| {
        let record = Record {
            draining,
            slow,
            unreachable,
            ..record(Claim::Failed)
        };
        let mut bytes = Vec::new();
        record.encode(&mut bytes);
        let read = Record::decode(&mut Reader::new(&bytes), &NoKnownMembers);
        assert_eq!(read, Ok(record));
        bytes[0]
    };
    assert_eq!(head(false, false, false), 0x02);
    assert_eq!(head(true, false, false), 0x82);
    assert_eq!(head(false, true, false), 0x42);
    assert_eq!(head(false, false, true), 0x22);
}

#[test]
fn each_refusal_of_a_join_has_its_code() {
    for (code, reason) in (0..).zip([
        JoinRefusal::Unknown,
        JoinRefusal::TableFull,
        JoinRefusal::UnusableAddress,
        JoinRefusal::NameCollision,
        JoinRefusal::NotAdmitted,
    ]) {
        let payload = Payload::JoinRefused { echo: 9, reason };
        let message = GossipMessage { to: 1, payload };
        let bytes = encoded(&message);
        assert_eq!(bytes.last(), Some(&code), "{reason:?}");
        assert_eq!(decode(&bytes), Ok(message));
    }
}

#[test]
fn a_truncated_message_is_malformed() {
    for message in messages() {
        let bytes = encoded(&message);
        for len in 0..bytes.len() {
            // Cut between two items, a shorter list is a message too; never the same one.
            assert_ne!(decode(&bytes[..len]).as_ref(), Ok(&message), "{len}");
        }
        let fixed = !matches!(
            message.payload,
            Payload::SyncSummary(_)
                | Payload::Challenge { .. }
                | Payload::SyncPull { .. }
                | Payload::Ping { .. }
                | Payload::Ack { .. }
                | Payload::PingReq { .. }
                | Payload::Gossip { .. }
                | Payload::SyncRecords { .. }
                | Payload::FullPage { .. }
        );
        let longer = [bytes.as_slice(), &[0]].concat();
        assert!(!fixed || decode(&longer) == Err(Malformed));
    }
}

#[test]
fn contradictions_are_malformed() {
    let unsorted = SyncPage {
        first: 0,
        last: 9,
        entries: vec![(7, 1), (5, 2)],
    };
    let outside = SyncPage {
        first: 0,
        last: 9,
        entries: vec![(10, 1)],
    };
    let backwards = SyncPage {
        first: 9,
        last: 0,
        entries: Vec::new(),
    };
    let bad_name = Record {
        name: "no spaces".into(),
        ..record(Claim::Left)
    };
    for payload in [
        Payload::SyncSummary(unsorted),
        Payload::SyncSummary(outside),
        Payload::SyncSummary(backwards),
        Payload::FullPage {
            cursor: 5,
            next: Some(5),
            records: Vec::new(),
        },
        Payload::Gossip {
            updates: vec![bad_name],
        },
    ] {
        let message = GossipMessage { to: 1, payload };
        assert_eq!(decode(&encoded(&message)), Err(Malformed), "{message:?}");
    }
}

#[test]
fn a_mapped_ipv4_address_is_read_as_ipv4() {
    let mapped = Payload::AddrObserved {
        echo: 1,
        addr: "[::ffff:10.0.0.1]:7946".parse().unwrap(),
    };
    let plain = Payload::AddrObserved {
        echo: 1,
        addr: "10.0.0.1:7946".parse().unwrap(),
    };
    let message = |payload| GossipMessage { to: 1, payload };
    let read = decode(&encoded(&message(mapped)));
    assert_eq!(read, Ok(message(plain)));
}

#[test]
fn varints_have_one_form_and_an_end() {
    for (bytes, value) in [
        (&[0][..], Ok(0)),
        (&[0x7f], Ok(127)),
        (&[0x80, 1], Ok(128)),
        (&[0x80, 0], Err(Malformed)),
        (&[0xff; 11], Err(Malformed)),
        (
            &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1],
            Ok(u64::MAX),
        ),
        (
            &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2],
            Err(Malformed),
        ),
        (&[0x80], Err(Malformed)),
    ] {
        assert_eq!(Reader::new(bytes).varint(), value, "{bytes:?}");
    }
}

#[test]
fn confirmations_merge_to_the_surest() {
    let mut suspectors = Suspectors::default();
    assert!(suspectors.merge(Confirmation { by: 1, phi_q4: 10 }));
    assert!(!suspectors.merge(Confirmation { by: 1, phi_q4: 9 }));
    assert!(suspectors.merge(Confirmation { by: 1, phi_q4: 11 }));
    for by in 2..=4 {
        assert!(suspectors.merge(Confirmation { by, phi_q4: 20 }));
    }
    assert!(!suspectors.merge(Confirmation { by: 5, phi_q4: 10 }));
    assert!(suspectors.merge(Confirmation { by: 5, phi_q4: 30 }));
    assert!(!suspectors.contains(1) && suspectors.contains(5));
    suspectors.retract(3);
    assert_eq!(suspectors.confirmations().len(), 3);
}

fn envelope(cluster: &str, keys: &[u8]) -> Envelope {
    let keys = keys.iter().map(|byte| ClusterKey::from_bytes([*byte; 32]));
    let ring = KeyRing::new(keys).ok();
    Envelope::new(cluster, ring.as_ref(), 2)
}

fn sealed(envelope: &Envelope, body: &[u8]) -> Vec<u8> {
    let mut datagram = Vec::new();
    envelope.seal(ORIGIN, &mut datagram, |out| out.extend_from_slice(body));
    assert!(datagram.len() <= body.len() + envelope.overhead());
    assert_eq!(datagram[0] & 0x40, 0, "not QUIC");
    datagram
}

#[test]
fn an_envelope_opens_for_its_cluster_and_keys_alone() {
    let ours = envelope("c", &[1, 2]);
    let check = |sender: Envelope, expected: Result<(), OpenError>| {
        let mut datagram = sealed(&sender, b"body");
        let opened = ours
            .open(&mut datagram)
            .map(|(origin, body, _)| assert_eq!((origin, body), (ORIGIN, b"body".as_slice())));
        assert_eq!(opened, expected);
    };
    check(envelope("c", &[1]), Ok(()));
    // A key that does not seal here opens all the same: that is how keys rotate.
    check(envelope("c", &[2, 1]), Ok(()));
    check(envelope("c", &[3]), Err(OpenError::UnknownKey));
    check(envelope("d", &[1]), Err(OpenError::ForeignCluster));
    check(envelope("c", &[]), Err(OpenError::Unsealed));
    let insecure = envelope("c", &[]);
    let mut datagram = sealed(&ours, b"body");
    assert_eq!(insecure.open(&mut datagram), Err(OpenError::UnknownKey));
}

#[test]
fn an_envelope_recognizes_its_own_cluster_and_keys_alone() {
    let ours = envelope("c", &[1, 2]);
    let insecure = envelope("c", &[]);
    let recognized =
        |receiver: &Envelope, sender: &Envelope| receiver.recognizes(&sealed(sender, b"body"));
    assert!(recognized(&ours, &envelope("c", &[1])));
    assert!(recognized(&ours, &envelope("c", &[2])));
    assert!(recognized(&insecure, &insecure));
    assert!(!recognized(&ours, &envelope("c", &[3])));
    assert!(!recognized(&ours, &envelope("d", &[1])));
    assert!(!recognized(&ours, &insecure));
    assert!(!recognized(&insecure, &ours));
    for junk in [&b""[..], b"\x2a", &[0x2a; 100]] {
        assert!(!ours.recognizes(junk) && !insecure.recognizes(junk));
    }
}

#[test]
fn a_changed_bit_anywhere_is_refused() {
    let ours = envelope("c", &[1]);
    let datagram = sealed(&ours, b"body");
    for bit in 0..datagram.len() * 8 {
        let mut changed = datagram.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        assert!(ours.open(&mut changed).is_err(), "bit {bit}");
    }
    for len in 0..datagram.len() {
        assert!(
            ours.open(&mut datagram[..len].to_vec()).is_err(),
            "{len} bytes"
        );
    }
    let mut other_version = datagram.clone();
    other_version[0] ^= 0x03;
    assert_eq!(
        ours.open(&mut other_version),
        Err(OpenError::UnknownVersion)
    );
}

#[test]
fn a_ping_is_short() {
    let bytes = |keys: &[u8]| {
        let ping = Payload::Ping {
            seq: 1,
            view: 2,
            updates: Vec::new(),
        };
        let message = GossipMessage {
            to: 1,
            payload: ping,
        };
        sealed(&envelope("c", keys), &encoded(&message)).len()
    };
    assert_eq!((bytes(&[]), bytes(&[1])), (38, 66));
}

const ORIGIN: Origin = Origin {
    from: 1,
    epoch: 1 << 40,
    counter: 300,
};

/// Each kind of message with one record, as large as its fields can be beside a name of so many
/// bytes.
fn largest(payload: Payload, name_bytes: usize) -> Payload {
    let name = "n".repeat(name_bytes);
    let (seq, view) = (u32::MAX, u64::MAX);
    let tags = tags_of(tags_bytes_max(&name));
    let me = largest_record(&name, Claim::Alive(tags));
    let updates = vec![me.clone()];
    match payload {
        Payload::Ping { .. } => Payload::Ping { seq, view, updates },
        Payload::Ack { .. } => Payload::Ack { seq, view, updates },
        Payload::PingReq { target, .. } => Payload::PingReq {
            seq,
            target: ProbeTarget {
                epoch: u64::MAX,
                addr: me.addr,
                ..target
            },
            // Its mandatory update is a suspicion; tags wait for room in another datagram.
            updates: vec![largest_record(&name, Claim::Suspect(most_suspectors()))],
        },
        Payload::Gossip { .. } => Payload::Gossip { updates },
        Payload::Hello { .. } => Payload::Hello { cookie: view, me },
        Payload::Challenge { .. } => Payload::Challenge {
            cookie: view,
            echo: view,
            seen: Some(me.addr),
        },
        Payload::Welcome(_) => Payload::Welcome(Welcome {
            echo: view,
            view,
            seen: me.addr,
            me,
        }),
        Payload::HelloRefused { .. } => Payload::HelloRefused {
            echo: view,
            known: me,
        },
        Payload::Leave { .. } => Payload::Leave { seq, me },
        Payload::SyncRecords { .. } => Payload::SyncRecords { records: updates },
        Payload::FullPage { .. } => Payload::FullPage {
            cursor: 1,
            next: Some(view),
            records: updates,
        },
        // Of one size, or cut to the room available.
        Payload::RelayedAck { .. }
        | Payload::Nack { .. }
        | Payload::LeaveAck { .. }
        | Payload::SyncDigest { .. }
        | Payload::SyncSummary(_)
        | Payload::SyncPull { .. }
        | Payload::FullPull { .. }
        | Payload::ClockSkew { .. }
        | Payload::JoinRefused { .. }
        | Payload::AddrRequest => payload,
        Payload::AddrObserved { .. } => Payload::AddrObserved {
            echo: view,
            addr: me.addr,
        },
    }
}

/// Record of a member of this name whose other fields are as large as they can be.
fn largest_record(name: &str, claim: Claim) -> Record {
    Record {
        name: name.into(),
        epoch: u64::MAX,
        incarnation: u32::MAX,
        addr: "[2001:db8::1]:65535".parse().unwrap(),
        ..record(claim)
    }
}

fn most_suspectors() -> Suspectors {
    let mut suspectors = Suspectors::default();
    for by in 0..MAX_SUSPECTORS as u64 {
        suspectors.merge(Confirmation::new(by, 9.0));
    }
    suspectors
}

/// Tags that take exactly so many bytes, encoded.
fn tags_of(bytes: usize) -> Tags {
    let pairs = (0..4).map(|n| {
        let part = bytes / 4 + usize::from(n < bytes % 4);
        (n.to_string(), "v".repeat(part - 3))
    });
    let tags = Tags::from_pairs(pairs).unwrap();
    assert_eq!(tags.encoded().len(), bytes);
    tags
}

#[test]
fn tags_without_room_beside_the_name_are_no_record() {
    for (name_bytes, bytes) in [(63, 1_024), (64, 1_023), (MAX_NAME_BYTES, 834)] {
        let encoded = |name_bytes: usize, bytes| {
            let record = Record {
                name: "n".repeat(name_bytes).into(),
                ..record(Claim::Alive(tags_of(bytes)))
            };
            let mut encoded = Vec::new();
            record.encode(&mut encoded);
            (record, encoded)
        };
        let (record, good) = encoded(name_bytes, bytes);
        assert_eq!(
            Record::decode(&mut Reader::new(&good), &NoKnownMembers),
            Ok(record)
        );
        let (_, longer) = encoded(name_bytes + 1, bytes);
        let decoded = Record::decode(&mut Reader::new(&longer), &NoKnownMembers);
        assert_eq!(decoded, Err(Malformed), "{name_bytes}");
    }
}

#[test]
fn the_largest_of_every_message_fits_the_smallest_datagram() {
    let ring = KeyRing::from(ClusterKey::from_bytes([7; 32]));
    let envelope = Envelope::new("a-cluster", Some(&ring), 1);
    let origin = Origin {
        from: u64::MAX,
        epoch: u64::MAX,
        counter: u64::MAX,
    };
    let lengths = [1, 63, 64, 127, 128, MAX_NAME_BYTES];
    let every = |message: GossipMessage| lengths.map(|len| largest(message.payload.clone(), len));
    for payload in messages().into_iter().flat_map(every) {
        let message = GossipMessage {
            to: u32::MAX,
            payload,
        };
        let mut datagram = Vec::new();
        envelope.seal(origin, &mut datagram, |out| message.encode(out));
        let len = datagram.len();
        assert!(len <= DATAGRAM_BYTES_MIN, "{len}: {message:?}");
    }
}
