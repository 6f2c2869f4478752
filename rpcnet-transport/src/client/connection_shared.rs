//! State that the parts of a connection share: its runtime, drain state, load and waiting calls.

use std::{
    sync::{
        Arc,
        atomic::{
            AtomicBool, AtomicU64, AtomicUsize,
            Ordering::{Relaxed, SeqCst},
        },
    },
    time::Duration,
};

use quinn::ConnectionError;
use tokio::{sync::Notify, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{CloseReason, ConnectionEvent, events::EventListener};
use crate::{
    Code, METADATA_BYTES_MAX, MetadataError, Processed, RpcError,
    busy_poll::{BusyPoll, Expected},
    connections::{LocalCloseReason, RegisteredConnection},
    dial::Dialer,
    error::NotSent,
    gauge::Gauge,
    metadata::{OutgoingHeaders, outgoing_headers},
    runtime::{CloseOnRuntimeEnd, EndpointRuntime},
    wire::{Hello, LoadReport},
};

/// State that the client, the task and the lanes of a connection share.
#[derive(Debug)]
pub(crate) struct ConnectionShared {
    pub(crate) runtime: EndpointRuntime,
    pub(super) local_close: LocalCloseReason,
    /// Cancelled when the client is dropped; streams may be left.
    pub(super) client_dropped: CancellationToken,
    /// Calls of all connections of the endpoint.
    pub(super) outgoing: Gauge,
    busy_poll: Arc<BusyPoll>,
    pub(super) reply_bytes_max: usize,
    /// The server knows the schemas of typed calls.
    pub(super) has_schemas: bool,
    /// The server takes headers of requests.
    has_headers: bool,
    /// Notified when a lane may have capacity again, or the connection ends, for the calls that
    /// wait for capacity.
    pub(super) capacity_available: Notify,
    /// Calls that wait for capacity.
    pub(super) waiting_for_capacity: AtomicUsize,
    /// Calls that wait for a stream of their own.
    pub(super) waiting_for_stream: AtomicUsize,
    /// Lanes that the server has reset and that may be opened again.
    pub(super) reset_lanes: AtomicUsize,
    draining: AtomicBool,
    events: EventListener,
    /// Last load report, with a mark in its unused byte that there is one.
    load: AtomicU64,
    /// When the last reply was read, in nanoseconds after `created_at`.
    replied_at: AtomicU64,
    created_at: Instant,
}

impl ConnectionShared {
    /// State of a connection to a server that says this of itself; `None` before its hello.
    pub(crate) fn new(
        dialer: &Dialer,
        registered: &RegisteredConnection,
        hello: Option<&Hello>,
    ) -> Self {
        Self {
            runtime: dialer.runtime.clone(),
            local_close: registered.local_close(),
            client_dropped: CancellationToken::new(),
            outgoing: dialer.outgoing.clone(),
            busy_poll: Arc::clone(&dialer.busy_poll),
            reply_bytes_max: dialer.config.message_bytes_max,
            capacity_available: Notify::new(),
            waiting_for_capacity: AtomicUsize::new(0),
            waiting_for_stream: AtomicUsize::new(0),
            reset_lanes: AtomicUsize::new(0),
            draining: AtomicBool::new(hello.is_some_and(|hello| hello.draining)),
            has_schemas: hello.is_none_or(|hello| hello.has_schemas),
            has_headers: hello.is_some_and(|hello| hello.has_headers),
            events: EventListener::default(),
            load: AtomicU64::new(0),
            replied_at: AtomicU64::new(0),
            created_at: Instant::now(),
        }
    }

    /// Headers of a call that is made here and now, as far as the server takes them.
    ///
    /// # Errors
    ///
    /// If there is metadata that the server does not take, or more than is permitted.
    #[inline]
    pub(super) fn outgoing_headers(&self) -> Result<Option<Arc<OutgoingHeaders>>, RpcError> {
        match outgoing_headers() {
            None => Ok(None),
            Some(outgoing) => self.check_headers(outgoing),
        }
    }

    #[cold]
    fn check_headers(
        &self,
        outgoing: Arc<OutgoingHeaders>,
    ) -> Result<Option<Arc<OutgoingHeaders>>, RpcError> {
        let headers = &outgoing.headers;
        let bytes = headers.metadata.encoded_len();
        if bytes > METADATA_BYTES_MAX {
            let message = MetadataError::TooLarge { bytes }.to_string();
            let error = RpcError::new(Code::PayloadTooLarge, Processed::No, message);
            return Err(error.with_source(NotSent::MetadataTooLarge));
        }
        if self.has_headers {
            return Ok((!headers.is_empty()).then_some(outgoing));
        }
        // A trace context is left out.
        if headers.metadata.is_empty() {
            return Ok(None);
        }
        let message = format!("the server takes no metadata, {:?}", headers.metadata);
        let error = RpcError::new(Code::Incompatible, Processed::No, message);
        Err(error.with_source(NotSent::MetadataNotTaken))
    }

    /// Sets the server's drain state and reports a change.
    pub(crate) fn set_draining(&self, draining: bool) {
        if self.draining.swap(draining, SeqCst) == draining {
            return;
        }
        if draining {
            self.capacity_available.notify_waiters();
        }
        self.events.notify(ConnectionEvent::Draining(draining));
    }

    /// Callback for events of the connection.
    pub(super) fn events(&self) -> &EventListener {
        &self.events
    }

    /// Guard for the task of the connection: if the runtime drops the task, the callback gets the
    /// close.
    pub(crate) fn guard(self: &Arc<Self>, connection: quinn::Connection) -> CloseOnRuntimeEnd {
        let shared = Arc::clone(self);
        CloseOnRuntimeEnd::new(connection, self.runtime.clone()).on_runtime_end(move || {
            let closed = shared.close_reason(&ConnectionError::LocallyClosed);
            shared.events.notify(ConnectionEvent::Closed(closed));
        })
    }

    /// Reason for which the connection was closed.
    pub(crate) fn close_reason(&self, error: &ConnectionError) -> CloseReason {
        match CloseReason::of(error) {
            CloseReason::ClosedHere if self.runtime.check_ended() => CloseReason::RuntimeEnded,
            reason => reason,
        }
    }

    #[inline]
    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(SeqCst)
    }

    /// Wakes the call that has waited longest. Called under the lock of a lane, or after it, when
    /// there may be more capacity than before.
    pub(super) fn wake_next_waiting(&self) {
        if self.has_waiting_calls() {
            self.capacity_available.notify_one();
        }
    }

    /// Whether calls wait for capacity.
    #[inline]
    pub(super) fn has_waiting_calls(&self) -> bool {
        self.waiting_for_capacity.load(Relaxed) > 0
    }

    /// Records that a request leaves: replies are expected to all calls of the endpoint.
    pub(super) fn record_request(&self) {
        let calls = self.outgoing.count_without_streams();
        self.busy_poll.record(Expected::of(calls));
    }

    /// Records that replies were read. A spin in place would keep the callers from running, which
    /// are woken now, so that none begins however few replies are left to come.
    pub(super) fn record_replies(&self) {
        self.busy_poll
            .record(match self.outgoing.count_without_streams() {
                0 => Expected::Nothing,
                _ => Expected::Several,
            });
    }

    /// Records that a call was given up, whose reply is expected no more.
    pub(super) fn record_abandoned_call(&self) {
        if self.outgoing.count_without_streams() == 0 {
            self.busy_poll.expect_nothing();
        }
    }

    /// Counts a call that waits for a stream, for as long as the guard lives.
    pub(crate) fn count_stream_wait(&self) -> Option<WaitingCall<'_>> {
        WaitingCall::enter(&self.waiting_for_stream, usize::MAX)
    }

    /// Records the load report of a reply that was read at `now`, the last one of those that were
    /// read at once.
    pub(crate) fn record_reply(&self, load: LoadReport, now: Instant) {
        let mut bytes = load.encode();
        bytes[3] = REPORTED;
        self.load.store(u64::from_le_bytes(bytes), Relaxed);
        let age = now.saturating_duration_since(self.created_at).as_nanos();
        let age = u64::try_from(age).unwrap_or(u64::MAX);
        // Replies that were not read together have different times, however coarse the clock is.
        let least = self.replied_at.load(Relaxed).saturating_add(1);
        self.replied_at.store(age.max(least), Relaxed);
    }

    /// Time from the creation to the last reply; zero before the first.
    #[inline]
    pub(crate) fn replied_after(&self) -> Duration {
        Duration::from_nanos(self.replied_at.load(Relaxed))
    }

    pub(crate) fn created_at(&self) -> Instant {
        self.created_at
    }

    #[inline]
    pub(crate) fn load(&self) -> Option<LoadReport> {
        let bytes = self.load.load(Relaxed).to_le_bytes();
        (bytes[3] == REPORTED).then(|| LoadReport::decode(bytes))
    }
}

/// Guard that counts one waiting call.
#[derive(Debug)]
pub(crate) struct WaitingCall<'a>(&'a AtomicUsize);

impl<'a> WaitingCall<'a> {
    /// `None` if the queue is full.
    pub(super) fn enter(queued: &'a AtomicUsize, queue_len_max: usize) -> Option<Self> {
        let more = |waiting| (waiting < queue_len_max).then(|| waiting + 1);
        let entered = queued.fetch_update(Relaxed, Relaxed, more);
        entered.is_ok().then(|| Self(queued))
    }
}

impl Drop for WaitingCall<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// Mark in the byte of a report that is always zero on the wire.
const REPORTED: u8 = 1;

#[cfg(test)]
mod tests;
