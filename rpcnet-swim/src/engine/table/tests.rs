//! Member table: what is derived from the members stays consistent.

use super::*;
use crate::engine::test_support::record;
use crate::tags::Tags;
use crate::wire::Claim;

fn entry(n: u64) -> Entry {
    let port = 1_000 + (n.rotate_left(8) % 8_192) as u16;
    let record = record(&format!("n{n}"), 1, 0, port, Claim::Failed);
    Entry::new(&record, Tags::new(), Time::ZERO)
}

fn check(table: &mut Table, from: Time) {
    let (live, gone): (Vec<_>, Vec<_>) = table.iter().partition(|(_, e)| e.state.is_live());
    let keys = |entries: &[(u64, &Entry)]| entries.iter().map(|(k, _)| *k).collect::<Vec<_>>();
    assert!(table.iter().is_sorted_by_key(|(key, _)| key));
    let mut listed: Vec<_> = table
        .live
        .iter()
        .map(|slot| table.entry_at(*slot).key)
        .collect();
    listed.sort_unstable();
    assert_eq!(listed, keys(&live));
    for (at, slot) in table.live.iter().enumerate() {
        assert_eq!(table.entry_at(*slot).live_index as usize, at);
    }
    assert!(table.cursor <= table.live.len());
    assert_eq!(table.by_addr.len(), table.len());
    assert_eq!(table.gone_by_time.len(), gone.len());
    let versions = live
        .iter()
        .map(|(k, e)| version(*k, e.epoch, e.incarnation));
    assert_eq!(
        table.view(),
        versions.fold(table.own_version, |all, v| all ^ v)
    );
    let buckets = table.buckets.iter().fold(0, |all, bucket| all ^ bucket);
    assert_eq!(table.view(), buckets);
    // Counts the missing by visiting all members.
    let has_live_at = |addr| live.iter().any(|(_, e)| e.addr() == addr);
    let missing: Vec<_> = gone
        .iter()
        .filter(|(_, e)| e.state == MemberState::Failed && !has_live_at(e.addr()))
        .collect();
    let due = missing
        .iter()
        .map(|(key, e)| (e.faults().next_redial_at, *key));
    assert_eq!(table.redials_by_time, due.collect());
    let last = |(key, e): &&&(u64, &Entry)| {
        let same = gone.iter().filter(|(_, other)| other.addr() == e.addr());
        e.since >= from && same.map(|(k, o)| (o.epoch, *k)).max() == Some((e.epoch, *key))
    };
    let count = missing.iter().filter(last).count();
    assert_eq!(table.missing_since(from), count);
}

#[test]
fn derived_indexes_stay_consistent() {
    let mut rng = Rng::with_seed(3);
    let mut table = Table::new(u64::MAX / 2, 7);
    table.set_own_version(Time::ZERO, 1, 0);
    for step in 0..4_000u64 {
        let (now, key) = (Time::from_millis(step), rng.u64(..40) << 58 | rng.u64(..3));
        match (rng.u8(..7), table.get(key).is_some()) {
            (0, _) | (_, false) => table.insert(now, key, entry(key), &mut rng),
            (1, true) => drop(table.remove(key)),
            (2, true) => table.update(now, key, |e| e.state = MemberState::Failed),
            (3, true) => table.update(now, key, |e| e.info_mut().incarnation += 1),
            (4, true) if step % 2 == 0 => table.set_redial(key, now + Duration::from_secs(1)),
            (5, true) if step % 4 == 0 => {
                let addr = table
                    .entry_at(table.slot(key ^ 1).or_else(|| table.slot(key)).unwrap())
                    .addr();
                table.update(now, key, |e| e.set_addr(addr));
            }
            (4, true) => table.update(now, key, |e| e.state = MemberState::Alive),
            (_, true) => drop(table.next_probe(&mut rng)),
        }
        // The window moves on, and back once in a while.
        let window = Duration::from_millis(if step % 512 < 500 { 300 } else { 900 });
        check(&mut table, now - window);
    }
}

#[test]
fn each_member_is_probed_once_a_pass_while_members_come_and_go() {
    let mut rng = Rng::with_seed(9);
    let mut table = Table::new(0, 7);
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
    let mut table = Table::new(50, 7);
    for key in [10, 40, 60, 90] {
        table.insert(Time::ZERO, key, entry(key), &mut rng);
    }
    table.update(Time::ZERO, 60, |e| e.state = MemberState::Failed);
    let ring: Vec<_> = (0..4).filter_map(|nth| table.successor(nth)).collect();
    assert_eq!(ring, [90, 10, 40]);
}

#[test]
fn an_address_counts_its_latest_member_alone_as_missing() {
    let mut rng = Rng::with_seed(1);
    let mut table = Table::new(u64::MAX, 7);
    let addr = entry(1).addr();
    for key in 1..=40u64 {
        let now = Time::from_millis(key);
        let mut entry = entry(key);
        entry.set_addr(addr);
        let victim = table.bucket_victim(key, addr);
        assert_eq!(victim.is_some(), key > BUCKET_MAX as u64);
        victim.map(|victim| table.remove(victim));
        table.insert(now, key, entry, &mut rng);
        table.update(now, key, |e| e.state = MemberState::Failed);
    }
    let known: Vec<u64> = table.iter().map(|(key, _)| key).collect();
    assert_eq!(known, Vec::from_iter(41 - BUCKET_MAX as u64..=40));
    check(&mut table, Time::ZERO);
}

#[test]
fn the_last_member_at_a_crowded_address_stays_although_it_failed_first() {
    let mut rng = Rng::with_seed(1);
    let mut table = Table::new(u64::MAX, 7);
    let addr = entry(1).addr();
    let last = BUCKET_MAX as u64;
    for key in 1..=last {
        let mut entry = entry(key);
        entry.set_addr(addr);
        table.insert(Time::ZERO, key, entry, &mut rng);
    }
    for key in (1..=last).rev() {
        let now = Time::from_millis(last - key);
        table.update(now, key, |e| e.state = MemberState::Failed);
    }
    assert!(table.counts_as_missing(table.get(last).unwrap()));
    assert_eq!(table.bucket_victim(last + 1, addr), Some(last - 1));
    assert_eq!(table.bucket_victim(1, addr), None, "it is one of them");
}
