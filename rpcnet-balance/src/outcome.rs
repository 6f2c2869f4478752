//! Outcome of an attempt: its kind, its latency, and what the endpoint reported.

use std::time::Duration;

use crate::{ReportedLoad, Time};

/// Outcome of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Outcome {
    /// Kind of outcome.
    pub kind: OutcomeKind,
    /// Time from the start of the attempt to its end. Balancers count more than 60 s as 60 s.
    pub latency: Duration,
    /// The latency of a typical call that is as slow for its kind as this attempt: what the
    /// balancers of this crate compare endpoints by. Default [`latency`](Self::latency); where
    /// calls of different kinds take very different times, a
    /// [`LatencyNormalizer`](crate::LatencyNormalizer) computes it. `None` if the duration of the
    /// attempt says nothing about the endpoint.
    pub normalized_latency: Option<Duration>,
    /// The load that the endpoint reported at the end of the attempt; `None`, the default, if it
    /// reported none. By now [`Endpoint::reported_load`](crate::Endpoint::reported_load) is the
    /// same or newer.
    pub reported_load: Option<ReportedLoad>,
    /// Time of the end of the attempt, if it is known. Default `None`: what is known of the
    /// endpoint does not age then, and a failure causes no backoff.
    pub now: Option<Time>,
    /// Time for which the endpoint asked not to be called, respected up to 30 s. Default `None`.
    pub retry_after: Option<Duration>,
}

impl Outcome {
    /// The outcome of an attempt that ended like this after `latency`.
    #[must_use]
    pub const fn new(kind: OutcomeKind, latency: Duration) -> Self {
        Self {
            kind,
            latency,
            normalized_latency: Some(latency),
            reported_load: None,
            now: None,
            retry_after: None,
        }
    }

    /// Sets the latency scaled to a typical call; see
    /// [`normalized_latency`](Self::normalized_latency).
    #[must_use]
    pub const fn with_normalized_latency(mut self, latency: Option<Duration>) -> Self {
        self.normalized_latency = latency;
        self
    }

    /// Sets the time of the end, for balancers that compare the age of what they know.
    #[must_use]
    pub const fn with_now(mut self, now: Time) -> Self {
        self.now = Some(now);
        self
    }

    /// Sets how long the endpoint asked not to be called, as some do with a rejection.
    #[must_use]
    pub const fn with_retry_after(mut self, retry_after: Option<Duration>) -> Self {
        self.retry_after = retry_after;
        self
    }

    /// Sets the load that the endpoint reported with its reply, a rejection included. Default none.
    #[must_use]
    pub const fn with_reported_load(mut self, load: Option<ReportedLoad>) -> Self {
        self.reported_load = load;
        self
    }
}

/// Kind of outcome of an attempt, as far as balancing is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OutcomeKind {
    /// The endpoint replied. An error of the application counts: the endpoint did its work.
    Success,
    /// The endpoint did not reply in time, or crashed while serving.
    Failure,
    /// A connection could not be made, or broke before the reply.
    Unreachable,
    /// The endpoint rejected the request for lack of capacity.
    Overloaded,
    /// The endpoint rejected the request before running it, and not for lack of capacity: it has no
    /// such method, cannot decode the request, or does not authorize the caller. It can be reached;
    /// how long that took says nothing about the calls that it serves.
    Rejected,
    /// The endpoint has begun to reply, and how long that took says nothing about other calls: the
    /// first message of a stream.
    StreamStarted,
    /// The caller cancelled the attempt without a reply, as the slower one of two attempts: the
    /// endpoint takes at least so long, and nothing else is known.
    Cancelled,
}
