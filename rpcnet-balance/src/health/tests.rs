//! Tests of passive health: reachability, probes, switches.

mod ejection;
mod group_health;

use std::{sync::Arc, time::Duration};

use super::*;
use crate::{Endpoint, ExclusionFlags, Outcome, OutcomeKind, PickContext, Time, View};

const SECOND: Duration = Duration::from_secs(1);

fn at(millis: u64) -> Time {
    Time::ZERO + Duration::from_millis(millis)
}

fn view(len: u64) -> View {
    View::new((0..len).map(|id| Arc::new(Endpoint::new(id))), 1)
}

fn watching(config: impl Into<HealthConfig>, len: u64) -> (OutlierDetector, View) {
    let (detector, view) = (OutlierDetector::seeded(config, 1), view(len));
    detector.set_view(&view);
    (detector, view)
}

fn outcome(kind: OutcomeKind, now: Time) -> Outcome {
    Outcome::new(kind, Duration::ZERO).with_now(now)
}

/// Records this many calls of which this many fail, never five in a row.
fn calls(detector: &OutlierDetector, endpoint: &Endpoint, calls: u32, failures: u32, now: Time) {
    for index in 0..calls {
        // Spread evenly.
        let fails = u64::from(index) * u64::from(failures) % u64::from(calls) < u64::from(failures);
        let kind = if fails && failures > 0 {
            OutcomeKind::Failure
        } else {
            OutcomeKind::Success
        };
        assert_eq!(detector.on_outcome(endpoint, &outcome(kind, now)), None);
    }
}

fn ejected(view: &View) -> Vec<u64> {
    let ejected = view.endpoints().iter();
    let ejected = ejected.filter(|one| one.flags().contains(ExclusionFlags::EJECTED));
    ejected.map(|one| one.id()).collect()
}

fn probe(detector: &OutlierDetector, view: &View, now: Time) -> Option<(usize, Probe)> {
    detector.probe(view, &PickContext::new().with_now(now))
}

#[test]
fn the_origin_is_a_time_like_others() {
    let (detector, view) = watching(HealthConfig::new(), 3);
    assert!(!detector.claim_sweep(Time::ZERO), "the first interval");
    assert!(!detector.claim_sweep(at(9_999)) && detector.claim_sweep(at(10_000)));

    let unreachable = outcome(OutcomeKind::Unreachable, Time::ZERO);
    assert!(detector.on_outcome(&view[0], &unreachable).is_some());
    assert_eq!(probe(&detector, &view, Time::ZERO), None, "a backoff");
    let group = GroupHealth::new();
    assert!(!group.check(&detector, &view, Time::ZERO).is_probe_due);
    assert!(group.check(&detector, &view, at(200)).is_probe_due);

    detector.request_probe(Time::ZERO, &view[0]);
    assert!(group.check(&detector, &view, Time::ZERO).is_probe_due);
    let (_, claim) = probe(&detector, &view, Time::ZERO).expect("a due probe");
    let success = outcome(OutcomeKind::Success, Time::ZERO);
    detector.on_probe_outcome(&view[0], &claim, &success);
    assert_eq!(view[0].flags(), ExclusionFlags::NONE);
    assert_eq!(view[0].ready_since(), Some(Time::ZERO));
}

#[test]
fn without_a_time_nothing_is_flagged_and_no_probe_is_due() {
    let (detector, view) = watching(HealthConfig::new(), 3);
    let unreachable = Outcome::new(OutcomeKind::Unreachable, Duration::ZERO);
    assert_eq!(detector.on_outcome(&view[0], &unreachable), None);
    assert_eq!(view[0].flags(), ExclusionFlags::NONE);

    detector.on_unreachable(at(0), &view[0]);
    detector.request_probe(at(0), &view[0]);
    assert!(
        !GroupHealth::new()
            .check(&detector, &view, None)
            .is_probe_due
    );
    assert_eq!(detector.probe(&view, &PickContext::new()), None);
    let (_, claim) = probe(&detector, &view, at(1)).expect("a due probe");
    let changes = detector.on_probe_outcome(&view[0], &claim, &unreachable);
    assert_eq!(changes.count(), 0);
    let lease_ends = at(60_000);
    assert!(probe(&detector, &view, lease_ends).is_some());
}

#[test]
fn an_endpoint_is_disconnected_until_an_attempt_to_connect_succeeds_or_fails() {
    let (detector, view) = watching(HealthConfig::new(), 3);
    let lose = || detector.on_disconnected(at(0), &view[0]);
    let flagged = |change| matches!(change, Some(HealthChange::Unreachable { .. }));
    assert!(!view[0].is_disconnected() && flagged(lose()) && view[0].is_disconnected());
    // A call that was lost with the connection is no attempt to connect.
    let unreachable = outcome(OutcomeKind::Unreachable, at(0));
    assert_eq!(detector.on_outcome(&view[0], &unreachable), None);
    assert!(view[0].is_disconnected());
    assert_eq!(detector.on_unreachable(at(1), &view[0]), None);
    assert!(!view[0].is_disconnected());
    assert_eq!(lose(), None, "it is flagged already");
    assert!(detector.on_reachable(at(2), &view[0]).is_some());
    assert!(!view[0].is_disconnected());
    assert!(flagged(detector.on_unreachable(at(3), &view[0])) && !view[0].is_disconnected());
}

#[test]
fn the_backoff_of_an_unreachable_endpoint_doubles() {
    let (detector, view) = watching(HealthConfig::new(), 3);
    let endpoint = &view[0];
    let change = detector.on_outcome(endpoint, &outcome(OutcomeKind::Unreachable, at(1_000)));
    assert_eq!(endpoint.flags(), ExclusionFlags::UNREACHABLE);
    let Some(HealthChange::Unreachable { probe_in, .. }) = change else {
        panic!("{change:?}");
    };
    // Another call that waits for the same connection reports nothing new.
    let again = detector.on_unreachable(at(1_001), endpoint);
    assert_eq!(again, None);

    let (mut now, mut wait) = (at(1_000), probe_in);
    for (failures, full) in [
        (1, 100),
        (2, 200),
        (3, 400),
        (4, 800),
        (5, 1_600),
        (6, 3_200),
        (7, 6_400),
        (8, 10_000),
        (9, 10_000),
    ] {
        let full = Duration::from_millis(full);
        assert!(
            wait >= full.mul_f64(0.8) && wait <= full.mul_f64(1.2),
            "{failures}: {wait:?}"
        );
        assert_eq!(
            probe(&detector, &view, now + (wait - Duration::from_micros(1))),
            None
        );
        now = now + wait;
        let (index, claim) = probe(&detector, &view, now).expect("a due probe");
        assert_eq!(
            (index, probe(&detector, &view, now)),
            (0, None),
            "one alone"
        );
        let outcome = outcome(OutcomeKind::Unreachable, now);
        let mut changes = detector.on_probe_outcome(endpoint, &claim, &outcome);
        let Some(HealthChange::Unreachable {
            failures: reported,
            probe_in,
            ..
        }) = changes.next()
        else {
            panic!("no change");
        };
        assert_eq!(reported, failures + 1);
        wait = probe_in;
    }
    // Then it is back, and everything is reset.
    now = now + wait;
    let (_, claim) = probe(&detector, &view, now).expect("a due probe");
    let changes = detector.on_probe_outcome(endpoint, &claim, &outcome(OutcomeKind::Success, now));
    assert_eq!(
        changes.collect::<Vec<_>>(),
        [HealthChange::Reachable { endpoint: 0 }]
    );
    assert_eq!(endpoint.flags(), ExclusionFlags::NONE);
    let change = detector.on_unreachable(now, endpoint);
    assert!(
        matches!(change, Some(HealthChange::Unreachable { failures: 1, .. })),
        "{change:?}"
    );
    let stats = detector.stats();
    assert_eq!(
        (stats.flagged_unreachable, stats.probes, stats.probes_failed),
        (2, 10, 9)
    );
}

#[test]
fn backoffs_have_jitter() {
    let (detector, view) = watching(HealthConfig::new(), 50);
    let mut times: Vec<Duration> = view
        .endpoints()
        .iter()
        .map(|one| match detector.on_unreachable(at(0), one) {
            Some(HealthChange::Unreachable { probe_in, .. }) => probe_in,
            other => panic!("{other:?}"),
        })
        .collect();
    times.sort_unstable();
    times.dedup();
    assert_eq!(times.len(), 50);
    assert!(
        times[49] - times[0] > Duration::from_millis(20),
        "{times:?}"
    );
}

#[test]
fn a_released_probe_allows_another() {
    let (detector, view) = watching(HealthConfig::new(), 3);
    detector.on_unreachable(at(0), &view[0]);
    let (_, claim) = probe(&detector, &view, at(200)).expect("a due probe");
    detector.release_probe(&view[0], &claim, at(250));
    assert_eq!(probe(&detector, &view, at(249)), None);
    let (_, second) = probe(&detector, &view, at(250)).expect("a second probe");
    // The first was released already.
    detector.release_probe(&view[0], &claim, at(250));
    assert_eq!(probe(&detector, &view, at(260)), None);
    // A probe whose outcome is never recorded blocks others for its lease, not for ever.
    let (_, third) = probe(&detector, &view, at(250) + 31 * SECOND).expect("a third probe");
    assert_ne!(second, third);
}

#[test]
fn probes_avoid_excluded_and_draining_endpoints() {
    let (detector, view) = watching(HealthConfig::new(), 4);
    for index in [0, 1, 2] {
        detector.on_unreachable(at(0), &view[index]);
    }
    detector.set_draining(&view[1], true);
    let cx = PickContext::new().with_now(at(500)).with_excluded(&[0]);
    let (index, _) = detector.probe(&view, &cx).expect("a probe");
    assert_eq!(index, 2);
    assert_eq!(
        detector.probe(&view, &cx),
        None,
        "the others are excluded and draining"
    );
}

#[test]
fn a_rejected_request_is_neither_failure_nor_success() {
    let (detector, view) = watching(HealthConfig::new(), 5);
    let endpoint = &view[0];
    let record = |kind| detector.on_outcome(endpoint, &outcome(kind, at(1)));
    for kind in [OutcomeKind::Failure, OutcomeKind::Rejected] {
        assert_eq!([(); 4].map(|()| record(kind)), [None; 4]);
    }
    // The rejections have not reset the count.
    assert!(matches!(
        record(OutcomeKind::Failure),
        Some(HealthChange::Ejected { .. })
    ));
    // As a probe it shows that the endpoint can be reached, and not that it works.
    detector.on_unreachable(at(2), endpoint);
    let later = at(2) + 60 * SECOND;
    let (_, claim) = probe(&detector, &view, later).expect("a due probe");
    let changes =
        detector.on_probe_outcome(endpoint, &claim, &outcome(OutcomeKind::Rejected, later));
    assert_eq!(
        changes.collect::<Vec<_>>(),
        [HealthChange::Reachable { endpoint: 0 }]
    );
    assert_eq!(endpoint.flags(), ExclusionFlags::EJECTED);
    assert_eq!(probe(&detector, &view, later), None);
    let (_, claim) = probe(&detector, &view, later + SECOND).expect("a second probe");
    let answering = outcome(OutcomeKind::StreamStarted, later + SECOND);
    detector
        .on_probe_outcome(endpoint, &claim, &answering)
        .for_each(drop);
    assert_eq!(endpoint.flags(), ExclusionFlags::NONE);
}

#[test]
fn a_reachable_endpoint_is_not_unejected_by_that_alone() {
    let (detector, view) = watching(HealthConfig::new(), 3);
    for kind in [OutcomeKind::Success, OutcomeKind::Overloaded] {
        detector.on_unreachable(at(0), &view[0]);
        view[0].set_flags(ExclusionFlags::EJECTED);
        detector.on_outcome(&view[0], &outcome(kind, at(1)));
        let expected = match kind {
            // The probe came before, and the connection is another one's.
            OutcomeKind::Overloaded => ExclusionFlags::EJECTED | ExclusionFlags::UNREACHABLE,
            _ => ExclusionFlags::EJECTED,
        };
        assert_eq!(view[0].flags(), expected);
    }
    assert_eq!(
        detector.on_reachable(at(2), &view[0]),
        Some(HealthChange::Reachable { endpoint: 0 })
    );
    assert_eq!(detector.on_reachable(at(2), &view[0]), None);
}

#[test]
fn an_overloaded_probe_shows_only_that_the_endpoint_is_reachable() {
    let (detector, view) = watching(HealthConfig::new(), 3);
    view[0].set_flags(ExclusionFlags::EJECTED);
    detector.on_unreachable(at(0), &view[0]);
    let (_, claim) = probe(&detector, &view, at(1_000)).expect("a due probe");
    let busy = outcome(OutcomeKind::Overloaded, at(1_000)).with_retry_after(Some(SECOND / 2));
    let changes: Vec<_> = detector.on_probe_outcome(&view[0], &claim, &busy).collect();
    assert_eq!(changes, [HealthChange::Reachable { endpoint: 0 }]);
    assert_eq!(view[0].flags(), ExclusionFlags::EJECTED);
    assert_eq!(probe(&detector, &view, at(1_499)), None);
    let (_, claim) = probe(&detector, &view, at(1_500)).expect("a probe at the retry-after time");
    // It may ask for a long time, not for ever.
    let busy = outcome(OutcomeKind::Overloaded, at(1_500)).with_retry_after(Some(Duration::MAX));
    detector.on_probe_outcome(&view[0], &claim, &busy);
    assert!(probe(&detector, &view, at(31_500)).is_some());
}

#[test]
fn everything_can_be_switched_off() {
    let (detector, view) = watching(HealthConfig::none(), 10);
    for _ in 0..200 {
        for kind in [OutcomeKind::Failure, OutcomeKind::Unreachable] {
            detector.on_outcome(&view[0], &outcome(kind, at(0)));
        }
    }
    assert!(!detector.claim_sweep(at(0)) && !detector.claim_sweep(at(100_000)));
    assert_eq!(detector.sweep(at(100_000), &view), []);
    assert_eq!(view[0].flags(), ExclusionFlags::NONE);
    // A drain is not a matter of configuration.
    assert_eq!(
        detector.set_draining(&view[0], true),
        Some(HealthChange::Draining { endpoint: 0 })
    );
    assert_eq!(detector.set_draining(&view[0], true), None);
    assert_eq!(view[0].flags(), ExclusionFlags::DRAINING);

    let calm = OutlierConfig::new()
        .with_consecutive_failures(0)
        .with_success_rate(None)
        .with_failure_percentage(None);
    let (detector, view) = watching(calm, 10);
    for _ in 0..200 {
        detector.on_outcome(&view[0], &outcome(OutcomeKind::Failure, at(0)));
        for index in 1..10 {
            detector.on_outcome(&view[index], &outcome(OutcomeKind::Success, at(0)));
        }
    }
    assert_eq!(detector.sweep(at(10_000), &view), []);
}

#[test]
fn a_recovered_worker_may_start_slowly() {
    let (detector, view) = watching(HealthConfig::new(), 10);
    detector.on_unreachable(at(0), &view[0]);
    detector.on_reachable(at(50), &view[0]);
    assert_eq!(view[0].ready_since(), Some(at(50)));

    detector.on_unreachable(at(0), &view[1]);
    detector.on_outcome(&view[1], &outcome(OutcomeKind::Success, at(60)));
    assert_eq!(view[1].ready_since(), Some(at(60)));

    (0..5).for_each(|_| {
        detector.on_outcome(&view[2], &outcome(OutcomeKind::Failure, at(0)));
    });
    let (index, claim) = probe(&detector, &view, at(30_000)).expect("a due probe");
    assert_eq!((index, view[2].ready_since()), (2, None));
    detector.on_probe_outcome(&view[2], &claim, &outcome(OutcomeKind::Success, at(30_010)));
    assert_eq!(view[2].ready_since(), Some(at(30_010)));
    assert_eq!(view[3].ready_since(), None, "it always did");
}
