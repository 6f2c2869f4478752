//! What a handler learns of its call.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio_util::sync::CancellationToken;

use crate::Peer;

/// What a handler may know about the call that it serves. Cheap to clone.
#[derive(Clone)]
pub struct CallContext(Arc<Inner>);

struct Inner {
    peer: Peer,
    method: String,
    attempt: u8,
    idempotent: bool,
    deadline: Option<tokio::time::Instant>,
    cancelled: CancellationToken,
}

impl CallContext {
    pub(crate) fn new(
        peer: Peer,
        method: String,
        attempt: u8,
        idempotent: bool,
        deadline: Option<tokio::time::Instant>,
        cancelled: CancellationToken,
    ) -> Self {
        Self(Arc::new(Inner {
            peer,
            method,
            attempt,
            idempotent,
            deadline,
            cancelled,
        }))
    }

    /// The caller: the name that its certificate vouches for, and its address.
    pub fn peer(&self) -> &Peer {
        &self.0.peer
    }

    /// Name of the method.
    pub fn method(&self) -> &str {
        &self.0.method
    }

    /// Which attempt of the caller this is, from 0.
    pub fn attempt(&self) -> u8 {
        self.0.attempt
    }

    /// Whether the caller says that the call may run twice.
    pub fn is_idempotent(&self) -> bool {
        self.0.idempotent
    }

    /// When the call ends at the latest; `None` if the caller set no deadline.
    pub fn deadline(&self) -> Option<Instant> {
        self.0.deadline.map(tokio::time::Instant::into_std)
    }

    /// Time left; zero when it is over, `None` if the caller set no deadline.
    pub fn remaining(&self) -> Option<Duration> {
        let now = tokio::time::Instant::now();
        self.0
            .deadline
            .map(|deadline| deadline.saturating_duration_since(now))
    }

    /// Whether the call is over, or nobody waits for the reply any more.
    pub fn is_cancelled(&self) -> bool {
        self.0.cancelled.is_cancelled()
    }

    /// Ends when the call does: the handler has returned, the caller gave up or was lost, the deadline passed, or the
    /// server stops. The handler itself is dropped at its next await then; this is for work that it spawned.
    pub async fn cancelled(&self) {
        self.0.cancelled.cancelled().await;
    }
}

impl fmt::Debug for CallContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallContext")
            .field("peer", &self.0.peer)
            .field("method", &self.0.method)
            .field("attempt", &self.0.attempt)
            .field("remaining", &self.remaining())
            .finish_non_exhaustive()
    }
}
