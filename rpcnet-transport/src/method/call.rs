//! Calls of a method over any channel.

use futures::{Stream, TryFutureExt};

use super::{Channel, ErrorType, Method, MethodOptions, Replies, Requests};
use crate::Message;

impl<Req, Reply, E> Method<Req, Reply, E>
where
    Req: Message + Sync,
    Reply: Message + Send,
    E: ErrorType,
{
    /// Calls the method.
    ///
    /// # Errors
    ///
    /// [`CallError`](crate::CallError) of a method with an error of its own, otherwise
    /// [`RpcError`](crate::RpcError).
    pub fn call(
        &self,
        channel: &impl Channel,
        request: &Req,
    ) -> impl Future<Output = Result<Reply, E::ClientError>> + Send {
        self.call_with(channel, request, MethodOptions::new())
    }

    /// Calls the method with options, which go before those of the method.
    ///
    /// # Errors
    ///
    /// As of [`call`](Self::call).
    pub fn call_with(
        &self,
        channel: &impl Channel,
        request: &Req,
        options: MethodOptions,
    ) -> impl Future<Output = Result<Reply, E::ClientError>> + Send {
        // No future of its own: each level costs every call time.
        channel.unary(self, request, options).err_into()
    }
}

impl<Req, T, E> Method<Req, Replies<T>, E>
where
    Req: Message + Sync,
    T: Message + Send,
    E: ErrorType,
{
    /// Calls a method that replies with a stream.
    ///
    /// # Errors
    ///
    /// As of [`call`](Self::call), if the request could not be sent; the failure of the handler
    /// comes with the replies.
    pub async fn call_server_streaming(
        &self,
        channel: &impl Channel,
        request: &Req,
        options: MethodOptions,
    ) -> Result<Replies<T>, E::ClientError> {
        Ok(channel.server_streaming(self, request, options).await?)
    }
}

impl<T, Reply, E> Method<Requests<T>, Reply, E>
where
    T: Message + Send,
    Reply: Message + Send,
    E: ErrorType,
{
    /// Calls a method that replies to a stream of requests.
    ///
    /// # Errors
    ///
    /// As of [`call`](Self::call).
    pub async fn call_client_streaming(
        &self,
        channel: &impl Channel,
        requests: impl Stream<Item = T> + Send + 'static,
        options: MethodOptions,
    ) -> Result<Reply, E::ClientError> {
        Ok(channel.client_streaming(self, requests, options).await?)
    }
}

impl<T, U, E> Method<Requests<T>, Replies<U>, E>
where
    T: Message + Send,
    U: Message + Send,
    E: ErrorType,
{
    /// Calls a method that replies to a stream of requests with a stream. The requests are sent as
    /// the replies are read.
    ///
    /// # Errors
    ///
    /// As of [`call`](Self::call), if the call could not be opened; the failure of the handler
    /// comes with the replies.
    pub async fn call_streaming(
        &self,
        channel: &impl Channel,
        requests: impl Stream<Item = T> + Send + 'static,
        options: MethodOptions,
    ) -> Result<Replies<U>, E::ClientError> {
        Ok(channel
            .bidirectional_streaming(self, requests, options)
            .await?)
    }
}
