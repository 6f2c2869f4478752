//! What one round of a lane's task has done, so that it is counted once and not for every call.

use std::time::Duration;

use tokio::time::Instant;

use crate::{endpoint::Shared, server::pace::QUICK_MAX};

/// From one poll of the task to its end.
#[derive(Debug, Default)]
pub(super) struct Round {
    /// Whether the round itself counts as a call being served.
    has_calls: bool,
    started: u64,
    completed: u64,
    waited: Duration,
    /// Handlers polled since the clock was read.
    unmeasured: u32,
}

/// When the clock is read: for each of many quick polls that would be a good part of their price.
#[derive(Debug, Default)]
pub(super) struct Stopwatch {
    /// So many polls are measured one by one, since some were slow together.
    careful: u32,
}

impl Round {
    /// A request is looked at; says how many calls are being served with it.
    pub(super) fn enter(&mut self, shared: &Shared) -> usize {
        if self.has_calls {
            return shared.in_flight.count();
        }
        self.has_calls = true;
        shared.in_flight.raise()
    }

    /// A handler is begun that has waited so long.
    pub(super) fn start(&mut self, waited: Duration) {
        self.started += 1;
        self.waited = self.waited.max(waited);
    }

    pub(super) fn complete(&mut self) {
        self.completed += 1;
    }

    /// Ends the round.
    pub(super) fn count(&mut self, shared: &Shared) {
        let Self {
            has_calls,
            started,
            completed,
            waited,
            ..
        } = std::mem::take(self);
        if started > 0 {
            shared.counters.calls_started.add(started);
            shared.queue_delay.note(waited);
        }
        if completed > 0 {
            shared.counters.calls_completed.add(completed);
        }
        if has_calls {
            shared.in_flight.lower();
        }
    }
}

impl Stopwatch {
    /// A handler was polled where its request was read. Returns how long that took, if it was measured and is known of
    /// it alone or to have been quick.
    #[inline(always)]
    pub(super) fn lap(&mut self, round: &mut Round, now: &mut Instant) -> Option<Duration> {
        round.unmeasured += 1;
        let is_first = round.started == 1;
        if !is_first && self.careful == 0 && round.unmeasured < POLLS_MAX {
            return None;
        }
        let polls = std::mem::take(&mut round.unmeasured);
        let began = std::mem::replace(now, Instant::now());
        let took = now.duration_since(began);
        self.careful = self.careful.saturating_sub(1);
        if polls == 1 || took <= QUICK_MAX {
            return Some(took);
        }
        self.careful = CAREFUL;
        None
    }
}

/// Polls that are measured together.
const POLLS_MAX: u32 = 8;

/// Polls measured one by one after some were slow together.
const CAREFUL: u32 = 64;
