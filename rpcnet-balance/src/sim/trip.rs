//! An attempt on its way to a worker and back.

use std::{sync::Arc, time::Duration};

use super::{Attempt, Latency};
use crate::{InFlight, OutcomeKind, ReportedLoad, Time, View, health::Probe};

/// An attempt, and where it is.
#[derive(Debug)]
pub(super) struct Trip {
    pub(super) attempt: Attempt,
    /// Number of the address that it was sent to, counted from the worker's first.
    pub(super) address: u32,
    pub(super) place: Place,
    /// Where the worker draws from what it costs.
    pub(super) chance: u64,
    /// How long it is served, if not as long as the worker says.
    pub(super) latency: Option<Latency>,
    pub(super) answer: Option<Answer>,
    /// As long as the client waits for the answer.
    pub(super) waiting: Option<Waiting>,
}

#[derive(Debug)]
pub(super) struct Waiting {
    /// What was picked from, and which.
    pub(super) view: Arc<View>,
    pub(super) index: usize,
    pub(super) probe: Option<Probe>,
    pub(super) _counted: InFlight,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Underway,
    /// Since when.
    Queued(Time),
    Serving,
    Done,
}

/// What a worker, or the network in its stead, makes of an attempt.
#[derive(Debug, Clone, Copy)]
pub(super) struct Answer {
    pub(super) kind: OutcomeKind,
    pub(super) load: Option<ReportedLoad>,
    pub(super) retry_after: Option<Duration>,
    /// Whether it may have been served.
    pub(super) processed: bool,
}

impl Answer {
    pub(super) const fn gone(processed: bool) -> Self {
        Self {
            kind: OutcomeKind::Unreachable,
            load: None,
            retry_after: None,
            processed,
        }
    }
}

impl Trip {
    pub(super) const fn is_open(&self) -> bool {
        self.waiting.is_some()
    }
}
