//! A connection as a channel of typed calls.

use futures::Stream;

use super::{
    EncodedRequest, RpcClient, method_options::call_options, typed_unary::UnaryMethodCall,
};
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
        UnaryMethodCall::new(self, method.untyped(), request, options)
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
