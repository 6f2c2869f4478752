//! The rules, one by one.

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
    let (outliers, view) = (OutlierDetector::seeded(config, 1), view(len));
    outliers.set_view(&view);
    (outliers, view)
}

fn outcome(kind: OutcomeKind, now: Time) -> Outcome {
    Outcome::new(kind, Duration::ZERO).with_now(now)
}

/// So many calls in which so many fail, none in a row of five.
fn calls(outliers: &OutlierDetector, endpoint: &Endpoint, calls: u32, failures: u32, now: Time) {
    for index in 0..calls {
        // Spread evenly.
        let fails = u64::from(index) * u64::from(failures) % u64::from(calls) < u64::from(failures);
        let kind = if fails && failures > 0 {
            OutcomeKind::Failure
        } else {
            OutcomeKind::Success
        };
        assert_eq!(outliers.on_outcome(endpoint, &outcome(kind, now)), None);
    }
}

fn ejected(view: &View) -> Vec<u64> {
    let marked = view.endpoints().iter();
    let marked = marked.filter(|one| one.flags().contains(ExclusionFlags::EJECTED));
    marked.map(|one| one.id()).collect()
}

fn probe(outliers: &OutlierDetector, view: &View, now: Time) -> Option<(usize, Probe)> {
    outliers.probe(view, &PickContext::new().with_now(now))
}

#[test]
fn what_cannot_be_reached_is_passed_over_for_twice_as_long_each_time() {
    let (outliers, view) = watching(HealthConfig::new(), 3);
    let endpoint = &view[0];
    let action = outliers.on_outcome(endpoint, &outcome(OutcomeKind::Unreachable, at(1_000)));
    assert_eq!(endpoint.flags(), ExclusionFlags::UNREACHABLE);
    let Some(HealthChange::Unreachable { probe_in, .. }) = action else {
        panic!("{action:?}");
    };
    // Others who wait for the same connection have no news.
    let again = outliers.on_unreachable(at(1_001), endpoint);
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
            probe(&outliers, &view, now + (wait - Duration::from_micros(1))),
            None
        );
        now = now + wait;
        let (index, claim) = probe(&outliers, &view, now).expect("its time is over");
        assert_eq!(
            (index, probe(&outliers, &view, now)),
            (0, None),
            "one alone"
        );
        let outcome = outcome(OutcomeKind::Unreachable, now);
        let mut actions = outliers.on_probe_outcome(endpoint, &claim, &outcome);
        let Some(HealthChange::Unreachable {
            failures: told,
            probe_in,
            ..
        }) = actions.next()
        else {
            panic!("it is told");
        };
        assert_eq!(told, failures + 1);
        wait = probe_in;
    }
    // Then it is back, and all is forgotten.
    now = now + wait;
    let (_, claim) = probe(&outliers, &view, now).expect("its time is over");
    let actions = outliers.on_probe_outcome(endpoint, &claim, &outcome(OutcomeKind::Success, now));
    assert_eq!(
        actions.collect::<Vec<_>>(),
        [HealthChange::Reachable { endpoint: 0 }]
    );
    assert_eq!(endpoint.flags(), ExclusionFlags::NONE);
    let action = outliers.on_unreachable(now, endpoint);
    assert!(
        matches!(action, Some(HealthChange::Unreachable { failures: 1, .. })),
        "{action:?}"
    );
    let stats = outliers.stats();
    assert_eq!(
        (stats.marked_unreachable, stats.probes, stats.probes_failed),
        (2, 10, 9)
    );
}

#[test]
fn times_until_a_probe_differ() {
    let (outliers, view) = watching(HealthConfig::new(), 50);
    let mut times: Vec<Duration> = view
        .endpoints()
        .iter()
        .map(|one| match outliers.on_unreachable(at(0), one) {
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
fn a_probe_given_up_makes_room_for_another() {
    let (outliers, view) = watching(HealthConfig::new(), 3);
    outliers.on_unreachable(at(0), &view[0]);
    let (_, claim) = probe(&outliers, &view, at(200)).expect("its time is over");
    outliers.release_probe(&view[0], &claim, at(250));
    assert_eq!(probe(&outliers, &view, at(249)), None);
    let (_, second) = probe(&outliers, &view, at(250)).expect("another one");
    // The first was given up already.
    outliers.release_probe(&view[0], &claim, at(250));
    assert_eq!(probe(&outliers, &view, at(260)), None);
    // One that nobody hears of any more holds the others up for a while, not for ever.
    let (_, third) = probe(&outliers, &view, at(250) + 31 * SECOND).expect("a third one");
    assert_ne!(second, third);
}

#[test]
fn probes_go_where_they_may() {
    let (outliers, view) = watching(HealthConfig::new(), 4);
    for index in [0, 1, 2] {
        outliers.on_unreachable(at(0), &view[index]);
    }
    outliers.set_draining(&view[1], true);
    let cx = PickContext::new().with_now(at(500)).with_excluded(&[0]);
    let (index, _) = outliers.probe(&view, &cx).expect("one may");
    assert_eq!(index, 2);
    assert_eq!(
        outliers.probe(&view, &cx),
        None,
        "the others are excluded and draining"
    );
}

#[test]
fn a_refusal_before_running_says_nothing_about_failures() {
    let (outliers, view) = watching(HealthConfig::new(), 5);
    let endpoint = &view[0];
    let note = |kind| outliers.on_outcome(endpoint, &outcome(kind, at(1)));
    for kind in [OutcomeKind::Failure, OutcomeKind::Refused] {
        assert_eq!([(); 4].map(|()| note(kind)), [None; 4]);
    }
    // The refusals have not ended the row.
    assert!(matches!(
        note(OutcomeKind::Failure),
        Some(HealthChange::Ejected { .. })
    ));
    // As a probe it shows that there is a way, and not that it works.
    outliers.on_unreachable(at(2), endpoint);
    let later = at(2) + 60 * SECOND;
    let (_, claim) = probe(&outliers, &view, later).expect("its time is over");
    let told = outliers.on_probe_outcome(endpoint, &claim, &outcome(OutcomeKind::Refused, later));
    assert_eq!(
        told.collect::<Vec<_>>(),
        [HealthChange::Reachable { endpoint: 0 }]
    );
    assert_eq!(endpoint.flags(), ExclusionFlags::EJECTED);
    assert_eq!(probe(&outliers, &view, later), None);
    let (_, claim) = probe(&outliers, &view, later + SECOND).expect("another one");
    let answering = outcome(OutcomeKind::StreamStarted, later + SECOND);
    outliers
        .on_probe_outcome(endpoint, &claim, &answering)
        .for_each(drop);
    assert_eq!(endpoint.flags(), ExclusionFlags::NONE);
}

#[test]
fn news_and_answers_make_reachable_but_reinstate_nobody() {
    let (outliers, view) = watching(HealthConfig::new(), 3);
    for kind in [OutcomeKind::Success, OutcomeKind::Overloaded] {
        outliers.on_unreachable(at(0), &view[0]);
        view[0].set_flags(ExclusionFlags::EJECTED);
        outliers.on_outcome(&view[0], &outcome(kind, at(1)));
        let expected = match kind {
            // It was asked before, and the connection is another's.
            OutcomeKind::Overloaded => ExclusionFlags::EJECTED | ExclusionFlags::UNREACHABLE,
            _ => ExclusionFlags::EJECTED,
        };
        assert_eq!(view[0].flags(), expected);
    }
    assert_eq!(
        outliers.on_reachable(at(2), &view[0]),
        Some(HealthChange::Reachable { endpoint: 0 })
    );
    assert_eq!(outliers.on_reachable(at(2), &view[0]), None);
}

#[test]
fn a_busy_probe_says_only_that_there_is_a_way() {
    let (outliers, view) = watching(HealthConfig::new(), 3);
    view[0].set_flags(ExclusionFlags::EJECTED);
    outliers.on_unreachable(at(0), &view[0]);
    let (_, claim) = probe(&outliers, &view, at(1_000)).expect("its time is over");
    let busy = outcome(OutcomeKind::Overloaded, at(1_000)).with_retry_after(Some(SECOND / 2));
    let actions: Vec<_> = outliers.on_probe_outcome(&view[0], &claim, &busy).collect();
    assert_eq!(actions, [HealthChange::Reachable { endpoint: 0 }]);
    assert_eq!(view[0].flags(), ExclusionFlags::EJECTED);
    assert_eq!(probe(&outliers, &view, at(1_499)), None);
    let (_, claim) = probe(&outliers, &view, at(1_500)).expect("it said when");
    // It may ask for long, not for ever.
    let busy = outcome(OutcomeKind::Overloaded, at(1_500)).with_retry_after(Some(Duration::MAX));
    outliers.on_probe_outcome(&view[0], &claim, &busy);
    assert!(probe(&outliers, &view, at(31_500)).is_some());
}

#[test]
fn everything_can_be_switched_off() {
    let (outliers, view) = watching(HealthConfig::none(), 10);
    for _ in 0..200 {
        for kind in [OutcomeKind::Failure, OutcomeKind::Unreachable] {
            outliers.on_outcome(&view[0], &outcome(kind, at(0)));
        }
    }
    assert!(!outliers.claim_sweep(at(0)) && !outliers.claim_sweep(at(100_000)));
    assert_eq!(outliers.sweep(at(100_000), &view), []);
    assert_eq!(view[0].flags(), ExclusionFlags::NONE);
    // That somebody drains is no opinion.
    assert_eq!(
        outliers.set_draining(&view[0], true),
        Some(HealthChange::Draining { endpoint: 0 })
    );
    assert_eq!(outliers.set_draining(&view[0], true), None);
    assert_eq!(view[0].flags(), ExclusionFlags::DRAINING);

    let calm = OutlierConfig::new()
        .with_consecutive_failures(0)
        .with_success_rate(None)
        .with_failure_percentage(None);
    let (outliers, view) = watching(calm, 10);
    for _ in 0..200 {
        outliers.on_outcome(&view[0], &outcome(OutcomeKind::Failure, at(0)));
        for index in 1..10 {
            outliers.on_outcome(&view[index], &outcome(OutcomeKind::Success, at(0)));
        }
    }
    assert_eq!(outliers.sweep(at(10_000), &view), []);
}

#[test]
fn who_takes_calls_again_may_start_slowly() {
    let (outliers, view) = watching(HealthConfig::new(), 10);
    outliers.on_unreachable(at(0), &view[0]);
    outliers.on_reachable(at(50), &view[0]);
    assert_eq!(view[0].ready_since(), Some(at(50)));

    outliers.on_unreachable(at(0), &view[1]);
    outliers.on_outcome(&view[1], &outcome(OutcomeKind::Success, at(60)));
    assert_eq!(view[1].ready_since(), Some(at(60)));

    (0..5).for_each(|_| {
        outliers.on_outcome(&view[2], &outcome(OutcomeKind::Failure, at(0)));
    });
    let (index, claim) = probe(&outliers, &view, at(30_000)).expect("it is due");
    assert_eq!((index, view[2].ready_since()), (2, None));
    outliers.on_probe_outcome(&view[2], &claim, &outcome(OutcomeKind::Success, at(30_010)));
    assert_eq!(view[2].ready_since(), Some(at(30_010)));
    assert_eq!(view[3].ready_since(), None, "it always did");
}
