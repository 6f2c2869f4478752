//! Operations of an attempt: a unary call, or the opening of a stream.

use std::future::ready;

use bytes::Bytes;
use rpcnet_transport::{
    CallOptions, EncodedReply, EncodedRequest, Encoding, IntegerRequest, OpenedStream, RpcClient,
    RpcError, SmallCallMethod, UntypedMethod,
};

/// Operation of an attempt on a connection. It may run several times, on several connections.
pub(super) trait Operation {
    /// Result of a successful attempt.
    type Reply;

    fn attempt(
        &self,
        client: &RpcClient,
        options: CallOptions,
    ) -> impl Future<Output = Result<Self::Reply, RpcError>>;

    /// The operation as a call that may be sent at once; `None` if it is none.
    fn small_call(&self) -> Option<SmallOperation<'_, Self::Reply>> {
        None
    }

    /// Goes on after a small call has failed: with the same error, unless there is another way to
    /// make it on this connection.
    fn resume(
        &self,
        client: &RpcClient,
        error: RpcError,
        options: CallOptions,
    ) -> impl Future<Output = Result<Self::Reply, RpcError>> {
        let _ = (client, options);
        ready(Err(error))
    }
}

/// Operation that may be sent at once, as a small call.
pub(super) struct SmallOperation<'a, R> {
    pub(super) method: SmallCallMethod<'a>,
    pub(super) body: &'a Bytes,
    /// Makes the result of the reply.
    pub(super) into_reply: fn(Bytes) -> R,
}

/// A unary call.
pub(super) struct UnaryCall<'a> {
    pub(super) method: &'a str,
    /// Type of the request, if it is an integer.
    pub(super) integer: Option<IntegerRequest>,
    pub(super) body: Bytes,
}

impl Operation for UnaryCall<'_> {
    type Reply = Bytes;

    // Not an `async fn`: each future around the one that does it costs a call time and space.
    fn attempt(
        &self,
        client: &RpcClient,
        options: CallOptions,
    ) -> impl Future<Output = Result<Bytes, RpcError>> {
        client.call_ref_of(self.method, self.integer, &self.body, options)
    }

    #[inline]
    fn small_call(&self) -> Option<SmallOperation<'_, Bytes>> {
        Some(SmallOperation {
            method: SmallCallMethod::Named(self.method, self.integer),
            body: &self.body,
            into_reply: |bytes| bytes,
        })
    }
}

/// The opening of a stream, by a function that may be called several times.
pub(super) struct OpenStream<F>(pub(super) F);

impl<F, Fut, T> Operation for OpenStream<F>
where
    F: Fn(RpcClient, CallOptions) -> Fut,
    Fut: Future<Output = Result<T, RpcError>>,
{
    type Reply = T;

    fn attempt(
        &self,
        client: &RpcClient,
        options: CallOptions,
    ) -> impl Future<Output = Result<T, RpcError>> {
        (self.0)(client.clone(), options)
    }
}

/// A unary call of a typed method. It is not generic over the types of the method, so that the
/// attempts of all methods are the same code.
pub(super) struct TypedUnaryCall<'a> {
    pub(super) method: UntypedMethod,
    pub(super) request: EncodedRequest<'a>,
}

impl Operation for TypedUnaryCall<'_> {
    type Reply = EncodedReply;

    fn attempt(
        &self,
        client: &RpcClient,
        options: CallOptions,
    ) -> impl Future<Output = Result<EncodedReply, RpcError>> {
        client.call_encoded(self.method, self.request, options)
    }

    #[inline]
    fn small_call(&self) -> Option<SmallOperation<'_, EncodedReply>> {
        Some(SmallOperation {
            method: SmallCallMethod::Typed(self.method),
            body: self.request.postcard.as_ref().ok()?,
            into_reply: |bytes| EncodedReply {
                encoding: Encoding::Postcard,
                bytes,
            },
        })
    }

    fn resume(
        &self,
        client: &RpcClient,
        error: RpcError,
        options: CallOptions,
    ) -> impl Future<Output = Result<EncodedReply, RpcError>> {
        client.call_encoded_again(self.method, self.request, error, options)
    }
}

/// The opening of a stream of a typed method, without its types. Whether the types of the worker
/// fit is known before the stream is opened.
pub(super) struct OpenTypedStream<'a> {
    pub(super) method: UntypedMethod,
    pub(super) streams: TypedStreams<'a>,
}

/// Streams of a call of a typed method.
pub(super) enum TypedStreams<'a> {
    /// The replies to this request.
    Replies(EncodedRequest<'a>),
    Requests,
    Both,
}

impl Operation for OpenTypedStream<'_> {
    type Reply = OpenedStream;

    async fn attempt(
        &self,
        client: &RpcClient,
        options: CallOptions,
    ) -> Result<OpenedStream, RpcError> {
        let method = self.method;
        match self.streams {
            TypedStreams::Replies(request) => {
                client.open_server_streaming(method, request, options).await
            }
            TypedStreams::Requests => client.open_client_streaming(method, options).await,
            TypedStreams::Both => client.open_bidirectional_streaming(method, options).await,
        }
    }
}
