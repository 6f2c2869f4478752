//! Local channel: typed calls of a router in this process, without a network.

use std::{fmt, panic::AssertUnwindSafe, sync::Arc};

use bytes::Bytes;
use futures::{FutureExt, Stream, StreamExt};
use tokio::time::Instant;

use super::{Channel, ErrorType, Method, MethodOptions, Replies, Requests};
use crate::{
    CallContext, CallOptions, Code, Encode, Message, Processed, Router, RpcError, Status,
    client::{decode_reply, encode_error, native_encoding},
    codec::Encoding,
    deadline::within,
    metadata::{WithCallMetadata, deliver_reply_metadata, outgoing_headers},
    server::{CallAttachments, LocalInput},
};

/// Typed calls of a router in this process, without a network, as in unit tests of services and
/// their callers. Messages are encoded and decoded as on the network; deadlines are kept, a handler
/// that panics fails its call. There is no admission, no layer, no retry and no idempotency cache.
#[derive(Clone)]
pub struct LocalChannel {
    router: Arc<Router>,
}

impl LocalChannel {
    /// A channel to the methods of a router.
    #[must_use]
    pub fn new(router: impl Into<Router>) -> Self {
        Self {
            router: Arc::new(router.into()),
        }
    }

    fn unknown_method(name: &str) -> RpcError {
        let message = format!("unknown method {name:?}");
        RpcError::new(Code::Unimplemented, Processed::No, message)
    }

    /// Calls a method that streams. The replies are encoded.
    async fn serve_stream<Req, Reply, E>(
        &self,
        method: &Method<Req, Reply, E>,
        input: LocalInput,
        options: MethodOptions,
    ) -> Result<impl Stream<Item = Result<Bytes, RpcError>> + Send + use<Req, Reply, E>, RpcError>
    {
        let handler = self.router.streaming_handler(method.name());
        let serve = handler.and_then(|handler| handler.serve_locally.clone());
        let serve = serve.ok_or_else(|| Self::unknown_method(method.name()))?;
        let (options, deadline) = resolved(options.or(method.options()));
        let encoding = encoding_of(method);
        let cx = local_context(method.name(), encoding, &options);
        let handled = guarded(WithCallMetadata::without(async { serve(cx, input).await }));
        let replies = match within(deadline, handled).await {
            Ok(handled) => handled.map_err(|status| failed(status, encoding))?,
            Err(_) => return Err(late()),
        };
        // The deadline is that of the whole stream.
        Ok(futures::stream::unfold(
            Some(replies),
            move |replies| async move {
                let mut replies = replies?;
                match within(deadline, guarded(async { Ok(replies.next().await) })).await {
                    Ok(Ok(Some(Ok(reply)))) => Some((Ok(reply), Some(replies))),
                    Ok(Ok(None)) => None,
                    Ok(Ok(Some(Err(status))) | Err(status)) => {
                        Some((Err(failed(status, encoding)), None))
                    }
                    Err(_) => Some((Err(late()), None)),
                }
            },
        ))
    }
}

/// Context of a call with the headers that are set here and now.
fn local_context(method: &str, encoding: Encoding, options: &CallOptions) -> CallContext {
    let attachments = outgoing_headers().map(|outgoing| {
        let headers = outgoing.headers.clone();
        Arc::new(CallAttachments::new(headers))
    });
    CallContext::local(method, encoding, options, attachments)
}

/// The options with their deadline, as for calls on the network.
fn resolved(options: MethodOptions) -> (CallOptions, Option<Instant>) {
    let mut options = options.call_options();
    let deadline = options.resolve(Instant::now(), None);
    (options, deadline)
}

fn late() -> RpcError {
    let message = "deadline exceeded before the reply arrived";
    RpcError::new(Code::DeadlineExceeded, Processed::Maybe, message)
}

/// The result of a handler, which may panic.
async fn guarded<T>(handled: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
    let handled = AssertUnwindSafe(handled).catch_unwind().await;
    handled.unwrap_or_else(|_| Err(crate::server::handler_panicked()))
}

fn encoded<T: Message>(message: &T, encoding: Encoding) -> Result<Bytes, RpcError> {
    message.encode_as(encoding).map_err(encode_error)
}

fn encoding_of<Req, Reply, E>(method: &Method<Req, Reply, E>) -> Encoding {
    native_encoding(method.schema())
}

fn failed(status: Status, encoding: Encoding) -> RpcError {
    RpcError::of_status(status).with_details_encoding(encoding)
}

impl Channel for LocalChannel {
    async fn unary<Req, Reply, E>(
        &self,
        method: &Method<Req, Reply, E>,
        request: &Req,
        options: MethodOptions,
    ) -> Result<Reply, RpcError>
    where
        Req: Message + Sync,
        Reply: Message + Send,
        E: ErrorType,
    {
        let encoding = encoding_of(method);
        let body = encoded(request, encoding)?;
        let handler = self.router.unary_handler(method.name());
        let handler = handler.ok_or_else(|| Self::unknown_method(method.name()))?;
        let (options, deadline) = resolved(options.or(method.options()));
        let cx = local_context(method.name(), encoding, &options);
        let inherited = cx.inherited();
        let called = async { handler.call(cx.clone(), body).await };
        let handled = guarded(WithCallMetadata::without(inherited.scope(called)));
        let ended = within(deadline, handled).await;
        let headers = cx.take_reply_headers();
        deliver_reply_metadata(headers.map(|headers| headers.metadata));
        match ended {
            Ok(Ok(reply)) => decode_reply(reply, encoding),
            Ok(Err(status)) => Err(failed(status, encoding)),
            Err(_) => Err(late()),
        }
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
        let encoding = encoding_of(method);
        let input = LocalInput::Request(encoded(request, encoding)?);
        let replies = self.serve_stream(method, input, options).await?;
        Ok(Replies::encoded(replies, encoding))
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
        let encoding = encoding_of(method);
        let input = LocalInput::of(requests, encoding);
        let replies = self.serve_stream(method, input, options).await?;
        let reply = std::pin::pin!(replies).next().await;
        let reply = reply.unwrap_or_else(|| Err(Self::unknown_method(method.name())))?;
        decode_reply(reply, encoding)
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
        let encoding = encoding_of(method);
        let input = LocalInput::of(requests, encoding);
        let replies = self.serve_stream(method, input, options).await?;
        Ok(Replies::encoded(replies, encoding))
    }
}

impl fmt::Debug for LocalChannel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LocalChannel").field(&self.router).finish()
    }
}
