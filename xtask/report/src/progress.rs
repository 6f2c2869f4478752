//! How far it is, on a terminal.

use std::{
    io::{self, IsTerminal, Write},
    time::{Duration, Instant},
};

/// A line on standard error that is written over; nothing where that is no terminal.
#[derive(Debug)]
pub struct Progress {
    shown: bool,
    done: usize,
    total: usize,
}

impl Progress {
    /// Of this many steps.
    pub fn new(total: usize) -> Self {
        Self {
            shown: io::stderr().is_terminal(),
            done: 0,
            total,
        }
    }

    /// The next step begins.
    pub fn step(&mut self, what: &str) {
        self.done += 1;
        self.update(what);
    }

    /// The step is this far.
    pub fn update(&mut self, what: &str) {
        if self.shown {
            // What cannot be shown is not missed.
            let _ = write!(
                io::stderr(),
                "\r\x1b[K[{}/{}] {what}",
                self.done,
                self.total
            );
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

/// A bar for work whose pieces differ in size, with an estimate of what remains. Where standard
/// error is no terminal, a line now and then instead.
#[derive(Debug)]
pub struct WeightedProgress {
    terminal: bool,
    begin: Instant,
    told: Instant,
    done: f64,
    total: f64,
    pieces: usize,
    pieces_done: usize,
}

impl WeightedProgress {
    /// Of this many pieces, which weigh `total` together.
    pub fn new(pieces: usize, total: f64) -> Self {
        let now = Instant::now();
        Self {
            terminal: io::stderr().is_terminal(),
            begin: now,
            told: now,
            done: 0.0,
            total,
            pieces,
            pieces_done: 0,
        }
    }

    /// A piece of this weight is done.
    pub fn advance(&mut self, weight: f64, what: &str) {
        self.done += weight;
        self.pieces_done += 1;
        let text = self.text(self.begin.elapsed(), what);
        // What cannot be shown is not missed.
        if self.terminal {
            let _ = write!(io::stderr(), "\r\x1b[K{text}");
        } else if self.told.elapsed() >= QUIET {
            self.told = Instant::now();
            let _ = writeln!(io::stderr(), "{text}");
        }
    }

    fn text(&self, passed: Duration, what: &str) -> String {
        let share = (self.done / self.total).clamp(0.0, 1.0);
        let full = (share * WIDTH as f64) as usize;
        let left = passed.as_secs_f64() * (1.0 - share) / share.max(1e-9);
        format!(
            "[{}{}] {}/{}, {} left  {what}",
            "#".repeat(full),
            "-".repeat(WIDTH - full),
            self.pieces_done,
            self.pieces,
            readable_seconds(left),
        )
    }
}

impl Drop for WeightedProgress {
    fn drop(&mut self) {
        if self.terminal {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

/// Seconds as one would say them.
fn readable_seconds(seconds: f64) -> String {
    match seconds.round() as u64 {
        short @ ..120 => format!("{short} s"),
        medium @ 120..7_200 => format!("{} min", medium / 60),
        long => format!("{} h {} min", long / 3_600, long % 3_600 / 60),
    }
}

/// Characters of the bar.
const WIDTH: usize = 24;
/// Between two lines where there is no terminal.
const QUIET: Duration = Duration::from_secs(20);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_remains_follows_from_the_weight_done() {
        let mut gauge = WeightedProgress::new(4, 100.0);
        gauge.advance(25.0, "the first");
        let text = gauge.text(Duration::from_secs(60), "the first");
        assert_eq!(
            text,
            "[######------------------] 1/4, 3 min left  the first"
        );
        gauge.advance(75.0, "the rest");
        let text = gauge.text(Duration::from_secs(70), "the rest");
        assert_eq!(text, "[########################] 2/4, 0 s left  the rest");
    }

    #[test]
    fn spans_read_easily() {
        for (seconds, text) in [
            (0.4, "0 s"),
            (119.0, "119 s"),
            (150.0, "2 min"),
            (9_000.0, "2 h 30 min"),
        ] {
            assert_eq!(readable_seconds(seconds), text);
        }
    }
}
