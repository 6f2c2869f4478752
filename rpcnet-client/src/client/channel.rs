//! Workers as a channel of typed calls.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use futures::Stream;
use rpcnet_registry::Worker;
use rpcnet_transport::{
    Channel, Code, CodecError, Decode, Encode, EncodedReply, EncodedRequest, Encoding, ErrorType,
    Message, Method, MethodOptions, OpenedStream, Replies, Requests, RpcError, UntypedMethod,
};

use super::{
    ClusterClient, ClusterError, WorkerCallOptions, WorkerStream,
    broadcast::with_worker,
    call_plan::{ClusterCall, Destination, TypedClusterCall, called},
    operation::{OpenTypedStream, TypedStreams, TypedUnaryCall},
    routes::Route,
    streams::FirstReply,
};

impl ClusterClient {
    /// The workers that match `filter`, all workers without a filter, as a channel of typed calls:
    /// for [`Method`] and for the clients of services.
    #[must_use]
    pub fn workers(self: &Arc<Self>, filter: Option<&str>) -> WorkerChannel {
        WorkerChannel::new(self, &self.executor.workers.route(filter))
    }
}

/// Workers of a cluster as a channel of typed calls; made by [`ClusterClient::workers`]. Cheap to
/// clone.
///
/// Each call selects a worker, connects, and is retried and hedged as described at
/// [`ClusterClient`]. A worker whose types of the method do not fit those of the caller is left for
/// another one before anything runs, and passed over for this method by later calls with these
/// types: a program may call one method with several. Nodes announce hashes of their types, by
/// which most of these workers are passed over before a call is spent on them; see
/// [`rpcnet_registry::schemas`]. A value that a worker of another version
/// cannot read, such as a variant that it does not know, is about that call alone.
///
/// Streams are opened on a worker whose types fit. What the worker says after that comes with the
/// stream; there is no second worker then.
///
/// What a call says in its [`MethodOptions`] goes before the [options](Self::with_options) of the
/// channel, those before the policy that [`ClusterClientConfig`](super::ClusterClientConfig) has
/// for the method, that before the options of the [method](Method::with_options), and those before
/// the defaults of the config.
///
/// A call fails with an [`RpcError`]; [`ClusterError::of`] has the attempts.
///
/// ```
/// # use rpcnet_client::{ClusterClient, Method, RpcError};
/// # use std::sync::Arc;
/// const SQUARE: Method<u64, u64> = Method::new("square");
///
/// async fn squared(client: &Arc<ClusterClient>) -> Result<u64, RpcError> {
///     let workers = client.workers(Some("role=worker"));
///     SQUARE.call(&workers, &12).await
/// }
/// ```
#[derive(Clone)]
pub struct WorkerChannel {
    client: Arc<ClusterClient>,
    route: Arc<Route>,
    options: WorkerCallOptions,
}

impl WorkerChannel {
    pub(super) fn new(client: &Arc<ClusterClient>, route: &Arc<Route>) -> Self {
        Self {
            client: Arc::clone(client),
            route: Arc::clone(route),
            options: WorkerCallOptions::new(),
        }
    }

    /// Sets options of all calls over this channel, for what a call does not say itself. An
    /// idempotency key is not among them: no two calls may share one.
    #[must_use]
    pub fn with_options(mut self, options: WorkerCallOptions) -> Self {
        self.options = options;
        self
    }

    /// The client that makes the calls.
    #[must_use]
    pub fn client(&self) -> &Arc<ClusterClient> {
        &self.client
    }

    /// Filter of the workers; `None` for all.
    #[must_use]
    pub fn filter(&self) -> Option<&str> {
        self.route.filter()
    }

    fn call<Req, Reply, E>(
        &self,
        method: &Method<Req, Reply, E>,
        options: MethodOptions,
    ) -> TypedClusterCall<'_> {
        TypedClusterCall {
            method: method.untyped(),
            options_of_method: method.options(),
            options,
            options_of_channel: &self.options,
        }
    }

    /// Makes a unary call, whatever its types.
    fn call_encoded<'a>(
        &'a self,
        typed: &'a TypedClusterCall<'a>,
        request: EncodedRequest<'a>,
    ) -> impl Future<Output = Result<(EncodedReply, Worker), ClusterError>> {
        let (client, method) = (&self.client, typed.method);
        let call = move || {
            let plan = client.settings.typed_plan(typed);
            let destination = Destination::Matching(self.filter());
            ClusterCall::typed(plan, &typed.method, destination).on_route(Some(&self.route))
        };
        let operation = TypedUnaryCall { method, request };
        client.executor.execute(call, operation, with_worker)
    }

    /// Opens a stream, whatever its types.
    async fn open(
        &self,
        typed: TypedClusterCall<'_>,
        streams: TypedStreams<'_>,
    ) -> Result<(OpenedStream, Arc<FirstReply>), RpcError> {
        let (client, method) = (&self.client, typed.method);
        let plan = client.settings.typed_stream_plan(&typed);
        let destination = Destination::Matching(self.filter());
        let call =
            || ClusterCall::typed(plan, &typed.method, destination).on_route(Some(&self.route));
        let operation = OpenTypedStream { method, streams };
        let (opened, worker) = client
            .executor
            .execute(call, operation, with_worker)
            .await?;
        Ok((
            opened,
            FirstReply::new(client, called(method), &plan, worker),
        ))
    }
}

/// Fails if a request can be sent to no worker at all.
fn check_encodable(
    method: UntypedMethod,
    postcard: &Result<Bytes, CodecError>,
) -> Result<(), RpcError> {
    match postcard {
        // Types that postcard cannot carry have another encoding.
        Err(error) if !method.schema().needs_named_encoding() => {
            Err(ClusterError::Encode(error.clone()).into())
        }
        _ => Ok(()),
    }
}

fn undecodable(worker: &Worker, encoding: Encoding, error: CodecError) -> RpcError {
    let node = worker.id().clone();
    ClusterError::Decode { node, error }.into_rpc_error(match encoding {
        Encoding::Postcard => Code::Internal,
        Encoding::Named => Code::Incompatible,
    })
}

impl Channel for WorkerChannel {
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
        let postcard = request.encode();
        check_encodable(method.untyped(), &postcard)?;
        let request = EncodedRequest {
            postcard: &postcard,
            named: &|| request.encode_as(Encoding::Named),
        };
        let call = self.call(method, options);
        let (reply, worker) = self.call_encoded(&call, request).await?;
        let EncodedReply { encoding, bytes } = reply;
        Reply::decode_as(bytes, encoding).map_err(|error| undecodable(&worker, encoding, error))
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
        check_encodable(method.untyped(), &postcard)?;
        let request = EncodedRequest {
            postcard: &postcard,
            named: &|| request.encode_as(Encoding::Named),
        };
        let call = self.call(method, options);
        let (opened, first_reply) = self.open(call, TypedStreams::Replies(request)).await?;
        let replies = WorkerStream::new(opened.into_replies(), &first_reply);
        Ok(Replies::forwarded(replies))
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
        let call = self.call(method, options);
        let (opened, first_reply) = self.open(call, TypedStreams::Requests).await?;
        let reply = opened.send_all(requests).await;
        first_reply.on_reply(reply.as_ref().err());
        reply
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
        let call = self.call(method, options);
        let (opened, first_reply) = self.open(call, TypedStreams::Both).await?;
        let replies = WorkerStream::new(opened.converse(requests), &first_reply);
        Ok(Replies::forwarded(replies))
    }
}

impl fmt::Debug for WorkerChannel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkerChannel")
            .field("filter", &self.filter())
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}
