//! Properties of outlier detection against a model, and its limits on many threads.

use std::{sync::Arc, time::Duration};

use proptest::prelude::*;
use rpcnet_balance::{
    Endpoint, ExclusionFlags, Outcome, OutcomeKind, PickContext, Time, View,
    health::{GroupHealth, HealthChange, HealthConfig, OutlierConfig, OutlierDetector, Probe},
};

#[derive(Debug, Clone)]
enum Operation {
    Pass(u64),
    Attempt(usize, OutcomeKind),
    Connected(usize),
    Draining(usize, bool),
    Probe,
    /// The probe in progress at an endpoint ends like this, or is released.
    Probed(usize, Option<OutcomeKind>),
    Sweep,
}

fn operation() -> impl Strategy<Value = Operation> {
    let kind = || {
        prop_oneof![
            3 => Just(OutcomeKind::Success),
            6 => Just(OutcomeKind::Failure),
            2 => Just(OutcomeKind::Unreachable),
            1 => Just(OutcomeKind::Overloaded),
        ]
    };
    prop_oneof![
        3 => (1_u64..40_000).prop_map(Operation::Pass),
        20 => (0..LEN, kind()).prop_map(|(index, kind)| Operation::Attempt(index, kind)),
        1 => (0..LEN).prop_map(Operation::Connected),
        1 => (0..LEN, any::<bool>()).prop_map(|(index, on)| Operation::Draining(index, on)),
        4 => Just(Operation::Probe),
        4 => (0..LEN, proptest::option::of(kind()))
            .prop_map(|(index, kind)| Operation::Probed(index, kind)),
        1 => Just(Operation::Sweep),
    ]
}

/// Model of one endpoint. Times in ms; a probe may be made at `earliest` and must be possible at
/// `latest`.
#[derive(Debug, Default, Clone)]
struct EndpointModel {
    in_a_row: u32,
    missed: u32,
    ejections: u32,
    is_unreachable: bool,
    is_ejected: bool,
    is_draining: bool,
    earliest: u64,
    latest: u64,
    lease: Option<u64>,
}

impl EndpointModel {
    fn is_marked(&self) -> bool {
        self.is_unreachable || self.is_ejected
    }

    fn flags(&self) -> ExclusionFlags {
        let flags = [
            (self.is_unreachable, ExclusionFlags::UNREACHABLE),
            (self.is_ejected, ExclusionFlags::EJECTED),
            (self.is_draining, ExclusionFlags::DRAINING),
        ];
        let set = flags.into_iter().filter(|(is, _)| *is);
        set.fold(ExclusionFlags::NONE, |all, (_, mark)| all | mark)
    }

    /// Sets the earliest time of the next probe unless a later one is set; a probe in progress is
    /// dropped if that is later than its lease.
    fn defer(&mut self, (earliest, latest): (u64, u64)) {
        if let Some(lease) = self.lease.filter(|lease| *lease >= latest) {
            (self.earliest, self.latest) = (lease, lease);
            return;
        }
        self.lease = None;
        self.earliest = self.earliest.max(earliest);
        self.latest = self.latest.max(latest);
    }

    fn set(&mut self, (earliest, latest): (u64, u64)) {
        self.lease = None;
        (self.earliest, self.latest) = (earliest, latest);
    }

    /// Records a failure to reach the endpoint: when the next probe may be made and must be
    /// possible.
    fn miss(&mut self, now: u64) -> (u64, u64) {
        let full = (100 << self.missed.min(20)).min(10_000);
        self.missed += 1;
        (now + full * 8 / 10, now + full * 12 / 10)
    }

    fn eject(&mut self, now: u64) -> (u64, u64) {
        self.ejections += 1;
        let end = now + (30_000 * u64::from(self.ejections)).min(300_000);
        (end, end)
    }
}

/// A config without the rules that compare rates: the unit tests have those.
fn config() -> HealthConfig {
    OutlierConfig::new()
        .with_ejected_percent_max(40)
        .with_success_rate(None)
        .with_failure_percentage(None)
        .into()
}

fn time(millis: u64) -> Time {
    Time::ZERO + Duration::from_millis(millis)
}

proptest! {
    #[test]
    fn flags_and_probes_agree_with_the_model(
        operations in prop::collection::vec(operation(), 1..400),
        seed: u64,
    ) {
        let view = View::new((0..LEN as u64).map(|id| Arc::new(Endpoint::new(id))), 1);
        let detector = OutlierDetector::seeded(config(), seed);
        detector.set_view(&view);
        let group = GroupHealth::new();
        let mut model = vec![EndpointModel::default(); LEN];
        let mut probes: Vec<Option<Probe>> = (0..LEN).map(|_| None).collect();
        let mut now = 1_000;
        for operation in operations {
            match operation {
                Operation::Pass(millis) => now += millis,
                Operation::Attempt(index, kind) => {
                    let ejected = model.iter().filter(|one| one.is_ejected).count();
                    let one = &mut model[index];
                    let outcome = Outcome::new(kind, Duration::ZERO).with_now(time(now));
                    let change = detector.on_outcome(&view[index], &outcome);
                    match kind {
                        OutcomeKind::Success => {
                            one.in_a_row = 0;
                            prop_assert_eq!(change.is_some(), one.is_unreachable);
                            if one.is_unreachable {
                                reached(one);
                            }
                        }
                        OutcomeKind::Failure => {
                            one.in_a_row += 1;
                            let deserved = one.in_a_row >= 5 && !one.is_ejected;
                            let ejects = deserved && ejected < EJECTED_MAX;
                            let is_ejection = matches!(change, Some(HealthChange::Ejected { .. }));
                            prop_assert_eq!(is_ejection, ejects, "{:?}", change);
                            if deserved {
                                one.in_a_row = 0;
                            }
                            if ejects {
                                let times = one.eject(now);
                                one.is_ejected = true;
                                one.defer(times);
                            }
                        }
                        OutcomeKind::Unreachable => {
                            prop_assert_eq!(change.is_some(), !one.is_unreachable);
                            if !one.is_unreachable {
                                let times = one.miss(now);
                                one.is_unreachable = true;
                                one.defer(times);
                            }
                        }
                        _ => prop_assert_eq!(change, None),
                    }
                }
                Operation::Connected(index) => {
                    let change = detector.on_reachable(time(now), &view[index]);
                    prop_assert_eq!(change.is_some(), model[index].is_unreachable);
                    if model[index].is_unreachable {
                        reached(&mut model[index]);
                    }
                }
                Operation::Draining(index, on) => {
                    let change = detector.set_draining(&view[index], on);
                    prop_assert_eq!(change.is_some(), model[index].is_draining != on);
                    model[index].is_draining = on;
                }
                Operation::Probe => {
                    let open = |one: &EndpointModel| one.is_marked() && !one.is_draining;
                    let may = model.iter().any(|one| open(one) && one.earliest <= now);
                    let must = model.iter().any(|one| open(one) && one.latest <= now);
                    let is_due = group.check(&detector, &view, time(now)).is_probe_due;
                    prop_assert!(is_due || !must);
                    let cx = PickContext::new().with_now(time(now));
                    let probed = detector.probe(&view, &cx);
                    prop_assert!(probed.is_some() || !must);
                    prop_assert_eq!(probed.is_some(), is_due);
                    if let Some((index, probe)) = probed {
                        prop_assert!(may && open(&model[index]) && model[index].earliest <= now);
                        let lease = if model[index].is_ejected { 30_000 } else { 10_000 };
                        model[index].set((now + lease, now + lease));
                        model[index].lease = Some(now + lease);
                        probes[index] = Some(probe);
                    }
                }
                Operation::Probed(index, kind) => {
                    let Some(probe) = probes[index].take() else { continue };
                    let one = &mut model[index];
                    let is_current = one.lease.is_some();
                    let Some(kind) = kind else {
                        detector.release_probe(&view[index], &probe, time(now));
                        if is_current {
                            one.set((now, now));
                        }
                        continue;
                    };
                    // The unit tests cover what happened in between.
                    if !is_current || !one.is_marked() {
                        detector.release_probe(&view[index], &probe, time(now));
                        if is_current {
                            one.set((now, now));
                        }
                        continue;
                    }
                    let outcome = Outcome::new(kind, Duration::ZERO).with_now(time(now));
                    let _ = detector.on_probe_outcome(&view[index], &probe, &outcome);
                    match kind {
                        OutcomeKind::Success => {
                            if one.is_unreachable {
                                reached(one);
                            }
                            (one.in_a_row, one.is_ejected) = (0, false);
                            one.set((0, 0));
                        }
                        OutcomeKind::Overloaded => {
                            if one.is_unreachable {
                                reached(one);
                            }
                            if one.is_ejected {
                                one.set((now + 1_000, now + 1_000));
                            }
                        }
                        kind if kind == OutcomeKind::Unreachable || one.is_unreachable => {
                            let times = one.miss(now);
                            one.is_unreachable = true;
                            one.set(times);
                        }
                        _ => {
                            let times = one.eject(now);
                            one.set(times);
                        }
                    }
                }
                Operation::Sweep => {
                    prop_assert_eq!(detector.sweep(time(now), &view), []);
                    for one in model.iter_mut().filter(|one| !one.is_ejected) {
                        one.ejections = one.ejections.saturating_sub(1);
                    }
                }
            }
            for (index, one) in model.iter().enumerate() {
                prop_assert_eq!(view[index].flags(), one.flags(), "endpoint {}", index);
            }
            let ejected = model.iter().filter(|one| one.is_ejected).count();
            prop_assert!(ejected <= EJECTED_MAX);
        }
    }
}

fn reached(one: &mut EndpointModel) {
    (one.is_unreachable, one.missed) = (false, 0);
    if !one.is_ejected {
        one.set((0, 0));
    }
}

/// Concurrent threads eject no more endpoints than the maximum, and probe one at a time.
#[test]
fn the_limits_hold_on_many_threads() {
    let view = View::new((0..LEN as u64).map(|id| Arc::new(Endpoint::new(id))), 1);
    let detector = OutlierDetector::seeded(config(), 42);
    detector.set_view(&view);
    let group = GroupHealth::new();
    std::thread::scope(|scope| {
        for thread in 0..4_u64 {
            let (detector, view, group) = (&detector, &view, &group);
            scope.spawn(move || {
                for round in 0..20_000_u64 {
                    let now = time(round * 20);
                    let endpoint = &view[((round * 7 + thread * 3) % LEN as u64) as usize];
                    let kind = match (round / 50 + thread) % 3 {
                        0 => OutcomeKind::Success,
                        1 => OutcomeKind::Failure,
                        _ => OutcomeKind::Unreachable,
                    };
                    let outcome = Outcome::new(kind, Duration::ZERO).with_now(now);
                    detector.on_outcome(endpoint, &outcome);
                    if detector.claim_sweep(now) {
                        detector.sweep(now, view);
                    }
                    let state = group.check(detector, view, now);
                    let cx = PickContext::new().with_now(now);
                    let probe = state.is_probe_due.then(|| detector.probe(view, &cx));
                    if let Some((index, probe)) = probe.flatten() {
                        detector.on_probe_outcome(&view[index], &probe, &outcome);
                    }
                }
            });
        }
    });
    let flagged = |mark| {
        let endpoints = view.endpoints().iter();
        endpoints.filter(|one| one.flags().contains(mark)).count() as u64
    };
    let stats = detector.stats();
    assert_eq!(
        stats.ejected_consecutive - stats.unejected,
        flagged(ExclusionFlags::EJECTED)
    );
    assert!(flagged(ExclusionFlags::EJECTED) <= EJECTED_MAX as u64);
    assert!(stats.ejected_consecutive > 0 && stats.probes > 0 && stats.probes_failed > 0);
    // All flags are cleared with time and successful probes.
    let later = time(100_000_000);
    let cx = PickContext::new().with_now(later);
    while let Some((index, probe)) = detector.probe(&view, &cx) {
        let outcome = Outcome::new(OutcomeKind::Success, Duration::ZERO).with_now(later);
        detector.on_probe_outcome(&view[index], &probe, &outcome);
    }
    assert_eq!(
        flagged(ExclusionFlags::EJECTED) + flagged(ExclusionFlags::UNREACHABLE),
        0
    );
    assert!(!group.check(&detector, &view, later).is_probe_due);
}

const LEN: usize = 6;

/// 40 % of the endpoints.
const EJECTED_MAX: usize = 2;
