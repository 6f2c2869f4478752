//! Early data (0-RTT): calls that are sent before the handshake completes.

use std::sync::Arc;

use bytes::Bytes;
use tokio::{
    sync::watch,
    time::{Instant, timeout, timeout_at},
};
use tokio_util::task::AbortOnDropHandle;

use super::{
    CallOptions, Inner, MinRateReader, MinReplyRate, RpcClient,
    lane::{ConnectionShared, Lanes},
    on_stream::{deadline_exceeded, is_expired},
    reply,
};
use crate::{
    Code, ConnectError, Processed, RpcError, TransportConfig,
    accounts::{ConnectionAccount, StreamBudget},
    close::{CLOSE_DONE, close_at_once},
    dial::{DialTarget, Dialer},
    gauge::{Gauge, GaugeGuard},
    runtime::{CloseOnRuntimeEnd, EndpointRuntime, RuntimeEnded},
    stream::{ReadFailure, RecvHalf, SendHalf, WriteFailure, WriteTurns},
    wire::{Decoder, Frame, RequestFlags, RequestHeader},
};

/// Additional state of a client that was returned before its handshake completed.
pub(super) struct EarlyHandshake {
    progress: watch::Receiver<HandshakeProgress>,
    early_calls: Gauge,
}

/// Progress of the handshake.
#[derive(Debug, Clone)]
enum HandshakeProgress {
    Handshaking,
    /// The server has accepted or rejected the early data; its hello has not arrived.
    EarlyDataDecided {
        taken: bool,
    },
    Completed {
        taken: bool,
        client: Result<RpcClient, ConnectError>,
    },
}

/// Call that is sent as early data.
struct EarlyCall {
    connection: quinn::Connection,
    progress: watch::Receiver<HandshakeProgress>,
    header: RequestHeader,
    body: Bytes,
    deadline: Option<Instant>,
    answer_bytes_max: usize,
    budget: StreamBudget,
    turns: Arc<WriteTurns>,
    reply_rate: MinReplyRate,
    runtime: EndpointRuntime,
}

/// Outcome of an early call.
enum EarlyOutcome {
    Ended(Result<Bytes, RpcError>),
    /// The server did not process it, and accepts it after the handshake.
    Rejected,
}

/// Calls and waits before the end of the handshake.
impl RpcClient {
    /// Waits until the handshake is complete and the server has accepted this client; returns at
    /// once for a client of [`Endpoint::connect`](crate::Endpoint::connect).
    ///
    /// # Errors
    ///
    /// [`ConnectError`] if the connection could not be established.
    pub async fn confirmed(&self) -> Result<(), ConnectError> {
        match &self.0.early {
            Some(early) => early.completed().await.map(|_| ()),
            None => Ok(()),
        }
    }

    /// Whether the handshake is complete and the server has accepted this client.
    #[must_use]
    pub fn is_confirmed(&self) -> bool {
        match &self.0.early {
            Some(early) => early.client().is_some(),
            None => true,
        }
    }

    pub(crate) fn new_early(
        dialer: Arc<Dialer>,
        target: DialTarget,
        connection: quinn::Connection,
        accepted: quinn::ZeroRttAccepted,
        request_bytes_max: u32,
    ) -> Self {
        let config: &TransportConfig = &dialer.config;
        let (publish, progress) = watch::channel(HandshakeProgress::Handshaking);
        let attempts = Gauge::default();
        let outgoing = dialer.outgoing.clone();
        let link = Arc::new(ConnectionShared::new(
            dialer.runtime.clone(),
            target.registered.local_close(),
            outgoing.clone(),
            Arc::clone(&dialer.busy_poll),
            config.message_bytes_max,
            false,
        ));
        // This client has no lanes: the one after the handshake has them.
        let lanes = Lanes::new(
            connection.clone(),
            0,
            0,
            0,
            config.lane.queue_len_max,
            Arc::clone(&link),
        );
        let account = dialer.server_accounts.account(target.peer.shared_name());
        let inner = Inner {
            connection: connection.clone(),
            peer: target.peer.clone(),
            write_turns: Arc::default(),
            account: ConnectionAccount::new(account, Some(connection.clone())),
            request_bytes_max: config.message_bytes_max.min(request_bytes_max as usize),
            reply_bytes_max: config.message_bytes_max,
            reply_rate: MinReplyRate::of(config),
            call_timeout: config.call_timeout,
            lane_body_bytes_max: config.lane.lane_body_bytes_max,
            lanes: Arc::new(lanes),
            shared: Arc::clone(&link),
            in_flight: Gauge::default(),
            outgoing,
            early: Some(EarlyHandshake {
                progress,
                early_calls: attempts.clone(),
            }),
            _endpoint: None,
        };
        target.registered.set_established(&connection);
        let mut guard = link.guard(connection);
        let runtime = dialer.runtime.clone();
        runtime.spawn(async move {
            let complete = complete_handshake(dialer, target, &guard, accepted, attempts, publish);
            // The handshake is not needed any more when the client is gone.
            link.client_dropped.run_until_cancelled(complete).await;
            guard.disarm();
        });
        Self(Arc::new(inner))
    }

    /// Makes a unary call: at once if it may be sent as early data, otherwise after the handshake.
    pub(super) async fn call_early(
        &self,
        early: &EarlyHandshake,
        method: &str,
        body: Bytes,
        mut options: CallOptions,
    ) -> Result<Bytes, RpcError> {
        let now = Instant::now();
        let deadline = options.resolve(now, Some(self.0.call_timeout));
        if is_expired(deadline, now) {
            return Err(deadline_exceeded(false));
        }
        if options.replay_safe && early.client().is_none() {
            let attempt = self.try_early(early, method, body.clone(), &options, deadline);
            match attempt.await? {
                EarlyOutcome::Ended(answer) => return answer,
                EarlyOutcome::Rejected => {}
            }
        }
        let client = self.wait_for_handshake(early, deadline).await?;
        // Boxed to break the recursion: the second client has no early data.
        Box::pin(client.call_with(method, body, options)).await
    }

    /// Waits for the client of the completed handshake.
    pub(super) async fn wait_for_handshake(
        &self,
        early: &EarlyHandshake,
        deadline: Option<Instant>,
    ) -> Result<Self, RpcError> {
        let _in_flight = self.count_call();
        let client = match deadline {
            Some(at) => {
                let over = async { timeout_at(at, early.completed()).await };
                let over = self.0.shared.runtime.in_runtime(over).await;
                over.map_err(|ended| ended.into_error(Processed::No))?
                    .map_err(|_| deadline_exceeded(false))?
            }
            None => early.completed().await,
        };
        Ok(client?)
    }

    async fn try_early(
        &self,
        early: &EarlyHandshake,
        method: &str,
        body: Bytes,
        options: &CallOptions,
        deadline: Option<Instant>,
    ) -> Result<EarlyOutcome, RpcError> {
        let _in_flight = self.count_call();
        let attempt = EarlyCall {
            header: self.request_header(method, &body, options, RequestFlags::default())?,
            connection: self.0.connection.clone(),
            progress: early.progress.clone(),
            body,
            deadline,
            answer_bytes_max: self.0.reply_bytes_max,
            budget: StreamBudget::charged_to(Arc::clone(&self.0.account)),
            turns: Arc::clone(&self.0.write_turns),
            reply_rate: self.0.reply_rate,
            runtime: self.0.shared.runtime.clone(),
        };
        // In a task of its own: the handshake waits for all early calls to end, and must not wait
        // for a future that is not polled.
        let runtime = &self.0.shared.runtime;
        let task = runtime.spawn(attempt.run(early.early_calls.enter().0));
        let task = AbortOnDropHandle::new(task);
        let ended = match deadline {
            Some(at) => {
                let ended = runtime
                    .in_runtime(async { timeout_at(at, task).await })
                    .await;
                ended
                    .map_err(|ended| ended.into_error(Processed::Maybe))?
                    .map_err(|_| deadline_exceeded(true))?
            }
            None => task.await,
        };
        Ok(ended.unwrap_or_else(|e| {
            if e.is_cancelled() {
                return EarlyOutcome::Ended(Err(RuntimeEnded.into_error(Processed::Maybe)));
            }
            let lost = RpcError::new(
                Code::Internal,
                Processed::Maybe,
                "the task of the call panicked",
            );
            EarlyOutcome::Ended(Err(lost.with_source(e)))
        }))
    }
}

impl EarlyHandshake {
    /// Client of the completed handshake; `None` before.
    pub(super) fn client(&self) -> Option<RpcClient> {
        match &*self.progress.borrow() {
            HandshakeProgress::Completed { client, .. } => client.as_ref().ok().cloned(),
            HandshakeProgress::Handshaking | HandshakeProgress::EarlyDataDecided { .. } => None,
        }
    }

    async fn completed(&self) -> Result<RpcClient, ConnectError> {
        let mut progress = self.progress.clone();
        let over =
            progress.wait_for(|progress| matches!(progress, HandshakeProgress::Completed { .. }));
        match over.await.as_deref() {
            Ok(HandshakeProgress::Completed { client, .. }) => client.clone(),
            // The task of the handshake ended with its runtime.
            _ => Err(ConnectError::RuntimeEnded),
        }
    }
}

impl EarlyCall {
    /// Makes the call. The guard is dropped after everything that belongs to the stream.
    async fn run(self, _guard: GaugeGuard) -> EarlyOutcome {
        let Self {
            connection,
            mut progress,
            mut header,
            body,
            deadline,
            answer_bytes_max,
            budget: room,
            turns,
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
        let mut send = SendHalf::new(send, turns);
        let mut recv = RecvHalf::new(recv, Decoder::replies(answer_bytes_max), room);
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

/// Whether the server accepts early data, as soon as it has decided. `true` if that remains
/// unknown, so that a call that may have been processed is not repeated.
async fn is_early_data_accepted(progress: &mut watch::Receiver<HandshakeProgress>) -> bool {
    let judged = progress.wait_for(|progress| !matches!(progress, HandshakeProgress::Handshaking));
    match judged.await.as_deref() {
        Ok(
            HandshakeProgress::EarlyDataDecided { taken }
            | HandshakeProgress::Completed { taken, .. },
        ) => *taken,
        Ok(HandshakeProgress::Handshaking) | Err(_) => true,
    }
}

/// Completes the handshake of an early client.
async fn complete_handshake(
    dialer: Arc<Dialer>,
    target: DialTarget,
    guard: &CloseOnRuntimeEnd,
    accepted: quinn::ZeroRttAccepted,
    attempts: Gauge,
    publish: watch::Sender<HandshakeProgress>,
) {
    let connection = guard.connection();
    let after = dialer.config.connect_timeout;
    let mut taken = true;
    let made = async {
        let accepted = accepted.await;
        if let Some(e) = connection.close_reason() {
            return Err(dialer.connect_error(&target, e));
        }
        taken = accepted;
        publish.send_replace(HandshakeProgress::EarlyDataDecided { taken });
        if !taken {
            dialer.counters.early_data_rejected.add_one();
            // QUIC starts to number streams anew, and dropping a rejected stream removes the waker
            // of the new stream of its number. So all rejected ones are dropped first.
            attempts.wait_for_zero().await;
        }
        dialer.read_hello(&target, connection.clone()).await
    };
    let client = timeout(after, target.or_disconnected(made))
        .await
        .unwrap_or_else(|_| Err(target.timed_out(after)))
        .map(|opened| RpcClient::new(opened, &dialer.config, None))
        .inspect_err(|_| close_at_once(connection, CLOSE_DONE, b"handshake failed"));
    publish.send_replace(HandshakeProgress::Completed { taken, client });
}
