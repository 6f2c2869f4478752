//! Call methods of the client: unary and streaming, raw and typed.

use bytes::Bytes;
use futures::TryFutureExt;
use tokio::time::Instant;

use super::{
    CallOptions, RpcClient, Upload, reply,
    typed::{decode, encode},
};
use crate::{
    Decode, Encode, IntegerRequest, Receiver, RpcError, Sender, codec::Encoding,
    method::CalledMethod, wire::RequestFlags,
};

/// Unary and streaming calls.
impl RpcClient {
    /// Unary call with bytes. A reply of up to 2 KiB has memory of its own; a larger one shares the
    /// memory of the packets that it came in.
    ///
    /// # Errors
    ///
    /// [`RpcError`], which says what happened and whether the handler has seen the request.
    pub fn call(
        &self,
        method: &str,
        body: impl Into<Bytes>,
    ) -> impl Future<Output = Result<Bytes, RpcError>> {
        self.call_with(method, body, CallOptions::new())
    }

    /// Unary call with bytes and options.
    ///
    /// # Errors
    ///
    /// As for [`call`](Self::call).
    pub fn call_with(
        &self,
        method: &str,
        body: impl Into<Bytes>,
        options: CallOptions,
    ) -> impl Future<Output = Result<Bytes, RpcError>> {
        // No future of its own: each level costs every call time and space.
        let call = self.call_bytes(CalledMethod::untyped(method), body.into(), options);
        call.map_ok(reply::detached)
    }

    /// Like [`call_with`](Self::call_with); the reply may share the memory of the packets that it
    /// came in.
    pub(super) async fn call_bytes(
        &self,
        method: CalledMethod<'_>,
        body: Bytes,
        mut options: CallOptions,
    ) -> Result<Bytes, RpcError> {
        if let Some(layers) = self.layers_for(&options) {
            return Box::pin(self.call_in_layers(layers, method, body, options)).await;
        }
        if let Some(early) = &self.0.early {
            let call = Box::pin(self.call_early(early, method, body, options));
            return call.await.map_err(|e| self.with_peer_context(e));
        }
        let now = Instant::now();
        let deadline = options.resolve(now, Some(self.0.limits.call_timeout));
        let outcome = if let Some(error) = self.fail_fast(now, deadline) {
            Err(error)
        } else if self.fits_lane(&body, &options, now, deadline) {
            self.call_on_lane(method, &body, &options, now, deadline)
                .await
        } else {
            // On the heap, so that the futures of calls on lanes stay small.
            Box::pin(self.call_on_stream(method, body, &options, deadline)).await
        };
        outcome.map_err(|e| self.with_peer_context(e))
    }

    /// Like [`call_with`](Self::call_with), for a body that the caller keeps, as for a retry. A
    /// small body is copied into the lane without touching its reference count.
    ///
    /// # Errors
    ///
    /// As for [`call`](Self::call).
    pub fn call_ref(
        &self,
        method: &str,
        body: &Bytes,
        options: CallOptions,
    ) -> impl Future<Output = Result<Bytes, RpcError>> {
        // No future of its own, as for `call_with`.
        let call = self.call_borrowed(CalledMethod::untyped(method), body, options, None);
        call.map_ok(reply::detached)
    }

    /// Like [`call_ref`](Self::call_ref), for a body that is the integer of this type.
    ///
    /// # Errors
    ///
    /// As for [`call_typed`](Self::call_typed).
    pub fn call_ref_of(
        &self,
        method: &str,
        integer: Option<IntegerRequest>,
        body: &Bytes,
        options: CallOptions,
    ) -> impl Future<Output = Result<Bytes, RpcError>> {
        let method = IntegerRequest::called(integer, method);
        let call = self.call_borrowed(method, body, options, None);
        call.map_ok(reply::detached)
    }

    /// Like [`call_ref`](Self::call_ref); the reply may share the memory of the packets that it
    /// came in. `made_at` is when the call was made, if not now.
    pub(super) async fn call_borrowed(
        &self,
        method: CalledMethod<'_>,
        body: &Bytes,
        mut options: CallOptions,
        made_at: Option<Instant>,
    ) -> Result<Bytes, RpcError> {
        let now = made_at.unwrap_or_else(Instant::now);
        let deadline = options.resolve(now, Some(self.0.limits.call_timeout));
        if self.0.early.is_none()
            && self.layers_for(&options).is_none()
            && self.fits_lane(body, &options, now, deadline)
        {
            let outcome = match self.fail_fast(now, deadline) {
                Some(error) => Err(error),
                None => {
                    self.call_on_lane(method, body, &options, now, deadline)
                        .await
                }
            };
            return outcome.map_err(|e| self.with_peer_context(e));
        }
        Box::pin(self.call_bytes(method, body.clone(), options)).await
    }

    /// Unary call with typed values, encoded with postcard. It is for quick work: nothing checks
    /// that both sides mean the same types, as calls of a [`Method`](crate::Method) do.
    ///
    /// An integer literal is an `i32` unless its type is written, and postcard writes an `i32` as
    /// another number than a `u32`. Where the request is an integer and no more, as in
    /// `call_typed("double", &21)`, a handler of a `u32` rejects it before it runs. Within other
    /// types, as in `call_typed("add", &(21, 2))`, it reads 42 and 4. Replies are not compared: the
    /// caller writes their type, as in `let doubled: u32`.
    ///
    /// # Errors
    ///
    /// As for [`call`](Self::call); [`Code::Internal`](crate::Code::Internal) if a value cannot be
    /// encoded or decoded, and [`Code::Incompatible`](crate::Code::Incompatible) if the method
    /// takes an integer of a type that reads another number.
    pub async fn call_typed<Req, Resp>(&self, method: &str, request: &Req) -> Result<Resp, RpcError>
    where
        Req: Encode + ?Sized,
        Resp: Decode,
    {
        self.call_typed_with(method, request, CallOptions::new())
            .await
    }

    /// Unary call with typed values and options.
    ///
    /// # Errors
    ///
    /// As for [`call_typed`](Self::call_typed).
    pub async fn call_typed_with<Req, Resp>(
        &self,
        method: &str,
        request: &Req,
        options: CallOptions,
    ) -> Result<Resp, RpcError>
    where
        Req: Encode + ?Sized,
        Resp: Decode,
    {
        let body = encode(request).map_err(|e| self.with_peer_context(e))?;
        let method = IntegerRequest::called(IntegerRequest::of::<Req>(), method);
        let call = self.call_bytes(method, body, options);
        let reply = call.await?;
        decode(reply).map_err(|e| self.with_peer_context(e))
    }

    /// Server-streaming call: one request, a stream of replies.
    ///
    /// # Errors
    ///
    /// [`RpcError`] if the request could not be sent; the handler's failure arrives with the
    /// stream.
    pub async fn call_server_streaming<Req, Resp>(
        &self,
        method: &str,
        request: &Req,
    ) -> Result<Receiver<Resp>, RpcError>
    where
        Req: Encode + ?Sized,
        Resp: Decode,
    {
        self.call_server_streaming_with(method, request, CallOptions::new())
            .await
    }

    /// Server-streaming call with options.
    ///
    /// # Errors
    ///
    /// As for [`call_server_streaming`](Self::call_server_streaming).
    pub async fn call_server_streaming_with<Req, Resp>(
        &self,
        method: &str,
        request: &Req,
        options: CallOptions,
    ) -> Result<Receiver<Resp>, RpcError>
    where
        Req: Encode + ?Sized,
        Resp: Decode,
    {
        let body = encode(request).map_err(|e| self.with_peer_context(e))?;
        let call =
            self.open_streaming(CalledMethod::untyped(method), body, SERVER_STREAMS, options);
        let (mut send, recv) = call.await?;
        send.finish();
        Ok(Receiver::new(recv, Encoding::Postcard))
    }

    /// Client-streaming call: a stream of requests, one reply.
    ///
    /// # Errors
    ///
    /// [`RpcError`] if the call could not be opened.
    pub async fn call_client_streaming<Req, Resp>(
        &self,
        method: &str,
    ) -> Result<Upload<Req, Resp>, RpcError>
    where
        Req: Encode,
        Resp: Decode,
    {
        self.call_client_streaming_with(method, CallOptions::new())
            .await
    }

    /// Client-streaming call with options.
    ///
    /// # Errors
    ///
    /// As for [`call_client_streaming`](Self::call_client_streaming).
    pub async fn call_client_streaming_with<Req, Resp>(
        &self,
        method: &str,
        options: CallOptions,
    ) -> Result<Upload<Req, Resp>, RpcError>
    where
        Req: Encode,
        Resp: Decode,
    {
        let call = self.open_streaming(
            CalledMethod::untyped(method),
            Bytes::new(),
            CLIENT_STREAMS,
            options,
        );
        let (send, recv) = call.await?;
        Ok(Upload::new(Sender::new(send, Encoding::Postcard), recv))
    }

    /// Bidirectional streaming call: a stream of requests, a stream of replies.
    ///
    /// # Errors
    ///
    /// [`RpcError`] if the call could not be opened; the handler's failure arrives with the stream.
    pub async fn call_streaming<Req, Resp>(
        &self,
        method: &str,
    ) -> Result<(Sender<Req>, Receiver<Resp>), RpcError>
    where
        Req: Encode,
        Resp: Decode,
    {
        self.call_streaming_with(method, CallOptions::new()).await
    }

    /// Bidirectional streaming call with options.
    ///
    /// # Errors
    ///
    /// As for [`call_streaming`](Self::call_streaming).
    pub async fn call_streaming_with<Req, Resp>(
        &self,
        method: &str,
        options: CallOptions,
    ) -> Result<(Sender<Req>, Receiver<Resp>), RpcError>
    where
        Req: Encode,
        Resp: Decode,
    {
        let call = self.open_streaming(
            CalledMethod::untyped(method),
            Bytes::new(),
            BOTH_STREAM,
            options,
        );
        let (send, recv) = call.await?;
        let encoding = Encoding::Postcard;
        Ok((Sender::new(send, encoding), Receiver::new(recv, encoding)))
    }
}

pub(super) const SERVER_STREAMS: RequestFlags = streaming(false, true);
pub(super) const CLIENT_STREAMS: RequestFlags = streaming(true, false);
pub(super) const BOTH_STREAM: RequestFlags = streaming(true, true);

/// Flags of a call whose requests, whose replies, or both are streams.
const fn streaming(streams_requests: bool, streams_replies: bool) -> RequestFlags {
    RequestFlags {
        streams_requests,
        streams_replies,
        idempotent: false,
    }
}
