//! Tables of the results.

use xtask_report::{format_table, number};

use super::{
    detection::KilledMember,
    figures::{Figures, Measured, quantile},
    protocol::Counters,
};

/// Tables of figures beside targets, and of the detection of each killed member.
pub(crate) fn text(measured: &Measured) -> String {
    let Measured {
        figures,
        joined,
        steady,
        detection: noticed,
    } = measured;
    let mut lines = vec![row(["", "measured", "target", ""])];
    lines.extend(TARGETS.iter().map(|target| {
        let Some(value) = (target.of)(figures) else {
            return row([target.what, "-", "", ""]);
        };
        let status = if value <= target.max { "met" } else { "MISSED" };
        let cell = |value| format!("{} {}", number(value), target.unit);
        row([target.what, &cell(value), &cell(target.max), status])
    }));
    let kib = |bytes: f64| format!("{} KiB", number(bytes / 1024.0));
    let lost = figures
        .lost_datagrams
        .map_or_else(|| "-".into(), |lost| lost.to_string());
    let per_node_s = figures.nodes as f64 * figures.seconds;
    let more = [
        (
            "half of the views full",
            format!("{} s", number(figures.converged_p50_ms / 1e3)),
        ),
        (
            "joins no news any more",
            figures.quiet_ms.map_or_else(
                || "not before it was measured".into(),
                |quiet| format!("{} s", number(quiet / 1e3)),
            ),
        ),
        (
            "CPU to join",
            format!(
                "{} ms a node",
                number(joined.cpu_us / 1e3 / figures.nodes as f64)
            ),
        ),
        (
            "sent to join",
            format!("{} a node", kib(figures.join_sent_bytes_per_node)),
        ),
        ("datagrams lost in full buffers", lost),
        (
            "datagrams sent",
            format!("{} /s a node", number(figures.sent_datagrams_per_node_s)),
        ),
        (
            "probes missed",
            format!(
                "{} /s a node",
                number((steady.misses + steady.void_rounds) as f64 / per_node_s)
            ),
        ),
        (
            "memory",
            format!("{} a node", kib(figures.rss_bytes_per_node)),
        ),
        (
            "memory",
            format!("{} B a member", number(figures.rss_bytes_per_member)),
        ),
        ("suspicions before the kill", figures.suspicions.to_string()),
        (
            "suspicions of others after it",
            noticed.false_suspicions.to_string(),
        ),
        ("false failures", figures.false_failures.to_string()),
        ("joining: syncs, stalls, no effect", sync_counts(joined)),
        ("staying: syncs, stalls, no effect", sync_counts(steady)),
    ];
    lines.extend(more.map(|(what, value)| row([what, &value, "", ""])));
    let mut text = format!(
        "{} members in {} processes, {:.0} s, sealed, defaults of a LAN\n\n{}",
        figures.nodes,
        figures.processes,
        figures.seconds,
        format_table(&lines)
    );
    if !noticed.killed.is_empty() {
        let mut lines = vec![row([
            "killed",
            "by",
            "suspected",
            "first failed",
            "half know",
            "all know",
        ])];
        lines.extend(
            noticed
                .killed
                .iter()
                .map(|(member, killed)| killed_row(*member, killed)),
        );
        text += &format!("\n{}", format_table(&lines));
    }
    for fault in failed_checks(figures) {
        text += &format!("\nFAILED: {fault}\n");
    }
    text
}

/// Failed checks.
pub(crate) fn failed_checks(figures: &Figures) -> Vec<String> {
    let mut faults = Vec::new();
    if figures.false_failures > 0 {
        faults.push(format!(
            "{} times one was found failed that was not",
            figures.false_failures
        ));
    }
    if figures.never_knew > 0 {
        faults.push(format!(
            "{} times one never knew of one killed",
            figures.never_knew
        ));
    }
    faults
}

fn killed_row(member: usize, killed: &KilledMember) -> Vec<String> {
    let notice = |noticed: Option<(u64, usize)>| {
        noticed.map_or_else(
            || "-".into(),
            |(after_us, by)| format!("{} s by {by}", seconds(after_us)),
        )
    };
    let half = quantile(&killed.failed_after_us, 0.5);
    row([
        &format!("member {member}"),
        if killed.by_signal { "SIGKILL" } else { "drop" },
        &notice(killed.first_suspected),
        &notice(killed.first_failed),
        &half.map_or_else(|| "-".into(), |half| format!("{} s", seconds(half))),
        &notice(killed.last_failed),
    ])
}

fn sync_counts(count: &Counters) -> String {
    format!("{}, {}, {}", count.syncs, count.stalls, count.dropped)
}

fn seconds(us: u64) -> String {
    format!("{:.2}", us as f64 / 1e6)
}

fn row<const N: usize>(cells: [&str; N]) -> Vec<String> {
    cells.map(str::to_owned).to_vec()
}

/// Target of a cluster of 1,000 members.
struct Target {
    what: &'static str,
    unit: &'static str,
    max: f64,
    of: fn(&Figures) -> Option<f64>,
}

const TARGETS: &[Target] = &[
    Target {
        what: "full views everywhere",
        unit: "s",
        max: 15.0,
        of: |figures| Some(figures.converged_ms / 1e3),
    },
    Target {
        what: "CPU of a node",
        unit: "% of a core",
        max: 0.1,
        of: |figures| Some(figures.cpu_percent_per_node),
    },
    Target {
        what: "sent by a node",
        unit: "B/s",
        max: 600.0,
        of: |figures| Some(figures.sent_bytes_per_node_s),
    },
    Target {
        what: "killed ones known everywhere",
        unit: "s",
        max: 6.0,
        of: |figures| Some(figures.all_know_max_ms? / 1e3),
    },
    Target {
        what: "killed ones known, p99",
        unit: "s",
        max: 6.0,
        of: |figures| Some(figures.all_know_p99_ms? / 1e3),
    },
    Target {
        what: "killed ones known, p50",
        unit: "s",
        max: 6.0,
        of: |figures| Some(figures.all_know_p50_ms? / 1e3),
    },
    Target {
        what: "first to know",
        unit: "s",
        max: 6.0,
        of: |figures| Some(figures.first_p50_ms? / 1e3),
    },
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::gossip::detection::DetectionLog;

    fn figures() -> Figures {
        Figures {
            nodes: 1_000,
            processes: 5,
            seconds: 60.0,
            converged_ms: 15_000.0,
            converged_p50_ms: 3_000.0,
            quiet_ms: None,
            join_sent_bytes_per_node: 1.0,
            lost_datagrams: None,
            cpu_percent_per_node: 0.11,
            sent_bytes_per_node_s: 420.0,
            sent_datagrams_per_node_s: 4.0,
            rss_bytes_per_node: 400_000.0,
            rss_bytes_per_member: 400.0,
            suspicions: 0,
            false_failures: 0,
            killed: 0,
            first_p50_ms: None,
            all_know_p50_ms: None,
            all_know_p99_ms: None,
            all_know_max_ms: Some(6_001.0),
            never_knew: 0,
        }
    }

    #[test]
    fn a_target_is_met_at_its_bound_and_missed_past_it() {
        let measured = Measured {
            figures: figures(),
            joined: Counters::default(),
            steady: Counters::default(),
            detection: DetectionLog::default(),
        };
        let text = text(&measured);
        let status = |what: &str| {
            let line = text.lines().find(|line| line.starts_with(what)).unwrap();
            line.rsplit(' ').next().unwrap().to_owned()
        };
        assert_eq!(status("full views"), "met");
        assert_eq!(status("CPU of a node"), "MISSED");
        assert_eq!(status("sent by a node"), "met");
        assert_eq!(status("killed ones known everywhere"), "MISSED");
        assert!(
            !text.contains("FAILED"),
            "a missed target is no fault: {text}"
        );
    }

    #[test]
    fn false_failures_and_missing_detections_fail() {
        assert_eq!(failed_checks(&figures()), [""; 0]);
        let wrong = Figures {
            false_failures: 2,
            never_knew: 1,
            ..figures()
        };
        assert_eq!(failed_checks(&wrong).len(), 2);
    }

    #[test]
    fn the_row_is_flat_and_has_the_agreed_fields() {
        let row = serde_json::to_value(figures()).unwrap();
        let row = row.as_object().unwrap();
        assert!(
            row.values()
                .all(|value| !value.is_object() && !value.is_array())
        );
        for field in [
            "nodes",
            "seconds",
            "cpu_percent_per_node",
            "sent_bytes_per_node_s",
            "rss_bytes_per_member",
            "converged_ms",
        ] {
            assert!(row.contains_key(field), "{field}");
        }
    }
}
