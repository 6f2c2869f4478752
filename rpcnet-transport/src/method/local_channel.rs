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
    inherited,
    metadata::{HeadersScope, WithCallMetadata, deliver_reply_metadata, outgoing_headers},
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
        // It is a reply like that of a server.
        deliver_reply_metadata(None);
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
        let call = LocalCall {
            cx: local_context(method.name(), encoding, &options),
            encoding,
            deadline,
        };
        let handled = async { serve(call.cx.clone(), input).await };
        let replies = call.serve(handled).await;
        let replies = replies.inspect_err(|_| call.deliver_reply_metadata())?;
        // The deadline is that of the whole stream.
        Ok(futures::stream::unfold(
            Some((replies, call)),
            move |state| async move {
                let (mut replies, call) = state?;
                let next = call.serve(async { replies.next().await.transpose() }).await;
                match next {
                    Ok(Some(reply)) => Some((Ok(reply), Some((replies, call)))),
                    Ok(None) => {
                        call.deliver_reply_metadata();
                        None
                    }
                    Err(error) => {
                        call.deliver_reply_metadata();
                        Some((Err(error), None))
                    }
                }
            },
        ))
    }
}

/// Call that a handler of this process serves.
struct LocalCall {
    cx: CallContext,
    encoding: Encoding,
    deadline: Option<Instant>,
}

impl LocalCall {
    /// Runs a part of the handler as on the network: calls that it makes inherit the deadline and
    /// the priority of this call, and have none of its metadata.
    async fn serve<T>(
        &self,
        handled: impl Future<Output = Result<T, Status>>,
    ) -> Result<T, RpcError> {
        let handled = self.cx.inherited().scope(handled);
        let handled = guarded(WithCallMetadata::without(handled));
        match within(self.deadline, handled).await {
            Ok(handled) => handled.map_err(|status| failed(status, self.encoding)),
            Err(_) => {
                // There is no reply that would have it.
                let _metadata = self.cx.take_reply_headers();
                Err(late())
            }
        }
    }

    /// Hands the metadata of the reply, if it has any, to the future that waits for it.
    fn deliver_reply_metadata(&self) {
        let headers = self.cx.take_reply_headers();
        deliver_reply_metadata(headers.map(|headers| headers.metadata));
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

/// Requests as their caller makes them: calls that the stream makes are those of the caller, though
/// the handler polls it.
fn in_scope_of_caller<T: 'static>(
    requests: impl Stream<Item = T> + Send + 'static,
) -> impl Stream<Item = T> + Send + 'static {
    let (headers, inherited) = (outgoing_headers(), inherited());
    let mut requests = requests.boxed();
    futures::stream::poll_fn(move |cx| {
        let _headers = HeadersScope::enter(headers.clone());
        let _inherited = inherited.enter();
        requests.poll_next_unpin(cx)
    })
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
        let call = LocalCall {
            cx: local_context(method.name(), encoding, &options),
            encoding,
            deadline,
        };
        let handled = async { handler.call(call.cx.clone(), body).await };
        let reply = call.serve(handled).await;
        call.deliver_reply_metadata();
        decode_reply(reply?, encoding)
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
        let input = LocalInput::of(in_scope_of_caller(requests), encoding);
        let replies = self.serve_stream(method, input, options).await?;
        let mut replies = std::pin::pin!(replies.fuse());
        let reply = replies.next().await;
        // The metadata of the reply comes with the end.
        let _end = replies.next().await;
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
        let input = LocalInput::of(in_scope_of_caller(requests), encoding);
        let replies = self.serve_stream(method, input, options).await?;
        Ok(Replies::encoded(replies, encoding))
    }
}

impl fmt::Debug for LocalChannel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LocalChannel").field(&self.router).finish()
    }
}
