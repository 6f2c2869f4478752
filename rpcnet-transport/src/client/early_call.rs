//! Call that is sent as early data.

use bytes::Bytes;
use tokio::{sync::watch, time::Instant};

use super::{
    MinRateReader, RpcClient,
    early_handshake::{HandshakeProgress, is_early_data_accepted},
    reply,
};
use crate::{
    Code, RpcError,
    gauge::GaugeGuard,
    stream::{ReadFailure, WriteFailure},
    wire::{Frame, RequestHeader},
};

/// Call that is sent as early data.
pub(super) struct EarlyCall {
    pub(super) client: RpcClient,
    pub(super) progress: watch::Receiver<HandshakeProgress<RpcClient>>,
    pub(super) header: RequestHeader,
    pub(super) body: Bytes,
    pub(super) deadline: Option<Instant>,
}

/// Outcome of an early call.
pub(super) enum EarlyOutcome {
    Ended(Result<Bytes, RpcError>),
    /// The server did not process it, and accepts it after the handshake.
    Rejected,
}

impl EarlyCall {
    /// Makes the call. The guard is dropped after everything that belongs to the stream.
    pub(super) async fn run(self, _guard: GaugeGuard) -> EarlyOutcome {
        let called = self.send_and_receive().await;
        called.unwrap_or_else(|error| EarlyOutcome::Ended(Err(error)))
    }

    async fn send_and_receive(self) -> Result<EarlyOutcome, RpcError> {
        let Self {
            client,
            mut progress,
            header,
            body,
            deadline,
        } = self;
        let opened = tokio::select! {
            biased;
            opened = client.open_stream() => opened,
            // The server accepts fewer streams than it did last time; the calls beyond them wait
            // for the handshake.
            _ = is_early_data_accepted(&mut progress) => return Ok(EarlyOutcome::Rejected),
        };
        let (mut send, mut recv) = opened?;
        if !recv.is_early() {
            // The handshake completed meanwhile, and other calls may still hold streams of this
            // number; see `HandshakeTask::complete`.
            return Ok(EarlyOutcome::Rejected);
        }
        let head = RpcClient::encode_head(header, None, body.len(), deadline)?;
        match send.write(head, body, None).await {
            Ok(()) | Err(WriteFailure::Stopped) => {}
            Err(WriteFailure::Lost(error)) => return Err(reply::lost_before_sending(error)),
            // A new stream is closed only if all early data was rejected.
            Err(WriteFailure::Stalled | WriteFailure::Closed) => {
                return Ok(EarlyOutcome::Rejected);
            }
        }
        send.finish();
        let mut reader = MinRateReader::new(client.0.limits.reply_rate, &client.0.shared.runtime);
        Ok(match reader.frame(&mut recv).await {
            Ok(Some(Frame::Reply(header, body))) => {
                recv.record_end();
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
        })
    }
}
