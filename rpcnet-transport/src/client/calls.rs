//! The kinds of calls, as a caller makes them.

use bytes::Bytes;
use futures::TryFutureExt;
use tokio::time::Instant;

use super::{CallOptions, RpcClient, Upload, reply};
use crate::{Code, Decode, Encode, Processed, Receiver, RpcError, Sender, wire::RequestFlags};

/// The kinds of calls.
impl RpcClient {
    /// Calls a method with bytes, which get bytes back. A reply of up to 2 KiB has memory of its own; a larger one shares that of the
    /// packets that it came in.
    ///
    /// # Errors
    ///
    /// [`RpcError`] says what happened and whether the handler has seen the request.
    pub fn call(
        &self,
        method: &str,
        body: impl Into<Bytes>,
    ) -> impl Future<Output = Result<Bytes, RpcError>> {
        self.call_with(method, body, CallOptions::new())
    }

    /// Like [`call`](Self::call), with a timeout of its own and more.
    ///
    /// # Errors
    ///
    /// As of [`call`](Self::call).
    pub fn call_with(
        &self,
        method: &str,
        body: impl Into<Bytes>,
        options: CallOptions,
    ) -> impl Future<Output = Result<Bytes, RpcError>> {
        // No future of its own: each costs a call time and space.
        let call = self.call_bytes(method, body.into(), options);
        call.map_ok(reply::detached)
    }

    /// Like [`call_with`](Self::call_with); the reply may share the memory of the packets that it came in.
    async fn call_bytes(
        &self,
        method: &str,
        body: Bytes,
        mut options: CallOptions,
    ) -> Result<Bytes, RpcError> {
        if let Some(early) = &self.0.early {
            let call = Box::pin(self.call_early(early, method, body, options));
            return call.await.map_err(|e| self.with_peer_context(e));
        }
        let now = Instant::now();
        let deadline = options.resolve(now, Some(self.0.call_timeout));
        let outcome = if let Some(refusal) = self.fail_fast(now, deadline) {
            Err(refusal)
        } else if self.fits_lane(&body, &options, now, deadline) {
            self.call_on_lane(method, &body, &options, now, deadline)
                .await
        } else {
            // On the heap, so that the many calls that need none of it are small.
            Box::pin(self.call_on_stream(method, body, &options, deadline)).await
        };
        outcome.map_err(|e| self.with_peer_context(e))
    }

    /// Like [`call_with`](Self::call_with), for a body that is kept, perhaps to call again with it: a small one is not even
    /// counted as shared.
    ///
    /// # Errors
    ///
    /// As of [`call`](Self::call).
    pub async fn call_ref(
        &self,
        method: &str,
        body: &Bytes,
        mut options: CallOptions,
    ) -> Result<Bytes, RpcError> {
        let now = Instant::now();
        let deadline = options.resolve(now, Some(self.0.call_timeout));
        if self.0.early.is_none() && self.fits_lane(body, &options, now, deadline) {
            let outcome = match self.fail_fast(now, deadline) {
                Some(refusal) => Err(refusal),
                None => {
                    self.call_on_lane(method, body, &options, now, deadline)
                        .await
                }
            };
            return outcome
                .map(reply::detached)
                .map_err(|e| self.with_peer_context(e));
        }
        Box::pin(self.call_with(method, body.clone(), options)).await
    }

    /// Calls a method with a value, which gets a value back, both encoded with postcard.
    ///
    /// # Errors
    ///
    /// As of [`call`](Self::call), and [`Code::Internal`] if a value does not encode or decode.
    pub async fn call_typed<Req, Resp>(&self, method: &str, request: &Req) -> Result<Resp, RpcError>
    where
        Req: Encode + ?Sized,
        Resp: Decode,
    {
        self.call_typed_with(method, request, CallOptions::new())
            .await
    }

    /// Like [`call_typed`](Self::call_typed), with a timeout of its own and more.
    ///
    /// # Errors
    ///
    /// As of [`call_typed`](Self::call_typed).
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
        let reply = self.call_bytes(method, body, options).await?;
        decode(reply).map_err(|e| self.with_peer_context(e))
    }

    /// Calls a method that answers one request with a stream.
    ///
    /// # Errors
    ///
    /// [`RpcError`] if the request could not be sent; what the handler says comes with the stream.
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

    /// Like [`call_server_streaming`](Self::call_server_streaming), with a timeout of its own and more.
    ///
    /// # Errors
    ///
    /// As of [`call_server_streaming`](Self::call_server_streaming).
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
        let flags = RequestFlags {
            streams_replies: true,
            ..RequestFlags::default()
        };
        let (mut send, recv) = self.open_streaming(method, body, flags, options).await?;
        send.finish();
        Ok(Receiver::new(recv))
    }

    /// Calls a method that answers a stream with one reply.
    ///
    /// # Errors
    ///
    /// [`RpcError`] if the call could not be begun.
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

    /// Like [`call_client_streaming`](Self::call_client_streaming), with a timeout of its own and more.
    ///
    /// # Errors
    ///
    /// As of [`call_client_streaming`](Self::call_client_streaming).
    pub async fn call_client_streaming_with<Req, Resp>(
        &self,
        method: &str,
        options: CallOptions,
    ) -> Result<Upload<Req, Resp>, RpcError>
    where
        Req: Encode,
        Resp: Decode,
    {
        let flags = RequestFlags {
            streams_requests: true,
            ..RequestFlags::default()
        };
        let (send, recv) = self
            .open_streaming(method, Bytes::new(), flags, options)
            .await?;
        Ok(Upload::new(Sender::new(send), recv))
    }

    /// Calls a method that answers a stream with a stream.
    ///
    /// # Errors
    ///
    /// [`RpcError`] if the call could not be begun; what the handler says comes with the stream.
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

    /// Like [`call_streaming`](Self::call_streaming), with a timeout of its own and more.
    ///
    /// # Errors
    ///
    /// As of [`call_streaming`](Self::call_streaming).
    pub async fn call_streaming_with<Req, Resp>(
        &self,
        method: &str,
        options: CallOptions,
    ) -> Result<(Sender<Req>, Receiver<Resp>), RpcError>
    where
        Req: Encode,
        Resp: Decode,
    {
        let flags = RequestFlags {
            streams_requests: true,
            streams_replies: true,
            ..RequestFlags::default()
        };
        let (send, recv) = self
            .open_streaming(method, Bytes::new(), flags, options)
            .await?;
        Ok((Sender::new(send), Receiver::new(recv)))
    }
}

pub(super) fn encode<Req: Encode + ?Sized>(request: &Req) -> Result<Bytes, RpcError> {
    request.encode().map_err(|e| {
        RpcError::new(
            Code::Internal,
            Processed::No,
            "the request could not be encoded",
        )
        .with_source(e)
    })
}

pub(super) fn decode<Resp: Decode>(reply: Bytes) -> Result<Resp, RpcError> {
    Resp::decode(reply).map_err(|e| {
        RpcError::new(
            Code::Internal,
            Processed::Yes,
            "malformed response: the reply could not be decoded",
        )
        .with_source(e)
    })
}
