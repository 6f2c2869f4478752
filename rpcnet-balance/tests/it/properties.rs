//! Properties of all balancers for any views, loads and exclusions.

use std::{sync::Arc, time::Duration};

use proptest::prelude::*;
use rpcnet_balance::{
    Balancer, Endpoint, ExclusionFlags, InFlight, LeastConnections, Maglev, Outcome, OutcomeKind,
    PeakEwma, PickContext, PowerOfTwo, Prequal, Random, Rendezvous, ReportedLoad, RoundRobin,
    SlowStart, Sticky, Subset, Tiered, Time, View, Weighted, WeightedByLoad,
};

/// All balancers, as they are built and as they are rebuilt for the view.
fn balancers(seed: u64, view: &View) -> Vec<Arc<dyn Balancer>> {
    let inner = || Arc::new(PeakEwma::seeded(seed));
    let plain: [Arc<dyn Balancer>; 14] = [
        Arc::new(RoundRobin::seeded(seed)),
        Arc::new(Random::seeded(seed)),
        Arc::new(LeastConnections::seeded(seed)),
        Arc::new(Weighted::seeded(seed)),
        Arc::new(WeightedByLoad::seeded(seed)),
        Arc::new(PowerOfTwo::seeded(seed)),
        Arc::new(PeakEwma::seeded(seed)),
        Arc::new(Prequal::seeded(seed)),
        Arc::new(Rendezvous::seeded(seed)),
        Arc::new(Maglev::seeded(seed)),
        Arc::new(Sticky::new(inner())),
        Arc::new(Subset::new(inner(), 1 + seed as usize % 50, seed)),
        Arc::new(SlowStart::new(inner(), Duration::from_secs(1))),
        Arc::new(Tiered::new(inner()).prefer("zone", "a")),
    ];
    let rebuilt: Vec<_> = plain.iter().filter_map(|one| one.rebuild(view)).collect();
    plain.into_iter().chain(rebuilt).collect()
}

/// What happens to an endpoint between picks.
#[derive(Debug, Clone, Copy)]
enum Event {
    Begin,
    Report(bool, u32),
    Mark,
    Unmark,
    Ready,
    Outcome(OutcomeKind, u64),
}

impl Event {
    /// The event to an endpoint: an index of the view.
    fn happen(
        self,
        balancer: &dyn Balancer,
        (view, index): (&View, usize),
        now: Time,
        calls: &mut Vec<InFlight>,
    ) {
        let endpoint = &view[index];
        match self {
            Self::Begin => calls.push(endpoint.begin_at(now)),
            Self::Report(busy, in_flight) => {
                let load = ReportedLoad::new().with_busy(busy);
                endpoint.set_reported_load_at(load.with_in_flight(in_flight), now);
            }
            Self::Mark => drop(endpoint.set_flags(ExclusionFlags::EJECTED)),
            Self::Unmark => drop(endpoint.clear_flags(ExclusionFlags::ALL)),
            Self::Ready => endpoint.set_ready(now),
            Self::Outcome(kind, nanos) => {
                let latency = Duration::from_nanos(nanos);
                let outcome = Outcome::new(kind, latency)
                    .with_now(now)
                    .with_retry_after((nanos % 3 == 0).then_some(latency));
                balancer.on_outcome(view, index, &outcome);
                calls.pop();
            }
        }
    }

    /// The same event, of an attempt that began in the past `elapsed`.
    fn since(self, elapsed: Duration) -> Self {
        match self {
            Self::Outcome(kind, nanos) => {
                let elapsed = u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX);
                Self::Outcome(kind, nanos % (elapsed + 1))
            }
            other => other,
        }
    }
}

fn event() -> impl Strategy<Value = Event> {
    let kind = prop::sample::select(vec![
        OutcomeKind::Success,
        OutcomeKind::Failure,
        OutcomeKind::Unreachable,
        OutcomeKind::Overloaded,
        OutcomeKind::Cancelled,
    ]);
    prop_oneof![
        Just(Event::Begin),
        (any::<bool>(), any::<u32>()).prop_map(|(busy, calls)| Event::Report(busy, calls)),
        Just(Event::Mark),
        Just(Event::Unmark),
        Just(Event::Ready),
        (kind, any::<u64>()).prop_map(|(kind, nanos)| Event::Outcome(kind, nanos)),
    ]
}

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

/// Whether the counts could come from a uniform choice among those not excluded (chi-square, far in
/// the tail).
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

/// Whether the counts could come from a choice with these shares (chi-square, as above).
fn looks_like(counts: &[usize], shares: &[f64], picks: usize) -> bool {
    let expected = shares.iter().map(|share| share * picks as f64);
    let statistic: f64 = counts
        .iter()
        .zip(expected)
        .map(|(&count, expected)| (count as f64 - expected).powi(2) / expected)
        .sum();
    let freedom = counts.len() as f64 - 1.0;
    statistic <= freedom + 8.0 * (2.0 * freedom).sqrt() + 16.0
}

// Every case builds all balancers, with tables.
proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn exclusions_are_kept_and_the_rest_is_picked(
        len in 0..40_usize,
        excluded in prop::collection::vec(0..40_u64, 0..45),
        seed in any::<u64>(),
    ) {
        let view = view(len);
        let cx = PickContext::new().with_excluded(&excluded);
        let possible = (0..len as u64).any(|id| !excluded.contains(&id));
        for balancer in balancers(seed, &view) {
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
    fn only_allowed_endpoints_are_picked_and_all_calls_end(
        len in 1..30_usize,
        events in prop::collection::vec(
            (event(), any::<prop::sample::Index>(), 0..3_000_000_000_u64), 1..60,
        ),
        excluded in prop::collection::vec(0..30_u64, 0..3),
        seed in any::<u64>(),
    ) {
        let view = view(len);
        for balancer in balancers(seed, &view) {
            let (mut calls, mut now) = (Vec::new(), Time::ZERO);
            for (event, index, later) in &events {
                now = now + Duration::from_nanos(*later);
                event.happen(&*balancer, (&view, index.index(len)), now, &mut calls);
                let cx = PickContext::new().with_now(now).with_excluded(&excluded);
                for cx in [cx, cx.with_key(seed)] {
                    let picked = balancer.pick(&view, &cx);
                    let possible = view.endpoints().iter().any(|one| cx.allows(one));
                    prop_assert_eq!(picked.is_some(), possible, "{:?}", balancer);
                    let is_allowed = picked.is_none_or(|index| cx.allows(&view[index]));
                    prop_assert!(is_allowed, "{balancer:?}");
                }
            }
            drop(calls);
            prop_assert!(view.endpoints().iter().all(|one| one.in_flight() == 0));
        }
    }

    #[test]
    fn picks_are_the_same_whether_time_begins_at_the_origin_or_later(
        len in 1..8_usize,
        events in prop::collection::vec(
            (event(), any::<prop::sample::Index>(), 0..200_000_000_u64), 1..60,
        ),
        seed in any::<u64>(),
    ) {
        let picks_from = |origin: Time| -> Vec<Vec<Option<usize>>> {
            let view = view(len);
            let picks = |balancer: Arc<dyn Balancer>| {
                let (mut calls, mut now) = (Vec::new(), origin);
                let picks = events.iter().flat_map(|(event, index, later)| {
                    let event = event.since(now.since(origin));
                    event.happen(&*balancer, (&view, index.index(len)), now, &mut calls);
                    let cx = PickContext::new().with_now(now);
                    now = now + Duration::from_nanos(*later);
                    [cx, cx.with_key(seed)].map(|cx| balancer.pick(&view, &cx))
                });
                picks.collect()
            };
            balancers(seed, &view).into_iter().map(picks).collect()
        };
        // Backoffs end at multiples of a power of two.
        prop_assert_eq!(picks_from(Time::ZERO), picks_from(Time::from_nanos(1 << 40)));
    }

    #[test]
    fn a_run_of_one_thread_can_be_repeated(seed in any::<u64>(), len in 1..40_usize) {
        let view = view(len);
        for (one, same) in balancers(seed, &view).into_iter().zip(balancers(seed, &view)) {
            for key in 0..50 {
                let cx = PickContext::new();
                let cx = if key % 2 == 0 { cx } else { cx.with_key(key) };
                prop_assert_eq!(one.pick(&view, &cx), same.pick(&view, &cx), "{:?}", one);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn shares_are_proportional_to_weights(
        weights in prop::collection::vec(0.1..10.0_f32, 1..20), seed in any::<u64>(),
    ) {
        let view = View::new(
            (0..)
                .zip(&weights)
                .map(|(id, weight)| Arc::new(Endpoint::new(id).with_weight(*weight))),
            1,
        );
        let sum: f32 = weights.iter().sum();
        let shares: Vec<f64> = weights.iter().map(|weight| f64::from(weight / sum)).collect();
        let plain: [Arc<dyn Balancer>; 2] =
            [Arc::new(Weighted::seeded(seed)), Arc::new(WeightedByLoad::seeded(seed))];
        for balancer in plain {
            let built = balancer.rebuild(&view).unwrap();
            for balancer in [balancer, built] {
                let counts = histogram(&*balancer, &view, &PickContext::new(), 8000);
                prop_assert!(looks_like(&counts, &shares, 8000), "{counts:?} for {shares:?}");
            }
        }
    }

    #[test]
    fn weighted_picks_are_even_in_the_short_run(
        weights in prop::collection::vec(1..6_u8, 2..12),
        start in 0..300_usize,
        seed in any::<u64>(),
    ) {
        let view = View::new(
            (0..).zip(&weights).map(|(id, weight)| {
                Arc::new(Endpoint::new(id).with_weight(f32::from(*weight)))
            }),
            1,
        );
        let balancer = Weighted::seeded(seed).rebuild(&view).unwrap();
        histogram(&*balancer, &view, &PickContext::new(), start);
        let sum: f64 = weights.iter().map(|weight| f64::from(*weight)).sum();
        let counts = histogram(&*balancer, &view, &PickContext::new(), 100);
        for (count, weight) in counts.iter().zip(&weights) {
            let expected = 100.0 * f64::from(*weight) / sum;
            // Chance alone would sometimes be off by 4 standard deviations, some 17.
            prop_assert!((*count as f64 - expected).abs() < 8.0, "{counts:?} for {weights:?}");
        }
    }

    #[test]
    fn power_of_two_never_picks_the_worst(
        loads in prop::collection::vec(0..20_u32, 3..20), seed in any::<u64>(),
    ) {
        let view = view(loads.len());
        let _calls: Vec<InFlight> = (0..loads.len())
            .flat_map(|index| (0..loads[index]).map(move |_| index))
            .map(|index| view[index].begin())
            .collect();
        let most = *loads.iter().max().unwrap();
        prop_assume!(loads.iter().filter(|load| **load == most).count() == 1);
        let plain: [Arc<dyn Balancer>; 2] =
            [Arc::new(PowerOfTwo::seeded(seed)), Arc::new(PeakEwma::seeded(seed))];
        for balancer in plain {
            let counts = histogram(&*balancer, &view, &PickContext::new(), 500);
            let worst = loads.iter().position(|load| *load == most).unwrap();
            prop_assert_eq!(counts[worst], 0);
        }
    }

    #[test]
    fn random_is_uniform_among_allowed_endpoints(
        len in 2..20_usize,
        excluded in prop::collection::vec(0..20_u64, 0..3),
        seed in any::<u64>(),
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
    assert!(looks_like(&[990, 2010], &[1.0 / 3.0, 2.0 / 3.0], 3000));
    assert!(!looks_like(&[1200, 1800], &[1.0 / 3.0, 2.0 / 3.0], 3000));
}

#[test]
fn an_endpoint_without_weight_gets_no_calls_while_another_has_weight() {
    let endpoint = |id, weight| Arc::new(Endpoint::new(id).with_weight(weight));
    let view = View::new([endpoint(0, 0.0), endpoint(1, 0.001), endpoint(2, 2.0)], 1);
    for balancer in balancers(1, &view) {
        for key in 0..500 {
            let cx = PickContext::new().with_now(Time::from(Duration::from_secs(key)));
            for cx in [cx, cx.with_key(key)] {
                assert_ne!(balancer.pick(&view, &cx), Some(0), "{balancer:?}");
            }
        }
        // It counts again at once, also where there are tables.
        view[0].set_weight(2.0);
        let counts = histogram(&*balancer, &view, &PickContext::new(), 500);
        let subset = format!("{balancer:?}").contains("Subset");
        assert!(counts[0] > 0 || subset, "{balancer:?}");
        view[0].set_weight(0.0);
    }
    // Where no endpoint has weight, none is picked unless the caller ignores the flag; then all are
    // equal.
    let none = View::new((0..3).map(|id| endpoint(id, 0.0)), 2);
    for balancer in balancers(1, &none) {
        assert_eq!(balancer.pick(&none, &PickContext::new()), None);
        let cx = PickContext::new()
            .with_respected_flags(ExclusionFlags::ALL.without(ExclusionFlags::ZERO_WEIGHT));
        assert!(balancer.pick(&none, &cx).is_some(), "{balancer:?}");
    }
}
