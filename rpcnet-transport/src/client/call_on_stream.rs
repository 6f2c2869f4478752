//! Call on a stream of its own: unary exchange, and the opening of streaming calls.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures::FutureExt;
use tokio::time::Instant;

use super::{
    CallOptions, MinRateReader, RpcClient,
    call_error::{deadline_exceeded, processed_if_sent},
    connection_shared::ConnectionShared,
    reply,
};
use crate::{
    Code, OutgoingCall, Processed, RpcError,
    accounts::StreamBudget,
    deadline::{is_expired, within},
    gauge::GaugeGuard,
    layers::LayerStack,
    metadata::{CallHeaders, OutgoingHeaders, WithCallMetadata, deliver_reply_metadata},
    method::{CalledMethod, TypedCall},
    stream::{
        CallerSide, RecvHalf, SendHalf, SenderContext, UntypedReceiver, UntypedSender,
        WriteFailure, encode_call_head,
    },
    wire::{CallSchema, Decoder, Frame, RequestFlags, RequestHeader},
};

/// Calls on streams of their own.
impl RpcClient {
    /// Unary call on a stream of its own, until its deadline.
    pub(super) async fn call_on_stream(
        &self,
        method: CalledMethod<'_>,
        body: Bytes,
        options: &CallOptions,
        deadline: Option<Instant>,
    ) -> Result<Bytes, RpcError> {
        let mut sent = false;
        let call = async {
            let header = self.request_header(method, &body, options, RequestFlags::default())?;
            self.exchange(header, body, deadline, &mut sent).await
        };
        let ended = self
            .0
            .shared
            .runtime
            .in_runtime(within(deadline, call))
            .await;
        let error = match ended {
            Ok(Ok(ended)) => return ended,
            Ok(Err(_)) => deadline_exceeded(sent),
            Err(ended) => ended.into_error(processed_if_sent(sent)),
        };
        if sent {
            // As on a lane.
            deliver_reply_metadata(None);
        }
        Err(error)
    }

    /// Sends the request and reads the reply. Sets `sent` when the whole request was handed to
    /// QUIC.
    async fn exchange(
        &self,
        header: RequestHeader,
        body: Bytes,
        deadline: Option<Instant>,
        sent: &mut bool,
    ) -> Result<Bytes, RpcError> {
        let headers = self.0.shared.outgoing_headers()?;
        let in_flight = UnaryInFlight::new(self);
        let (mut send, mut recv) = self.open_stream().await?;
        self.send_request(&mut send, header, headers, body, deadline)
            .await?;
        // Before the last packet can leave.
        self.0.shared.record_request();
        send.finish();
        *sent = true;
        let mut reader = MinRateReader::new(self.0.limits.reply_rate, &self.0.shared.runtime);
        let frame = reader.frame(&mut recv).await;
        recv.deliver_metadata();
        match frame {
            Ok(Some(Frame::Reply(header, body))) => {
                recv.record_end();
                self.0.shared.record_reply(header.load, Instant::now());
                in_flight.complete();
                reply::into_result(header, body)
            }
            other => Err(reply::read_error(other, send.index())),
        }
    }

    /// Opens a streaming call. The returned halves keep its deadline.
    pub(super) async fn open_streaming(
        &self,
        method: CalledMethod<'_>,
        body: Bytes,
        flags: RequestFlags,
        mut options: CallOptions,
    ) -> Result<(UntypedSender, UntypedReceiver), RpcError> {
        let now = Instant::now();
        let opened_by = options
            .has_default_time_limit()
            .then(|| now.checked_add(self.0.limits.call_timeout))
            .flatten();
        let deadline = options.resolve(now, None);
        // A streaming call without a deadline still has a time limit for its opening.
        let opened_by = deadline.or(opened_by);
        if let Some(layers) = self.layers_for(&options) {
            let call = (method, body, flags);
            return Box::pin(self.open_in_layers(layers, call, options, opened_by)).await;
        }
        self.open_streaming_by(method, body, flags, options, opened_by)
            .await
    }

    /// Opens a streaming call that passes layers, with resolved options.
    async fn open_in_layers(
        &self,
        layers: &LayerStack<OutgoingCall>,
        (method, body, flags): (CalledMethod<'_>, Bytes, RequestFlags),
        mut options: CallOptions,
        opened_by: Option<Instant>,
    ) -> Result<(UntypedSender, UntypedReceiver), RpcError> {
        let passed = self.pass_layers(layers, method.name, body.len(), &mut options, opened_by);
        let mut layered = passed.await?;
        let headers = layered.call().headers().clone();
        let opened = self.open_streaming_by(method, body, flags, options, opened_by);
        match WithCallMetadata::replaced(opened, headers).await {
            Ok((send, mut recv)) => {
                recv.set_layers(layered);
                Ok((send, recv))
            }
            Err(error) => {
                layered.end_with_reply(Err(&error));
                Err(error)
            }
        }
    }

    /// Opens a streaming call with resolved options, by `opened_by`.
    async fn open_streaming_by(
        &self,
        method: CalledMethod<'_>,
        body: Bytes,
        flags: RequestFlags,
        options: CallOptions,
        opened_by: Option<Instant>,
    ) -> Result<(UntypedSender, UntypedReceiver), RpcError> {
        let now = Instant::now();
        let deadline = options.resolved_deadline();
        if let Some(early) = &self.0.early {
            let client = self.wait_for_handshake(early, opened_by).await;
            let client = client.map_err(|e| self.with_peer_context(e))?;
            return Box::pin(client.open_streaming_by(method, body, flags, options, opened_by))
                .await;
        }
        if let Some(error) = self.fail_fast(now, deadline) {
            return Err(self.with_peer_context(error));
        }
        let in_flight = Arc::new(self.count_streaming_call());
        let beginning = async {
            let header = self.request_header(method, &body, &options, flags)?;
            let headers = self.0.shared.outgoing_headers()?;
            let (mut send, recv) = self.open_stream().await?;
            self.send_request(&mut send, header, headers, body, deadline)
                .await?;
            Ok((send, recv))
        };
        let started = within(opened_by, beginning);
        let started = match self.0.shared.runtime.in_runtime(started).await {
            Ok(started) => started.unwrap_or_else(|_| Err(deadline_exceeded(false))),
            Err(ended) => Err(ended.into_error(Processed::No)),
        };
        let (send, recv) = started.map_err(|e| self.with_peer_context(e))?;
        let index = send.index();
        let recv = UntypedReceiver::for_caller(
            recv,
            self.0.shared.runtime.clone(),
            self.0.peer.clone(),
            deadline,
            CallerSide {
                stream_index: index,
                rate: self.0.limits.reply_rate,
                local_close: self.0.shared.local_close.clone(),
                in_flight: Some(Arc::clone(&in_flight)),
                layered: None,
            },
        );
        let context = SenderContext {
            runtime: self.0.shared.runtime.clone(),
            peer: self.0.peer.clone(),
            message_bytes_max: self.0.limits.request_bytes_max,
            deadline,
        };
        let local_close = self.0.shared.local_close.clone();
        let send = UntypedSender::for_caller(send, context, local_close, in_flight);
        Ok((send, recv))
    }

    pub(super) fn request_header(
        &self,
        method: CalledMethod<'_>,
        body: &Bytes,
        options: &CallOptions,
        flags: RequestFlags,
    ) -> Result<RequestHeader, RpcError> {
        self.0.limits.check_request(method.name, body)?;
        Ok(RequestHeader {
            method: method.name.to_owned(),
            attempt: options.attempt,
            flags: RequestFlags {
                idempotent: options.idempotent,
                ..flags
            },
            priority: options.priority(),
            idempotency_key: options.idempotency_key.map(u128::from_le_bytes),
            schema: self.call_schema(method)?,
            deadline: None,
        })
    }

    /// Schema of a typed call, if the server knows schemas.
    fn call_schema(&self, method: CalledMethod<'_>) -> Result<Option<CallSchema>, RpcError> {
        let schema = method.typed.as_ref().map(TypedCall::schema).transpose()?;
        Ok(schema.filter(|_| self.0.shared.has_schemas))
    }

    /// Asks the server whether it has the same schema of a method or, of a method whose schemas
    /// were compared, whether it can read this request. The handler does not run.
    pub(super) async fn ask_check(
        &self,
        method: CalledMethod<'_>,
        body: Bytes,
        flags: RequestFlags,
        options: &CallOptions,
        deadline: Option<Instant>,
    ) -> Result<(), RpcError> {
        let mut sent = false;
        let call = async {
            let mut header = self.request_header(method, &body, options, flags)?;
            // Without a schema the request would be a call.
            let Some(schema) = &mut header.schema else {
                let message = "the server knows no schemas of types";
                return Err(RpcError::new(Code::Incompatible, Processed::No, message));
            };
            schema.only_checks = true;
            self.exchange(header, body, deadline, &mut sent).await
        };
        // It is no call: it has no metadata.
        let call = WithCallMetadata::without(call);
        let asked = self
            .0
            .shared
            .runtime
            .in_runtime(within(deadline, call))
            .await;
        match asked {
            // Whatever the server has done, no handler ran.
            Ok(Ok(asked)) => asked
                .map(drop)
                .map_err(|error| error.with_processed(Processed::No)),
            Ok(Err(_)) => Err(deadline_exceeded(false)),
            Err(ended) => Err(ended.into_error(Processed::No)),
        }
    }

    pub(super) async fn open_stream(&self) -> Result<(SendHalf, RecvHalf), RpcError> {
        let connection = &self.0.connection;
        let opened = match connection.open_bi().now_or_never() {
            Some(opened) => opened,
            None => {
                let _waits = self.0.shared.count_stream_wait();
                connection.open_bi().await
            }
        };
        let (send, recv) = opened.map_err(reply::lost_before_sending)?;
        let decoder = Decoder::replies(self.0.limits.reply_bytes_max);
        let budget = StreamBudget::charged_to(Arc::clone(&self.0.account));
        let mut recv = RecvHalf::new(recv, decoder, budget);
        // A call may be kept without being polled.
        recv.budget().reserve_in_task(self.0.shared.runtime.clone());
        Ok((SendHalf::new(send, Arc::clone(&self.0.write_turns)), recv))
    }

    async fn send_request(
        &self,
        send: &mut SendHalf,
        header: RequestHeader,
        headers: Option<Arc<OutgoingHeaders>>,
        body: Bytes,
        deadline: Option<Instant>,
    ) -> Result<(), RpcError> {
        let headers = headers.as_ref().map(|outgoing| &outgoing.headers);
        let head = Self::encode_head(header, headers, body.len(), deadline)?;
        match send.write(head, body, None).await {
            // A server that stops a request has replied to it: the reason can be read.
            Ok(()) | Err(WriteFailure::Stopped) => Ok(()),
            Err(WriteFailure::Lost(e)) => Err(reply::lost_before_sending(e)),
            Err(WriteFailure::Stalled | WriteFailure::Closed) => {
                unreachable!("a new stream without a limit on waiting")
            }
        }
    }

    /// Encodes the head of a request with the time that is left when its bytes are sent, so that
    /// waiting for a stream is not counted twice.
    pub(super) fn encode_head(
        mut header: RequestHeader,
        headers: Option<&CallHeaders>,
        body_bytes: usize,
        deadline: Option<Instant>,
    ) -> Result<BytesMut, RpcError> {
        let now = Instant::now();
        if is_expired(deadline, now) {
            return Err(deadline_exceeded(false));
        }
        header.deadline = deadline.map(|at| at.saturating_duration_since(now));
        Ok(encode_call_head(&header, headers, body_bytes))
    }
}

/// Unary call on a stream of its own, counted as in flight. Dropped before the reply is there, its
/// reply is expected no more.
struct UnaryInFlight<'a> {
    shared: &'a ConnectionShared,
    guards: Option<[GaugeGuard; 2]>,
}

impl<'a> UnaryInFlight<'a> {
    fn new(client: &'a RpcClient) -> Self {
        Self {
            shared: &client.0.shared,
            guards: Some(client.count_call()),
        }
    }

    /// Records the reply.
    fn complete(mut self) {
        self.guards = None;
        self.shared.record_replies();
    }
}

impl Drop for UnaryInFlight<'_> {
    fn drop(&mut self) {
        if self.guards.take().is_some() {
            self.shared.record_abandoned_call();
        }
    }
}
