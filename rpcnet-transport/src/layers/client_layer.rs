//! Layers of a client.

use futures::future::BoxFuture;

use super::{AnyLayer, CallEnd, LayerStart, OutgoingCall};
use crate::Status;

/// Layer of a client, an interceptor in the words of gRPC: sees every attempt of every call that an
/// endpoint makes, before it is sent and after its end. It is set by
/// [`TransportConfig::with_client_layer`](crate::TransportConfig::with_client_layer).
///
/// ```
/// use rpcnet_transport::{ClientLayer, CallEnd, OutgoingCall, Status, TransportConfig};
///
/// struct Token(String);
///
/// impl ClientLayer for Token {
///     fn before(&self, call: &mut OutgoingCall) -> Result<(), Status> {
///         let set = call.set_metadata("token", &self.0);
///         set.map_err(|error| Status::invalid_request(error.to_string()))
///     }
///
///     fn after(&self, call: &OutgoingCall, end: &CallEnd) {
///         let (node, method) = (call.peer().name(), call.method());
///         println!("{method} on {node}: {} in {:?}", end.code, end.duration);
///     }
/// }
///
/// let config = TransportConfig::lan().with_client_layer(Token("t-17".to_owned()));
/// # drop(config);
/// ```
///
/// Layers run in the order in which they were added, and see the end of a call in the opposite
/// order. They must be quick; one that has to wait for something is an [`AsyncClientLayer`]. A
/// panic of `before` fails the call as [`Code::Internal`](crate::Code::Internal), unsent; one of
/// `after` is ignored.
pub trait ClientLayer: Send + Sync + 'static {
    /// Runs before the request is sent. It may set metadata and a trace context.
    ///
    /// # Errors
    ///
    /// The status that becomes the error of the call. Nothing is sent, and a client of a cluster
    /// tries no other worker: the error [is local](crate::RpcError::is_local).
    fn before(&self, call: &mut OutgoingCall) -> Result<(), Status> {
        let _ = call;
        Ok(())
    }

    /// Runs once for each call that [`before`](Self::before) has let pass, however it ends: with a
    /// reply, an error, cancelled, at its deadline. A call that streams its replies ends with the
    /// last one, or when they are dropped.
    fn after(&self, call: &OutgoingCall, end: &CallEnd) {
        let _ = (call, end);
    }
}

/// Layer of a client that has to wait for something, as for a token that expires.
///
/// ```
/// use rpcnet_transport::{AsyncClientLayer, OutgoingCall, Status};
///
/// struct Tokens;
///
/// impl Tokens {
///     async fn current(&self) -> Result<String, Status> {
///         // From memory, or from the service that issues them.
/// #       Ok(String::new())
///     }
/// }
///
/// impl AsyncClientLayer for Tokens {
///     async fn before(&self, call: &mut OutgoingCall) -> Result<(), Status> {
///         let token = self.current().await?;
///         let set = call.set_metadata("token", token);
///         set.map_err(|error| Status::invalid_request(error.to_string()))
///     }
/// }
/// ```
///
/// A layer that makes calls of its own on the same endpoint sees those too: it has to let them
/// pass. They have no metadata of the call that it serves, but what the layer sets for them.
pub trait AsyncClientLayer: Send + Sync + 'static {
    /// Runs as [`ClientLayer::before`] does, within the deadline of the call.
    ///
    /// # Errors
    ///
    /// The status that becomes the error of the call. Nothing is sent.
    fn before(&self, call: &mut OutgoingCall) -> impl Future<Output = Result<(), Status>> + Send;

    /// Runs as [`ClientLayer::after`] does.
    fn after(&self, call: &OutgoingCall, end: &CallEnd) {
        let _ = (call, end);
    }
}

pub(super) struct SyncClient<L>(pub(super) L);

impl<L: ClientLayer> AnyLayer<OutgoingCall> for SyncClient<L> {
    fn before<'a>(&'a self, call: &'a mut OutgoingCall) -> LayerStart<'a> {
        LayerStart::Done(self.0.before(call))
    }

    fn after(&self, call: &OutgoingCall, end: &CallEnd) {
        self.0.after(call, end);
    }

    fn is_async(&self) -> bool {
        false
    }
}

pub(super) struct AsyncClient<L>(pub(super) L);

impl<L: AsyncClientLayer> AnyLayer<OutgoingCall> for AsyncClient<L> {
    fn before<'a>(&'a self, call: &'a mut OutgoingCall) -> LayerStart<'a> {
        let before: BoxFuture<'a, _> = Box::pin(self.0.before(call));
        LayerStart::Pending(before)
    }

    fn after(&self, call: &OutgoingCall, end: &CallEnd) {
        self.0.after(call, end);
    }

    fn is_async(&self) -> bool {
        true
    }
}
