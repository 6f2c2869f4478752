//! Typed methods of a router: handlers by the types of a [`Method`].

use std::sync::Arc;

use bytes::Bytes;
use futures::{Stream, StreamExt, future::BoxFuture, stream};

use super::{
    CallContext, Router,
    call_type::CallType,
    handler::{Handler, HandlerInput, LocalInput, LocalReplies, StreamingMethod, UnaryMethod},
    handler_result::{HandlerResult, MethodReply, encode_reply},
};
use crate::{
    Decode, ErrorType, Message, Method, MethodOptions, Replies, Requests, Sender, Status,
    codec::Encoding, layers::HandlerLayers, method::StreamError,
};

/// Typed methods. Their callers may have other versions of the types, as long as serde reads what
/// they write: see [`schema`](crate::schema).
impl Router {
    /// Adds a typed method. The handler returns the reply, or a `Result` of it and the error of the
    /// method.
    ///
    /// # Panics
    ///
    /// Those of [`raw`](Self::raw).
    #[must_use]
    #[track_caller]
    pub fn method<Req, Reply, E, Fut, By, F>(
        self,
        method: Method<Req, Reply, E>,
        handler: F,
    ) -> Self
    where
        F: Fn(Req) -> Fut + Send + Sync + 'static,
        Fut: Future + Send + 'static,
        Fut::Output: MethodReply<Reply, E, By>,
        Req: Message,
        Reply: Message,
        E: ErrorType,
    {
        self.method_with(method, move |_, request| handler(request))
    }

    /// Adds a typed method like [`method`](Self::method), whose handler also takes the context of
    /// the call.
    ///
    /// # Panics
    ///
    /// Those of [`raw`](Self::raw).
    #[must_use]
    #[track_caller]
    pub fn method_with<Req, Reply, E, Fut, By, F>(
        self,
        method: Method<Req, Reply, E>,
        handler: F,
    ) -> Self
    where
        F: Fn(CallContext, Req) -> Fut + Send + Sync + 'static,
        Fut: Future + Send + 'static,
        Fut::Output: MethodReply<Reply, E, By>,
        Req: Message,
        Reply: Message,
        E: ErrorType,
    {
        let mut router = self.add_unary(method.name(), move |cx, body, started| {
            let encoding = cx.encoding();
            match decode::<Req>(body, encoding) {
                Ok(request) => {
                    let reply = handler(cx, request);
                    started.set(async move { reply.await.into_reply(encoding) });
                }
                Err(status) => started.set(std::future::ready(Err(status))),
            }
        });
        if let Some(Handler::Unary(unary)) = router.handlers.get_mut(method.name()) {
            unary.schema = Some(method.schema());
        }
        router.with_options_of(method.name(), method.options())
    }

    /// Adds a typed method that replies to one request with a stream.
    ///
    /// # Panics
    ///
    /// Those of [`raw`](Self::raw).
    #[must_use]
    #[track_caller]
    pub fn server_streaming_method<Req, T, E, Fut, F>(
        self,
        method: Method<Req, Replies<T>, E>,
        handler: F,
    ) -> Self
    where
        F: Fn(CallContext, Req) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Replies<T>, E>> + Send + 'static,
        Req: Message + Send,
        T: Message + Send,
        E: ErrorType,
    {
        let handler = Arc::new(handler);
        let local = Arc::clone(&handler);
        let serve = move |cx, mut input: HandlerInput| -> BoxFuture<'static, HandlerResult> {
            let handler = Arc::clone(&handler);
            Box::pin(async move {
                let encoding = input.encoding;
                let replies = input.sender();
                let request = decode(input.body, encoding)?;
                let handled = handler(cx, request).await;
                send_replies(handled, replies, encoding).await
            })
        };
        let serve_locally = move |cx: CallContext, input| -> BoxFuture<'static, _> {
            let handler = Arc::clone(&local);
            Box::pin(async move {
                let encoding = cx.encoding();
                let request = decode(local_request(input)?, encoding)?;
                local_replies(handler(cx, request).await, encoding)
            })
        };
        let mut router =
            self.add_typed_stream(&method, CallType::ServerStreaming, serve, serve_locally);
        if let Some(Handler::Streaming(streaming)) = router.handlers.get_mut(method.name()) {
            streaming.check_request =
                Some(|body, encoding| decode::<Req>(body, encoding).map(drop));
        }
        router
    }

    /// Adds a typed method that replies to a stream of requests.
    ///
    /// # Panics
    ///
    /// Those of [`raw`](Self::raw).
    #[must_use]
    #[track_caller]
    pub fn client_streaming_method<T, Reply, E, Fut, By, F>(
        self,
        method: Method<Requests<T>, Reply, E>,
        handler: F,
    ) -> Self
    where
        F: Fn(CallContext, Requests<T>) -> Fut + Send + Sync + 'static,
        Fut: Future + Send + 'static,
        Fut::Output: MethodReply<Reply, E, By>,
        T: Message + Send,
        Reply: Message,
        E: ErrorType,
    {
        let handler = Arc::new(handler);
        let local = Arc::clone(&handler);
        let serve = move |cx, mut input: HandlerInput| -> BoxFuture<'static, HandlerResult> {
            let encoding = input.encoding;
            let handled = handler(cx, Requests::remote(input.receiver()));
            Box::pin(async move { handled.await.into_reply(encoding) })
        };
        let serve_locally = move |cx: CallContext, input| -> BoxFuture<'static, _> {
            let handler = Arc::clone(&local);
            Box::pin(async move {
                let encoding = cx.encoding();
                let handled = handler(cx, local_requests(input, encoding)?).await;
                let reply = handled.into_reply(encoding)?;
                Ok(stream::once(std::future::ready(Ok(reply))).boxed())
            })
        };
        self.add_typed_stream(&method, CallType::ClientStreaming, serve, serve_locally)
    }

    /// Adds a typed method that replies to a stream of requests with a stream.
    ///
    /// # Panics
    ///
    /// Those of [`raw`](Self::raw).
    #[must_use]
    #[track_caller]
    pub fn streaming_method<T, U, E, Fut, F>(
        self,
        method: Method<Requests<T>, Replies<U>, E>,
        handler: F,
    ) -> Self
    where
        F: Fn(CallContext, Requests<T>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Replies<U>, E>> + Send + 'static,
        T: Message + Send,
        U: Message + Send,
        E: ErrorType,
    {
        let handler = Arc::new(handler);
        let local = Arc::clone(&handler);
        let serve = move |cx, mut input: HandlerInput| -> BoxFuture<'static, HandlerResult> {
            let encoding = input.encoding;
            let replies = input.sender();
            let handled = handler(cx, Requests::remote(input.receiver()));
            Box::pin(async move { send_replies(handled.await, replies, encoding).await })
        };
        let serve_locally = move |cx: CallContext, input| -> BoxFuture<'static, _> {
            let handler = Arc::clone(&local);
            Box::pin(async move {
                let encoding = cx.encoding();
                let requests = local_requests(input, encoding)?;
                local_replies(handler(cx, requests).await, encoding)
            })
        };
        self.add_typed_stream(
            &method,
            CallType::BidirectionalStreaming,
            serve,
            serve_locally,
        )
    }

    #[track_caller]
    fn add_typed_stream<Req, Reply, E>(
        mut self,
        method: &Method<Req, Reply, E>,
        call_type: CallType,
        serve: impl Fn(CallContext, HandlerInput) -> BoxFuture<'static, HandlerResult>
        + Send
        + Sync
        + 'static,
        serve_locally: impl Fn(
            CallContext,
            LocalInput,
        ) -> BoxFuture<'static, Result<LocalReplies, Status>>
        + Send
        + Sync
        + 'static,
    ) -> Self {
        let streaming = StreamingMethod {
            call_type,
            serve: Arc::new(serve),
            config: None,
            schema: Some(method.schema()),
            layers: HandlerLayers::default(),
            serve_locally: Some(Arc::new(serve_locally)),
            check_request: None,
        };
        self.insert(method.name().into(), Handler::Streaming(streaming));
        self.with_options_of(method.name(), method.options())
    }

    /// Applies the options of a method that concern its server.
    fn with_options_of(self, name: &str, options: MethodOptions) -> Self {
        match options.replay_safe() {
            Some(true) => self.with_replay_safe(name),
            _ => self,
        }
    }

    /// The handler of a unary method, for calls without a network.
    pub(crate) fn unary_handler(&self, name: &str) -> Option<&UnaryMethod> {
        match self.handlers.get(name) {
            Some(Handler::Unary(unary)) => Some(unary),
            _ => None,
        }
    }

    /// The handler of a method that streams, for calls without a network.
    pub(crate) fn streaming_handler(&self, name: &str) -> Option<&StreamingMethod> {
        match self.handlers.get(name) {
            Some(Handler::Streaming(streaming)) => Some(streaming),
            _ => None,
        }
    }
}

/// Decodes a request. One in the named encoding may hold what the types of this side do not have.
fn decode<Req: Decode>(body: Bytes, encoding: Encoding) -> Result<Req, Status> {
    Req::decode_as(body, encoding).map_err(|e| {
        let message = format!("the request could not be decoded: {e}");
        let status = match encoding {
            Encoding::Postcard => Status::invalid_request(message),
            Encoding::Named => Status::new(crate::Code::Incompatible, message),
        };
        status.not_processed()
    })
}

/// Sends the replies of a handler to its caller.
async fn send_replies<T: Message + Send, E: ErrorType>(
    handled: Result<Replies<T>, E>,
    mut sender: Sender<T>,
    encoding: Encoding,
) -> HandlerResult {
    let mut replies = handled.map_err(|error| error.into_status(encoding))?;
    while let Some(reply) = replies.next_reply().await {
        let reply = reply.map_err(|error| error.into_status(encoding))?;
        sender.send(reply).await?;
    }
    Ok(Bytes::new())
}

fn local_request(input: LocalInput) -> Result<Bytes, Status> {
    match input {
        LocalInput::Request(body) => Ok(body),
        LocalInput::Requests(_) => Err(call_type_mismatch()),
    }
}

fn local_requests<T: Message + Send>(
    input: LocalInput,
    encoding: Encoding,
) -> Result<Requests<T>, Status> {
    match input {
        LocalInput::Requests(requests) => Ok(Requests::encoded(requests, encoding)),
        LocalInput::Request(_) => Err(call_type_mismatch()),
    }
}

fn call_type_mismatch() -> Status {
    Status::invalid_request("call type mismatch").not_processed()
}

fn local_replies<T: Message + Send, E: ErrorType>(
    handled: Result<Replies<T>, E>,
    encoding: Encoding,
) -> Result<LocalReplies, Status> {
    let replies = handled.map_err(|error| error.into_status(encoding))?;
    Ok(encoded(replies, encoding).boxed())
}

fn encoded<T: Message + Send>(
    replies: Replies<T>,
    encoding: Encoding,
) -> impl Stream<Item = HandlerResult> {
    stream::unfold(Some(replies), move |replies| async move {
        let mut replies = replies?;
        match replies.next_reply().await? {
            Ok(reply) => Some((encode_reply(&reply, encoding), Some(replies))),
            Err(error) => Some((Err(StreamError::into_status(error, encoding)), None)),
        }
    })
}
