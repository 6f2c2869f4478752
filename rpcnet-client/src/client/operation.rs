//! Operations of an attempt: a unary call, or the opening of a stream.

use bytes::Bytes;
use rpcnet_transport::{CallOptions, RpcClient, RpcError};

/// Operation of an attempt on a connection. It may run several times, on several connections.
pub(super) trait Operation {
    /// Result of a successful attempt.
    type Reply;

    fn attempt(
        &self,
        client: &RpcClient,
        options: CallOptions,
    ) -> impl Future<Output = Result<Self::Reply, RpcError>>;
}

/// A unary call.
pub(super) struct UnaryCall<'a> {
    pub(super) method: &'a str,
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
        client.call_ref(self.method, &self.body, options)
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
