//! Progress of a command, on a terminal.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// Line on standard error that is written over; nothing where that is no terminal.
#[derive(Debug)]
pub struct Progress(ProgressBar);

impl Progress {
    /// Progress of a command with this many steps.
    pub fn new(total: usize) -> Self {
        Self(bar(total, "[{pos}/{len}] {msg}"))
    }

    /// Begins the next step.
    pub fn step(&mut self, what: &str) {
        self.0.inc(1);
        self.update(what);
    }

    /// Says how far the step is.
    pub fn update(&mut self, what: &str) {
        self.0.set_message(what.to_owned());
        self.0.tick();
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// Bar for work whose pieces differ in size, with an estimate of the remaining time. Where standard
/// error is no terminal, a line now and then instead.
#[derive(Debug)]
pub struct WeightedProgress {
    bar: ProgressBar,
    /// Time of the last line.
    printed: Instant,
    done: f64,
    total: f64,
    pieces: usize,
    pieces_done: usize,
}

impl WeightedProgress {
    /// Progress of this many pieces, which weigh `total` together.
    pub fn new(pieces: usize, total: f64) -> Self {
        Self {
            bar: bar(PARTS as usize, "[{bar:24.#-}] {prefix}, {eta} left  {msg}"),
            printed: Instant::now(),
            done: 0.0,
            total,
            pieces,
            pieces_done: 0,
        }
    }

    /// Counts a piece of this weight as done.
    pub fn advance(&mut self, weight: f64, what: &str) {
        self.done += weight;
        self.pieces_done += 1;
        let share = (self.done / self.total).clamp(0.0, 1.0);
        let pieces = format!("{}/{}", self.pieces_done, self.pieces);
        if self.bar.is_hidden() && self.printed.elapsed() >= QUIET {
            self.printed = Instant::now();
            eprintln!("{pieces}, {:.0} %  {what}", 100.0 * share);
        }
        self.bar.set_prefix(pieces);
        self.bar.set_message(what.to_owned());
        self.bar.set_position((share * PARTS as f64) as u64);
    }
}

impl Drop for WeightedProgress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

fn bar(total: usize, template: &str) -> ProgressBar {
    let style = ProgressStyle::with_template(template).expect("the template is valid");
    ProgressBar::new(total as u64).with_style(style)
}

/// Resolution of a bar.
const PARTS: u64 = 1_000;
/// Time between two lines where there is no terminal.
const QUIET: Duration = Duration::from_secs(20);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_advances_by_weight() {
        let mut progress = WeightedProgress::new(4, 100.0);
        progress.advance(25.0, "the first");
        assert_eq!(progress.bar.position(), 250);
        assert_eq!(progress.bar.prefix(), "1/4");
        progress.advance(75.0, "the rest");
        assert_eq!(progress.bar.position(), PARTS);
    }

    #[test]
    fn a_step_counts_as_it_begins() {
        let mut progress = Progress::new(2);
        progress.step("the first");
        progress.update("the first, half");
        assert_eq!(
            (progress.0.position(), progress.0.message()),
            (1, "the first, half".into())
        );
    }
}
