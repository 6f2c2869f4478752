//! A connection as a channel of typed calls.

use std::sync::LazyLock;

use futures::Stream;

use super::{CallOptions, EncodedRequest, IdempotencyKeys, RpcClient, typed_unary::TypedUnary};
use crate::{
    Channel, Encode, ErrorType, Message, Method, MethodOptions, Replies, Requests, RpcError,
    codec::Encoding,
};

impl Channel for RpcClient {
    fn unary<Req, Reply, E>(
        &self,
        method: &Method<Req, Reply, E>,
        request: &Req,
        options: MethodOptions,
    ) -> impl Future<Output = Result<Reply, RpcError>>
    where
        Req: Message + Sync,
        Reply: Message + Send,
        E: ErrorType,
    {
        let options = options.or(method.options());
        TypedUnary::new(self, method.untyped(), request, options)
    }

    async fn server_streaming<Req, T, E>(
        &self,
        method: &Method<Req, Replies<T>, E>,
        request: &Req,
        options: MethodOptions,
    ) -> Result<Replies<T>, RpcError>
    where
        Req: Message + Sync,
        T: Message + Send,
        E: ErrorType,
    {
        let postcard = request.encode();
        let request = EncodedRequest {
            postcard: &postcard,
            named: &|| request.encode_as(Encoding::Named),
        };
        let options = call_options(options.or(method.options()));
        let opened = self.open_server_streaming(method.untyped(), request, options);
        Ok(opened.await?.into_replies())
    }

    async fn client_streaming<T, Reply, E>(
        &self,
        method: &Method<Requests<T>, Reply, E>,
        requests: impl Stream<Item = T> + Send + 'static,
        options: MethodOptions,
    ) -> Result<Reply, RpcError>
    where
        T: Message + Send,
        Reply: Message + Send,
        E: ErrorType,
    {
        let options = call_options(options.or(method.options()));
        let opened = self.open_client_streaming(method.untyped(), options);
        opened.await?.send_all(requests).await
    }

    async fn bidirectional_streaming<T, U, E>(
        &self,
        method: &Method<Requests<T>, Replies<U>, E>,
        requests: impl Stream<Item = T> + Send + 'static,
        options: MethodOptions,
    ) -> Result<Replies<U>, RpcError>
    where
        T: Message + Send,
        U: Message + Send,
        E: ErrorType,
    {
        let options = call_options(options.or(method.options()));
        let opened = self.open_bidirectional_streaming(method.untyped(), options);
        Ok(opened.await?.converse(requests))
    }
}

/// Options of one call on one connection, from those of its method.
pub(super) fn call_options(options: MethodOptions) -> CallOptions {
    static KEYS: LazyLock<IdempotencyKeys> = LazyLock::new(IdempotencyKeys::new);
    match options.generated_keys() {
        Some(true) => options.call_options().with_idempotency_key(KEYS.next_key()),
        _ => options.call_options(),
    }
}
