//! Early data (0-RTT): calls that arrive before the end of the handshake.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
};

use bytes::Bytes;
use quinn::ZeroRttAccepted;
use tokio::time::{Instant, sleep_until};

use super::{
    request::RequestFailure,
    stream_dispatch::{Caller, spawn_stream},
};
use crate::{
    Code,
    close::{CLOSE_DONE, close_at_once},
    endpoint::EndpointShared,
    wire::RequestHeader,
};

/// Whether the caller has completed its handshake. Until then, data may be a replayed copy.
#[derive(Debug, Clone, Default)]
pub(super) struct HandshakeState(Arc<AtomicBool>);

impl HandshakeState {
    fn set_completed(&self) {
        self.0.store(true, SeqCst);
    }

    /// Admits a call whose method is replay-safe, or whose handshake is complete by now.
    pub(super) fn check_replay_safe(
        &self,
        shared: &EndpointShared,
        request: (RequestHeader, Option<Bytes>),
    ) -> Result<(RequestHeader, Option<Bytes>), RequestFailure> {
        if self.0.load(SeqCst) {
            return Ok(request);
        }
        if shared.router().is_replay_safe(&request.0.method) {
            shared.counters.calls_early.add_one();
            return Ok(request);
        }
        shared.counters.calls_refused_early.add_one();
        let message = "the call came as early data and its method is not declared replay-safe";
        Err(RequestFailure::rejected(Code::TooEarly, message))
    }
}

/// Serves early streams until the handshake is complete, or closes the connection at the deadline.
/// Returns how many streams were accepted.
///
/// QUIC marks a stream as early if it is accepted before that moment, whenever it came. A stream
/// that was still in the queue then is not early, since no replayed handshake ever completes.
pub(super) async fn serve_early_streams(
    shared: &Arc<EndpointShared>,
    caller: &Arc<Caller>,
    completed: ZeroRttAccepted,
    deadline: Instant,
) -> u64 {
    let handshake = HandshakeState::default();
    let mut completed = pin!(completed);
    let mut late = pin!(sleep_until(deadline));
    let (mut streams_taken, mut is_cut) = (0, false);
    loop {
        tokio::select! {
            biased;
            _ = &mut completed => break,
            () = &mut late => {
                let reason = b"handshake timed out";
                close_at_once(&caller.connection, CLOSE_DONE, reason);
                break;
            }
            // The connection is closed once the handshake is over: an earlier close carries no
            // reason.
            () = caller.disconnected(), if !is_cut => {
                caller.abort();
                is_cut = true;
            }
            stream = caller.connection.accept_bi(), if !is_cut => {
                let Ok(stream) = stream else { break };
                streams_taken += 1;
                let early = stream.1.is_0rtt().then(|| handshake.clone());
                spawn_stream(shared, caller, stream, early);
            }
        }
    }
    handshake.set_completed();
    streams_taken
}
