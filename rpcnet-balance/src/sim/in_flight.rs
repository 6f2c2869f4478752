//! An attempt on its way to a worker and back.

use std::{sync::Arc, time::Duration};

use super::{Attempt, ServiceTime};
use crate::{InFlight, OutcomeKind, ReportedLoad, Time, View, health::Probe};

/// An attempt, and where it is.
#[derive(Debug)]
pub(super) struct InFlightAttempt {
    pub(super) attempt: Attempt,
    /// Number of the address that it was sent to, counted from the worker's first.
    pub(super) address: u32,
    pub(super) stage: AttemptStage,
    /// Where the worker draws from what it costs.
    pub(super) rng_stream: u64,
    /// How long it is served, if not as long as the worker says.
    pub(super) service_time: Option<ServiceTime>,
    pub(super) reply: Option<Reply>,
    /// As long as the client waits for the answer.
    pub(super) pending_reply: Option<PendingReply>,
}

#[derive(Debug)]
pub(super) struct PendingReply {
    /// What was picked from, and which.
    pub(super) view: Arc<View>,
    pub(super) index: usize,
    pub(super) probe: Option<Probe>,
    pub(super) _in_flight: InFlight,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AttemptStage {
    InTransit,
    /// Since when.
    Queued(Time),
    Serving,
    Done,
}

/// What a worker, or the network in its stead, makes of an attempt.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reply {
    pub(super) kind: OutcomeKind,
    pub(super) load: Option<ReportedLoad>,
    pub(super) retry_after: Option<Duration>,
    /// Whether it may have been served.
    pub(super) processed: bool,
}

impl Reply {
    pub(super) const fn connection_lost(processed: bool) -> Self {
        Self {
            kind: OutcomeKind::Unreachable,
            load: None,
            retry_after: None,
            processed,
        }
    }
}

impl InFlightAttempt {
    pub(super) const fn is_open(&self) -> bool {
        self.pending_reply.is_some()
    }
}
