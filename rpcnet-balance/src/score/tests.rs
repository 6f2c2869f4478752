//! Tests of the comparison of endpoints.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::{InFlight, OutcomeKind, ReportedLoad};

const BUSY: ReportedLoad = ReportedLoad::new().with_busy(true);
const NOW: Time = Time::from_nanos(100_000_000_000);

/// What is known of an endpoint: replies (milliseconds ago, latency in microseconds), calls in
/// flight since, and its weight.
#[derive(Debug, Clone)]
struct Facts {
    replies: Vec<(u64, u64)>,
    calls: u64,
    weight: f32,
}

fn facts() -> impl Strategy<Value = Facts> {
    let replies = prop::collection::vec((0..30_000_u64, 20..50_000_u64), 1..4);
    (replies, 0..5_u64, 0.001..1000_f32).prop_map(|(mut replies, calls, weight)| {
        replies.sort_by_key(|(ago, _)| u64::MAX - ago);
        Facts {
            replies,
            calls,
            weight,
        }
    })
}

fn endpoint(facts: &Facts) -> (Arc<Endpoint>, Vec<InFlight>) {
    let endpoint = Arc::new(Endpoint::new(1).with_weight(facts.weight));
    let calls = (0..facts.calls).map(|_| endpoint.begin_at(NOW)).collect();
    for (ago, latency) in &facts.replies {
        let at = Time::from_nanos(NOW.as_nanos() - ago * 1_000_000);
        let outcome = Outcome::new(OutcomeKind::Success, Duration::from_micros(*latency));
        Scorer::new().on_outcome(&endpoint, &outcome.with_now(at));
    }
    (endpoint, calls)
}

fn criterion() -> ByLatency {
    Scorer::new().at(Some(NOW))
}

proptest! {
    #[test]
    fn an_ordinary_endpoint_is_compared_as_any_other_is(a in facts(), b in facts()) {
        let ((a, _calls), (b, _more)) = (endpoint(&a), endpoint(&b));
        let [is_a_ordinary, is_b_ordinary] = [&a, &b]
            .map(|one| one.state().is_ordinary(crate::ExclusionFlags::ALL, ByLatency::RARE));
        prop_assert!(is_a_ordinary && is_b_ordinary);
        let (ordinary, any) = (|one| criterion().ordinary(one), |one| criterion().any(one));
        prop_assert_eq!(ordinary(&a).beats(&ordinary(&b)), any(&a).beats(&any(&b)));
        prop_assert_eq!(ordinary(&a).is_degraded(), any(&a).is_degraded());
    }

    #[test]
    fn the_worst_lose_to_all_others_and_are_compared_by_their_calls(
        (a, b) in (facts(), facts()),
        calls in prop::array::uniform2(1..1_000_u32),
    ) {
        let ((a, _calls), (b, _more)) = (endpoint(&a), endpoint(&b));
        let [a, b] = [a, b].map(|one| criterion().any(&one));
        let (worst, other) = (a.worst_if(true, calls[0]), b.worst_if(true, calls[1]));
        prop_assert!(b.beats(&worst) && !worst.beats(&b));
        prop_assert_eq!(a.worst_if(false, calls[0]).beats(&b), a.beats(&b));
        let [mine, its] = [(calls[0], &other), (calls[1], &worst)]
            .map(|(calls, other)| calls as f32 * other.load.weight());
        prop_assert_eq!(worst.beats(&other), mine < its);
    }
}

#[test]
fn rare_traits_change_the_score() {
    let plain = Facts {
        replies: vec![(5, 1_000), (4, 1_000)],
        calls: 1,
        weight: 1.0,
    };
    let check = |change: fn(&Endpoint), factor: u64, in_backoff: bool| {
        let (endpoint, _calls) = endpoint(&plain);
        change(&endpoint);
        let score = criterion().any(&endpoint);
        assert_eq!(score.load.calls, 2 * factor);
        assert_eq!(score.load.in_backoff, in_backoff);
        let is_ordinary = endpoint
            .state()
            .is_ordinary(crate::ExclusionFlags::ALL, Traits::OF_LOAD);
        assert_eq!(is_ordinary, factor == 1 && !in_backoff);
    };
    check(|_| (), 1, false);
    check(|one| one.set_slow(true), 2, false);
    check(|one| one.set_reported_load_at(BUSY, NOW), 4, false);
    check(
        |one| {
            one.set_slow(true);
            one.set_reported_load_at(BUSY, NOW);
        },
        8,
        false,
    );
    check(
        |one| {
            let failure = Outcome::new(OutcomeKind::Failure, Duration::ZERO).with_now(NOW);
            Scorer::new().on_outcome(one, &failure);
        },
        1,
        true,
    );
}
