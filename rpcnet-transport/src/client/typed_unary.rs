//! Unary call of a typed method on one connection.

use std::{
    marker::PhantomData,
    pin::Pin,
    task::{Context, Poll, Waker, ready},
};

use futures::future::BoxFuture;
use tokio::time::Instant;

use super::{
    CallOptions, EncodedReply, EncodedRequest, RpcClient,
    agreements::Agreement,
    lanes::{LaneCallRequest, NotStarted, StartedCall},
    method_options::call_options,
    typed_calls::{called, is_schema_mismatch},
};
use crate::{
    CodecError, Encode, Message, MethodOptions, RpcError, UntypedMethod,
    codec::{Encoding, Scratch},
    method::TypedCall,
    wire::RequestFlags,
};

/// Future of a unary call. Most calls are small and have a lane: their request is encoded into
/// memory of the thread, copied into the lane at the first poll, and only the place of the reply is
/// kept. All others have a future on the heap.
pub(super) struct UnaryMethodCall<'c, 'r, Req, Reply> {
    client: &'c RpcClient,
    method: UntypedMethod,
    request: &'r Req,
    options: MethodOptions,
    stage: UnaryStage<'c, 'r>,
    _reply: PhantomData<fn() -> Reply>,
}

enum UnaryStage<'c, 'r> {
    NotStarted,
    /// The options are those of the call, for a further exchange.
    OnLane(StartedCall<'c>, CallOptions),
    Boxed(BoxFuture<'r, Result<EncodedReply, RpcError>>),
}

impl<'c, 'r, Req: Message + Sync, Reply: Message> UnaryMethodCall<'c, 'r, Req, Reply> {
    pub(super) fn new(
        client: &'c RpcClient,
        method: UntypedMethod,
        request: &'r Req,
        options: MethodOptions,
    ) -> Self {
        Self {
            client,
            method,
            request,
            options,
            stage: UnaryStage::NotStarted,
            _reply: PhantomData,
        }
    }

    /// Starts the call.
    fn start(&mut self, waker: &Waker) -> Result<UnaryStage<'c, 'r>, RpcError> {
        let encoded = self.request.encode_scratch();
        let options = call_options(self.options);
        let (client, method) = (self.client, self.method);
        match client.start_on_lane(method, encoded, options, waker)? {
            TypedStart::OnLane(started, options) => Ok(UnaryStage::OnLane(started, options)),
            TypedStart::SlowPath(encoded, options) => {
                let (client, request) = (client.clone(), self.request);
                Ok(UnaryStage::Boxed(Box::pin(async move {
                    let request = EncodedRequest {
                        postcard: &encoded.map(Scratch::into_bytes),
                        named: &|| request.encode_as(Encoding::Named),
                    };
                    client.call_encoded(method, request, options).await
                })))
            }
        }
    }

    /// Calls the method again, after the server has rejected its schema.
    #[cold]
    fn call_again(&self, rejection: RpcError, options: CallOptions) -> UnaryStage<'c, 'r> {
        let (client, method, request) = (self.client.clone(), self.method, self.request);
        UnaryStage::Boxed(Box::pin(async move {
            let postcard = request.encode();
            let request = EncodedRequest {
                postcard: &postcard,
                named: &|| request.encode_as(Encoding::Named),
            };
            client
                .call_rejected(method, request, rejection, options)
                .await
        }))
    }
}

impl<Req: Message + Sync, Reply: Message> Future for UnaryMethodCall<'_, '_, Req, Reply> {
    type Output = Result<Reply, RpcError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        loop {
            let reply = match &mut this.stage {
                UnaryStage::NotStarted => {
                    let started = this.start(cx.waker());
                    this.stage = started.map_err(|error| this.client.with_peer_context(error))?;
                    if let UnaryStage::OnLane(..) = this.stage {
                        return Poll::Pending;
                    }
                    continue;
                }
                UnaryStage::OnLane(started, options) => match ready!(started.poll_reply(cx)) {
                    Ok(bytes) => super::typed::decode(bytes),
                    Err(error) if is_schema_mismatch(&error) => {
                        let options = *options;
                        this.stage = this.call_again(error, options);
                        continue;
                    }
                    Err(error) => Err(error),
                },
                UnaryStage::Boxed(call) => {
                    ready!(call.as_mut().poll(cx)).and_then(EncodedReply::decode)
                }
            };
            return Poll::Ready(reply.map_err(|error| this.client.with_peer_context(error)));
        }
    }
}

/// How a unary call has begun.
enum TypedStart<'a> {
    OnLane(StartedCall<'a>, CallOptions),
    /// Nothing was sent.
    SlowPath(Result<Scratch, CodecError>, CallOptions),
}

impl RpcClient {
    /// Sends the request of a call on a lane, if nothing stands in its way.
    fn start_on_lane(
        &self,
        method: UntypedMethod,
        encoded: Result<Scratch, CodecError>,
        mut options: CallOptions,
        waker: &Waker,
    ) -> Result<TypedStart<'_>, RpcError> {
        let now = Instant::now();
        let deadline = options.resolve(now, Some(self.0.limits.call_timeout));
        let body = match &encoded {
            Ok(body)
                if self.0.early.is_none()
                    && self.0.layers.is_empty()
                    && self.uses_postcard(method)
                    && self.fits_lane(body, &options, now, deadline)
                    && !self.0.lanes.has_waiting_calls()
                    && self.fail_fast(now, deadline).is_none() =>
            {
                body
            }
            _ => return Ok(TypedStart::SlowPath(encoded, options)),
        };
        self.0.limits.check_request(method.name(), body)?;
        let request = LaneCallRequest {
            method: called(TypedCall::unchecked(method, Encoding::Postcard)),
            body,
            options: &options,
            now,
            deadline,
        };
        match StartedCall::start(&self.0.lanes, &request, waker) {
            Ok(started) => Ok(TypedStart::OnLane(started, options)),
            // Types that need the other encoding.
            Err(NotStarted::Ended(error)) if is_schema_mismatch(&error) => {
                Ok(TypedStart::SlowPath(encoded, options))
            }
            Err(NotStarted::Ended(error)) => Err(error),
            Err(NotStarted::Full | NotStarted::NoStream | NotStarted::NeedsOwnStream) => {
                Ok(TypedStart::SlowPath(encoded, options))
            }
        }
    }

    /// Whether calls of a method are made in postcard, as far as this connection knows.
    fn uses_postcard(&self, method: UntypedMethod) -> bool {
        let agreement = self.0.agreements.get(method);
        matches!(agreement, None | Some(Agreement::Equal(Encoding::Postcard)))
    }

    /// Calls a method after a call of it was rejected for its schema.
    pub(super) async fn call_rejected(
        &self,
        method: UntypedMethod,
        request: EncodedRequest<'_>,
        rejection: RpcError,
        options: CallOptions,
    ) -> Result<EncodedReply, RpcError> {
        let flags = RequestFlags::default();
        let resolved = self.resolve_mismatch(method, flags, rejection.clone(), options);
        resolved.await?;
        if self.uses_postcard(method) {
            // Types and encoding fit: a layer or the handler has rejected the call.
            return Err(rejection);
        }
        self.call_agreed(method, request, options).await
    }
}
