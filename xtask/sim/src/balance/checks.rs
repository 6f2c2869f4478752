//! Targets of the default strategy.

use super::{figures::Row, strategies::DEFAULT};
use crate::check::Check;

/// Targets of the scenarios that were run.
pub(super) fn targets(rows: &[Row]) -> Vec<Check> {
    let mut checks = Vec::new();
    let mut at_most = |scenario: &str, what: &str, bound, unit, figure: fn(&Row) -> Option<f64>| {
        let ours = |row: &&Row| row.scenario == scenario && row.strategy == DEFAULT;
        if let Some(row) = rows.iter().find(ours) {
            checks.push(Check::new(
                format!("{scenario}: {what}"),
                figure(row),
                bound,
                unit,
            ));
        }
    };
    at_most("tower", "p99.9", 105.0, "ms", |it| Some(it.p999_ms));
    at_most("straggler", "p99 to the healthy", 1.5, "times", |it| {
        it.p99_to_healthy
    });
    at_most("fast-fail", "calls to the one that fails", 2.0, "%", |it| {
        it.bad_share.map(|share| 100.0 * share)
    });
    at_most(
        "old-version",
        "calls to the one that rejects",
        1.0,
        "%",
        |it| it.bad_share.map(|share| 100.0 * share),
    );
    at_most("slow-method", "p99 of the others", 45.0, "ms", |it| {
        Some(it.p99_ms)
    });
    at_most("slow-method", "others failed", 0.0, "", |it| {
        Some(it.failed)
    });
    at_most("moved", "recovery", 2.0, "s", |it| it.recovery_s);
    // Beside bad members the calls of the others go on: what could go elsewhere does.
    for bad in FAULTY_WORKER_SCENARIOS {
        at_most(bad, "goodput lost", 10.0, "%", |it| {
            Some(100.0 * (1.0 - it.goodput_ratio))
        });
        // A call that waits for one that is slow or hangs does so until its deadline: there is no
        // hedging here.
        if !["straggler", "hang"].contains(&bad) {
            at_most(bad, "calls failed", 0.0, "", |it| Some(it.failed));
        }
    }
    at_most("overload", "capacity not used", 5.0, "%", |it| {
        Some(100.0 * (1.0 - it.goodput_ratio))
    });
    at_most("overload", "extra attempts", 10.0, "%", |it| {
        Some(100.0 * it.extra_ratio)
    });
    at_most("overload", "recovery", 2.0, "s", |it| it.recovery_s);
    at_most("rolling-restart", "calls failed", 0.0, "", |it| {
        Some(it.failed)
    });
    checks
}

/// Scenarios in which one worker is slow, fails, refuses, rejects, moves, lies about its load, or
/// hangs.
const FAULTY_WORKER_SCENARIOS: [&str; 7] = [
    "straggler",
    "fast-fail",
    "old-version",
    "refuser",
    "moved",
    "underreporter",
    "hang",
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balance::figures::tests::row;

    #[test]
    fn the_default_alone_is_compared_with_the_targets() {
        let missed = |rows: &[Row]| targets(rows).iter().filter(|it| !it.is_met()).count();
        assert_eq!(missed(&[row("tower", DEFAULT, 50.0, None)]), 0);
        assert_eq!(missed(&[row("tower", DEFAULT, 60.0, None)]), 1);
        assert_eq!(missed(&[row("tower", "random", 60.0, None)]), 0);
        // Each bad member has two targets, beside what else is said of it.
        let mut refuser = row("refuser", DEFAULT, 50.0, None);
        assert_eq!(missed(std::slice::from_ref(&refuser)), 0);
        (refuser.goodput_ratio, refuser.failed) = (0.89, 1.0);
        assert_eq!(missed(&[refuser]), 2);
        let mut old = row("old-version", DEFAULT, 50.0, None);
        old.bad_share = Some(0.3);
        assert_eq!(missed(&[old]), 1);
        // A figure that is not there is missed.
        assert_eq!(missed(&[row("overload", DEFAULT, 60.0, None)]), 1);
        let mut overload = row("overload", DEFAULT, 60.0, None);
        overload.recovery_s = Some(1.0);
        assert_eq!(missed(std::slice::from_ref(&overload)), 0);
        overload.goodput_ratio = 0.94;
        overload.extra_ratio = 0.11;
        assert_eq!(missed(&[overload]), 2);
    }
}
