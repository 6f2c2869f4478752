//! Layers of a server.

use futures::future::BoxFuture;

use super::{AnyLayer, CallEnd, IncomingCall, LayerStart};
use crate::Status;

/// Layer of a server, an interceptor in the words of gRPC: sees every call of a
/// [`Router`](crate::Router), before its handler and after its end.
///
/// ```
/// use rpcnet_transport::{Code, CallEnd, IncomingCall, Router, ServerLayer, Status};
///
/// struct RequireTenant;
///
/// impl ServerLayer for RequireTenant {
///     fn before(&self, call: &mut IncomingCall) -> Result<(), Status> {
///         match call.metadata().text("tenant") {
///             Some(tenant) => call.set_extension(tenant.to_owned()),
///             None => return Err(Status::new(Code::Unauthenticated, "metadata without a tenant")),
///         }
///         Ok(())
///     }
///
///     fn after(&self, call: &IncomingCall, end: &CallEnd) {
///         println!("{} {} {:?}", call.method(), end.code, end.duration);
///     }
/// }
///
/// let router = Router::new()
///     .layer(RequireTenant)
///     .raw("whose", |cx, _| async move {
///         let tenant = cx.extension::<String>().expect("the layer has set it");
///         Ok(tenant.as_bytes().to_vec().into())
///     });
/// ```
///
/// Layers run in the order in which they were added, and see the end of a call in the opposite
/// order. Neither function is asynchronous, and both run where requests are read: they must be
/// quick. A layer that has to look something up is an [`AsyncServerLayer`]. A panic of `before`
/// fails the call as [`Code::Internal`](crate::Code::Internal), unprocessed; one of `after` is
/// ignored.
pub trait ServerLayer: Send + Sync + 'static {
    /// Runs when the header of a request was read: its method exists, its types fit, its deadline
    /// has not passed and the server has room for it. The body may not have arrived, and the call
    /// has no permit of [`Admission`](crate::Admission) yet. A caller that only compares
    /// [schemas](crate::schema) makes no call: layers do not see it.
    ///
    /// # Errors
    ///
    /// The status with which the call is rejected. Its handler does not run, so the caller learns
    /// that the request was not processed.
    fn before(&self, call: &mut IncomingCall) -> Result<(), Status> {
        let _ = call;
        Ok(())
    }

    /// Runs once for each call that [`before`](Self::before) has let pass, however it ends: with
    /// the result of its handler, rejected by a later layer or for overload, cancelled, at its
    /// deadline.
    fn after(&self, call: &IncomingCall, end: &CallEnd) {
        let _ = (call, end);
    }
}

/// Layer of a server that has to look something up, as in a database of tokens.
///
/// Its calls have tasks of their own, which those of a [`ServerLayer`] need not have. It cannot
/// limit the priority of a call. A call acquires its permit of [`Admission`](crate::Admission)
/// afterwards.
///
/// ```
/// use rpcnet_transport::{AsyncServerLayer, Code, IncomingCall, Status};
///
/// struct Accounts;
///
/// impl Accounts {
///     async fn of_token(&self, token: &[u8]) -> Option<String> {
/// #       let _ = token;
///         // A query.
/// #       None
///     }
/// }
///
/// impl AsyncServerLayer for Accounts {
///     async fn before(&self, call: &IncomingCall) -> Result<(), Status> {
///         let token = call.metadata().get("token").unwrap_or_default();
///         match self.of_token(token).await {
///             Some(account) => call.set_extension(account),
///             None => return Err(Status::new(Code::Unauthenticated, "unknown token")),
///         }
///         Ok(())
///     }
/// }
/// ```
pub trait AsyncServerLayer: Send + Sync + 'static {
    /// Runs as [`ServerLayer::before`] does. It is dropped when the call is cancelled or its
    /// deadline passes.
    ///
    /// # Errors
    ///
    /// The status with which the call is rejected, unprocessed.
    fn before(&self, call: &IncomingCall) -> impl Future<Output = Result<(), Status>> + Send;

    /// Runs as [`ServerLayer::after`] does.
    fn after(&self, call: &IncomingCall, end: &CallEnd) {
        let _ = (call, end);
    }
}

pub(super) struct SyncServer<L>(pub(super) L);

impl<L: ServerLayer> AnyLayer<IncomingCall> for SyncServer<L> {
    fn before<'a>(&'a self, call: &'a mut IncomingCall) -> LayerStart<'a> {
        LayerStart::Done(self.0.before(call))
    }

    fn after(&self, call: &IncomingCall, end: &CallEnd) {
        self.0.after(call, end);
    }

    fn is_async(&self) -> bool {
        false
    }
}

pub(super) struct AsyncServer<L>(pub(super) L);

impl<L: AsyncServerLayer> AnyLayer<IncomingCall> for AsyncServer<L> {
    fn before<'a>(&'a self, call: &'a mut IncomingCall) -> LayerStart<'a> {
        let before: BoxFuture<'a, _> = Box::pin(self.0.before(call));
        LayerStart::Pending(before)
    }

    fn after(&self, call: &IncomingCall, end: &CallEnd) {
        self.0.after(call, end);
    }

    fn is_async(&self) -> bool {
        true
    }
}
