//! Tests of the table: a call runs once for its key, and the cache keeps its bounds.

use proptest::prelude::*;

use super::*;

const BOUNDS: CacheBounds = CacheBounds {
    len_max: 3,
    bytes_max: 100,
    ttl: Duration::from_secs(60),
};

type TestTable = KeyTable<u8, u8, &'static str, u32>;

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn call(owner: u8, key: u8, body_hash: u64) -> KeyedCall<u8, u8> {
    KeyedCall {
        owner,
        key,
        body_hash,
    }
}

/// Looks up a key of the only owner. No waiter goes.
fn look_up(
    keys: &mut TestTable,
    now: u64,
    key: u8,
    hash: u64,
    waiter: u32,
) -> KeyLookup<&'static str> {
    keys.look_up(secs(now), call(0, key, hash), waiter, |_| false)
}

fn run(keys: &mut TestTable, now: u64, key: u8) -> u64 {
    match look_up(keys, now, key, 7, 0) {
        KeyLookup::Run(number) => number,
        other => panic!("it is not the first: {other:?}"),
    }
}

/// A call that runs and completes at once.
fn run_and_cache(keys: &mut TestTable, now: u64, key: u8, bytes: usize) {
    let number = run(keys, now, key);
    assert_eq!(
        keys.complete(secs(now), &key, number, Some(("done", bytes))),
        [0]
    );
}

#[test]
fn a_repeat_joins_the_run_and_later_ones_are_answered() {
    let mut keys = TestTable::new(BOUNDS);
    let number = run(&mut keys, 0, 1);
    assert_eq!(look_up(&mut keys, 0, 1, 7, 11), KeyLookup::Join);
    assert_eq!(look_up(&mut keys, 0, 1, 8, 12), KeyLookup::BodyMismatch);
    let told = keys.complete(secs(1), &1, number, Some(("done", 4)));
    assert_eq!(told, [0, 11]);
    assert_eq!(
        look_up(&mut keys, 61, 1, 7, 13),
        KeyLookup::Completed("done")
    );
    assert_eq!(look_up(&mut keys, 61, 1, 8, 14), KeyLookup::BodyMismatch);
    assert_eq!(keys.bytes(), 4);
}

#[test]
fn an_unprocessed_call_runs_again() {
    let mut keys = TestTable::new(BOUNDS);
    let number = run(&mut keys, 0, 1);
    assert_eq!(look_up(&mut keys, 0, 1, 7, 11), KeyLookup::Join);
    assert_eq!(keys.complete(secs(0), &1, number, None), [0, 11]);
    let again = run(&mut keys, 0, 1);
    assert_ne!(again, number);
    // The first run completes a second time.
    assert!(
        keys.complete(secs(0), &1, number, Some(("old", 1)))
            .is_empty()
    );
    assert_eq!(keys.complete(secs(0), &1, again, Some(("new", 1))), [0]);
}

#[test]
fn the_oldest_result_is_evicted_first() {
    let mut keys = TestTable::new(BOUNDS);
    for key in 1..=3 {
        run_and_cache(&mut keys, 0, key, 1);
    }
    run_and_cache(&mut keys, 0, 4, 1);
    assert_eq!(keys.len(), 3);
    assert_eq!(look_up(&mut keys, 0, 2, 7, 0), KeyLookup::Completed("done"));
    run_and_cache(&mut keys, 0, 1, 99);
    // One byte is left for the others.
    assert_eq!((keys.len(), keys.bytes()), (2, 100));
    assert_eq!(look_up(&mut keys, 0, 4, 7, 0), KeyLookup::Completed("done"));
    let number = run(&mut keys, 0, 9);
    keys.complete(secs(0), &9, number, Some(("too much", 101)));
    assert_eq!((keys.len(), keys.bytes()), (2, 100));
    // A result that takes all bytes is cached, and evicts the others.
    run_and_cache(&mut keys, 0, 9, 100);
    assert_eq!((keys.len(), keys.bytes()), (1, 100));
}

#[test]
fn results_expire_and_running_calls_do_not() {
    let mut keys = TestTable::new(BOUNDS);
    run_and_cache(&mut keys, 0, 1, 1);
    let slow = run(&mut keys, 0, 2);
    assert_eq!(
        look_up(&mut keys, 60, 1, 7, 0),
        KeyLookup::Completed("done")
    );
    let _ = run(&mut keys, 61, 1);
    assert_eq!(look_up(&mut keys, 1_000, 2, 7, 5), KeyLookup::Join);
    assert_eq!(keys.complete(secs(1_000), &2, slow, None), [0, 5]);
}

#[test]
fn running_calls_are_not_evicted() {
    let mut keys = TestTable::new(BOUNDS);
    for key in 1..=3 {
        let _ = run(&mut keys, 0, key);
    }
    assert_eq!(look_up(&mut keys, 0, 4, 7, 0), KeyLookup::Full);
    assert_eq!(look_up(&mut keys, 0, 3, 7, 0), KeyLookup::Join);
}

#[test]
fn running_calls_of_one_owner_leave_half_to_others() {
    let bounds = CacheBounds {
        len_max: 100,
        ..BOUNDS
    };
    let mut keys = TestTable::new(bounds);
    let look_up = |keys: &mut TestTable, owner: u8, key: u8| {
        keys.look_up(secs(0), call(owner, key, 7), 0, |_| false)
    };
    let mut numbers = Vec::new();
    while let KeyLookup::Run(number) = look_up(&mut keys, 0, numbers.len() as u8) {
        numbers.push(number);
    }
    assert_eq!(numbers.len(), 50, "half of all");
    assert!(matches!(look_up(&mut keys, 1, 51), KeyLookup::Run(_)));
    // A completed call does not count any more, cached or not.
    keys.complete(secs(0), &0, numbers[0], None);
    keys.complete(secs(0), &1, numbers[1], Some(("done", 1)));
    assert!(matches!(look_up(&mut keys, 0, 60), KeyLookup::Run(_)));
    for (key, number) in (2..50).zip(&numbers[2..]) {
        keys.complete(secs(0), &key, *number, None);
    }
    assert_eq!((keys.owners[&0].running, keys.running), (1, 2));
}

#[test]
fn an_owner_that_floods_the_table_evicts_its_own_results() {
    let mut keys = TestTable::new(BOUNDS);
    let mut run_and_cache = |owner: u8, key: u8, bytes| {
        let KeyLookup::Run(number) = keys.look_up(secs(0), call(owner, key, 7), 0, |_| false)
        else {
            panic!("it is not the first of {key}");
        };
        keys.complete(secs(0), &key, number, Some(("done", bytes)));
    };
    run_and_cache(1, 100, 1);
    for key in 0..10 {
        run_and_cache(2, key, 1);
    }
    // Eviction for bytes follows the same rule.
    run_and_cache(2, 10, 98);
    run_and_cache(2, 11, 50);
    assert_eq!(
        look_up(&mut keys, 0, 100, 7, 0),
        KeyLookup::Completed("done")
    );
    assert_eq!(
        look_up(&mut keys, 0, 11, 7, 0),
        KeyLookup::Completed("done")
    );
    assert_eq!((keys.len(), keys.bytes()), (2, 51));
}

#[test]
fn gone_waiters_are_pruned() {
    let mut keys = TestTable::new(BOUNDS);
    let number = run(&mut keys, 0, 1);
    // All but the first thousand waiters are gone by the time of the next.
    for waiter in 1..100_000 {
        let lookup = keys.look_up(secs(0), call(0, 1, 7), waiter, |waiter| *waiter >= 1_000);
        assert_eq!(lookup, KeyLookup::Join);
    }
    let told = keys.complete(secs(0), &1, number, None);
    assert!(told.len() <= 2_100, "{} are told", told.len());
    assert!((0..1_000).all(|waiter| told.contains(&waiter)));
}

proptest! {
    /// At most one call runs for a key, every waiter is told exactly once, and the bounds hold.
    #[test]
    fn every_waiter_is_told_once(
        operations in prop::collection::vec((0u8..8, 0u8..5, 0u64..40, any::<bool>()), 0..200),
    ) {
        let mut keys = TestTable::new(BOUNDS);
        let mut now = Duration::ZERO;
        let mut running: HashMap<u8, u64> = HashMap::new();
        let (mut waiting, mut told) = (0, 0);
        for (number, (operation, key, more, processed)) in (0u32..).zip(operations) {
            match operation {
                0..=3 => match keys.look_up(now, call(key % 3, key, 7), number, |_| false) {
                    KeyLookup::Run(run) => {
                        prop_assert!(running.insert(key, run).is_none(), "two run");
                        waiting += 1;
                    }
                    KeyLookup::Join => {
                        prop_assert!(running.contains_key(&key));
                        waiting += 1;
                    }
                    KeyLookup::Completed(_) => prop_assert!(!running.contains_key(&key)),
                    KeyLookup::BodyMismatch => prop_assert!(false, "all have one body"),
                    KeyLookup::Full => prop_assert_eq!(running.len(), BOUNDS.len_max),
                },
                4..=6 => if let Some(run) = running.remove(&key) {
                    let bytes = usize::try_from(more).expect("small");
                    let result = processed.then_some(("done", bytes));
                    told += keys.complete(now, &key, run, result).len();
                },
                _ => now += Duration::from_secs(more),
            }
            prop_assert!(keys.len() <= BOUNDS.len_max && keys.bytes() <= BOUNDS.bytes_max);
        }
        for (key, run) in running {
            told += keys.complete(now, &key, run, None).len();
        }
        prop_assert_eq!(told, waiting);
    }
}
