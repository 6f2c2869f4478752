//! Calls before the end of the handshake.

use std::{net::SocketAddr, sync::Arc};

use bytes::Bytes;
use tokio::{
    sync::watch,
    time::{Instant, timeout, timeout_at},
};
use tokio_util::task::AbortOnDropHandle;

use super::{
    CallOptions, Inner, RatedReader, ReplyRate, RpcClient, answer,
    exchange::{is_over, out_of_time},
    lane::{Lanes, Link},
};
use crate::{
    Code, ConnectError, Endpoint, Processed, RpcError, TransportConfig,
    accounts::{ConnectionAccount, Room},
    closing::{CLOSE_DONE, close_at_once},
    endpoint::{Shared, Target},
    gauge::{Gauge, GaugeGuard},
    runtime::{CloseOnRuntimeEnd, EndpointRuntime, RuntimeEnded},
    stream::{ReadFailure, RecvHalf, SendHalf, Turns, WriteFailure},
    wire::{Decoder, Flags, Frame, RequestHeader},
};

/// What a client has more whose handshake was not over when it was made.
pub(super) struct Early {
    progress: watch::Receiver<Progress>,
    attempts: Gauge,
}

/// How far the handshake is.
#[derive(Debug, Clone)]
enum Progress {
    Begun,
    /// The server has said whether it takes early data; its hello is not here yet.
    Judged {
        taken: bool,
    },
    Over {
        taken: bool,
        client: Result<RpcClient, ConnectError>,
    },
}

/// A call that goes out early.
struct Attempt {
    connection: quinn::Connection,
    progress: watch::Receiver<Progress>,
    header: RequestHeader,
    body: Bytes,
    deadline: Option<Instant>,
    answer_bytes_max: usize,
    room: Room,
    turns: Arc<Turns>,
    reply_rate: ReplyRate,
    runtime: EndpointRuntime,
}

/// What became of an early call.
enum Outcome {
    Ended(Result<Bytes, RpcError>),
    /// The server did not process it and takes it later.
    NotTaken,
}

impl Endpoint {
    /// Connects to a node that this endpoint was connected to before, without waiting for it.
    ///
    /// If there is a [session](TransportConfig::with_session_lifetime) of this node at this address, and the server
    /// [takes early calls](TransportConfig::with_early_data), the client is there at once. Unary calls on it that are
    /// [replay-safe](CallOptions::with_replay_safe) go out with the first packets, each on a stream of its own, and
    /// their replies may be here after one round trip. All other calls wait for the end of the handshake. Calls that the server
    /// does not take early are made again then, within their time; it has not processed them. That the
    /// connection cannot be made is an error of the calls, and of [`RpcClient::confirmed`].
    ///
    /// Otherwise this is [`connect`](Self::connect).
    ///
    /// Nobody but the right server can read early calls, and nobody else can make them; but somebody on the way can
    /// send them again. A session is good for one connection and its server alone has it, so the copy of a first packet that
    /// was taken is not taken again, nor one that is older than the server. But who lets the copy arrive and keeps the
    /// original back until the caller makes the call again has it run twice (RFC 8446 section 8). Hence both sides must
    /// say that a call is replay-safe.
    ///
    /// # Errors
    ///
    /// As of [`connect`](Self::connect).
    pub async fn connect_early(
        &self,
        addr: SocketAddr,
        name: &str,
    ) -> Result<RpcClient, ConnectError> {
        let shared = self.shared();
        let (target, connecting) = shared.dial(addr, name, true)?;
        let Some(request_bytes_max) = target.known.last_limit() else {
            return self.finish_connecting(target, connecting).await;
        };
        match connecting.into_0rtt() {
            Ok((connection, accepted)) => Ok(RpcClient::early(
                shared,
                target,
                connection,
                accepted,
                request_bytes_max,
            )),
            Err(connecting) => self.finish_connecting(target, connecting).await,
        }
    }

    async fn finish_connecting(
        &self,
        target: Target,
        connecting: quinn::Connecting,
    ) -> Result<RpcClient, ConnectError> {
        let shared = self.shared();
        let after = shared.config.connect_timeout;
        let opened = shared.connecting(async {
            let opened = timeout(after, shared.complete(&target, connecting)).await;
            opened.unwrap_or_else(|_| Err(target.timed_out(after)))
        });
        let opened = opened.await?;
        Ok(RpcClient::new(opened, &shared.config, None))
    }
}

/// What a client does before the end of the handshake.
impl RpcClient {
    /// Waits until the handshake is over and the server has said that it takes this client; at once for a client that
    /// [`Endpoint::connect`] made.
    ///
    /// # Errors
    ///
    /// [`ConnectError`] if the connection could not be made.
    pub async fn confirmed(&self) -> Result<(), ConnectError> {
        match &self.0.early {
            Some(early) => early.over().await.map(|_| ()),
            None => Ok(()),
        }
    }

    /// Whether the handshake is over and the server takes this client.
    pub fn is_confirmed(&self) -> bool {
        match &self.0.early {
            Some(early) => early.client().is_some(),
            None => true,
        }
    }

    fn early(
        shared: Arc<Shared>,
        target: Target,
        connection: quinn::Connection,
        accepted: quinn::ZeroRttAccepted,
        request_bytes_max: u32,
    ) -> Self {
        let config: &TransportConfig = &shared.config;
        let (publish, progress) = watch::channel(Progress::Begun);
        let attempts = Gauge::default();
        let outgoing = shared.outgoing.clone();
        let link = Arc::new(Link::new(
            shared.runtime.clone(),
            target.registered.local_end(),
            outgoing.clone(),
            Arc::clone(&shared.busy_poll),
            config.message_bytes_max,
            false,
        ));
        // Lanes are for after the handshake, and so is their client.
        let lanes = Lanes::new(
            connection.clone(),
            0,
            0,
            0,
            config.queue_len,
            Arc::clone(&link),
        );
        let account = shared.server_accounts.of(target.peer.shared_name());
        let inner = Inner {
            connection: connection.clone(),
            peer: target.peer.clone(),
            turns: Arc::default(),
            account: ConnectionAccount::new(account, Some(connection.clone())),
            request_bytes_max: config.message_bytes_max.min(request_bytes_max as usize),
            answer_bytes_max: config.message_bytes_max,
            reply_rate: ReplyRate::of(config),
            call_timeout: config.call_timeout,
            lane_body_bytes_max: config.lane_body_bytes_max,
            lanes: Arc::new(lanes),
            link: Arc::clone(&link),
            in_flight: Gauge::default(),
            outgoing,
            early: Some(Early {
                progress,
                attempts: attempts.clone(),
            }),
            _endpoint: None,
        };
        target.registered.set_made(&connection);
        let mut guard = link.guard(connection);
        let runtime = shared.runtime.clone();
        runtime.spawn(async move {
            let complete = complete(shared, target, &guard, accepted, attempts, publish);
            // The handshake is not needed any more when the client is gone.
            link.unused.run_until_cancelled(complete).await;
            guard.disarm();
        });
        Self(Arc::new(inner))
    }

    /// Makes a unary call: now, if it may go early, or when the handshake is over.
    pub(super) async fn call_early(
        &self,
        early: &Early,
        method: &str,
        body: Bytes,
        mut options: CallOptions,
    ) -> Result<Bytes, RpcError> {
        let now = Instant::now();
        let deadline = options.settle(now, Some(self.0.call_timeout));
        if is_over(deadline, now) {
            return Err(out_of_time(false));
        }
        if options.replay_safe && early.client().is_none() {
            let attempt = self.attempt(early, method, body.clone(), &options, deadline);
            match attempt.await? {
                Outcome::Ended(answer) => return answer,
                Outcome::NotTaken => {}
            }
        }
        let client = self.wait_for(early, deadline).await?;
        // It is a client like any other; so the future has an end.
        Box::pin(client.call_with(method, body, options)).await
    }

    /// Waits for the client to use from the end of the handshake on.
    pub(super) async fn wait_for(
        &self,
        early: &Early,
        deadline: Option<Instant>,
    ) -> Result<Self, RpcError> {
        let _in_flight = self.enter();
        let client = match deadline {
            Some(at) => {
                let over = async { timeout_at(at, early.over()).await };
                let over = self.0.link.runtime.inside(over).await;
                over.map_err(|ended| ended.into_error(Processed::No))?
                    .map_err(|_| out_of_time(false))?
            }
            None => early.over().await,
        };
        Ok(client?)
    }

    async fn attempt(
        &self,
        early: &Early,
        method: &str,
        body: Bytes,
        options: &CallOptions,
        deadline: Option<Instant>,
    ) -> Result<Outcome, RpcError> {
        let _in_flight = self.enter();
        let attempt = Attempt {
            header: self.header(method, &body, options, Flags::default())?,
            connection: self.0.connection.clone(),
            progress: early.progress.clone(),
            body,
            deadline,
            answer_bytes_max: self.0.answer_bytes_max,
            room: Room::of(Arc::clone(&self.0.account)),
            turns: Arc::clone(&self.0.turns),
            reply_rate: self.0.reply_rate,
            runtime: self.0.link.runtime.clone(),
        };
        // In a task, since what waits for all attempts to end must not wait for a future that nobody polls.
        let runtime = &self.0.link.runtime;
        let task = runtime.spawn(attempt.run(early.attempts.enter().0));
        let task = AbortOnDropHandle::new(task);
        let ended = match deadline {
            Some(at) => {
                let ended = runtime.inside(async { timeout_at(at, task).await }).await;
                ended
                    .map_err(|ended| ended.into_error(Processed::Maybe))?
                    .map_err(|_| out_of_time(true))?
            }
            None => task.await,
        };
        Ok(ended.unwrap_or_else(|e| {
            if e.is_cancelled() {
                return Outcome::Ended(Err(RuntimeEnded.into_error(Processed::Maybe)));
            }
            let lost = RpcError::new(
                Code::Internal,
                Processed::Maybe,
                "the task of the call panicked",
            );
            Outcome::Ended(Err(lost.with_source(e)))
        }))
    }
}

impl Early {
    /// The client to use from the end of the handshake on; `None` before.
    pub(super) fn client(&self) -> Option<RpcClient> {
        match &*self.progress.borrow() {
            Progress::Over { client, .. } => client.as_ref().ok().cloned(),
            Progress::Begun | Progress::Judged { .. } => None,
        }
    }

    async fn over(&self) -> Result<RpcClient, ConnectError> {
        let mut progress = self.progress.clone();
        let over = progress.wait_for(|progress| matches!(progress, Progress::Over { .. }));
        match over.await.as_deref() {
            Ok(Progress::Over { client, .. }) => client.clone(),
            // The task that says it went with its runtime.
            _ => Err(ConnectError::RuntimeEnded),
        }
    }
}

impl Attempt {
    /// Makes the call. The guard goes after everything that belongs to the stream.
    async fn run(self, _guard: GaugeGuard) -> Outcome {
        let Self {
            connection,
            mut progress,
            mut header,
            body,
            deadline,
            answer_bytes_max,
            room,
            turns,
            reply_rate,
            runtime,
        } = self;
        let opened = tokio::select! {
            biased;
            opened = connection.open_bi() => opened,
            // More streams than the server took last time: those that are too many wait.
            _ = judged(&mut progress) => return Outcome::NotTaken,
        };
        let (send, recv) = match opened {
            Ok(stream) => stream,
            Err(e) => return Outcome::Ended(Err(answer::lost_before_sending(e))),
        };
        let is_early = recv.is_0rtt();
        let mut send = SendHalf::new(send, turns);
        let mut recv = RecvHalf::new(recv, Decoder::answers(answer_bytes_max), room);
        if !is_early {
            // The handshake ended meanwhile, and others may still hold streams of this number; see `complete`.
            return Outcome::NotTaken;
        }
        let now = Instant::now();
        if is_over(deadline, now) {
            return Outcome::Ended(Err(out_of_time(false)));
        }
        header.deadline = deadline.map(|at| at.saturating_duration_since(now));
        let head = crate::stream::begin_call(&header, body.len());
        match send.write(head, body, None).await {
            Ok(()) | Err(WriteFailure::Stopped) => {}
            Err(WriteFailure::Lost(e)) => {
                return Outcome::Ended(Err(answer::lost_before_sending(e)));
            }
            // A new stream is closed only by the refusal of all early data.
            Err(WriteFailure::Stalled | WriteFailure::Closed) => return Outcome::NotTaken,
        }
        send.finish();
        let mut reader = RatedReader::new(reply_rate, &runtime);
        match reader.frame(&mut recv).await {
            Ok(Some(Frame::Reply(header, body))) => {
                recv.note_end();
                if header.code == Code::TooEarly {
                    Outcome::NotTaken
                } else {
                    Outcome::Ended(answer::of_reply(header, body))
                }
            }
            // That of all early data looks like that of one stream.
            Err(ReadFailure::Cut(_)) if !judged(&mut progress).await => Outcome::NotTaken,
            other => Outcome::Ended(Err(answer::unreadable(other, send.index()))),
        }
    }
}

/// Whether the server takes early data, when it has said so. `true` if there is no knowing, so that nothing that may have
/// been processed is repeated.
async fn judged(progress: &mut watch::Receiver<Progress>) -> bool {
    let judged = progress.wait_for(|progress| !matches!(progress, Progress::Begun));
    match judged.await.as_deref() {
        Ok(Progress::Judged { taken } | Progress::Over { taken, .. }) => *taken,
        Ok(Progress::Begun) | Err(_) => true,
    }
}

/// Sees a handshake to its end.
async fn complete(
    shared: Arc<Shared>,
    target: Target,
    guard: &CloseOnRuntimeEnd,
    accepted: quinn::ZeroRttAccepted,
    attempts: Gauge,
    publish: watch::Sender<Progress>,
) {
    let connection = guard.connection();
    let after = shared.config.connect_timeout;
    let mut taken = true;
    let made = async {
        let accepted = accepted.await;
        if let Some(e) = connection.close_reason() {
            return Err(shared.connect_error(&target, e));
        }
        taken = accepted;
        publish.send_replace(Progress::Judged { taken });
        if !taken {
            shared.counters.early_data_rejected.add_one();
            // QUIC begins to number streams anew, and a stream that was refused takes the waker of a new one of its
            // number with it when it is dropped. So all of them go first.
            attempts.none().await;
        }
        shared.greet(&target, connection.clone()).await
    };
    let client = timeout(after, target.unless_disconnected(made))
        .await
        .unwrap_or_else(|_| Err(target.timed_out(after)))
        .map(|opened| RpcClient::new(opened, &shared.config, None))
        .inspect_err(|_| close_at_once(connection, CLOSE_DONE, b"handshake failed"));
    publish.send_replace(Progress::Over { taken, client });
}
