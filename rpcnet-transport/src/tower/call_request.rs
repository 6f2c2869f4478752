//! Request of a unary call, on the side of the caller.

use std::sync::Arc;

use bytes::Bytes;
use futures::{FutureExt, TryFutureExt, future::BoxFuture};

use super::CallReply;
use crate::{CallMetadataExt, CallOptions, Metadata, TraceContext};

/// Request of a unary call: method, body, options and metadata. Cheap to clone, as for a retry.
///
/// `O` is the type of the options: [`CallOptions`] over a connection.
#[derive(Debug, Clone)]
pub struct CallRequest<O = CallOptions> {
    method: Arc<str>,
    body: Bytes,
    options: O,
    metadata: Metadata,
    trace: Option<TraceContext>,
    wants_reply_metadata: bool,
}

impl<O> CallRequest<O> {
    /// A request with default options and without metadata.
    #[must_use]
    pub fn new(method: &str, body: impl Into<Bytes>) -> Self
    where
        O: Default,
    {
        Self {
            method: method.into(),
            body: body.into(),
            options: O::default(),
            metadata: Metadata::new(),
            trace: None,
            wants_reply_metadata: false,
        }
    }

    /// Replaces the options.
    #[must_use]
    pub fn with_options(mut self, options: O) -> Self {
        self.options = options;
        self
    }

    /// Replaces the body.
    #[must_use]
    pub fn with_body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// Replaces the metadata that the request sends, in addition to that which is
    /// [set](CallMetadataExt::with_metadata) where the call is awaited.
    #[must_use]
    pub fn with_metadata(mut self, metadata: Metadata) -> Self {
        self.metadata = metadata;
        self
    }

    /// Sets the trace context that the request sends.
    #[must_use]
    pub fn with_trace_context(mut self, trace: TraceContext) -> Self {
        self.trace = Some(trace);
        self
    }

    /// Asks for the metadata of the reply; default not. That of an error is not a part of the
    /// error: [`CallMetadataExt::with_reply_metadata`] reads both.
    #[must_use]
    pub fn with_reply_metadata(mut self) -> Self {
        self.wants_reply_metadata = true;
        self
    }

    /// Name of the method.
    #[must_use]
    pub fn method(&self) -> &str {
        &self.method
    }

    /// The body.
    #[must_use]
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// The options.
    #[must_use]
    pub fn options(&self) -> &O {
        &self.options
    }

    /// The metadata.
    #[must_use]
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// The trace context, if one was set.
    #[must_use]
    pub fn trace_context(&self) -> Option<TraceContext> {
        self.trace
    }

    /// Makes the call by a function of method, body and options, with the metadata and the trace
    /// context of the request: for services over clients of other types.
    pub fn send_with<F, Fut, E>(self, call: F) -> BoxFuture<'static, Result<CallReply, E>>
    where
        F: FnOnce(Arc<str>, Bytes, O) -> Fut,
        Fut: Future<Output = Result<Bytes, E>> + Send + 'static,
        E: Send + 'static,
    {
        let call = call(self.method, self.body, self.options);
        if self.metadata.is_empty() && self.trace.is_none() && !self.wants_reply_metadata {
            // Headers cost a call time and bytes, and most have none.
            return call.map_ok(CallReply::new).boxed();
        }
        let call = call.with_metadata(self.metadata);
        let call = match self.trace {
            Some(trace) => call.with_trace_context(trace).boxed(),
            None => call.boxed(),
        };
        if !self.wants_reply_metadata {
            return call.map_ok(CallReply::new).boxed();
        }
        let call = call.with_reply_metadata();
        let call = call.map(|(reply, metadata)| {
            let body = reply?;
            Ok(CallReply::new(body).with_metadata(metadata))
        });
        call.boxed()
    }
}
