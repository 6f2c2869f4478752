//! Dispatch of the streams of a connection: calls and lanes, by the preface.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use quinn::VarInt;
use tokio::time::{Instant, timeout_at};

use super::{caller::Caller, handshake_state::HandshakeState, lane, stream_call};
use crate::{
    accounts::StreamBudget,
    endpoint::EndpointShared,
    outbox::Outbox,
    stream::{RecvHalf, ResetCode, SendHalf},
    wire::{Decoder, PREFACE_BYTES, Preface, StreamKind},
};

/// Reason for which a stream is rejected.
enum StreamRejection {
    BadPreface,
    /// The stream ended, or its connection did.
    Ended,
    HeaderTimeout,
}

/// Serves a stream of the caller in a task of its own.
pub(super) fn spawn_stream(
    shared: &Arc<EndpointShared>,
    caller: &Arc<Caller>,
    (send, recv): (quinn::SendStream, quinn::RecvStream),
    early: Option<HandshakeState>,
) {
    let guard = caller.enter_stream(&shared.config);
    let caller = Arc::clone(caller);
    let serve = serve_stream(Arc::clone(shared), Arc::clone(&caller), send, recv, early);
    shared.served.tasks.spawn(async move {
        let _guard = guard;
        caller.until_aborted(serve).await;
    });
}

async fn serve_stream(
    shared: Arc<EndpointShared>,
    caller: Arc<Caller>,
    send: quinn::SendStream,
    mut recv: quinn::RecvStream,
    early: Option<HandshakeState>,
) {
    let arrived = Instant::now();
    let header_deadline = arrived + shared.config.limits.header_timeout;
    let first = timeout_at(header_deadline, read_preface(&mut recv)).await;
    let counters = &shared.counters;
    let why = match first.unwrap_or(Err(StreamRejection::HeaderTimeout)) {
        Ok((StreamKind::Call, rest)) => {
            let _call = caller.begin_call();
            let mut decoder = Decoder::replies(shared.config.message_bytes_max);
            decoder.push(rest);
            let budget = StreamBudget::charged_to(Arc::clone(&caller.account));
            let send = SendHalf::new(send, Arc::clone(&caller.write_turns));
            let halves = (send, RecvHalf::new(recv, decoder, budget));
            // On the heap, so that the task of a lane has no room for a call, and that no layer of
            // futures around this one copies either.
            let call = stream_call::serve(shared, caller, halves, arrived, early);
            return Box::pin(call).await;
        }
        // Each call is checked for a replay-safe method, which lanes do not do.
        Ok((StreamKind::Lane, _)) if early.is_some() => {
            counters.malformed_frames.add_one();
            ResetCode::Malformed
        }
        Ok((StreamKind::Lane, rest)) => {
            let lanes_max = shared
                .config
                .lanes_max(shared.config.quic.streams_max.get());
            if let Some(_lane) = caller.try_add_lane(lanes_max) {
                let outbox = Outbox::new(send, caller.connection.clone());
                return Box::pin(lane::serve(shared, caller, outbox, recv, rest)).await;
            }
            counters.malformed_frames.add_one();
            ResetCode::Malformed
        }
        Ok(_) | Err(StreamRejection::BadPreface) => {
            counters.bad_prefaces.add_one();
            ResetCode::Malformed
        }
        Err(StreamRejection::Ended) => {
            counters.malformed_frames.add_one();
            ResetCode::Malformed
        }
        Err(StreamRejection::HeaderTimeout) => {
            counters.header_timeouts.add_one();
            ResetCode::HeaderTimeout
        }
    };
    SendHalf::new(send, Arc::clone(&caller.write_turns)).reset(why);
    // Fails only if the stream has ended before.
    let _ = recv.stop(VarInt::from_u32(why as u32));
}

/// Reads a preface, and returns the bytes that came after it.
async fn read_preface(
    recv: &mut quinn::RecvStream,
) -> Result<(StreamKind, Bytes), StreamRejection> {
    let mut preface_bytes = BytesMut::new();
    loop {
        let chunk = recv.read_chunk(usize::MAX, true).await;
        let Ok(Some(chunk)) = chunk else {
            return Err(StreamRejection::Ended);
        };
        let mut rest = chunk.bytes;
        let missing = (PREFACE_BYTES - preface_bytes.len()).min(rest.len());
        preface_bytes.extend_from_slice(&rest.split_to(missing));
        if let Ok(preface) = <[u8; PREFACE_BYTES]>::try_from(&preface_bytes[..]) {
            let preface = Preface::decode(preface).map_err(|_| StreamRejection::BadPreface)?;
            return Ok((preface.kind, rest));
        }
    }
}
