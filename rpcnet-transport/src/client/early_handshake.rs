//! Handshake of a client that was returned before it completed.

use tokio::sync::watch;

use super::CallOptions;
use crate::{ConnectError, gauge::Gauge};

/// Additional state of a client that was returned before its handshake completed.
pub(super) struct EarlyHandshake<C> {
    pub(super) progress: watch::Receiver<HandshakeProgress<C>>,
    pub(super) early_calls: Gauge,
}

/// Progress of the handshake.
#[derive(Debug, Clone)]
pub(super) enum HandshakeProgress<C> {
    Handshaking,
    /// The server has accepted or rejected the early data; its hello has not arrived.
    EarlyDataDecided {
        accepted: bool,
    },
    Completed {
        accepted: bool,
        client: Result<C, ConnectError>,
    },
}

impl<C: Clone> EarlyHandshake<C> {
    /// Client of the completed handshake; `None` before.
    pub(super) fn client(&self) -> Option<C> {
        match &*self.progress.borrow() {
            HandshakeProgress::Completed { client, .. } => client.as_ref().ok().cloned(),
            HandshakeProgress::Handshaking | HandshakeProgress::EarlyDataDecided { .. } => None,
        }
    }

    /// Whether a call with these options may be sent before the end of the handshake, if it has no
    /// headers.
    pub(super) fn accepts(&self, options: &CallOptions) -> bool {
        options.replay_safe && self.client().is_none()
    }

    /// Waits for the end of the handshake.
    pub(super) async fn completed(&self) -> Result<C, ConnectError> {
        let mut progress = self.progress.clone();
        let completed =
            progress.wait_for(|progress| matches!(progress, HandshakeProgress::Completed { .. }));
        match completed.await.as_deref() {
            Ok(HandshakeProgress::Completed { client, .. }) => client.clone(),
            // The task of the handshake ended with its runtime.
            _ => Err(ConnectError::RuntimeEnded),
        }
    }
}

/// Whether the server accepts early data, as soon as it has decided. `true` if that remains
/// unknown, so that a call that may have been processed is not repeated.
pub(super) async fn is_early_data_accepted<C>(
    progress: &mut watch::Receiver<HandshakeProgress<C>>,
) -> bool {
    let decided = progress.wait_for(|progress| !matches!(progress, HandshakeProgress::Handshaking));
    match decided.await.as_deref() {
        Ok(
            HandshakeProgress::EarlyDataDecided { accepted }
            | HandshakeProgress::Completed { accepted, .. },
        ) => *accepted,
        Ok(HandshakeProgress::Handshaking) | Err(_) => true,
    }
}
