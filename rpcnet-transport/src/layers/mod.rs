//! Layers: interceptors (gRPC) of calls, on both sides.

mod client_layer;
mod incoming_call;
mod layered_call;
mod outgoing_call;
mod server_layer;
mod stack;

use std::time::Duration;

use futures::future::BoxFuture;
use tokio::time::Instant;

pub use self::{
    client_layer::{AsyncClientLayer, ClientLayer},
    incoming_call::IncomingCall,
    outgoing_call::OutgoingCall,
    server_layer::{AsyncServerLayer, ServerLayer},
};
pub(crate) use self::{
    layered_call::LayeredCall,
    stack::{HandlerLayers, LayerStack},
};
use crate::{Code, Processed, Status};

/// End of a call, as a layer sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct CallEnd {
    /// Code with which it ended.
    pub code: Code,
    /// Whether the request was processed.
    pub processed: Processed,
    /// Size of the reply, or of the details of the error; without the messages of a stream.
    pub reply_bytes: usize,
    /// Time since the layers began: for a stream, to its end.
    pub duration: Duration,
}

/// Call that passes layers.
pub(crate) trait LayerCall {
    fn deadline(&self) -> Option<Instant>;
}

/// Layer of either form, around calls of one side.
trait AnyLayer<C>: Send + Sync {
    fn before<'a>(&'a self, call: &'a mut C) -> LayerStart<'a>;
    fn after(&self, call: &C, end: &CallEnd);
    fn is_async(&self) -> bool;
}

/// Outcome of the first function of a layer, or the wait for it.
enum LayerStart<'a> {
    Done(Result<(), Status>),
    Pending(BoxFuture<'a, Result<(), Status>>),
}
