//! Capacity: evictions from a full table, newcomers, and what a refused one is told.

use super::hostile::far;
use super::*;
use crate::error::JoinRefusal;

fn small(members: usize) -> Engine {
    let config = ClusterConfig::lan().with_members_max(members);
    engine_with(config, "seed", 1, 1)
}

fn gossip_member(engine: &mut Engine, now: Time, n: u32) {
    let alive = record(&format!("m{n}"), 1, 0, 1, alive());
    engine.merge(
        now,
        Record {
            addr: far(n),
            ..alive
        },
        RecordSource::Gossip,
    );
}

/// Lets `joiner` at `port` say hello to `seed`, up to the answer to its second hello.
fn join_from(seed: &mut Engine, joiner: &mut Engine, now: Time, port: u16) {
    joiner.handle_seeds(now, &[addr(1)]);
    while seed.poll_transmit().is_some() {}
    for _ in 0..2 {
        let (_, mut hello) = joiner.poll_transmit().expect("a hello");
        seed.handle_datagram(now, addr(port), &mut hello);
        let (_, mut answer) = seed.poll_transmit().expect("an answer");
        joiner.handle_datagram(now, addr(1), &mut answer);
    }
}

#[test]
fn tombstones_keep_no_newcomer_out() {
    let mut seed = small(8);
    for n in 0..8 {
        gossip_member(&mut seed, Time::from_millis(n), n as u32);
        seed.mark_failed(Time::from_millis(n), crate::id::name_key(&format!("m{n}")));
    }
    assert_eq!((seed.live_count(), seed.members().count()), (1, 8));
    let mut joiner = engine("joiner", 1, 9);
    join_from(&mut seed, &mut joiner, Time::from_millis(10), 9);
    assert!(joiner.is_joined());
    assert_eq!(seed.live_count(), 2);
    assert_eq!(seed.members().count(), 8);
    assert!(seed.member("m0").is_none(), "it went first");
    assert!(seed.member("m1").is_some());
    assert_eq!(seed.stats().members_evicted, 1);
    let full = Event::TableFull {
        members: 7,
        evicted: 1,
        refused: 0,
    };
    assert!(events(&mut seed).contains(&full));
}

#[test]
fn no_partitioned_member_is_evicted_to_make_room() {
    let mut seed = small(8);
    (0..8).for_each(|n| gossip_member(&mut seed, Time::ZERO, n));
    for n in 0..6 {
        seed.mark_failed(Time::ZERO, crate::id::name_key(&format!("m{n}")));
    }
    seed.check_partition(Time::ZERO);
    assert!(seed.partition.is_suspected());
    for port in 9..12 {
        let mut joiner = engine(&format!("j{port}"), 1, port);
        join_from(&mut seed, &mut joiner, Time::from_millis(10), port);
    }
    let expected = seed.view(Time::from_millis(20)).members;
    let missing = expected.iter().filter(|member| !member.is_reachable);
    assert_eq!(missing.count(), 6, "{expected:?}");
}

#[test]
fn a_member_evicted_from_a_crowded_address_leaves_nothing_behind() {
    let mut node = engine("node", 1, 1);
    let most = table::BUCKET_MAX as u32;
    let name = |n: u32| format!("m{n}");
    let names = |node: &Engine| node.members().map(|m| m.id.name).collect::<Vec<_>>();
    // A process that starts again and again under new names.
    for n in 0..most + 4 {
        let alive = Record {
            addr: far(0),
            ..record(&name(n), 1 + u64::from(n), 0, 1, alive())
        };
        node.merge(Time::from_millis(u64::from(n)), alive, RecordSource::Gossip);
        let queued = node.gossip_queue.len();
        assert!(
            queued <= node.table.len() + 1,
            "{queued}, {:?}",
            names(&node)
        );
    }
    assert_eq!(node.table.len(), most as usize);
    assert_eq!(node.stats().members_evicted, 4);
    for n in 0..4 {
        assert!(!node.gossip_queue.contains(crate::id::name_key(&name(n))));
    }
    assert!(node.join.candidate_addrs().any(|known| known == far(0)));
    // One that moves there evicts one as well.
    node.merge_gossip(record("other", 99, 0, 9, alive()));
    let moved = Record {
        addr: far(0),
        ..record("other", 99, 1, 9, alive())
    };
    node.merge(Time::from_millis(99), moved, RecordSource::Gossip);
    assert_eq!(node.member("other").unwrap().addr, far(0));
    assert_eq!(node.table.len(), most as usize);
    assert_eq!(node.stats().members_evicted, 5);
}

#[test]
fn unheard_members_keep_no_newcomer_out() {
    let mut seed = small(8);
    (0..20).for_each(|n| gossip_member(&mut seed, Time::ZERO, n));
    assert_eq!(seed.live_count(), 9, "claims alone evict no member");
    assert_eq!(seed.stats().members_refused, 12);
    let full = |e: &&Event| matches!(e, Event::TableFull { .. });
    assert_eq!(
        events(&mut seed).iter().filter(full).count(),
        1,
        "seldom told"
    );
    let mut joiners: Vec<_> = (10..18)
        .map(|port| engine(&format!("j{port}"), 1, port))
        .collect();
    for (port, joiner) in (10..).zip(&mut joiners) {
        join_from(&mut seed, joiner, Time::ZERO, port);
        assert!(joiner.is_joined(), "{joiner:?}");
        assert_eq!(seed.live_count(), 9);
    }
    let gone = |e: &&Event| matches!(e, Event::NodeFailed(m) if m.id.name.starts_with('m'));
    assert_eq!(events(&mut seed).iter().filter(gone).count(), 8);
    assert!((10..18).all(|port| seed.member(&format!("j{port}")).is_some()));
}

#[test]
fn a_refused_joiner_is_told_why_and_not_welcomed() {
    let mut seed = small(2);
    for port in [10, 11] {
        join_from(
            &mut seed,
            &mut engine(&format!("j{port}"), 1, port),
            Time::ZERO,
            port,
        );
    }
    assert_eq!(seed.live_count(), 3);
    let mut late = engine("late", 1, 12);
    join_from(&mut seed, &mut late, Time::ZERO, 12);
    assert!(!late.is_joined());
    assert_eq!((seed.live_count(), late.live_count()), (3, 1));
    let reason = JoinRefusal::TableFull;
    assert_eq!(late.join_refusal(), Some((addr(1), reason)));
    let told = Event::JoinRefused {
        by: addr(1),
        reason,
    };
    assert_eq!(events(&mut late), [told]);
    // Once there is room it joins by itself.
    seed.mark_failed(Time::ZERO, crate::id::name_key("j10"));
    let mut due = Time::ZERO;
    while late.send_queue.transmits.is_empty() {
        due = late.poll_timeout().unwrap();
        late.handle_timeout(due);
    }
    join_from(&mut seed, &mut late, due, 12);
    assert!(late.is_joined());
    assert_eq!(late.join_refusal(), None);
}

#[test]
fn two_names_of_one_hash_are_told_apart() {
    let mut seed = small(8);
    // No such pair of names is known; so another name has the key of this one.
    let other = Entry::new(&record("other", 1, 0, 7, alive()), Tags::new(), Time::ZERO);
    let key = crate::id::name_key("late");
    seed.table.insert(Time::ZERO, key, other, &mut seed.rng);
    let mut late = engine("late", 9, 12);
    join_from(&mut seed, &mut late, Time::ZERO, 12);
    assert!(!late.is_joined());
    let reason = JoinRefusal::NameCollision;
    assert_eq!(late.join_refusal(), Some((addr(1), reason)));
    let names: Vec<_> = seed.members().map(|member| member.id.name).collect();
    assert_eq!(names, ["other".into()]);
}

#[test]
fn an_unusable_address_is_refused_as_in_a_config() {
    let mut node = engine("node", 1, 1);
    let unusable = [
        "0.0.0.0:7",
        "[::]:7",
        "224.0.0.1:7",
        "255.255.255.255:7",
        "10.0.0.1:0",
    ];
    for told in unusable {
        let told = told.parse().unwrap();
        let id = NodeId::new("x", 1);
        let refused = Engine::new(ClusterConfig::lan(), id, told, Time::ZERO, 7);
        assert_eq!(
            refused.err(),
            Some(ConfigError::UnusableAdvertiseAddr { addr: told })
        );
    }
    let mut liar = engine("liar", 1, 2);
    node.merge_gossip(liar.own_record());
    let to = crate::id::instance_key(node.local.key, node.local.epoch);
    let loopback = "127.0.0.1:9";
    let tell = |node: &mut Engine, liar: &mut Engine, from| {
        let told = unusable.iter().chain([&loopback]).zip(0..);
        let updates = told.map(|(told, n)| Record {
            addr: told.parse().unwrap(),
            ..record(&format!("x{n}"), 1, 0, 1, alive())
        });
        let updates = updates.collect();
        liar.send(addr(1), to, Payload::Gossip { updates });
        let (_, mut datagram) = liar.poll_transmit().unwrap();
        node.handle_datagram(Time::ZERO, from, &mut datagram);
    };
    tell(&mut node, &mut liar, far(2));
    assert_eq!(node.live_count(), 2);
    assert_eq!(node.stats().unusable_addresses, 6);
    // On this machine, loopback is as good as any.
    tell(&mut node, &mut liar, addr(2));
    assert_eq!(node.live_count(), 3);
    assert_eq!(node.stats().unusable_addresses, 11);
}
