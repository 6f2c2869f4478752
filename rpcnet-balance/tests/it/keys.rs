//! Tests of balancing by key, subsets and tiers: shares, and what moves when endpoints come and go.

use std::{collections::HashMap, sync::Arc};

use rpcnet_balance::{
    Balancer, Endpoint, ExclusionFlags, InFlight, Maglev, PickContext, Random, Rendezvous, Sticky,
    Subset, TagLookup, Tiered, View,
};

const KEYS: u64 = 20_000;

fn view(ids: impl IntoIterator<Item = u64>, generation: u64) -> View {
    View::new(
        ids.into_iter().map(|id| Arc::new(Endpoint::new(id))),
        generation,
    )
}

fn built(balancer: impl Balancer, view: &View) -> Arc<dyn Balancer> {
    balancer.rebuild(view).expect("a table")
}

/// The id that each key is sent to.
fn assignments(balancer: &dyn Balancer, view: &View) -> Vec<u64> {
    let preferred = |key| balancer.pick(view, &PickContext::new().with_key(key));
    (0..KEYS)
        .map(|key| view[preferred(key).expect("an endpoint")].id())
        .collect()
}

fn moved(before: &[u64], after: &[u64], other_than: u64) -> f64 {
    let pairs = before.iter().zip(after).filter(|(before, after)| {
        before != after && **before != other_than && **after != other_than
    });
    pairs.count() as f64 / before.len() as f64
}

fn counts(assignments: &[u64]) -> HashMap<u64, f64> {
    let mut counts = HashMap::new();
    for id in assignments {
        *counts.entry(*id).or_default() += 1.0 / assignments.len() as f64;
    }
    counts
}

#[test]
fn only_the_keys_of_added_or_removed_endpoints_move() {
    let (all, fewer) = (view(0..20, 1), view((0..20).filter(|id| *id != 7), 2));
    let rendezvous = || Rendezvous::seeded(1);
    let sticky = || Sticky::new(Arc::new(Random::seeded(1)));
    type Built = Arc<dyn Balancer>;
    let pairs: [(Built, Built, f64); 4] = [
        (built(rendezvous(), &all), built(rendezvous(), &fewer), 0.0),
        (built(sticky(), &all), built(sticky(), &fewer), 0.0),
        // Without tables the keys go to the same endpoints.
        (built(rendezvous(), &all), Arc::new(rendezvous()), 0.0),
        // A few of the other keys move with them, as in figure 9 of the paper.
        (
            built(Maglev::new(), &all),
            built(Maglev::new(), &fewer),
            0.03,
        ),
    ];
    for (before, after, most) in pairs {
        let (before, after) = (assignments(&*before, &all), assignments(&*after, &fewer));
        let moved = moved(&before, &after, 7);
        assert!(moved <= most, "{moved} of the keys that stay moved");
        assert!(before.contains(&7) && !after.contains(&7));
    }
}

#[test]
fn keys_go_to_the_same_endpoint_at_every_pick_and_client() {
    let view = view(0..50, 1);
    for (one, other) in [
        (
            built(Rendezvous::seeded(1), &view),
            built(Rendezvous::seeded(2), &view),
        ),
        (
            built(Maglev::seeded(1), &view),
            built(Maglev::seeded(2), &view),
        ),
    ] {
        let assignments_of_one = assignments(&*one, &view);
        assert_eq!(assignments_of_one, assignments(&*one, &view));
        assert_eq!(assignments_of_one, assignments(&*other, &view));
    }
}

#[test]
fn keys_are_shared_by_weight() {
    let weighted = View::new(
        (0..10).map(|id| Arc::new(Endpoint::new(id).with_weight(if id == 0 { 3.0 } else { 1.0 }))),
        1,
    );
    for balancer in [
        built(Rendezvous::seeded(1), &weighted),
        built(Maglev::new(), &weighted),
    ] {
        let counts = counts(&assignments(&*balancer, &weighted));
        for (id, share) in &counts {
            let expected = if *id == 0 { 3.0 } else { 1.0 } / 12.0;
            // Four standard deviations of 20,000 keys and some of 65,536 buckets.
            assert!(
                (share - expected).abs() < 0.015,
                "{share} for {id} by {balancer:?}"
            );
        }
    }
}

#[test]
fn a_key_leaves_a_flagged_endpoint_and_returns() {
    let view = view(0..20, 1);
    for balancer in [
        built(Rendezvous::seeded(1), &view),
        built(Sticky::new(Arc::new(Rendezvous::seeded(1))), &view),
        built(Maglev::new(), &view),
    ] {
        let before = assignments(&*balancer, &view);
        view[7].set_flags(ExclusionFlags::EJECTED);
        let meanwhile = assignments(&*balancer, &view);
        assert!(!meanwhile.contains(&7));
        assert_eq!(moved(&before, &meanwhile, 7), 0.0);
        // Its keys spread over the others.
        let moved_keys = before
            .iter()
            .zip(&meanwhile)
            .filter(|(before, _)| **before == 7);
        let receivers: Vec<u64> = moved_keys.map(|(_, after)| *after).collect();
        assert!(
            counts(&receivers).values().all(|share| *share < 0.15),
            "{:?}",
            counts(&receivers)
        );
        view[7].clear_flags(ExclusionFlags::EJECTED);
        assert_eq!(before, assignments(&*balancer, &view));
    }
}

#[test]
fn a_hot_key_is_kept_within_the_load_bound() {
    let view = view(0..10, 1);
    for balancer in [
        built(Rendezvous::seeded(1), &view),
        Arc::new(Rendezvous::seeded(1)),
    ] {
        let mut calls: Vec<InFlight> = Vec::new();
        for _ in 0..500 {
            let index = balancer
                .pick(&view, &PickContext::new().with_key(42))
                .unwrap();
            calls.push(view[index].begin());
            let mean = calls.len() as f32 / 10.0;
            let most = view
                .endpoints()
                .iter()
                .map(|one| one.in_flight())
                .max()
                .unwrap();
            assert!(
                most as f32 <= (1.25 * mean).ceil() + 2.0,
                "{most} at {mean}"
            );
        }
        // The endpoint is used up to its bound, and so are the next ones.
        let full = view
            .endpoints()
            .iter()
            .filter(|one| one.in_flight() >= 60)
            .count();
        assert!((6..9).contains(&full), "{full} are full");
    }
}

#[test]
fn the_maglev_table_is_even() {
    // There are fewer keys than slots, so the counts differ by chance.
    let view = view(0..100, 1);
    let balancer = built(Maglev::new(), &view);
    let counts = counts(&assignments(&*balancer, &view));
    assert_eq!(counts.len(), 100);
    // Mean 200, deviation 14.
    assert!(
        counts.values().all(|share| (share - 0.01).abs() < 0.0035),
        "{counts:?}"
    );
}

/// The ids that a client uses.
fn subset(view: &View, size: usize, client: u64) -> Vec<u64> {
    let subset = built(Subset::new(Arc::new(Random::seeded(1)), size, client), view);
    let mut ids: Vec<u64> = (0..60 * size)
        .map(|_| view[subset.pick(view, &PickContext::new()).unwrap()].id())
        .collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

#[test]
fn subsets_have_their_size_and_differ_by_client() {
    let view = view(0..50, 1);
    let mut clients = HashMap::new();
    for client in 0..200 {
        let subset = subset(&view, 10, client);
        assert_eq!(subset.len(), 10);
        subset
            .iter()
            .for_each(|id| *clients.entry(*id).or_insert(0) += 1);
    }
    // Mean 40, deviation 5.7.
    assert_eq!(clients.len(), 50);
    assert!(
        clients.values().all(|count| (16..66).contains(count)),
        "{clients:?}"
    );
}

#[test]
fn a_subset_changes_by_at_most_one() {
    let (all, fewer) = (view(0..50, 1), view((0..50).filter(|id| *id != 7), 2));
    let mut changes = 0;
    for client in 0..100 {
        let (before, after) = (subset(&all, 10, client), subset(&fewer, 10, client));
        let lost: Vec<_> = before.iter().filter(|id| !after.contains(id)).collect();
        assert!(lost.is_empty() || lost == [&7], "{lost:?}");
        assert_eq!(after.len(), 10);
        changes += lost.len();
    }
    assert!((5..40).contains(&changes), "{changes} of 100 used it");
}

#[test]
fn a_subset_falls_back_to_the_other_endpoints() {
    let view = view(0..50, 1);
    let balancer = built(Subset::new(Arc::new(Random::seeded(1)), 10, 3), &view);
    let ids = subset(&view, 10, 3);
    let pick = |excluded: &[u64]| {
        let cx = PickContext::new().with_excluded(excluded);
        balancer.pick(&view, &cx).map(|index| view[index].id())
    };
    assert_eq!(pick(&ids[1..]), Some(ids[0]));
    assert!(!ids.contains(&pick(&ids).unwrap()));
}

/// Ten endpoints in each of three zones; b is in the same region as a.
fn zones() -> View {
    let tags = (0..30).map(|index| {
        let (zone, region) = [("a", "eu"), ("b", "eu"), ("c", "us")][index / 10];
        let tags = [("zone", zone), ("region", region)];
        Arc::new(
            tags.map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into_iter()
                .collect::<HashMap<_, _>>(),
        ) as Arc<dyn TagLookup>
    });
    view(0..30, 1).with_tags(tags)
}

/// The share of picks in each zone.
fn by_zone(balancer: &dyn Balancer, view: &View) -> [f64; 3] {
    let mut shares = [0.0; 3];
    // First enough picks to have the health measured again.
    for round in 0..4100 {
        let index = balancer.pick(view, &PickContext::new()).unwrap();
        if round >= 100 {
            shares[index / 10] += 1.0 / 4000.0;
        }
    }
    shares
}

#[test]
fn tiers_spill_as_far_as_they_are_unhealthy() {
    let view = zones();
    let near = || {
        Tiered::new(Arc::new(Random::seeded(1)))
            .prefer("zone", "a")
            .prefer("region", "eu")
    };
    let balancer = built(near(), &view);
    // The number of flagged endpoints in zones a and b, and the share of each zone.
    for (marked, expected) in [
        ([0, 0], [1.0, 0.0, 0.0]),
        ([5, 0], [1.0, 0.0, 0.0]),
        ([6, 0], [0.8, 0.2, 0.0]),
        ([10, 0], [0.0, 1.0, 0.0]),
        ([9, 8], [0.2, 0.32, 0.48]),
        ([10, 10], [0.0, 0.0, 1.0]),
    ] {
        for (index, endpoint) in view.endpoints().iter().enumerate() {
            let is_marked = index < 20 && index % 10 < marked[index / 10];
            endpoint.clear_flags(ExclusionFlags::ALL);
            if is_marked {
                endpoint.set_flags(ExclusionFlags::EJECTED);
            }
        }
        let shares = by_zone(&*balancer, &view);
        for (share, expected) in shares.iter().zip(expected) {
            assert!(
                (share - expected).abs() < 0.05,
                "{shares:?} with {marked:?} marked"
            );
        }
    }
    // Where all are equally unhealthy, the near ones again.
    view.endpoints()
        .iter()
        .enumerate()
        .for_each(|(index, one)| {
            one.clear_flags(ExclusionFlags::ALL);
            if index % 10 < 8 {
                one.set_flags(ExclusionFlags::EJECTED);
            }
        });
    assert!(by_zone(&*balancer, &view)[0] > 0.999);
}

#[test]
fn tiers_spill_by_load_if_asked() {
    let view = zones();
    let near = || Tiered::new(Arc::new(Random::seeded(1))).prefer("zone", "a");
    let _calls: Vec<InFlight> = (0..90).map(|call| view[call % 10].begin()).collect();
    assert!(by_zone(&*built(near(), &view), &view)[0] > 0.999);
    let spilling = by_zone(&*built(near().with_load_ratio(5.0), &view), &view);
    assert!((spilling[0] - 0.5).abs() < 0.05, "{spilling:?}");
}

#[test]
fn the_load_bound_limits_the_calls_of_a_key_at_one_endpoint() {
    let view = view(0..10, 1);
    // 100 calls of one key: on average 10 on each endpoint.
    let calls_at_preferred = |bound: f32| {
        let balancer = built(Rendezvous::seeded(1).with_load_bound(bound), &view);
        let cx = PickContext::new().with_key(42);
        let preferred = balancer.pick(&view, &cx).expect("an endpoint");
        let _calls: Vec<InFlight> = (0..100)
            .map(|_| view[balancer.pick(&view, &cx).expect("an endpoint")].begin())
            .collect();
        view[preferred].in_flight()
    };
    assert!(
        (10..=17).contains(&calls_at_preferred(1.0)),
        "{}",
        calls_at_preferred(1.0)
    );
    assert!(
        (30..=37).contains(&calls_at_preferred(3.0)),
        "{}",
        calls_at_preferred(3.0)
    );
    assert_eq!(calls_at_preferred(f32::INFINITY), 100, "no bound");
}
