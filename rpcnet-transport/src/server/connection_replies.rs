//! Replies that are sent over one connection, and how long they may take.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use tokio::time::Instant;

use crate::{
    TransportConfig,
    stream::{StallTimer, Stalled, within_transfer_time},
};

/// What a connection has to send in replies with streams of their own.
#[derive(Debug)]
pub(super) struct ConnectionReplies {
    connection: quinn::Connection,
    stall_timer: StallTimer,
    /// Bytes of the bodies that are being sent.
    body_bytes: AtomicUsize,
}

/// The sending of one reply.
pub(super) struct ReplyInProgress<'a> {
    connection_replies: &'a ConnectionReplies,
    pub(super) stall_timer: StallTimer,
}

/// The body of a reply that is being sent, until it is dropped.
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

    /// The reply of a call with this deadline.
    pub(super) fn begin(&self, deadline: Option<Instant>) -> ReplyInProgress<'_> {
        ReplyInProgress {
            connection_replies: self,
            stall_timer: self.stall_timer.with_deadline(deadline),
        }
    }
}

impl ReplyInProgress<'_> {
    /// Waits for the end of the sending of a reply, at most until all replies of the connection
    /// would have been taken at the least rate. There are never more of them than the peer may
    /// hold.
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

    /// Waits for the acknowledgement of what QUIC has taken: as long as it goes on sending, which
    /// it does not do without acknowledgements.
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
