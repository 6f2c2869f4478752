//! Call that is sent as early data.

use std::sync::Arc;

use bytes::Bytes;
use tokio::{sync::watch, time::Instant};

use super::{
    MinRateReader, MinReplyRate,
    call_error::deadline_exceeded,
    early_handshake::{HandshakeProgress, is_early_data_accepted},
    reply,
};
use crate::{
    Code, RpcError,
    accounts::StreamBudget,
    deadline::is_expired,
    gauge::GaugeGuard,
    runtime::EndpointRuntime,
    stream::{ReadFailure, RecvHalf, SendHalf, WriteFailure, WriteTurns},
    wire::{Decoder, Frame, RequestHeader},
};

/// Call that is sent as early data.
pub(super) struct EarlyCall<C> {
    pub(super) connection: quinn::Connection,
    pub(super) progress: watch::Receiver<HandshakeProgress<C>>,
    pub(super) header: RequestHeader,
    pub(super) body: Bytes,
    pub(super) deadline: Option<Instant>,
    pub(super) reply_bytes_max: usize,
    pub(super) budget: StreamBudget,
    pub(super) write_turns: Arc<WriteTurns>,
    pub(super) reply_rate: MinReplyRate,
    pub(super) runtime: EndpointRuntime,
}

/// Outcome of an early call.
pub(super) enum EarlyOutcome {
    Ended(Result<Bytes, RpcError>),
    /// The server did not process it, and accepts it after the handshake.
    Rejected,
}

impl<C> EarlyCall<C> {
    /// Makes the call. The guard is dropped after everything that belongs to the stream.
    pub(super) async fn run(self, _guard: GaugeGuard) -> EarlyOutcome {
        let Self {
            connection,
            mut progress,
            mut header,
            body,
            deadline,
            reply_bytes_max,
            budget,
            write_turns,
            reply_rate,
            runtime,
        } = self;
        let opened = tokio::select! {
            biased;
            opened = connection.open_bi() => opened,
            // The server accepts fewer streams than it did last time; the calls beyond them wait
            // for the handshake.
            _ = is_early_data_accepted(&mut progress) => return EarlyOutcome::Rejected,
        };
        let (send, recv) = match opened {
            Ok(stream) => stream,
            Err(e) => return EarlyOutcome::Ended(Err(reply::lost_before_sending(e))),
        };
        let is_early = recv.is_0rtt();
        let mut send = SendHalf::new(send, write_turns);
        let mut recv = RecvHalf::new(recv, Decoder::replies(reply_bytes_max), budget);
        if !is_early {
            // The handshake completed meanwhile, and other calls may still hold streams of this
            // number; see `complete_handshake`.
            return EarlyOutcome::Rejected;
        }
        let now = Instant::now();
        if is_expired(deadline, now) {
            return EarlyOutcome::Ended(Err(deadline_exceeded(false)));
        }
        header.deadline = deadline.map(|at| at.saturating_duration_since(now));
        let head = crate::stream::encode_call_head(&header, body.len());
        match send.write(head, body, None).await {
            Ok(()) | Err(WriteFailure::Stopped) => {}
            Err(WriteFailure::Lost(e)) => {
                return EarlyOutcome::Ended(Err(reply::lost_before_sending(e)));
            }
            // A new stream is closed only if all early data was rejected.
            Err(WriteFailure::Stalled | WriteFailure::Closed) => return EarlyOutcome::Rejected,
        }
        send.finish();
        let mut reader = MinRateReader::new(reply_rate, &runtime);
        match reader.frame(&mut recv).await {
            Ok(Some(Frame::Reply(header, body))) => {
                recv.note_end();
                if header.code == Code::TooEarly {
                    EarlyOutcome::Rejected
                } else {
                    EarlyOutcome::Ended(reply::into_result(header, body))
                }
            }
            // The rejection of all early data looks like a reset of one stream.
            Err(ReadFailure::Reset(_)) if !is_early_data_accepted(&mut progress).await => {
                EarlyOutcome::Rejected
            }
            other => EarlyOutcome::Ended(Err(reply::read_error(other, send.index()))),
        }
    }
}
