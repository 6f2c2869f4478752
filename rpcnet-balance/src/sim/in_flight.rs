//! Attempt in flight: on its way to a worker and back.

use std::{sync::Arc, time::Duration};

use super::{Attempt, ServiceTime};
use crate::{InFlight, OutcomeKind, ReportedLoad, Time, View, health::Probe};

/// Attempt in flight, and its stage.
#[derive(Debug)]
pub(super) struct InFlightAttempt {
    pub(super) attempt: Attempt,
    /// The number of the address that it was sent to, counted from the worker's first.
    pub(super) address: u32,
    pub(super) stage: AttemptStage,
    /// The random stream that its service time is drawn from.
    pub(super) rng_stream: u64,
    /// The service time of its method, if it is not that of the worker.
    pub(super) service_time: Option<ServiceTime>,
    pub(super) reply: Option<Reply>,
    /// Present as long as the client waits for the reply.
    pub(super) pending_reply: Option<PendingReply>,
}

#[derive(Debug)]
pub(super) struct PendingReply {
    /// The view that was picked from, and the index in it.
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

/// Reply of a worker, or of the network in its place.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reply {
    pub(super) kind: OutcomeKind,
    pub(super) load: Option<ReportedLoad>,
    pub(super) retry_after: Option<Duration>,
    /// Whether the worker may have served the attempt.
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
