//! Window of a stream: counts items, and those within the time that is measured.

use std::time::{Duration, Instant};

use crate::{Load, Report};

/// Count of the items of a stream, and of those within the time that is measured.
#[derive(Debug)]
pub struct StreamWindow {
    total: u64,
    /// Total and time when it began.
    begun: Option<(u64, Instant)>,
    begins: Instant,
    load: Load,
    took: Duration,
}

impl StreamWindow {
    /// A window that begins after the load's warm-up, which begins now.
    pub fn new(load: Load) -> Self {
        Self {
            total: 0,
            begun: None,
            begins: Instant::now() + load.warm_up,
            load,
            took: Duration::ZERO,
        }
    }

    /// Counts an item.
    pub fn count(&mut self) {
        self.total += 1;
    }

    /// Items so far, those before the window among them.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Whether the window is over, to be asked before each item.
    pub fn is_over(&mut self) -> bool {
        // Not for each item: a look at the clock costs as much as a small one.
        if !self.total.is_multiple_of(16) {
            return false;
        }
        let now = Instant::now();
        match self.begun {
            None if now >= self.begins => self.begun = Some((self.total, now)),
            None => {}
            Some((_, begun)) => self.took = now - begun,
        }
        self.took >= self.load.window
    }

    /// Report of the items within the window; of items that went both ways, bytes count twice.
    pub fn report(&self, directions: u64) -> Report {
        let items = self.total - self.begun.map_or(0, |(total, _)| total);
        Report {
            count: items,
            seconds: self.took.as_secs_f64(),
            bulk_bytes: items * directions * self.load.body_bytes as u64,
            ..Report::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_of_the_warm_up_do_not_count() {
        let load = Load {
            body_bytes: 10,
            window: Duration::from_micros(1),
            ..Load::default()
        };
        let mut window = StreamWindow::new(load);
        (0..16).for_each(|_| window.count());
        // It begins here, at the first look after the warm-up of no time.
        assert!(!window.is_over());
        let mut counted = 0;
        while !window.is_over() {
            window.count();
            counted += 1;
        }
        let report = window.report(2);
        assert_eq!((report.count, report.bulk_bytes), (counted, 20 * counted));
        assert_eq!(window.total(), 16 + counted);
        assert!(report.seconds >= 1e-6);
    }
}
