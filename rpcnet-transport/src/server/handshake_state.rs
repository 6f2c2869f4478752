//! State of the handshake of a connection, by which early calls are admitted.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::SeqCst},
};

use super::read_request::{ReceivedRequest, RequestFailure};
use crate::{Code, endpoint::EndpointShared};

/// Whether the caller has completed its handshake. Until then, data may be a replayed copy.
#[derive(Debug, Clone, Default)]
pub(super) struct HandshakeState(Arc<AtomicBool>);

impl HandshakeState {
    pub(super) fn set_completed(&self) {
        self.0.store(true, SeqCst);
    }

    /// Admits a call whose method is replay-safe, or whose handshake is complete by now.
    pub(super) fn check_replay_safe(
        &self,
        shared: &EndpointShared,
        request: ReceivedRequest,
    ) -> Result<ReceivedRequest, RequestFailure> {
        if self.0.load(SeqCst) {
            return Ok(request);
        }
        if shared.router().is_replay_safe(&request.header.method) {
            shared.counters.calls_early.add_one();
            return Ok(request);
        }
        shared.counters.calls_rejected_early.add_one();
        let message = "the call came as early data and its method is not declared replay-safe";
        Err(RequestFailure::rejected(Code::TooEarly, message))
    }
}
