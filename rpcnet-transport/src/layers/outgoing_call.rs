//! Call that a layer of a client sees.

use std::{
    fmt,
    time::{Duration, Instant},
};

use super::LayerCall;
use crate::{
    CallOptions, Metadata, MetadataError, Peer, Priority, TraceContext, metadata::CallHeaders,
};

/// Call that a layer of a client sees: one attempt, on one connection.
pub struct OutgoingCall {
    peer: Peer,
    method: Box<str>,
    /// Resolved options.
    options: CallOptions,
    headers: CallHeaders,
    request_bytes: usize,
}

impl LayerCall for OutgoingCall {
    fn deadline(&self) -> Option<tokio::time::Instant> {
        self.options.resolved_deadline()
    }
}

impl OutgoingCall {
    pub(crate) fn new(
        peer: &Peer,
        method: &str,
        options: CallOptions,
        headers: CallHeaders,
        request_bytes: usize,
    ) -> Self {
        Self {
            peer: peer.clone(),
            method: method.into(),
            options,
            headers,
            request_bytes,
        }
    }

    /// Headers of the call, as the layers have left them.
    pub(crate) fn headers(&self) -> &CallHeaders {
        &self.headers
    }

    /// Node that is called.
    #[must_use]
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// Name of the method.
    #[must_use]
    pub fn method(&self) -> &str {
        &self.method
    }

    /// Number of this attempt, from 0.
    #[must_use]
    pub fn attempt(&self) -> u8 {
        self.options.attempt
    }

    /// Whether the call may run twice.
    #[must_use]
    pub fn is_idempotent(&self) -> bool {
        self.options.idempotent
    }

    /// Priority of the call.
    #[must_use]
    pub fn priority(&self) -> Priority {
        self.options.priority()
    }

    /// Latest end of the call; `None` if it has no deadline.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.options.deadline()
    }

    /// Time left; zero after the deadline, `None` if the call has no deadline.
    #[must_use]
    pub fn remaining(&self) -> Option<Duration> {
        let now = tokio::time::Instant::now();
        let deadline = self.options.resolved_deadline()?;
        Some(deadline.saturating_duration_since(now))
    }

    /// Size of the request; zero for a call that streams its requests.
    #[must_use]
    pub fn request_bytes(&self) -> usize {
        self.request_bytes
    }

    /// Metadata of the request.
    #[must_use]
    pub fn metadata(&self) -> &Metadata {
        &self.headers.metadata
    }

    /// Sets the value of a key of the metadata.
    ///
    /// # Errors
    ///
    /// Those of [`Metadata::with`]. The metadata is as it was.
    pub fn set_metadata(
        &mut self,
        key: &str,
        value: impl AsRef<[u8]>,
    ) -> Result<(), MetadataError> {
        self.headers.metadata = self.headers.metadata.clone().with(key, value)?;
        Ok(())
    }

    /// Trace context of the call, if it has one.
    #[must_use]
    pub fn trace_context(&self) -> Option<TraceContext> {
        self.headers.trace
    }

    /// Sets the trace context of the call.
    pub fn set_trace_context(&mut self, trace: TraceContext) {
        self.headers.trace = Some(trace);
    }
}

impl fmt::Debug for OutgoingCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OutgoingCall")
            .field("peer", &self.peer)
            .field("method", &self.method)
            .field("attempt", &self.options.attempt)
            .field("metadata", self.metadata())
            .finish_non_exhaustive()
    }
}
