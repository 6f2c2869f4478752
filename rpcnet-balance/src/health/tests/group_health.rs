//! What picks are told of a group.

use super::*;

#[test]
fn in_panic_ejections_are_not_heeded() {
    let config = OutlierConfig::new().with_ejected_percent_max(100);
    let (outliers, view) = watching(config, 4);
    let gate = GroupHealth::new();
    let eject = |index: usize| {
        (0..5).for_each(|_| {
            outliers.on_outcome(&view[index], &outcome(OutcomeKind::Failure, at(0)));
        });
    };
    let check = |now| gate.check(&outliers, &view, now);
    assert_eq!(check(at(0)).respected_flags, ExclusionFlags::ALL);
    eject(0);
    outliers.on_unreachable(at(0), &view[1]);
    // Half of them are well.
    let verdict = check(at(0));
    assert_eq!(
        (verdict.respected_flags, verdict.change),
        (ExclusionFlags::ALL, None)
    );
    eject(2);
    let verdict = check(at(0));
    assert_eq!(
        verdict.change,
        Some(HealthChange::PanicBegan {
            healthy: 1,
            total: 4
        })
    );
    assert!(!verdict.respected_flags.contains(ExclusionFlags::EJECTED));
    assert!(
        verdict
            .respected_flags
            .contains(ExclusionFlags::UNREACHABLE | ExclusionFlags::DRAINING)
    );
    assert_eq!(check(at(0)).change, None, "told once");
    assert!(gate.is_panicking());
    outliers.on_reachable(at(0), &view[1]);
    let verdict = check(at(0));
    assert_eq!(
        verdict.change,
        Some(HealthChange::PanicEnded {
            healthy: 2,
            total: 4
        })
    );
    assert_eq!(verdict.respected_flags, ExclusionFlags::ALL);
    // Those that drain do not count: one of two is well.
    outliers.set_draining(&view[1], true);
    outliers.set_draining(&view[2], true);
    assert_eq!(check(at(0)).change, None);
    assert_eq!(outliers.stats().panics, 1);

    let off = HealthConfig::from(config).with_panic_threshold_percent(0);
    let (outliers, view) = watching(off, 2);
    view.endpoints().iter().for_each(|one| {
        one.set_flags(ExclusionFlags::EJECTED);
    });
    outliers.set_view(&view);
    assert_eq!(
        GroupHealth::new()
            .check(&outliers, &view, at(0))
            .respected_flags,
        ExclusionFlags::ALL
    );
}

#[test]
fn a_gate_says_when_a_probe_is_due() {
    let (outliers, view) = watching(HealthConfig::new(), 3);
    let gate = GroupHealth::new();
    let due = |now| gate.check(&outliers, &view, now).is_probe_due;
    assert!(!due(at(0)) && !due(at(1_000_000)));
    outliers.on_unreachable(at(0), &view[0]);
    assert!(!due(at(79)) && due(at(120)));
    let (_, claim) = probe(&outliers, &view, at(120)).expect("it is due");
    assert!(!due(at(120)), "it is under way");
    outliers.on_probe_outcome(
        &view[0],
        &claim,
        &outcome(OutcomeKind::Unreachable, at(130)),
    );
    assert!(!due(at(130)) && due(at(370)));
    outliers.on_reachable(at(500), &view[0]);
    assert!(!due(at(1_000_000)));
}

#[test]
fn panic_goes_on_in_a_group_that_changes() {
    let (outliers, view) = watching(HealthConfig::new(), 3);
    outliers.on_unreachable(at(0), &view[0]);
    outliers.on_unreachable(at(0), &view[1]);
    let gate = GroupHealth::new();
    let began = gate.check(&outliers, &view, at(0)).change;
    assert_eq!(
        began,
        Some(HealthChange::PanicBegan {
            healthy: 1,
            total: 3
        })
    );
    // One more is there, and it is no better.
    let gate = GroupHealth::following(&gate);
    assert!(gate.is_panicking());
    assert_eq!(gate.check(&outliers, &view, at(0)).change, None);
    // One goes, and it is.
    let gate = GroupHealth::following(&gate);
    let ended = gate.check(&outliers, &view.subset(&[1, 2]), at(0)).change;
    assert_eq!(
        ended,
        Some(HealthChange::PanicEnded {
            healthy: 1,
            total: 2
        })
    );
    assert_eq!(outliers.stats().panics, 1);
}
