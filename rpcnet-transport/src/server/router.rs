//! Router: methods and their handlers.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fmt,
    sync::Arc,
};

use bytes::Bytes;
use futures::future::BoxFuture;
use tokio::time::Instant;

use super::{
    Admission, CallContext, Dispatch, IdempotencyCache, IntoReply,
    admission::AdmissionGate,
    call_type::CallType,
    handler::{Handler, HandlerInput, StreamingMethod, UnaryMethod},
    handler_future::HandlerFuture,
    handler_result::HandlerResult,
    method_config::MethodConfig,
    method_start::{HandlerWrapper, MethodStart},
    poll_cost::PollCost,
};
use crate::{
    Decode, Encode, IncomingCall, IntegerRequest, Receiver, Sender, Status,
    layers::{HandlerLayers, LayerStack},
    schema::{service_hash, service_of},
    wire,
};

/// The methods of a server and their handlers. Cheap to clone: clones share the handlers.
///
/// A handler is a function that returns a future. It may panic without harm to others, and is
/// dropped at its next await when its caller stops waiting for the reply.
///
/// Two methods of one name are a mistake of the program, not of its input: adding the second
/// panics, at the line that adds it. Where names come from outside, check [`has`](Self::has) first.
///
/// ```
/// use rpcnet_transport::{CallContext, Router, Status};
///
/// let router = Router::new()
///     .raw("echo", |_cx: CallContext, body| async move { Ok(body) })
///     .typed("double", |n: u32| async move { n * 2 })
///     .typed("divide", |(a, b): (u32, u32)| async move {
///         a.checked_div(b).ok_or_else(|| Status::invalid_request("division by zero"))
///     })
///     .typed_with("greet", |cx: CallContext, name: String| async move {
///         format!("{name}, you are {}", cx.peer().name())
///     });
/// assert!(router.has("divide"));
/// ```
#[derive(Clone, Default)]
pub struct Router {
    pub(super) handlers: HashMap<Arc<str>, Handler>,
    replay_safe: HashSet<Arc<str>>,
    pub(super) layers: LayerStack<IncomingCall>,
    /// Wrappers of the handlers of unary methods, the outermost first.
    pub(super) wrappers: Vec<Arc<dyn HandlerWrapper>>,
}

impl Router {
    /// A router without methods.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a method that takes bytes and replies with bytes. The request may share the memory of
    /// the packets that it came in: a handler that keeps a small request for long should copy it.
    ///
    /// # Panics
    ///
    /// If there already is a method of this name, or the name does not have 1 to 255 bytes. This
    /// holds for all calls that add a method.
    #[must_use]
    #[track_caller]
    pub fn raw<F, Fut>(self, name: &str, handler: F) -> Self
    where
        F: Fn(CallContext, Bytes) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Bytes, Status>> + Send + 'static,
    {
        self.add_unary(name, move |cx, body, started| {
            started.set(handler(cx, body));
        })
    }

    /// Adds a method that takes a value and replies with a value, both encoded with postcard. The
    /// handler returns the value or a `Result` of it and any error that converts to a [`Status`].
    ///
    /// It is for quick work: nothing checks that both sides mean the same types, as
    /// [`method`](Self::method) does. Of a request that is an integer and no more,
    /// [`call_typed`](crate::RpcClient::call_typed) says its type; see there for the trap in
    /// integer literals.
    ///
    /// # Panics
    ///
    /// Those of [`raw`](Self::raw).
    #[must_use]
    #[track_caller]
    pub fn typed<Req, Fut, By, F>(self, name: &str, handler: F) -> Self
    where
        F: Fn(Req) -> Fut + Send + Sync + 'static,
        Fut: Future + Send + 'static,
        Fut::Output: IntoReply<By>,
        Req: Decode + 'static,
    {
        self.typed_with(name, move |_, request| handler(request))
    }

    /// Adds a method like [`typed`](Self::typed), whose handler also takes the context of the call.
    ///
    /// # Panics
    ///
    /// Those of [`raw`](Self::raw).
    #[must_use]
    #[track_caller]
    pub fn typed_with<Req, Fut, By, F>(self, name: &str, handler: F) -> Self
    where
        F: Fn(CallContext, Req) -> Fut + Send + Sync + 'static,
        Fut: Future + Send + 'static,
        Fut::Output: IntoReply<By>,
        Req: Decode + 'static,
    {
        let mut router = self.add_unary(name, move |cx, body, started| match decode(body) {
            Ok(request) => {
                let reply = handler(cx, request);
                started.set(async move { reply.await.into_reply() });
            }
            Err(status) => started.set(std::future::ready(Err(status))),
        });
        if let Some(Handler::Unary(unary)) = router.handlers.get_mut(name) {
            unary.integer = IntegerRequest::of::<Req>();
        }
        router
    }

    /// Adds a method that answers one request with a stream. The stream ends when the handler has
    /// returned and its sender is dropped. For messages as bytes, take or send [`Raw`](crate::Raw).
    ///
    /// The error of the handler is a [`Status`]. A function with an error type of its own is
    /// wrapped in a closure that converts the error:
    ///
    /// ```
    /// use rpcnet_transport::{Router, RpcError, Sender, Status};
    ///
    /// enum CountError {
    ///     TooFar,
    ///     Rpc(RpcError),
    /// }
    ///
    /// impl From<RpcError> for CountError {
    ///     fn from(error: RpcError) -> Self {
    ///         Self::Rpc(error)
    ///     }
    /// }
    ///
    /// impl From<CountError> for Status {
    ///     fn from(error: CountError) -> Self {
    ///         match error {
    ///             CountError::TooFar => Status::invalid_request("too far"),
    ///             CountError::Rpc(error) => error.into(),
    ///         }
    ///     }
    /// }
    ///
    /// async fn count(to: u32, mut numbers: Sender<u32>) -> Result<(), CountError> {
    ///     if to > 1_000 {
    ///         return Err(CountError::TooFar);
    ///     }
    ///     for number in 0..to {
    ///         numbers.send(number).await?;
    ///     }
    ///     Ok(())
    /// }
    ///
    /// let router = Router::new().server_streaming("count", |_cx, to, numbers| async move {
    ///     count(to, numbers).await.map_err(Status::from)
    /// });
    /// # drop(router);
    /// ```
    ///
    /// # Panics
    ///
    /// Those of [`raw`](Self::raw).
    #[must_use]
    #[track_caller]
    pub fn server_streaming<Req, Resp, Fut, F>(self, name: &str, handler: F) -> Self
    where
        F: Fn(CallContext, Req, Sender<Resp>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), Status>> + Send + 'static,
        Req: Decode + 'static,
        Resp: Encode + 'static,
    {
        self.add_streaming(name, CallType::ServerStreaming, move |cx, mut input| {
            let replies = input.sender();
            match decode(std::mem::take(&mut input.body)) {
                Ok(request) => empty_reply(handler(cx, request, replies)),
                Err(status) => Box::pin(async move {
                    drop(replies);
                    Err(status)
                }),
            }
        })
    }

    /// Adds a method that answers a stream with one reply.
    ///
    /// # Panics
    ///
    /// Those of [`raw`](Self::raw).
    #[must_use]
    #[track_caller]
    pub fn client_streaming<Req, Fut, By, F>(self, name: &str, handler: F) -> Self
    where
        F: Fn(CallContext, Receiver<Req>) -> Fut + Send + Sync + 'static,
        Fut: Future + Send + 'static,
        Fut::Output: IntoReply<By>,
        Req: Decode + 'static,
    {
        self.add_streaming(name, CallType::ClientStreaming, move |cx, mut input| {
            let requests = input.receiver();
            let reply = handler(cx, requests);
            Box::pin(async move { reply.await.into_reply() })
        })
    }

    /// Adds a method that answers a stream with a stream. The stream of replies ends when the
    /// handler has returned and its sender is dropped. The error of the handler is a [`Status`], as
    /// for [`server_streaming`](Self::server_streaming).
    ///
    /// # Panics
    ///
    /// Those of [`raw`](Self::raw).
    #[must_use]
    #[track_caller]
    pub fn streaming<Req, Resp, Fut, F>(self, name: &str, handler: F) -> Self
    where
        F: Fn(CallContext, Receiver<Req>, Sender<Resp>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), Status>> + Send + 'static,
        Req: Decode + 'static,
        Resp: Encode + 'static,
    {
        self.add_streaming(
            name,
            CallType::BidirectionalStreaming,
            move |cx, mut input| {
                let requests = input.receiver();
                let replies = input.sender();
                empty_reply(handler(cx, requests, replies))
            },
        )
    }

    /// Declares a method replay-safe: a third party may replay its calls, some time later and
    /// without the will of the caller, and no harm is done, because the method only reads or is
    /// idempotent. Its calls may come before the handshake is complete, if the server [accepts
    /// early data](crate::TransportConfig::with_early_data). Early calls of other methods are
    /// rejected with [`Code::TooEarly`](crate::Code::TooEarly), and repeated by their callers a
    /// round trip later.
    ///
    /// # Panics
    ///
    /// If there is no method of this name.
    #[must_use]
    #[track_caller]
    pub fn with_replay_safe(mut self, name: &str) -> Self {
        let Some((name, _)) = self.handlers.get_key_value(name) else {
            panic!("there is no method {name:?}");
        };
        self.replay_safe.insert(Arc::clone(name));
        self
    }

    /// Adds all methods of another router.
    ///
    /// # Panics
    ///
    /// If both have a method of the same name.
    #[must_use]
    #[track_caller]
    pub fn merge(mut self, other: Self) -> Self {
        for (name, handler) in other.handlers {
            self.insert(name, handler);
        }
        self.replay_safe.extend(other.replay_safe);
        self
    }

    /// Adds all methods of a service: of the server that [`service`](macro@crate::service) makes.
    ///
    /// # Panics
    ///
    /// If there already is a method of the same name.
    #[must_use]
    #[track_caller]
    pub fn service(self, service: impl Into<Self>) -> Self {
        self.merge(service.into())
    }

    /// Whether there is a method of this name.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.handlers.contains_key(name)
    }

    /// Names of the methods, in no particular order.
    pub fn methods(&self) -> impl Iterator<Item = &str> {
        self.handlers.keys().map(|name| &**name)
    }

    /// Services of the typed methods, in the order of their names, each with the hash of the
    /// schemas of its methods: see [`service_hash`]. Methods without a schema, such as those that
    /// [`typed`](Self::typed) and [`raw`](Self::raw) add, are in none.
    ///
    /// ```
    /// use rpcnet_transport::{Method, Router};
    ///
    /// const SQUARE: Method<u64, u64> = Method::new("square");
    ///
    /// let router = Router::new().method(SQUARE, |n| async move { n * n });
    /// let hash = SQUARE.untyped().service_hash().expect("it is a service of its own");
    /// assert!(router.service_hashes().eq([("square", hash)]));
    /// ```
    pub fn service_hashes(&self) -> impl Iterator<Item = (&str, u64)> {
        let mut services: BTreeMap<&str, Vec<(&str, u64)>> = BTreeMap::new();
        for (name, handler) in &self.handlers {
            if let Some(schema) = handler.schema() {
                let methods = services.entry(service_of(name)).or_default();
                methods.push((name, schema.hash()));
            }
        }
        services
            .into_iter()
            .map(|(service, methods)| (service, service_hash(methods)))
    }

    pub(crate) fn is_replay_safe(&self, name: &str) -> bool {
        self.replay_safe.contains(name)
    }

    pub(crate) fn find(&self, name: &str) -> Option<(&Arc<str>, &Handler)> {
        self.handlers.get_key_value(name)
    }

    /// Sets where the handler of a unary method runs; default [`Dispatch::Adaptive`].
    ///
    /// # Panics
    ///
    /// If there is no unary method of this name.
    #[must_use]
    #[track_caller]
    pub fn with_dispatch(mut self, name: &str, dispatch: Dispatch) -> Self {
        let Some(Handler::Unary(unary)) = self.handlers.get_mut(name) else {
            panic!("there is no unary method {name:?}");
        };
        unary.dispatch = dispatch;
        self
    }

    /// Limits the concurrent calls of a method, at least one. Further calls are queued or rejected
    /// by the defaults of [`Admission::fixed`](Admission::fixed). For a method that uses a scarce
    /// resource. All clones of this router share the limit, and so do
    /// [callers](Admission#shares-of-callers) that were seen at this method. A call passes the
    /// limit of its method first, then that of the server, if the server has
    /// [one](crate::TransportConfig::with_admission). Default none.
    ///
    /// # Panics
    ///
    /// If there is no method of this name.
    #[must_use]
    #[track_caller]
    pub fn with_limit(mut self, name: &str, calls: usize) -> Self {
        let gate = Arc::new(AdmissionGate::new(&Admission::fixed(calls)));
        self.configure(name, |config| config.gate = Some(gate));
        self
    }

    /// Runs the calls of a method that have an [idempotency
    /// key](crate::CallOptions::with_idempotency_key) once for each caller and key. A repeat while
    /// the first call runs waits for its end, and a later repeat is answered from the cache. A
    /// repeat with another body is [`InvalidRequest`](crate::Code::InvalidRequest). Failures are
    /// cached too, also panics, unless they are [not processed](Status::not_processed), or
    /// [`DeadlineExceeded`](crate::Code::DeadlineExceeded) or
    /// [`Cancelled`](crate::Code::Cancelled), since the work was not completed then: a repeat runs.
    ///
    /// Such a call runs to its end also when its caller is gone or its deadline passes, so that a
    /// repeat can be answered. It runs for at most [`IdempotencyCache::with_ttl`], which is the
    /// deadline that the handler and its calls have, and not that of any one caller. It counts as
    /// one call in flight. A call that is cancelled at that deadline, or by a shutdown, is not
    /// cached. It holds the permit of its first caller, if calls are limited, and counts to the
    /// [share](Admission#shares-of-callers) of that caller until it ends. Calls without a key are
    /// served as usual.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use rpcnet_transport::{IdempotencyCache, Router};
    ///
    /// let router = Router::new()
    ///     .typed("charge", |cents: u64| async move { format!("{cents} cents charged") })
    ///     .with_idempotency("charge", IdempotencyCache::new().with_ttl(Duration::from_secs(300)));
    /// # drop(router);
    /// ```
    ///
    /// # Panics
    ///
    /// If there is no unary method of this name.
    #[must_use]
    #[track_caller]
    pub fn with_idempotency(mut self, name: &str, cache: IdempotencyCache) -> Self {
        let Some(Handler::Unary(unary)) = self.handlers.get_mut(name) else {
            panic!("there is no unary method {name:?}");
        };
        unary.start.change_handler(|start| {
            Arc::new(move |cx, body, started| match cx.idempotency_key() {
                None => start(cx, body, started),
                Some(key) => {
                    started.set(cache.clone().serve(Arc::clone(&start), cx, body, key));
                }
            })
        });
        self.configure(name, |config| config.uses_idempotency_cache = true);
        self
    }

    /// Exempts calls of a method from the [limit](crate::TransportConfig::with_admission) of the
    /// server: for health checks, and for streams that stay open and would hold a permit as long. A
    /// limit of the method still counts, and so does
    /// [`calls_max`](crate::TransportConfig::with_calls_max).
    ///
    /// # Panics
    ///
    /// If there is no method of this name.
    #[must_use]
    #[track_caller]
    pub fn without_admission(mut self, name: &str) -> Self {
        self.configure(name, |config| config.bypasses_server_limit = true);
        self
    }

    #[track_caller]
    fn configure(&mut self, name: &str, change: impl FnOnce(&mut MethodConfig)) {
        let config = match self.handlers.get_mut(name) {
            Some(Handler::Unary(unary)) => &mut unary.config,
            Some(Handler::Streaming(streaming)) => &mut streaming.config,
            None => panic!("there is no method {name:?}"),
        };
        change(Arc::make_mut(config.get_or_insert_default()));
    }

    #[track_caller]
    pub(crate) fn add_unary(
        mut self,
        name: &str,
        start: impl Fn(CallContext, Bytes, &mut HandlerFuture) + Send + Sync + 'static,
    ) -> Self {
        let unary = UnaryMethod {
            start: MethodStart::new(Arc::new(start)),
            dispatch: Dispatch::default(),
            poll_cost: Arc::new(PollCost::new(Instant::now())),
            config: None,
            schema: None,
            layers: HandlerLayers::default(),
            integer: None,
        };
        self.insert(name.into(), Handler::Unary(unary));
        self
    }

    #[track_caller]
    fn add_streaming(
        mut self,
        name: &str,
        call_type: CallType,
        serve: impl Fn(CallContext, HandlerInput) -> BoxFuture<'static, HandlerResult>
        + Send
        + Sync
        + 'static,
    ) -> Self {
        let streaming = StreamingMethod {
            call_type,
            serve: Arc::new(serve),
            config: None,
            schema: None,
            layers: HandlerLayers::default(),
            serve_locally: None,
            check_request: None,
        };
        self.insert(name.into(), Handler::Streaming(streaming));
        self
    }

    #[track_caller]
    pub(super) fn insert(&mut self, name: Arc<str>, mut handler: Handler) {
        assert!(
            (1..=wire::METHOD_BYTES_MAX).contains(&name.len()),
            "a method name has 1 to 255 bytes"
        );
        handler.layers_mut().move_into(&self.layers);
        if let Handler::Unary(unary) = &mut handler {
            unary.start.move_into(&self.wrappers);
        }
        let replaced = self.handlers.insert(Arc::clone(&name), handler);
        assert!(replaced.is_none(), "there is a method {name:?} already");
    }
}

impl fmt::Debug for Router {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.handlers.keys()).finish()
    }
}

fn decode<Req: Decode>(body: Bytes) -> Result<Req, Status> {
    Req::decode(body).map_err(|e| {
        Status::invalid_request(format!("the request could not be decoded: {e}")).not_processed()
    })
}

fn empty_reply(
    handler: impl Future<Output = Result<(), Status>> + Send + 'static,
) -> BoxFuture<'static, HandlerResult> {
    Box::pin(async move { handler.await.map(|()| Bytes::new()) })
}

#[cfg(test)]
mod tests {
    use std::{panic, sync::mpsc, thread};

    use super::*;

    #[test]
    fn merge_keeps_replay_safe_methods_of_both_routers() {
        let double = || Router::new().typed("double", |n: u32| async move { n * 2 });
        let count = Router::new().typed("count", |n: u32| async move { n + 1 });
        let both = count.merge(double().with_replay_safe("double"));
        assert!(both.is_replay_safe("double"));
        assert!(!both.is_replay_safe("count"));
        assert!(!double().is_replay_safe("double"));
    }

    #[test]
    #[should_panic(expected = "there is no method \"other\"")]
    fn an_unknown_method_cannot_be_declared_replay_safe() {
        drop(Router::new().with_replay_safe("other"));
    }

    #[test]
    fn a_duplicate_method_panics_at_the_line_that_adds_it() {
        let (sender, receiver) = mpsc::sync_channel(1);
        let (ours, others) = (thread::current().id(), panic::take_hook());
        panic::set_hook(Box::new(move |info| {
            if thread::current().id() != ours {
                return others(info);
            }
            let location = info.location().map(|at| (at.file().to_owned(), at.line()));
            let _ = sender.try_send((location, info.to_string()));
        }));
        let router = Router::new().typed("twice", |n: u32| async move { n });
        let line = line!() + 2;
        let added = panic::catch_unwind(panic::AssertUnwindSafe(|| {
            drop(router.typed("twice", |n: u32| async move { n }));
        }));
        drop(panic::take_hook());
        assert!(added.is_err());
        let (location, message) = receiver.try_recv().unwrap();
        assert_eq!(location, Some((file!().to_owned(), line)));
        assert!(message.contains("there is a method \"twice\" already"));
    }
}
