//! Channel: what typed calls are made over.

use futures::Stream;

use super::{ErrorType, Method, MethodOptions, Replies, Requests};
use crate::{Message, RpcError};

/// Channel of typed calls: a connection ([`RpcClient`](crate::RpcClient)), the workers of a
/// cluster, or a router in this process ([`LocalChannel`](super::LocalChannel)).
///
/// Callers use the calls of [`Method`], or the client of a service. The options here are those that
/// the call gives; the channel adds those of the method.
pub trait Channel: Clone + Send + Sync + 'static {
    /// Unary call.
    ///
    /// # Errors
    ///
    /// [`RpcError`], which says what happened and whether the handler has seen the request.
    fn unary<Req, Reply, E>(
        &self,
        method: &Method<Req, Reply, E>,
        request: &Req,
        options: MethodOptions,
    ) -> impl Future<Output = Result<Reply, RpcError>> + Send
    where
        Req: Message + Sync,
        Reply: Message + Send,
        E: ErrorType;

    /// Server-streaming call: one request, a stream of replies.
    ///
    /// # Errors
    ///
    /// [`RpcError`] if the request could not be sent; the failure of the handler comes with the
    /// replies.
    fn server_streaming<Req, T, E>(
        &self,
        method: &Method<Req, Replies<T>, E>,
        request: &Req,
        options: MethodOptions,
    ) -> impl Future<Output = Result<Replies<T>, RpcError>> + Send
    where
        Req: Message + Sync,
        T: Message + Send,
        E: ErrorType;

    /// Client-streaming call: a stream of requests, one reply.
    ///
    /// # Errors
    ///
    /// As of [`unary`](Self::unary).
    fn client_streaming<T, Reply, E>(
        &self,
        method: &Method<Requests<T>, Reply, E>,
        requests: impl Stream<Item = T> + Send + 'static,
        options: MethodOptions,
    ) -> impl Future<Output = Result<Reply, RpcError>> + Send
    where
        T: Message + Send,
        Reply: Message + Send,
        E: ErrorType;

    /// Bidirectional streaming call: a stream of requests, a stream of replies. The requests are
    /// sent as the replies are read.
    ///
    /// # Errors
    ///
    /// [`RpcError`] if the call could not be opened; the failure of the handler comes with the
    /// replies.
    fn bidirectional_streaming<T, U, E>(
        &self,
        method: &Method<Requests<T>, Replies<U>, E>,
        requests: impl Stream<Item = T> + Send + 'static,
        options: MethodOptions,
    ) -> impl Future<Output = Result<Replies<U>, RpcError>> + Send
    where
        T: Message + Send,
        U: Message + Send,
        E: ErrorType;
}
