//! Arbitrary datagrams and records: no panic, no change of membership.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::engine::gossip::QUEUE_LEN_MAX;
use crate::engine::indirect_probe::INDIRECT_PROBES_MAX;
use crate::engine::probe_round::PROBE_ROUNDS_MAX;
use crate::error::JoinRefusal;
use crate::wire::{DIGEST_BUCKETS, Origin, ProbeTarget, SyncPage, Welcome};

/// Few names, epochs and addresses, so that they meet; and the far ends.
fn any_record() -> impl Strategy<Value = Record> {
    let claim = prop_oneof![
        4 => Just(alive()),
        1 => "[a-z]{1,9}".prop_map(|v| Claim::Alive(Tags::new().with("k", &v).unwrap())),
        2 => prop::collection::vec((0u64..6, any::<u8>()), 0..4).prop_map(|confirmations| {
            let mut suspectors = Suspectors::default();
            for (by, phi_q4) in confirmations {
                suspectors.merge(Confirmation { by, phi_q4 });
            }
            Claim::Suspect(suspectors)
        }),
        2 => Just(Claim::Failed),
        1 => Just(Claim::Left),
    ];
    let incarnation = prop_oneof![0u32..5, any::<u32>(), Just(u32::MAX)];
    (
        any_name(),
        any_epoch(),
        incarnation,
        1u16..9,
        any::<bool>(),
        claim,
    )
        .prop_map(|(name, epoch, incarnation, port, draining, claim)| Record {
            draining,
            ..record(name, epoch, incarnation, port, claim)
        })
}

fn any_name() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["me", "x", "y", "z", "w"])
}

fn any_epoch() -> impl Strategy<Value = u64> {
    prop_oneof![0u64..4, any::<u64>(), Just(u64::MAX)]
}

fn any_key() -> impl Strategy<Value = u64> {
    prop_oneof![any_name().prop_map(crate::id::name_key), any::<u64>()]
}

fn any_payload() -> impl Strategy<Value = Payload> {
    prop_oneof![
        6 => any_probe_or_gossip(),
        6 => any_join_message(),
        2 => any_leave_message(),
        6 => any_anti_entropy(),
        2 => any_address_message(),
    ]
}

fn any_probe_or_gossip() -> impl Strategy<Value = Payload> {
    let target = (any_key(), any_epoch(), 1u16..9).prop_map(|(key, epoch, port)| ProbeTarget {
        key,
        epoch,
        addr: addr(port),
    });
    prop_oneof![
        (any_seq(), any_number(), any_records()).prop_map(|(seq, view, updates)| Payload::Ping {
            seq,
            view,
            updates
        }),
        (any_seq(), any_number(), any_records()).prop_map(|(seq, view, updates)| Payload::Ack {
            seq,
            view,
            updates
        }),
        (any_seq(), target, any_records()).prop_map(|(seq, target, updates)| Payload::PingReq {
            seq,
            target,
            updates
        }),
        (any_seq(), any_key()).prop_map(|(seq, target)| Payload::RelayedAck { seq, target }),
        (any_seq(), any_key()).prop_map(|(seq, target)| Payload::Nack { seq, target }),
        any_records().prop_map(|updates| Payload::Gossip { updates }),
    ]
}

fn any_join_message() -> impl Strategy<Value = Payload> {
    prop_oneof![
        (any_number(), any_record()).prop_map(|(cookie, me)| Payload::Hello { cookie, me }),
        (any_number(), any_number(), 0u16..9).prop_map(|(cookie, echo, port)| {
            Payload::Challenge {
                cookie,
                echo,
                seen: (port > 0).then(|| addr(port)),
            }
        }),
        (any_number(), any_number(), 1u16..9, any_record()).prop_map(|(echo, view, port, me)| {
            Payload::Welcome(Welcome {
                echo,
                view,
                seen: addr(port),
                me,
            })
        }),
        (any_number(), any_record())
            .prop_map(|(echo, known)| Payload::HelloRefused { echo, known }),
        (any_number(), any::<u64>()).prop_map(|(echo, clock)| Payload::ClockSkew { echo, clock }),
        any_number().prop_map(|echo| Payload::JoinRefused {
            echo,
            reason: JoinRefusal::TableFull
        }),
    ]
}

fn any_leave_message() -> impl Strategy<Value = Payload> {
    prop_oneof![
        (any_seq(), any_record()).prop_map(|(seq, me)| Payload::Leave { seq, me }),
        any_seq().prop_map(|seq| Payload::LeaveAck { seq }),
    ]
}

fn any_anti_entropy() -> impl Strategy<Value = Payload> {
    let page = prop::collection::btree_map(any_key(), any::<u64>(), 0..8).prop_map(|map| {
        Payload::SyncSummary(SyncPage {
            first: 0,
            last: u64::MAX,
            entries: map.into_iter().collect(),
        })
    });
    prop_oneof![
        any::<u64>().prop_map(|hash| Payload::SyncDigest {
            buckets: Box::new([hash; DIGEST_BUCKETS])
        }),
        page,
        prop::collection::vec(any_key(), 0..20).prop_map(|keys| Payload::SyncPull { keys }),
        any_records().prop_map(|records| Payload::SyncRecords { records }),
        any_number().prop_map(|cursor| Payload::FullPull { cursor }),
        (any_number(), any::<u64>(), any_records()).prop_map(|(cursor, next, records)| {
            let next = Some(next).filter(|next| *next > cursor);
            Payload::FullPage {
                cursor,
                next,
                records,
            }
        }),
    ]
}

fn any_address_message() -> impl Strategy<Value = Payload> {
    prop_oneof![
        Just(Payload::AddrRequest),
        (any_number(), 1u16..9).prop_map(|(echo, port)| Payload::AddrObserved {
            echo,
            addr: addr(port),
        }),
    ]
}

fn any_records() -> impl Strategy<Value = Vec<Record>> {
    prop::collection::vec(any_record(), 0..8)
}

fn any_seq() -> impl Strategy<Value = u32> {
    prop_oneof![0u32..4, any::<u32>()]
}

fn any_number() -> impl Strategy<Value = u64> {
    prop_oneof![Just(0), 1u64..4, any::<u64>()]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn well_formed_messages_exceed_no_bound(
        inputs in prop::collection::vec(
            (any_payload(), any_key(), any_epoch(), any::<bool>(), 1u16..9, 0u64..900),
            1..150,
        ),
        leaves_at in 0usize..400,
    ) {
        let mut engine = engine("me", 2, 1);
        let forger = Envelope::new("rpcnet", None, 1);
        let mut now = Time::ZERO;
        engine.handle_seeds(now, &[addr(2), addr(3)]);
        for (counter, (payload, from, epoch, known, port, wait)) in inputs.into_iter().enumerate() {
            now += Duration::from_millis(wait);
            // Mostly in the name of a member that the engine knows.
            let member = engine.table.iter().next().map(|(key, e)| (key, e.epoch));
            let (from, epoch) = member.filter(|_| known).unwrap_or((from, epoch));
            let origin = Origin { from, epoch, counter: 1 + counter as u64 };
            let mut datagram = Vec::new();
            forger.seal(origin, &mut datagram, |out| GossipMessage { to: 0, payload }.encode(out));
            engine.handle_datagram(now, addr(port), &mut datagram);
            if leaves_at == counter {
                engine.leave(now);
            }
            if engine.poll_timeout().is_some_and(|at| at <= now) {
                engine.handle_timeout(now);
            }
            while let Some((_, datagram)) = engine.poll_transmit() {
                prop_assert!(datagram.len() <= 1_400);
            }
            while engine.poll_event().is_some() {}
            prop_assert!(engine.table.len() < 5, "there are four other names");
            prop_assert!(engine.probes.rounds.as_slice().len() <= PROBE_ROUNDS_MAX);
            prop_assert!(engine.probes.indirect.len() <= INDIRECT_PROBES_MAX);
            prop_assert!(engine.gossip_queue.len() <= QUEUE_LEN_MAX.min(6));
            let live = engine.members().filter(|m| m.state.is_live()).count();
            prop_assert_eq!(engine.live_count(), live + 1);
        }
    }
}
