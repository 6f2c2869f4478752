//! State of a closed loop: its phase, and the latencies of its calls.

use std::{
    sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use parking_lot::Mutex;
use xtask_report::{Latencies, Quantiles};

/// State that the callers of a closed loop share: its phase, and the latencies of its calls.
#[derive(Debug, Default)]
pub struct ClosedLoopState {
    phase: AtomicU8,
    /// Latencies of calls that lie in the window as a whole.
    latencies: Mutex<Latencies>,
    /// Latencies of calls that were in flight when the window began.
    started_before_window: Mutex<Latencies>,
    /// Bytes of bulk calls that ended in the window, both directions together.
    pub(crate) bulk_bytes: AtomicU64,
}

/// Phase of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Calls that end now do not count yet.
    WarmUp,
    /// Calls that end now count.
    Window,
    /// Calls that end now are the last ones, and do not count.
    Over,
}

impl ClosedLoopState {
    /// Phase of the run now.
    pub fn phase(&self) -> Phase {
        match self.phase.load(Relaxed) {
            0 => Phase::WarmUp,
            1 => Phase::Window,
            _ => Phase::Over,
        }
    }

    /// Moves latencies of a caller to those of all. Callers do so some at a time, so that recording
    /// takes no lock for most calls.
    pub fn record(&self, batch: &mut Vec<Duration>) {
        let mut latencies = self.latencies.lock();
        batch
            .drain(..)
            .for_each(|latency| latencies.record(latency));
    }

    /// Records a call that was in flight when the window began. It counts only where there are no
    /// others.
    pub(crate) fn record_started_before_window(&self, latency: Duration) {
        self.started_before_window.lock().record(latency);
    }

    /// Latencies of the calls that lie in the window as a whole; if none does, of those that ended
    /// in it.
    pub(crate) fn quantiles(&self) -> Quantiles {
        let latencies = self.latencies.lock();
        match latencies.calls() {
            0 => self.started_before_window.lock().quantiles(),
            _ => latencies.quantiles(),
        }
    }

    /// Calls whose latencies have been recorded.
    pub fn calls(&self) -> u64 {
        self.latencies.lock().calls()
    }

    /// Begins a phase.
    pub fn begin(&self, phase: Phase) {
        self.phase.store(phase as u8, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_of_the_window_count_and_else_those_that_ended_in_it() {
        let state = ClosedLoopState::default();
        assert_eq!(state.phase(), Phase::WarmUp);
        state.begin(Phase::Window);
        assert_eq!(state.phase(), Phase::Window);
        state.record_started_before_window(Duration::from_millis(7));
        assert!(state.quantiles().p50_us > 6_990.0);
        let mut batch = vec![Duration::from_millis(1)];
        state.record(&mut batch);
        assert!(batch.is_empty() && state.calls() == 1);
        assert!(state.quantiles().p50_us < 1_010.0);
        state.begin(Phase::Over);
        assert_eq!(state.phase(), Phase::Over);
    }
}
