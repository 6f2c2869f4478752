//! Live view of the demo: a table that is redrawn on a terminal, plain lines elsewhere.

use std::{
    io::{self, IsTerminal, Stdout, Write},
    time::Duration,
};

use crossterm::{QueueableCommand, cursor, terminal};
use serde::{Deserialize, Serialize};

/// State of the cluster and of the calls, as the director sees them.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub(crate) struct Snapshot {
    pub(crate) members: Vec<MemberRow>,
    /// Times that the whole corpus has been digested.
    pub(crate) rounds: u64,
    pub(crate) calls_ok: u64,
    pub(crate) calls_failed: u64,
    pub(crate) wrong_results: u64,
    /// Median latency of all calls, in µs.
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
    out: W,
    mode: OutputMode,
    /// Time at which a snapshot was last shown.
    last_shown: Option<Duration>,
    /// The table as it stands on the terminal; empty if there is none.
    table: Vec<String>,
}

/// Kind of output.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum OutputMode {
    /// A terminal of this size: the table is redrawn in place.
    Terminal {
        /// Characters in a row.
        columns: usize,
        /// Rows on the screen.
        rows: usize,
    },
    /// A file or pipe: lines, at a modest rate.
    Plain,
}

impl LiveView<Stdout> {
    /// View on standard output, as a terminal or as plain lines.
    pub(crate) fn stdout() -> Self {
        let out = io::stdout();
        let size = if out.is_terminal() {
            terminal::size().ok()
        } else {
            None
        };
        let mode = size.map_or(OutputMode::Plain, |(columns, rows)| OutputMode::Terminal {
            columns: columns.into(),
            rows: rows.into(),
        });
        Self::new(out, mode)
    }
}

impl<W: Write> LiveView<W> {
    pub(crate) fn new(out: W, mode: OutputMode) -> Self {
        Self {
            out,
            mode,
            last_shown: None,
            table: Vec::new(),
        }
    }

    /// Shows how things stand, unless that was done a moment ago. `elapsed` is the time since the
    /// start of the demo.
    ///
    /// # Errors
    ///
    /// The output's: the reader of a pipe may have gone.
    pub(crate) fn snapshot(&mut self, elapsed: Duration, snapshot: &Snapshot) -> io::Result<()> {
        let pause = if self.mode == OutputMode::Plain {
            PLAIN_INTERVAL
        } else {
            TERMINAL_INTERVAL
        };
        if self.last_shown.is_some_and(|shown| elapsed < shown + pause) {
            return Ok(());
        }
        self.last_shown = Some(elapsed);
        match self.mode {
            OutputMode::Plain => writeln!(self.out, "{}", plain_line(elapsed, snapshot))?,
            OutputMode::Terminal { columns, rows } => {
                self.clear_table()?;
                // A line that wraps or scrolls away could not be found again.
                self.table = table(elapsed, snapshot);
                self.table.truncate(rows.saturating_sub(2).max(1));
                for line in &mut self.table {
                    *line = line.chars().take(columns.saturating_sub(1)).collect();
                }
                self.draw_table()?;
            }
        }
        self.out.flush()
    }

    /// Shows what happened, at once and to stay.
    ///
    /// # Errors
    ///
    /// The output's.
    pub(crate) fn event(&mut self, elapsed: Duration, what: &str) -> io::Result<()> {
        self.clear_table()?;
        writeln!(self.out, "{} {what}", timestamp(elapsed))?;
        self.draw_table()?;
        self.out.flush()
    }

    /// Leaves the table where it is and shows the last lines under it.
    ///
    /// # Errors
    ///
    /// The output's.
    pub(crate) fn finish(mut self, lines: &[String]) -> io::Result<W> {
        for line in lines {
            writeln!(self.out, "{line}")?;
        }
        self.out.flush()?;
        Ok(self.out)
    }

    fn clear_table(&mut self) -> io::Result<()> {
        if let Ok(lines @ 1..) = u16::try_from(self.table.len()) {
            self.out.queue(cursor::MoveToPreviousLine(lines))?;
            self.out
                .queue(terminal::Clear(terminal::ClearType::FromCursorDown))?;
        }
        Ok(())
    }

    fn draw_table(&mut self) -> io::Result<()> {
        for line in &self.table {
            writeln!(self.out, "{line}")?;
        }
        Ok(())
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

fn table(elapsed: Duration, snapshot: &Snapshot) -> Vec<String> {
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
    [String::new(), totals].into_iter().chain(rows).collect()
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
        snapshot.calls_ok,
        snapshot.calls_failed,
        snapshot.wrong_results
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
            calls_ok: 2468,
            ..Snapshot::default()
        }
    }

    fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// Text that `show` writes to a live view in `mode`.
    fn written(mode: OutputMode, show: impl FnOnce(&mut LiveView<Vec<u8>>)) -> String {
        let mut live = LiveView::new(Vec::new(), mode);
        show(&mut live);
        String::from_utf8(live.finish(&["done".to_owned()]).unwrap()).unwrap()
    }

    #[test]
    fn plain_lines_come_at_a_modest_rate_and_events_at_once() {
        let text = written(OutputMode::Plain, |live| {
            for at in [0, 1999, 2000, 2500] {
                live.snapshot(millis(at), &snapshot()).unwrap();
            }
            live.event(millis(2600), "killed worker-1").unwrap();
        });
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
    fn a_table_is_drawn_over_the_one_before() {
        let mode = OutputMode::Terminal {
            columns: 80,
            rows: 24,
        };
        let text = written(mode, |live| {
            live.snapshot(millis(0), &snapshot()).unwrap();
            live.snapshot(millis(99), &snapshot()).unwrap();
            live.snapshot(millis(100), &snapshot()).unwrap();
        });
        let tables: Vec<_> = text.split("\x1b[5F\x1b[J").collect();
        assert_eq!(tables.len(), 2, "{text:?}");
        let lines: Vec<_> = tables[1].lines().collect();
        assert_eq!(
            lines,
            [
                "",
                "[  0.10 s] round 3: 2468 calls ok, 0 failed, 0 wrong",
                "member    state        phi in flight     calls        p50        p99",
                "worker-1  alive       0.26         4      1234     870 us   12.35 ms",
                "w2        alive     >= 100         4      1234     870 us   12.35 ms",
                "done",
            ]
        );
    }

    #[test]
    fn an_event_stays_above_the_table() {
        let mode = OutputMode::Terminal {
            columns: 80,
            rows: 24,
        };
        let text = written(mode, |live| {
            live.snapshot(millis(0), &snapshot()).unwrap();
            live.event(millis(10), "killed worker-1").unwrap();
        });
        let after = text.split_once("\x1b[J").unwrap().1;
        assert!(
            after.starts_with("[  0.01 s] killed worker-1\n\n[  0.00 s] round 3"),
            "{after}"
        );
    }

    #[test]
    fn no_line_wraps_and_no_table_scrolls() {
        let mode = OutputMode::Terminal {
            columns: 20,
            rows: 5,
        };
        let text = written(mode, |live| live.snapshot(millis(0), &snapshot()).unwrap());
        assert_eq!(text.lines().count(), 3 + 1, "{text}");
        assert!(text.lines().all(|line| line.chars().count() < 20), "{text}");
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
