//! What is derived from the members stays true.

use super::*;
use crate::tags::Tags;
use crate::wire::{Claim, Record};

fn entry(n: u64) -> Entry {
    let record = Record {
        name: format!("n{n}").into(),
        epoch: 1,
        incarnation: 0,
        addr: SocketAddr::from(([127, 0, 0, 1], 1_000 + (n.rotate_left(8) % 8_192) as u16)),
        draining: false,
        slow: false,
        claim: Claim::Failed,
    };
    Entry::new(&record, Tags::new(), Time::ZERO)
}

fn check(table: &Table) {
    let live: Vec<u64> = table
        .members
        .iter()
        .filter(|(_, e)| e.state.is_live())
        .map(|(k, _)| *k)
        .collect();
    let mut listed = table.live.clone();
    listed.sort_unstable();
    assert_eq!(listed, live);
    for (at, key) in table.live.iter().enumerate() {
        assert_eq!(table.members[key].live_at as usize, at);
    }
    assert!(table.cursor <= table.live.len());
    assert_eq!(table.by_addr.len(), live.len());
    let hash = live
        .iter()
        .map(|k| version(*k, table.members[k].epoch, table.members[k].incarnation));
    assert_eq!(table.view(), hash.fold(table.own_version, |all, v| all ^ v));
    let gone = table
        .members
        .values()
        .filter(|e| !e.state.is_live())
        .count();
    assert_eq!(table.gone.len(), gone);
}

#[test]
fn all_that_is_derived_stays_true() {
    let mut rng = Rng::with_seed(3);
    let mut table = Table::new(u64::MAX / 2);
    table.set_own_version(Time::ZERO, 1, 0);
    for step in 0..4_000u64 {
        let (now, key) = (Time::from_millis(step), rng.u64(..40) << 58 | rng.u64(..3));
        match (rng.u8(..6), table.get(key).is_some()) {
            (0, _) | (_, false) => table.insert(now, key, entry(key), &mut rng),
            (1, true) => drop(table.remove(key)),
            (2, true) => table.update(now, key, |e| e.state = MemberState::Failed),
            (3, true) => table.update(now, key, |e| e.incarnation += 1),
            (4, true) => table.update(now, key, |e| e.state = MemberState::Alive),
            (_, true) => drop(table.next_probe(&mut rng)),
        }
        check(&table);
    }
}

#[test]
fn each_is_probed_once_a_pass_while_members_come_and_go() {
    let mut rng = Rng::with_seed(9);
    let mut table = Table::new(0);
    for key in 1..=20 {
        table.insert(Time::ZERO, key, entry(key), &mut rng);
    }
    while table.cursor != table.live.len() {
        table.next_probe(&mut rng);
    }
    let mut probed = Vec::new();
    for key in 21..=30 {
        probed.push(table.next_probe(&mut rng).unwrap());
        table.insert(Time::ZERO, key, entry(key), &mut rng);
        table.update(Time::ZERO, key - 20, |e| e.state = MemberState::Left);
    }
    while table.cursor != table.live.len() {
        probed.push(table.next_probe(&mut rng).unwrap());
    }
    probed.retain(|key| *key > 10);
    probed.sort_unstable();
    assert_eq!(probed, (11..=30).collect::<Vec<_>>());
}

#[test]
fn successors_follow_the_ring_and_skip_the_dead() {
    let mut rng = Rng::with_seed(1);
    let mut table = Table::new(50);
    for key in [10, 40, 60, 90] {
        table.insert(Time::ZERO, key, entry(key), &mut rng);
    }
    table.update(Time::ZERO, 60, |e| e.state = MemberState::Failed);
    let ring: Vec<_> = (0..4).filter_map(|nth| table.successor(nth)).collect();
    assert_eq!(ring, [90, 10, 40]);
}
