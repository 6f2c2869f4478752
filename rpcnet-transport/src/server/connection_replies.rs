//! Replies that are sent over one connection, and how long they may take.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use tokio::time::Instant;

use crate::{
    TransportConfig,
    accounts::InFlightGuard,
    stream::{StallTimer, Stalled, within_transfer_time},
};

/// Replies of a connection with streams of their own.
#[derive(Debug)]
pub(super) struct ConnectionReplies {
    connection: quinn::Connection,
    stall_timer: StallTimer,
    /// Bytes of the bodies that are being sent.
    body_bytes: AtomicUsize,
}

/// A reply that is being sent.
pub(super) struct ReplyInProgress<'a> {
    connection_replies: &'a ConnectionReplies,
    pub(super) stall_timer: StallTimer,
    /// Counts the call as in flight until its reply is written.
    pub(super) in_flight: Option<InFlightGuard>,
}

/// Counted bytes of the body of a reply, until the guard is dropped.
struct BodyBytesGuard<'a>(&'a AtomicUsize, usize);

impl Drop for BodyBytesGuard<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(self.1, Relaxed);
    }
}

impl ConnectionReplies {
    pub(super) fn new(config: &TransportConfig, connection: quinn::Connection) -> Self {
        Self {
            connection,
            stall_timer: StallTimer::new(config, Arc::default()),
            body_bytes: AtomicUsize::new(0),
        }
    }

    pub(super) fn stall_timer(&self) -> &StallTimer {
        &self.stall_timer
    }

    /// Begins the reply of a call with this deadline.
    pub(super) fn begin(
        &self,
        deadline: Option<Instant>,
        in_flight: Option<InFlightGuard>,
    ) -> ReplyInProgress<'_> {
        ReplyInProgress {
            connection_replies: self,
            stall_timer: self.stall_timer.with_deadline(deadline),
            in_flight,
        }
    }
}

impl ReplyInProgress<'_> {
    /// Waits until a reply is sent, at most until all replies of the connection would have been
    /// sent at the minimum rate. There are never more of them than the peer may hold.
    pub(super) async fn within_transfer_time<T>(
        &self,
        config: &TransportConfig,
        body_bytes: usize,
        send: impl Future<Output = T>,
    ) -> Result<T, Stalled> {
        let bytes = &self.connection_replies.body_bytes;
        bytes.fetch_add(body_bytes, Relaxed);
        let _guard = BodyBytesGuard(bytes, body_bytes);
        within_transfer_time(config, || bytes.load(Relaxed), send).await
    }

    /// Waits for the acknowledgement of the bytes that QUIC has accepted, as long as QUIC goes on
    /// sending, which it does not do without acknowledgements.
    pub(super) async fn wait_acknowledged<T>(
        &self,
        acknowledged: impl Future<Output = T>,
    ) -> Result<T, Stalled> {
        let sent = || self.connection_replies.connection.stats().udp_tx.bytes;
        self.stall_timer
            .wait_with_progress(sent, acknowledged)
            .await
    }
}
