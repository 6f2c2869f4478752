//! Live view of the demo: a table that is redrawn on a terminal, plain lines elsewhere.

use std::{
    io::{self, Stdout, Write},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::{Deserialize, Serialize};

/// State of the cluster and of the calls, as the director sees them.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub(crate) struct Snapshot {
    pub(crate) members: Vec<MemberRow>,
    /// Times that the whole corpus has been digested.
    pub(crate) rounds: u64,
    pub(crate) calls: CallFigures,
}

/// Figures of all calls.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
pub(crate) struct CallFigures {
    pub(crate) calls_ok: u64,
    pub(crate) calls_failed: u64,
    /// Answers that differ from what was computed locally.
    pub(crate) wrong_results: u64,
    /// Median latency, in µs.
    pub(crate) p50_us: u64,
    pub(crate) p99_us: u64,
}

/// Row of a member.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub(crate) struct MemberRow {
    pub(crate) name: String,
    /// State in the terms of the membership: alive, suspect, failed, left.
    pub(crate) state: String,
    /// Suspicion level of the failure detector; `None` where it has no data.
    pub(crate) phi: Option<f64>,
    pub(crate) in_flight: u64,
    /// Calls it has answered.
    pub(crate) calls: u64,
    /// Median latency of its calls, in µs.
    pub(crate) p50_us: u64,
    pub(crate) p99_us: u64,
}

/// Shows snapshots and events as they come.
#[derive(Debug)]
pub(crate) struct LiveView<W> {
    /// Where lines go that stay.
    out: W,
    /// The table that is redrawn in place; hidden where there is no terminal.
    table: ProgressBar,
    /// Time at which a snapshot was last shown.
    last_shown: Option<Duration>,
}

impl LiveView<Stdout> {
    /// View on standard output, as a terminal or as plain lines.
    pub(crate) fn stdout() -> Self {
        Self::new(io::stdout(), ProgressDrawTarget::stdout())
    }
}

impl<W: Write> LiveView<W> {
    pub(crate) fn new(out: W, terminal: ProgressDrawTarget) -> Self {
        let style = ProgressStyle::with_template("{msg}").expect("the template is valid");
        Self {
            out,
            table: ProgressBar::with_draw_target(None, terminal).with_style(style),
            last_shown: None,
        }
    }

    /// Shows how things stand, unless that was done a moment ago. `elapsed` is the time since the
    /// start of the demo.
    pub(crate) fn snapshot(&mut self, elapsed: Duration, snapshot: &Snapshot) -> io::Result<()> {
        let is_plain = self.table.is_hidden();
        let pause = if is_plain {
            PLAIN_INTERVAL
        } else {
            TERMINAL_INTERVAL
        };
        if self.last_shown.is_some_and(|shown| elapsed < shown + pause) {
            return Ok(());
        }
        self.last_shown = Some(elapsed);
        if is_plain {
            return writeln!(self.out, "{}", plain_line(elapsed, snapshot));
        }
        self.table.set_message(table(elapsed, snapshot));
        Ok(())
    }

    /// Shows what happened, at once and to stay.
    pub(crate) fn event(&mut self, elapsed: Duration, what: &str) -> io::Result<()> {
        let line = format!("{} {what}", timestamp(elapsed));
        if self.table.is_hidden() {
            return writeln!(self.out, "{line}");
        }
        self.table.println(line);
        Ok(())
    }

    /// Leaves the table where it is and shows the last lines under it.
    pub(crate) fn finish(mut self, lines: &[String]) -> io::Result<W> {
        self.table.abandon();
        for line in lines {
            writeln!(self.out, "{line}")?;
        }
        self.out.flush()?;
        Ok(self.out)
    }
}

/// A duration in µs as people read it: `870 us`, `1.24 ms`, `2.05 s`.
pub(crate) fn readable_micros(micros: u64) -> String {
    match micros {
        0..1_000 => format!("{micros} us"),
        1_000..1_000_000 => format!("{:.2} ms", micros as f64 / 1e3),
        _ => format!("{:.2} s", micros as f64 / 1e6),
    }
}

fn table(elapsed: Duration, snapshot: &Snapshot) -> String {
    let width = snapshot
        .members
        .iter()
        .map(|it| it.name.chars().count())
        .max()
        .unwrap_or(0)
        .max(6);
    let header = ["member", "state", "phi", "in flight", "calls", "p50", "p99"];
    let members = snapshot.members.iter().map(cells);
    let rows = std::iter::once(header.map(str::to_owned)).chain(members);
    let rows = rows.map(|[name, state, phi, in_flight, calls, p50, p99]| {
        format!("{name:width$}  {state:<9} {phi:>6} {in_flight:>9} {calls:>9} {p50:>10} {p99:>10}")
    });
    let totals = format!("{} {}", timestamp(elapsed), totals(snapshot));
    let lines = [String::new(), totals].into_iter().chain(rows);
    lines.collect::<Vec<_>>().join("\n")
}

fn plain_line(elapsed: Duration, snapshot: &Snapshot) -> String {
    let mut line = format!("{} {}", timestamp(elapsed), totals(snapshot));
    for [name, state, phi, in_flight, calls, p50, p99] in snapshot.members.iter().map(cells) {
        line += &format!(
            " | {name} {state} phi {phi}, {in_flight} in flight, {calls} calls, p50 {p50}, p99 {p99}"
        );
    }
    line
}

/// Name, state, phi, calls in flight, calls, and the latencies p50 and p99, which a member without
/// calls has not.
fn cells(member: &MemberRow) -> [String; 7] {
    let latency = |micros| match member.calls {
        0 => "-".to_owned(),
        _ => readable_micros(micros),
    };
    [
        member.name.clone(),
        member.state.clone(),
        phi(member),
        member.in_flight.to_string(),
        member.calls.to_string(),
        latency(member.p50_us),
        latency(member.p99_us),
    ]
}

fn totals(snapshot: &Snapshot) -> String {
    format!(
        "round {}: {} calls ok, {} failed, {} wrong",
        snapshot.rounds + 1,
        snapshot.calls.calls_ok,
        snapshot.calls.calls_failed,
        snapshot.calls.wrong_results
    )
}

fn timestamp(elapsed: Duration) -> String {
    format!("[{:6.2} s]", elapsed.as_secs_f64())
}

/// Suspicion level as text. Above 100 only the order of magnitude matters.
fn phi(member: &MemberRow) -> String {
    match member.phi {
        None => "-".to_owned(),
        Some(phi) if phi >= 100.0 => ">= 100".to_owned(),
        Some(phi) => format!("{phi:.2}"),
    }
}

/// Interval between two redraws: a reader follows no faster ones.
const TERMINAL_INTERVAL: Duration = Duration::from_millis(100);

/// Interval between two plain lines, which stay in a log.
const PLAIN_INTERVAL: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use indicatif::InMemoryTerm;

    use super::*;

    fn snapshot() -> Snapshot {
        let worker = |name: &str, phi| MemberRow {
            name: name.into(),
            state: "alive".into(),
            phi,
            in_flight: 4,
            calls: 1234,
            p50_us: 870,
            p99_us: 12_345,
        };
        Snapshot {
            members: vec![worker("worker-1", Some(0.256)), worker("w2", Some(1e300))],
            rounds: 2,
            calls: CallFigures {
                calls_ok: 2468,
                ..CallFigures::default()
            },
        }
    }

    fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// Content of a terminal of this size after `show`.
    fn shown(rows: u16, columns: u16, show: impl FnOnce(&mut LiveView<Vec<u8>>)) -> Vec<String> {
        let terminal = InMemoryTerm::new(rows, columns);
        let target = ProgressDrawTarget::term_like(Box::new(terminal.clone()));
        let mut live = LiveView::new(Vec::new(), target);
        show(&mut live);
        assert_eq!(live.finish(&["done".to_owned()]).unwrap(), b"done\n");
        terminal.contents().lines().map(str::to_owned).collect()
    }

    #[test]
    fn plain_lines_come_at_a_modest_rate_and_events_at_once() {
        let mut live = LiveView::new(Vec::new(), ProgressDrawTarget::hidden());
        for at in [0, 1999, 2000, 2500] {
            live.snapshot(millis(at), &snapshot()).unwrap();
        }
        live.event(millis(2600), "killed worker-1").unwrap();
        let text = String::from_utf8(live.finish(&["done".to_owned()]).unwrap()).unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 4, "{text}");
        assert_eq!(
            lines[0],
            "[  0.00 s] round 3: 2468 calls ok, 0 failed, 0 wrong \
             | worker-1 alive phi 0.26, 4 in flight, 1234 calls, p50 870 us, p99 12.35 ms \
             | w2 alive phi >= 100, 4 in flight, 1234 calls, p50 870 us, p99 12.35 ms"
        );
        assert!(lines[1].starts_with("[  2.00 s]"));
        assert_eq!(lines[2..], ["[  2.60 s] killed worker-1", "done"]);
        assert!(!text.contains('\x1b'), "no control codes in a file");
    }

    #[test]
    fn a_table_is_drawn_over_the_one_before_and_under_the_events() {
        let lines = shown(24, 80, |live| {
            live.snapshot(millis(0), &snapshot()).unwrap();
            live.event(millis(10), "killed worker-1").unwrap();
            live.snapshot(millis(100), &snapshot()).unwrap();
            live.snapshot(millis(199), &snapshot()).unwrap();
        });
        assert_eq!(
            lines,
            [
                "[  0.01 s] killed worker-1",
                "",
                "[  0.10 s] round 3: 2468 calls ok, 0 failed, 0 wrong",
                "member    state        phi in flight     calls        p50        p99",
                "worker-1  alive       0.26         4      1234     870 us   12.35 ms",
                "w2        alive     >= 100         4      1234     870 us   12.35 ms",
            ]
        );
    }

    #[test]
    fn no_table_scrolls() {
        let lines = shown(5, 80, |live| {
            for at in 0..4 {
                live.snapshot(millis(100 * at), &snapshot()).unwrap();
            }
        });
        assert_eq!(lines.len(), 5, "{lines:?}");
        assert!(lines[1].starts_with("[  0.30 s]"), "{lines:?}");
    }

    #[test]
    fn durations_are_readable() {
        for (micros, text) in [
            (0, "0 us"),
            (999, "999 us"),
            (1_000, "1.00 ms"),
            (1_234_000, "1.23 s"),
        ] {
            assert_eq!(readable_micros(micros), text);
        }
    }
}
