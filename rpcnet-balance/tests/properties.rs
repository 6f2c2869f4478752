//! What holds for all views, loads and exclusions.

use std::sync::Arc;

use proptest::prelude::*;
use rpcnet_balance::{
    Balancer, Endpoint, InFlight, LeastConnections, PickContext, Random, RoundRobin, View,
};

fn view(len: usize) -> View {
    View::new((0..len as u64).map(|id| Arc::new(Endpoint::new(id))), 1)
}

/// How often each endpoint is picked.
fn histogram(
    balancer: &dyn Balancer,
    view: &View,
    cx: &PickContext<'_>,
    picks: usize,
) -> Vec<usize> {
    let mut counts = vec![0; view.len()];
    for _ in 0..picks {
        if let Some(index) = balancer.pick(view, cx) {
            counts[index] += 1;
        }
    }
    counts
}

/// Whether the counts could come from a uniform choice among those not excluded (chi-square, far in the tail).
fn looks_uniform(counts: &[usize], excluded: &[u64], picks: usize) -> bool {
    let allowed: Vec<usize> = (0..counts.len())
        .filter(|&i| !excluded.contains(&(i as u64)))
        .collect();
    let expected = picks as f64 / allowed.len() as f64;
    let statistic: f64 = allowed
        .iter()
        .map(|&i| (counts[i] as f64 - expected).powi(2) / expected)
        .sum();
    let freedom = allowed.len() as f64 - 1.0;
    // Mean plus eight standard deviations, plus slack for few degrees of freedom.
    statistic <= freedom + 8.0 * (2.0 * freedom).sqrt() + 16.0
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn exclusions_are_kept_and_the_rest_is_picked(
        len in 0..40_usize,
        excluded in prop::collection::vec(0..40_u64, 0..45),
        seed in any::<u64>(),
    ) {
        let view = view(len);
        let cx = PickContext::new().with_excluded(&excluded);
        let possible = (0..len as u64).any(|id| !excluded.contains(&id));
        let balancers: [Arc<dyn Balancer>; 3] = [
            Arc::new(RoundRobin::seeded(seed)),
            Arc::new(Random::seeded(seed)),
            Arc::new(LeastConnections::seeded(seed)),
        ];
        for balancer in balancers {
            for _ in 0..10 {
                let picked = balancer.pick(&view, &cx);
                prop_assert_eq!(picked.is_some(), possible);
                if let Some(index) = picked {
                    prop_assert!(index < len && !excluded.contains(&(index as u64)));
                }
            }
        }
    }

    #[test]
    fn random_is_uniform_among_the_allowed(
        len in 2..20_usize, excluded in prop::collection::vec(0..20_u64, 0..3), seed in any::<u64>(),
    ) {
        let view = view(len);
        prop_assume!((0..len as u64).any(|id| !excluded.contains(&id)));
        let cx = PickContext::new().with_excluded(&excluded);
        let counts = histogram(&Random::seeded(seed), &view, &cx, 4000);
        prop_assert!(looks_uniform(&counts, &excluded, 4000), "{counts:?}");
    }

    #[test]
    fn least_connections_breaks_ties_evenly(
        loads in prop::collection::vec(0..3_u32, 2..20), seed in any::<u64>(),
    ) {
        let view = view(loads.len());
        let _calls: Vec<InFlight> = loads
            .iter()
            .enumerate()
            .flat_map(|(index, &load)| (0..load).map(move |_| index))
            .map(|index| view[index].begin())
            .collect();
        let least = *loads.iter().min().unwrap();
        let busier: Vec<u64> =
            (0..loads.len()).filter(|&i| loads[i] > least).map(|i| i as u64).collect();
        let counts = histogram(&LeastConnections::seeded(seed), &view, &PickContext::new(), 4000);
        prop_assert!(busier.iter().all(|&id| counts[id as usize] == 0), "{counts:?} at {loads:?}");
        prop_assert!(looks_uniform(&counts, &busier, 4000), "{counts:?} at {loads:?}");
    }

    #[test]
    fn round_robin_is_even_to_a_single_call(
        len in 1..40_usize, picks in 0..500_usize, seed in any::<u64>(),
    ) {
        let view = view(len);
        let counts = histogram(&RoundRobin::seeded(seed), &view, &PickContext::new(), picks);
        let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
        prop_assert!(most - least <= 1, "{counts:?}");
    }

    #[test]
    fn least_connections_picks_the_least_loaded_for_its_weight(
        endpoints in prop::collection::vec((0..20_u32, 0.1..10.0_f32), 1..30), seed in any::<u64>(),
    ) {
        let view = View::new(
            (0..).zip(&endpoints).map(|(id, (_, weight))| {
                Arc::new(Endpoint::new(id).with_weight(*weight))
            }),
            1,
        );
        let _calls: Vec<InFlight> = view
            .endpoints()
            .iter()
            .zip(&endpoints)
            .flat_map(|(endpoint, (load, _))| (0..*load).map(|_| endpoint.begin()))
            .collect();
        let picked = LeastConnections::seeded(seed).pick(&view, &PickContext::new()).unwrap();
        let load = |index: usize| (endpoints[index].0 as f32 + 1.0) / endpoints[index].1;
        prop_assert!((0..endpoints.len()).all(|index| load(picked) <= load(index)));
    }
}

#[test]
fn the_test_for_uniformity_can_fail() {
    assert!(looks_uniform(&[1000, 990, 1010], &[], 3000));
    assert!(!looks_uniform(&[1200, 800, 1000], &[], 3000));
    assert!(looks_uniform(&[0, 1500, 1500], &[0], 3000));
}
