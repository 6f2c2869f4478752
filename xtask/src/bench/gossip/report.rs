//! Tables of the results.

use xtask_report::{format_table, number, quantile};

use super::{
    detection::{Detection, KilledMember},
    figures::{Figures, Measured, ms},
    protocol::Counters,
};
use crate::bench::targets::status;

/// Tables of figures beside targets, and of the detection of each killed member.
pub(crate) fn text(measured: &Measured) -> String {
    let Measured {
        figures, detection, ..
    } = measured;
    let mut lines = vec![row(["", "measured", "target", ""])];
    lines.extend(TARGETS.iter().map(|(what, unit, max, of)| {
        let Some(value) = of(figures) else {
            return row([what, "-", "", ""]);
        };
        let met = status(value <= *max);
        row([what, &with_unit(value, unit), &with_unit(*max, unit), met])
    }));
    lines.extend(counts(measured).map(|(what, value)| row([what, &value, "", ""])));
    let mut text = format!(
        "{} members in {} processes, {:.0} s, sealed, defaults of a LAN\n\n{}",
        figures.nodes,
        figures.processes,
        figures.seconds,
        format_table(&lines)
    );
    if !detection.killed.is_empty() {
        let mut lines = vec![row(KILLED_HEADING)];
        lines.extend(detection.killed.iter().map(killed_row));
        text += &format!("\n{}", format_table(&lines));
    }
    for fault in failed_checks(figures) {
        text += &format!("\nFAILED: {fault}\n");
    }
    text
}

/// Further figures, which have no targets.
fn counts(measured: &Measured) -> [(&'static str, String); 14] {
    let Measured {
        figures,
        joined,
        steady,
        detection,
    } = measured;
    let nodes = figures.nodes as f64;
    let seconds = |ms: f64| with_unit(ms / 1e3, "s");
    let kib = |bytes: f64| with_unit(bytes / 1024.0, "KiB a node");
    let quiet = figures.quiet_ms.map(seconds);
    let lost = figures.lost_datagrams.map(|lost| lost.to_string());
    let misses = steady.misses as f64 / nodes / figures.seconds;
    let join_cpu = joined.cpu_us as f64 / 1e3 / nodes;
    [
        ("half of the views full", seconds(figures.converged_p50_ms)),
        (
            "joins no news any more",
            quiet.unwrap_or_else(|| "not before it was measured".to_owned()),
        ),
        ("CPU to join", with_unit(join_cpu, "ms a node")),
        ("sent to join", kib(figures.join_sent_bytes_per_node)),
        ("datagrams lost in full buffers", or_dash(lost)),
        (
            "datagrams sent",
            with_unit(figures.sent_datagrams_per_node_s, "/s a node"),
        ),
        ("probes missed", with_unit(misses, "/s a node")),
        ("memory", kib(figures.rss_bytes_per_node)),
        (
            "memory",
            with_unit(figures.rss_bytes_per_member, "B a member"),
        ),
        ("suspicions before the kill", figures.suspicions.to_string()),
        (
            "suspicions of others after it",
            detection.false_suspicions.to_string(),
        ),
        ("false failures", figures.false_failures.to_string()),
        ("joining: syncs, stalls, no effect", sync_counts(joined)),
        ("staying: syncs, stalls, no effect", sync_counts(steady)),
    ]
}

pub(crate) fn failed_checks(figures: &Figures) -> Vec<String> {
    let checks = [
        (figures.false_failures, "one was found failed that was not"),
        (figures.never_knew, "one never knew of one killed"),
    ];
    let failed = checks.into_iter().filter(|(times, _)| *times > 0);
    failed
        .map(|(times, what)| format!("{times} times {what}"))
        .collect()
}

fn killed_row((member, killed): (&usize, &KilledMember)) -> Vec<String> {
    let notice = |noticed: Option<&Detection>| {
        or_dash(noticed.map(|(after_us, by)| format!("{} by {by}", seconds(ms(*after_us)))))
    };
    let known_after_ms = killed.failed.iter().map(|(after_us, _)| ms(*after_us));
    row([
        &format!("member {member}"),
        if killed.by_signal { "SIGKILL" } else { "drop" },
        &notice(killed.first_suspected.as_ref()),
        &notice(killed.failed.first()),
        &or_dash(quantile(known_after_ms.collect(), 0.5).map(seconds)),
        &notice(killed.failed.last()),
    ])
}

fn sync_counts(count: &Counters) -> String {
    format!("{}, {}, {}", count.syncs, count.stalls, count.dropped)
}

fn seconds(ms: f64) -> String {
    format!("{:.2} s", ms / 1e3)
}

fn with_unit(value: f64, unit: &str) -> String {
    format!("{} {unit}", number(value))
}

fn or_dash(text: Option<String>) -> String {
    text.unwrap_or_else(|| "-".to_owned())
}

fn row<const N: usize>(cells: [&str; N]) -> Vec<String> {
    cells.map(str::to_owned).to_vec()
}

/// Target of a cluster of 1,000 members: its name, unit and bound, and the figure.
type Target = (&'static str, &'static str, f64, fn(&Figures) -> Option<f64>);

const TARGETS: &[Target] = &[
    ("full views everywhere", "s", 15.0, |it| {
        Some(it.converged_ms / 1e3)
    }),
    ("CPU of a node", "% of a core", 0.1, |it| {
        Some(it.cpu_percent_per_node)
    }),
    ("sent by a node", "B/s", 600.0, |it| {
        Some(it.sent_bytes_per_node_s)
    }),
    ("killed ones known everywhere", "s", 6.0, |it| {
        Some(it.all_know_max_ms? / 1e3)
    }),
    ("killed ones known, p99", "s", 6.0, |it| {
        Some(it.all_know_p99_ms? / 1e3)
    }),
    ("killed ones known, p50", "s", 6.0, |it| {
        Some(it.all_know_p50_ms? / 1e3)
    }),
    ("first to know", "s", 6.0, |it| Some(it.first_p50_ms? / 1e3)),
];

const KILLED_HEADING: [&str; 6] = [
    "killed",
    "by",
    "suspected",
    "first failed",
    "half know",
    "all know",
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
