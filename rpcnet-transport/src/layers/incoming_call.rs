//! Call that a layer of a server sees.

use std::{
    any::Any,
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use super::LayerCall;
use crate::{
    Metadata, Peer, Priority, TraceContext,
    server::{CallAttachments, CallProperties},
};

/// Call that a layer of a server sees: its header, and its caller.
pub struct IncomingCall {
    peer: Peer,
    method: Arc<str>,
    meta: CallProperties,
    attachments: Arc<CallAttachments>,
    request_bytes: usize,
}

impl LayerCall for IncomingCall {
    fn deadline(&self) -> Option<tokio::time::Instant> {
        self.meta.deadline
    }
}

impl IncomingCall {
    pub(crate) fn new(
        peer: &Peer,
        method: &Arc<str>,
        meta: &CallProperties,
        attachments: Arc<CallAttachments>,
        request_bytes: usize,
    ) -> Self {
        Self {
            peer: peer.clone(),
            method: Arc::clone(method),
            meta: *meta,
            attachments,
            request_bytes,
        }
    }

    /// Properties of the call, as the layers have left them.
    pub(crate) fn meta(&self) -> CallProperties {
        self.meta
    }

    /// The caller, with the name that its certificate proves.
    #[must_use]
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// Name of the method.
    #[must_use]
    pub fn method(&self) -> &str {
        &self.method
    }

    /// Number of this attempt of the caller, from 0.
    #[must_use]
    pub fn attempt(&self) -> u8 {
        self.meta.attempt
    }

    /// Whether the caller declares that the call may run twice.
    #[must_use]
    pub fn is_idempotent(&self) -> bool {
        self.meta.idempotent
    }

    /// Idempotency key of the call, if it has one.
    #[must_use]
    pub fn idempotency_key(&self) -> Option<u128> {
        self.meta.idempotency_key.map(u128::from_le_bytes)
    }

    /// Priority of the call.
    #[must_use]
    pub fn priority(&self) -> Priority {
        self.meta.priority
    }

    /// Bounds the priority of the call, for its admission and for the calls that its handler makes:
    /// a caller may claim what it likes. Returns whether it had claimed more.
    pub fn limit_priority(&mut self, max: Priority) -> bool {
        // A higher priority compares as less.
        let is_higher = self.meta.priority < max;
        if is_higher {
            self.meta.priority = max;
        }
        is_higher
    }

    /// Latest end of the call; `None` if the caller set no deadline.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.meta.deadline.map(tokio::time::Instant::into_std)
    }

    /// Time left; zero after the deadline, `None` if the caller set no deadline.
    #[must_use]
    pub fn remaining(&self) -> Option<Duration> {
        let now = tokio::time::Instant::now();
        let deadline = self.meta.deadline?;
        Some(deadline.saturating_duration_since(now))
    }

    /// Metadata of the request.
    #[must_use]
    pub fn metadata(&self) -> &Metadata {
        &self.attachments.headers.metadata
    }

    /// Trace context of the caller, if it sent one.
    #[must_use]
    pub fn trace_context(&self) -> Option<TraceContext> {
        self.attachments.headers.trace
    }

    /// Size of the body that the caller has announced; zero for a call that streams its requests.
    #[must_use]
    pub fn request_bytes(&self) -> usize {
        self.request_bytes
    }

    /// Sets the value of a type, for later layers and for the handler
    /// ([`CallContext::extension`](crate::CallContext::extension)).
    pub fn set_extension<T: Any + Send + Sync>(&self, value: T) {
        self.attachments.set_extension(value);
    }

    /// Value of a type that a layer has set.
    #[must_use]
    pub fn extension<T: Any + Send + Sync>(&self) -> Option<Arc<T>> {
        self.attachments.extension()
    }

    /// Whether the caller reads metadata of the reply.
    #[must_use]
    pub fn wants_reply_metadata(&self) -> bool {
        self.attachments.headers.wants_reply_metadata
    }

    /// Sets the metadata of the reply, until another layer or the handler sets it anew: that of a
    /// rejection, if this layer rejects the call.
    pub fn set_reply_metadata(&self, metadata: Metadata) {
        self.attachments.set_reply_metadata(metadata);
    }
}

impl fmt::Debug for IncomingCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IncomingCall")
            .field("peer", &self.peer)
            .field("method", &self.method)
            .field("attempt", &self.meta.attempt)
            .field("metadata", self.metadata())
            .finish_non_exhaustive()
    }
}
