//! Tests of the health of a group: panic mode and due probes.

use super::*;

#[test]
fn panic_mode_ignores_ejections() {
    let config = OutlierConfig::new().with_ejected_percent_max(100);
    let (detector, view) = watching(config, 4);
    let group = GroupHealth::new();
    let eject = |index: usize| {
        (0..5).for_each(|_| {
            detector.on_outcome(&view[index], &outcome(OutcomeKind::Failure, at(0)));
        });
    };
    let check = |now| group.check(&detector, &view, now);
    assert_eq!(check(at(0)).respected_flags, ExclusionFlags::ALL);
    eject(0);
    detector.on_unreachable(at(0), &view[1]);
    // Half of them are healthy.
    let state = check(at(0));
    assert_eq!(
        (state.respected_flags, state.change),
        (ExclusionFlags::ALL, None)
    );
    eject(2);
    let state = check(at(0));
    assert_eq!(
        state.change,
        Some(HealthChange::PanicBegan {
            healthy: 1,
            total: 4
        })
    );
    assert!(!state.respected_flags.contains(ExclusionFlags::EJECTED));
    assert!(
        state
            .respected_flags
            .contains(ExclusionFlags::UNREACHABLE | ExclusionFlags::DRAINING)
    );
    assert_eq!(check(at(0)).change, None, "returned once");
    assert!(group.is_panicking());
    detector.on_reachable(at(0), &view[1]);
    let state = check(at(0));
    assert_eq!(
        state.change,
        Some(HealthChange::PanicEnded {
            healthy: 2,
            total: 4
        })
    );
    assert_eq!(state.respected_flags, ExclusionFlags::ALL);
    // Those that drain do not count: one of two is healthy.
    detector.set_draining(&view[1], true);
    detector.set_draining(&view[2], true);
    assert_eq!(check(at(0)).change, None);
    assert_eq!(detector.stats().panics, 1);

    let off = HealthConfig::from(config).with_panic_threshold_percent(0);
    let (detector, view) = watching(off, 2);
    view.endpoints().iter().for_each(|one| {
        one.set_flags(ExclusionFlags::EJECTED);
    });
    detector.set_view(&view);
    assert_eq!(
        GroupHealth::new()
            .check(&detector, &view, at(0))
            .respected_flags,
        ExclusionFlags::ALL
    );
}

#[test]
fn a_check_says_when_a_probe_is_due() {
    let (detector, view) = watching(HealthConfig::new(), 3);
    let group = GroupHealth::new();
    let due = |now| group.check(&detector, &view, now).is_probe_due;
    assert!(!due(at(0)) && !due(at(1_000_000)));
    detector.on_unreachable(at(0), &view[0]);
    assert!(!due(at(79)) && due(at(120)));
    let (_, claim) = probe(&detector, &view, at(120)).expect("a due probe");
    assert!(!due(at(120)), "it is under way");
    detector.on_probe_outcome(
        &view[0],
        &claim,
        &outcome(OutcomeKind::Unreachable, at(130)),
    );
    assert!(!due(at(130)) && due(at(370)));
    detector.on_reachable(at(500), &view[0]);
    assert!(!due(at(1_000_000)));
}

#[test]
fn panic_mode_continues_when_the_group_changes() {
    let (detector, view) = watching(HealthConfig::new(), 3);
    detector.on_unreachable(at(0), &view[0]);
    detector.on_unreachable(at(0), &view[1]);
    let group = GroupHealth::new();
    let began = group.check(&detector, &view, at(0)).change;
    assert_eq!(
        began,
        Some(HealthChange::PanicBegan {
            healthy: 1,
            total: 3
        })
    );
    // One more is there, and the group is no healthier.
    let group = GroupHealth::following(&group);
    assert!(group.is_panicking());
    assert_eq!(group.check(&detector, &view, at(0)).change, None);
    // One goes, and it is.
    let group = GroupHealth::following(&group);
    let ended = group.check(&detector, &view.subset(&[1, 2]), at(0)).change;
    assert_eq!(
        ended,
        Some(HealthChange::PanicEnded {
            healthy: 1,
            total: 2
        })
    );
    assert_eq!(detector.stats().panics, 1);
}
