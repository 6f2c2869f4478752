//! Operations: what an attempt does on a connection.

use bytes::Bytes;
use rpcnet_transport::{CallOptions, RpcClient, RpcError};

/// What an attempt does on a connection. It may be done several times, on several connections.
pub(super) trait Operation {
    /// What a successful attempt gives.
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
