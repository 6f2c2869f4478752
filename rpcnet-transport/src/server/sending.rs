//! Replies that are sent over one connection, and how long they may take.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use tokio::time::Instant;

use crate::{
    TransportConfig,
    stream::{Patience, Stalled, within_transfer_time},
};

/// What a connection has to send in replies with streams of their own.
#[derive(Debug)]
pub(super) struct Sending {
    connection: quinn::Connection,
    patience: Patience,
    /// Bytes of the bodies that are being sent.
    bytes: AtomicUsize,
}

/// The sending of one reply.
pub(super) struct SendingOne<'a> {
    all: &'a Sending,
    pub(super) patience: Patience,
}

/// The body of a reply that is being sent, until it is dropped.
struct BodyGuard<'a>(&'a AtomicUsize, usize);

impl Drop for BodyGuard<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(self.1, Relaxed);
    }
}

impl Sending {
    pub(super) fn new(config: &TransportConfig, connection: quinn::Connection) -> Self {
        Self {
            connection,
            patience: Patience::new(config, Arc::default()),
            bytes: AtomicUsize::new(0),
        }
    }

    pub(super) fn patience(&self) -> &Patience {
        &self.patience
    }

    /// The reply of a call with this deadline.
    pub(super) fn of(&self, deadline: Option<Instant>) -> SendingOne<'_> {
        SendingOne {
            all: self,
            patience: self.patience.with_deadline(deadline),
        }
    }
}

impl SendingOne<'_> {
    /// Waits for the end of the sending of a reply, at most until all replies of the connection
    /// would have been taken at the least rate. There are never more of them than the peer may
    /// hold.
    pub(super) async fn in_time<T>(
        &self,
        config: &TransportConfig,
        body_bytes: usize,
        send: impl Future<Output = T>,
    ) -> Result<T, Stalled> {
        let bytes = &self.all.bytes;
        bytes.fetch_add(body_bytes, Relaxed);
        let _guard = BodyGuard(bytes, body_bytes);
        within_transfer_time(config, || bytes.load(Relaxed), send).await
    }

    /// Waits for the acknowledgement of what QUIC has taken: as long as it goes on sending, which
    /// it does not do without acknowledgements.
    pub(super) async fn acknowledged<T>(
        &self,
        acknowledged: impl Future<Output = T>,
    ) -> Result<T, Stalled> {
        let sent = || self.all.connection.stats().udp_tx.bytes;
        self.patience.wait_by(sent, acknowledged).await
    }
}
