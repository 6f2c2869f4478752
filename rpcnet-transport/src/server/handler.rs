//! Handlers of methods, unary and streaming, and the futures that they return.

use std::sync::Arc;

use bytes::Bytes;
use futures::{Stream, StreamExt, future::BoxFuture, stream::BoxStream};

use super::{
    CallContext, Dispatch, call_type::CallType, handler_future::HandlerFuture,
    handler_result::HandlerResult, method_config::MethodConfig, method_start::MethodStart,
    poll_cost::PollCost,
};
use crate::{
    Decode, Encode, IntegerRequest, Receiver, RpcError, Sender, Status,
    client::encode_error,
    codec::Encoding,
    layers::HandlerLayers,
    schema::MethodSchema,
    stream::{UntypedReceiver, UntypedSender},
};

/// The handler of a method.
#[derive(Clone)]
pub(crate) enum Handler {
    Unary(UnaryMethod),
    Streaming(StreamingMethod),
}

/// A method that takes one message and replies with one.
#[derive(Clone)]
pub(crate) struct UnaryMethod {
    pub(super) start: MethodStart,
    pub(super) dispatch: Dispatch,
    pub(super) poll_cost: Arc<PollCost>,
    /// `None` for most methods.
    pub(super) config: Option<Arc<MethodConfig>>,
    /// Schema of a typed method.
    pub(super) schema: Option<&'static MethodSchema>,
    pub(super) layers: HandlerLayers,
    /// Request of a method that goes by its name alone, if it is an integer.
    pub(super) integer: Option<IntegerRequest>,
}

/// A method that streams in at least one direction.
#[derive(Clone)]
pub(crate) struct StreamingMethod {
    pub(super) call_type: CallType,
    pub(super) serve: Arc<ServeStream>,
    pub(super) config: Option<Arc<MethodConfig>>,
    /// Schema of a typed method.
    pub(super) schema: Option<&'static MethodSchema>,
    pub(super) layers: HandlerLayers,
    /// Serves the method without a network, if it is typed.
    pub(crate) serve_locally: Option<Arc<ServeLocally>>,
    /// Whether the request of a typed method can be read, if there is one.
    pub(super) check_request: Option<CheckRequest>,
}

/// Reads a request, and drops it.
pub(super) type CheckRequest = fn(Bytes, Encoding) -> Result<(), Status>;

/// Input of a streaming handler. Each option is `Some` exactly if the method streams in that
/// direction.
pub(crate) struct HandlerInput {
    pub(crate) body: Bytes,
    pub(crate) requests: Option<UntypedReceiver>,
    pub(crate) replies: Option<UntypedSender>,
    /// Encoding of the messages.
    pub(crate) encoding: Encoding,
}

/// Input of a streaming handler that is called without a network, encoded with postcard.
pub(crate) enum LocalInput {
    Request(Bytes),
    Requests(BoxStream<'static, Result<Bytes, RpcError>>),
}

/// Encoded replies of a streaming handler that is called without a network. One that does not
/// stream its replies has one.
pub(crate) type LocalReplies = BoxStream<'static, HandlerResult>;

/// Serves a call that streams.
pub(super) type ServeStream =
    dyn Fn(CallContext, HandlerInput) -> BoxFuture<'static, HandlerResult> + Send + Sync;

/// Serves a call that streams without a network.
pub(crate) type ServeLocally = dyn Fn(CallContext, LocalInput) -> BoxFuture<'static, Result<LocalReplies, Status>>
    + Send
    + Sync;

impl Handler {
    /// Layers that its calls pass.
    pub(super) fn layers(&self) -> &HandlerLayers {
        match self {
            Self::Unary(unary) => &unary.layers,
            Self::Streaming(streaming) => &streaming.layers,
        }
    }

    pub(super) fn layers_mut(&mut self) -> &mut HandlerLayers {
        match self {
            Self::Unary(unary) => &mut unary.layers,
            Self::Streaming(streaming) => &mut streaming.layers,
        }
    }

    /// Type of the request of a unary method, if it is an integer.
    pub(super) fn integer_request(&self) -> Option<IntegerRequest> {
        match self {
            Self::Unary(method) => {
                let of_schema = || method.schema.and_then(IntegerRequest::of_schema);
                method.integer.or_else(of_schema)
            }
            Self::Streaming(_) => None,
        }
    }

    /// Schema of a typed method.
    pub(super) fn schema(&self) -> Option<&'static MethodSchema> {
        match self {
            Self::Unary(method) => method.schema,
            Self::Streaming(method) => method.schema,
        }
    }

    /// Fails if the request of a method that streams its replies cannot be read.
    pub(super) fn check_request(&self, body: Bytes, encoding: Encoding) -> Result<(), Status> {
        match self {
            Self::Streaming(StreamingMethod {
                check_request: Some(check),
                ..
            }) => check(body, encoding),
            _ => Ok(()),
        }
    }

    pub(super) fn config(&self) -> Option<&MethodConfig> {
        match self {
            Self::Unary(method) => method.config.as_deref(),
            Self::Streaming(method) => method.config.as_deref(),
        }
    }

    /// Type of the calls that the handler serves.
    pub(super) fn call_type(&self) -> CallType {
        match self {
            Self::Unary(_) => CallType::Unary,
            Self::Streaming(method) => method.call_type,
        }
    }
}

impl HandlerInput {
    /// The requests of a method that streams them.
    pub(super) fn receiver<T: Decode>(&mut self) -> Receiver<T> {
        let requests = self.requests.take();
        Receiver::new(requests.expect("the method takes a stream"), self.encoding)
    }

    /// The sender of a method that streams its replies.
    pub(super) fn sender<T: Encode>(&mut self) -> Sender<T> {
        let replies = self.replies.take();
        Sender::new(
            replies.expect("the method streams its replies"),
            self.encoding,
        )
    }
}

impl LocalInput {
    /// The requests of a call that streams them.
    pub(crate) fn of<T: Encode + Send + 'static>(
        requests: impl Stream<Item = T> + Send + 'static,
        encoding: Encoding,
    ) -> Self {
        let encode = move |request: T| request.encode_as(encoding).map_err(encode_error);
        let encoded = requests.map(encode);
        Self::Requests(encoded.boxed())
    }
}

impl UnaryMethod {
    /// Calls the handler without a network.
    pub(crate) async fn call(&self, cx: CallContext, body: Bytes) -> HandlerResult {
        let mut future = HandlerFuture::default();
        self.start(cx, body, &mut future);
        future.finish().await
    }

    /// Starts a call, in the memory of an earlier future if there is one.
    pub(super) fn start(&self, cx: CallContext, body: Bytes, started: &mut HandlerFuture) {
        self.start.start(cx, body, started);
    }

    /// Whether the handler is polled in a task of its own from the start.
    #[inline]
    pub(super) fn needs_task(&self) -> bool {
        match self.dispatch {
            Dispatch::Adaptive => self.poll_cost.is_slow(),
            Dispatch::Inline => false,
            Dispatch::Spawned => true,
        }
    }
}
