//! Early data (0-RTT): calls that arrive before the end of the handshake.

use std::{pin::pin, sync::Arc};

use quinn::ZeroRttAccepted;
use tokio::time::{Instant, sleep_until};

use super::{caller::Caller, handshake_state::HandshakeState, stream_dispatch::spawn_stream};
use crate::{
    close::{CLOSE_DONE, close_at_once},
    endpoint::EndpointShared,
};

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
    let mut timeout = pin!(sleep_until(deadline));
    let (mut streams_accepted, mut is_disconnected) = (0, false);
    loop {
        tokio::select! {
            biased;
            _ = &mut completed => break,
            () = &mut timeout => {
                let reason = b"handshake timed out";
                close_at_once(&caller.connection, CLOSE_DONE, reason);
                break;
            }
            // The connection is closed once the handshake is over: an earlier close carries no
            // reason.
            () = caller.disconnected(), if !is_disconnected => {
                caller.abort();
                is_disconnected = true;
            }
            stream = caller.connection.accept_bi(), if !is_disconnected => {
                let Ok(stream) = stream else { break };
                streams_accepted += 1;
                let early = stream.1.is_0rtt().then(|| handshake.clone());
                spawn_stream(shared, caller, stream, early);
            }
        }
    }
    handshake.set_completed();
    streams_accepted
}
