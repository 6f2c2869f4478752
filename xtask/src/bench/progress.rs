//! How far it is, on a terminal.

use std::io::{self, IsTerminal, Write};

/// A line on standard error that is written over; nothing where that is no terminal.
#[derive(Debug)]
pub(crate) struct Progress {
    shown: bool,
    done: usize,
    total: usize,
}

impl Progress {
    /// Of this many steps.
    pub(crate) fn new(total: usize) -> Self {
        Self {
            shown: io::stderr().is_terminal(),
            done: 0,
            total,
        }
    }

    /// The next step begins.
    pub(crate) fn step(&mut self, what: &str) {
        self.done += 1;
        self.update(what);
    }

    /// The step is this far.
    pub(crate) fn update(&mut self, what: &str) {
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
