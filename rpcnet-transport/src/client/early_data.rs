//! Early data (0-RTT): calls that are sent before the handshake completes.

use std::sync::Arc;

use bytes::Bytes;
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};
use tokio_util::task::AbortOnDropHandle;

use super::{
    CallOptions, RpcClient,
    agreements::Agreements,
    call_error::deadline_exceeded,
    call_limits::CallLimits,
    connection_shared::ConnectionShared,
    early_call::{EarlyCall, EarlyOutcome},
    early_handshake::{EarlyHandshake, HandshakeProgress},
    lanes::{LaneLimits, Lanes},
    rpc_client::Inner,
};
use crate::{
    Code, ConnectError, Processed, RpcError, TransportConfig,
    accounts::ConnectionAccount,
    close::{CLOSE_DONE, close_at_once},
    deadline::{is_expired, within},
    dial::{DialTarget, Dialer},
    gauge::Gauge,
    metadata::outgoing_headers,
    method::CalledMethod,
    runtime::{CloseOnRuntimeEnd, RuntimeEnded},
    wire::RequestFlags,
};

/// Calls before the end of the handshake, and the wait for it.
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
        (connection, accepted): (quinn::Connection, quinn::ZeroRttAccepted),
        message_bytes_max: u32,
    ) -> Self {
        let config: &TransportConfig = &dialer.config;
        let (publish, progress) = watch::channel(HandshakeProgress::Handshaking);
        let early_calls = Gauge::default();
        let shared = Arc::new(ConnectionShared::new(&dialer, &target.registered, None));
        // This client has no lanes: the one after the handshake has them.
        let lanes = Lanes::new(
            connection.clone(),
            LaneLimits::default(),
            Arc::clone(&shared),
        );
        let account = dialer.server_accounts.account(target.peer.shared_name());
        let inner = Inner {
            connection: connection.clone(),
            peer: target.peer.clone(),
            write_turns: Arc::default(),
            account: ConnectionAccount::new(account, Some(connection.clone())),
            limits: CallLimits::for_early_data(config, message_bytes_max),
            lanes: Arc::new(lanes),
            shared: Arc::clone(&shared),
            in_flight: Gauge::default(),
            agreements: Agreements::default(),
            layers: config.client_layers.clone(),
            early: Some(EarlyHandshake {
                progress,
                early_calls: early_calls.clone(),
            }),
            _endpoint: None,
        };
        target.registered.set_established(&connection);
        let mut guard = shared.guard(connection);
        let runtime = dialer.runtime.clone();
        runtime.spawn(async move {
            let handshake = HandshakeTask {
                dialer,
                target,
                early_calls,
                publish,
            };
            let complete = handshake.complete(&guard, accepted);
            // The handshake is not needed any more when the client is gone.
            shared.client_dropped.run_until_cancelled(complete).await;
            guard.disarm();
        });
        Self(Arc::new(inner))
    }

    /// Makes a unary call: at once if it may be sent as early data, otherwise after the handshake.
    pub(super) async fn call_early(
        &self,
        early: &EarlyHandshake<Self>,
        method: CalledMethod<'_>,
        body: Bytes,
        mut options: CallOptions,
    ) -> Result<Bytes, RpcError> {
        let now = Instant::now();
        let deadline = options.resolve(now, Some(self.0.limits.call_timeout));
        if is_expired(deadline, now) {
            return Err(deadline_exceeded(false));
        }
        if early.accepts(&options) && outgoing_headers().is_none() {
            let call = self.try_early(early, method, body.clone(), &options, deadline);
            match call.await? {
                EarlyOutcome::Ended(reply) => return reply,
                EarlyOutcome::Rejected => {}
            }
        }
        let client = self.wait_for_handshake(early, deadline).await?;
        // Boxed to break the recursion: the second client has no early data.
        Box::pin(client.call_borrowed(method, &body, options, None)).await
    }

    /// Waits for the client of the completed handshake.
    pub(super) async fn wait_for_handshake(
        &self,
        early: &EarlyHandshake<Self>,
        deadline: Option<Instant>,
    ) -> Result<Self, RpcError> {
        let _in_flight = self.count_call();
        let completed = within(deadline, early.completed());
        let completed = self.0.shared.runtime.in_runtime(completed).await;
        let client = completed
            .map_err(|ended| ended.into_error(Processed::No))?
            .map_err(|_| deadline_exceeded(false))?;
        Ok(client?)
    }

    pub(super) async fn try_early(
        &self,
        early: &EarlyHandshake<Self>,
        method: CalledMethod<'_>,
        body: Bytes,
        options: &CallOptions,
        deadline: Option<Instant>,
    ) -> Result<EarlyOutcome, RpcError> {
        let _in_flight = self.count_call();
        let call = EarlyCall {
            header: self.request_header(method, &body, options, RequestFlags::default())?,
            client: self.clone(),
            progress: early.progress.clone(),
            body,
            deadline,
        };
        // In a task of its own: the handshake waits for all early calls to end, and must not wait
        // for a future that is not polled.
        let runtime = &self.0.shared.runtime;
        let task = runtime.spawn(call.run(early.early_calls.enter().0));
        let task = AbortOnDropHandle::new(task);
        let ended = runtime.in_runtime(within(deadline, task)).await;
        let ended = ended
            .map_err(|ended| ended.into_error(Processed::Maybe))?
            .map_err(|_| deadline_exceeded(true))?;
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

/// Task that completes the handshake of an early client.
struct HandshakeTask {
    dialer: Arc<Dialer>,
    target: DialTarget,
    early_calls: Gauge,
    publish: watch::Sender<HandshakeProgress<RpcClient>>,
}

impl HandshakeTask {
    async fn complete(self, guard: &CloseOnRuntimeEnd, zero_rtt: quinn::ZeroRttAccepted) {
        let Self {
            dialer,
            target,
            early_calls,
            publish,
        } = self;
        let connection = guard.connection();
        let after = dialer.config.connect_timeout;
        let mut accepted = true;
        let established = async {
            let is_accepted = zero_rtt.await;
            if let Some(e) = connection.close_reason() {
                return Err(dialer.connect_error(&target, e));
            }
            accepted = is_accepted;
            publish.send_replace(HandshakeProgress::EarlyDataDecided { accepted });
            if !accepted {
                dialer.counters.early_data_rejected.add_one();
                // QUIC starts to number streams anew, and dropping a rejected stream removes the
                // waker of the new stream of its number. So all rejected ones are dropped first.
                early_calls.wait_for_zero().await;
            }
            dialer.read_hello(&target, connection.clone()).await
        };
        let client = timeout(after, target.or_disconnected(established))
            .await
            .unwrap_or_else(|_| Err(target.timed_out(after)))
            .map(|opened| RpcClient::new(opened, &dialer, None))
            .inspect_err(|_| close_at_once(connection, CLOSE_DONE, b"handshake failed"));
        publish.send_replace(HandshakeProgress::Completed { accepted, client });
    }
}
