//! Passive health against a model of it, and on many threads.

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
    /// The probe under way at an endpoint ends like this, or is given up.
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
        4 => (0..LEN, proptest::option::of(kind())).prop_map(|(index, kind)| Operation::Probed(index, kind)),
        1 => Just(Operation::Sweep),
    ]
}

/// What is known of one endpoint, in plain words. Times in ms; a probe may go at `earliest` and must at `latest`.
#[derive(Debug, Default, Clone)]
struct Known {
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

impl Known {
    fn is_marked(&self) -> bool {
        self.is_unreachable || self.is_ejected
    }

    fn marks(&self) -> ExclusionFlags {
        let marks = [
            (self.is_unreachable, ExclusionFlags::UNREACHABLE),
            (self.is_ejected, ExclusionFlags::EJECTED),
            (self.is_draining, ExclusionFlags::DRAINING),
        ];
        let set = marks.into_iter().filter(|(is, _)| *is);
        set.fold(ExclusionFlags::NONE, |all, (_, mark)| all | mark)
    }

    /// Not before this, whatever was said before; a probe under way is forgotten if that is later than its end.
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

    /// When the next probe may and must go after one more failure to reach it.
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

/// Nobody is compared by rates here: the unit tables have that.
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
    fn marks_and_probes_are_those_of_the_model(operations in prop::collection::vec(operation(), 1..400), seed: u64) {
        let view = View::new((0..LEN as u64).map(|id| Arc::new(Endpoint::new(id))), 1);
        let outliers = OutlierDetector::seeded(config(), seed);
        outliers.set_view(&view);
        let gate = GroupHealth::new();
        let mut model = vec![Known::default(); LEN];
        let mut probes: Vec<Option<Probe>> = (0..LEN).map(|_| None).collect();
        let mut now = 1_000;
        for operation in operations {
            match operation {
                Operation::Pass(millis) => now += millis,
                Operation::Attempt(index, kind) => {
                    let ejected = model.iter().filter(|one| one.is_ejected).count();
                    let one = &mut model[index];
                    let outcome = Outcome::new(kind, Duration::ZERO).with_now(time(now));
                    let action = outliers.on_outcome(&view[index], &outcome);
                    match kind {
                        OutcomeKind::Success => {
                            one.in_a_row = 0;
                            prop_assert_eq!(action.is_some(), one.is_unreachable);
                            if one.is_unreachable {
                                reached(one);
                            }
                        }
                        OutcomeKind::Failure => {
                            one.in_a_row += 1;
                            let deserved = one.in_a_row >= 5 && !one.is_ejected;
                            let ejects = deserved && ejected < EJECTED_MAX;
                            let is_ejection = matches!(action, Some(HealthChange::Ejected { .. }));
                            prop_assert_eq!(is_ejection, ejects, "{:?}", action);
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
                            prop_assert_eq!(action.is_some(), !one.is_unreachable);
                            if !one.is_unreachable {
                                let times = one.miss(now);
                                one.is_unreachable = true;
                                one.defer(times);
                            }
                        }
                        _ => prop_assert_eq!(action, None),
                    }
                }
                Operation::Connected(index) => {
                    let action = outliers.on_reachable(time(now), &view[index]);
                    prop_assert_eq!(action.is_some(), model[index].is_unreachable);
                    if model[index].is_unreachable {
                        reached(&mut model[index]);
                    }
                }
                Operation::Draining(index, on) => {
                    let action = outliers.set_draining(&view[index], on);
                    prop_assert_eq!(action.is_some(), model[index].is_draining != on);
                    model[index].is_draining = on;
                }
                Operation::Probe => {
                    let open = |one: &Known| one.is_marked() && !one.is_draining;
                    let may = model.iter().any(|one| open(one) && one.earliest <= now);
                    let must = model.iter().any(|one| open(one) && one.latest <= now);
                    let is_due = gate.check(&outliers, &view, time(now)).is_probe_due;
                    prop_assert!(is_due || !must);
                    let cx = PickContext::new().with_now(time(now));
                    let probed = outliers.probe(&view, &cx);
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
                        outliers.release_probe(&view[index], &probe, time(now));
                        if is_current {
                            one.set((now, now));
                        }
                        continue;
                    };
                    // What came between is for the unit tables.
                    if !is_current || !one.is_marked() {
                        outliers.release_probe(&view[index], &probe, time(now));
                        if is_current {
                            one.set((now, now));
                        }
                        continue;
                    }
                    let outcome = Outcome::new(kind, Duration::ZERO).with_now(time(now));
                    let _ = outliers.on_probe_outcome(&view[index], &probe, &outcome);
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
                    prop_assert_eq!(outliers.sweep(time(now), &view), []);
                    for one in model.iter_mut().filter(|one| !one.is_ejected) {
                        one.ejections = one.ejections.saturating_sub(1);
                    }
                }
            }
            for (index, one) in model.iter().enumerate() {
                prop_assert_eq!(view[index].flags(), one.marks(), "endpoint {}", index);
            }
            let ejected = model.iter().filter(|one| one.is_ejected).count();
            prop_assert!(ejected <= EJECTED_MAX);
        }
    }
}

fn reached(one: &mut Known) {
    (one.is_unreachable, one.missed) = (false, 0);
    if !one.is_ejected {
        one.set((0, 0));
    }
}

/// Whatever threads do at the same time, no more are ejected than may be, and probes go one at a time.
#[test]
fn on_many_threads_the_limits_hold() {
    let view = View::new((0..LEN as u64).map(|id| Arc::new(Endpoint::new(id))), 1);
    let outliers = OutlierDetector::seeded(config(), 42);
    outliers.set_view(&view);
    let gate = GroupHealth::new();
    std::thread::scope(|scope| {
        for thread in 0..4_u64 {
            let (outliers, view, gate) = (&outliers, &view, &gate);
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
                    outliers.on_outcome(endpoint, &outcome);
                    if outliers.claim_sweep(now) {
                        outliers.sweep(now, view);
                    }
                    let verdict = gate.check(outliers, view, now);
                    let cx = PickContext::new().with_now(now);
                    let probe = verdict.is_probe_due.then(|| outliers.probe(view, &cx));
                    if let Some((index, probe)) = probe.flatten() {
                        outliers.on_probe_outcome(&view[index], &probe, &outcome);
                    }
                }
            });
        }
    });
    let marked = |mark| {
        let endpoints = view.endpoints().iter();
        endpoints.filter(|one| one.flags().contains(mark)).count() as u64
    };
    let stats = outliers.stats();
    assert_eq!(
        stats.ejected_consecutive - stats.reinstated,
        marked(ExclusionFlags::EJECTED)
    );
    assert!(marked(ExclusionFlags::EJECTED) <= EJECTED_MAX as u64);
    assert!(stats.ejected_consecutive > 0 && stats.probes > 0 && stats.probes_failed > 0);
    // Nothing is left behind: with time and good probes all marks go.
    let later = time(100_000_000);
    let cx = PickContext::new().with_now(later);
    while let Some((index, probe)) = outliers.probe(&view, &cx) {
        let outcome = Outcome::new(OutcomeKind::Success, Duration::ZERO).with_now(later);
        outliers.on_probe_outcome(&view[index], &probe, &outcome);
    }
    assert_eq!(
        marked(ExclusionFlags::EJECTED) + marked(ExclusionFlags::UNREACHABLE),
        0
    );
    assert!(!gate.check(&outliers, &view, later).is_probe_due);
}

const LEN: usize = 6;

/// 40 % of them.
const EJECTED_MAX: usize = 2;
