//! Metadata of the calls that a future makes, and of their replies.

use std::{
    cell::Cell,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use parking_lot::Mutex;
use pin_project_lite::pin_project;

use super::{CallHeaders, Metadata, TraceContext};

/// Metadata for the calls that a future makes: of a single call, or of all that it awaits.
///
/// Every call takes what is set when it is made, however it is made: by a name, by a typed method,
/// over a connection or through a cluster, whose attempts all take the same. A task that the future
/// spawns takes nothing, nor does a handler that serves the call.
///
/// ```
/// use rpcnet_transport::{CallMetadataExt, Metadata, RpcClient, RpcError};
///
/// # async fn example(client: RpcClient) -> Result<(), Box<dyn std::error::Error>> {
/// let metadata = Metadata::new().with("tenant", "acme")?;
/// let (reply, reply_metadata) = client
///     .call("render", "scene-7")
///     .with_metadata(metadata)
///     .with_reply_metadata()
///     .await;
/// println!("{} bytes, cached: {:?}", reply?.len(), reply_metadata.text("cached"));
/// # Ok(())
/// # }
/// ```
///
/// A call to a server that is older than metadata fails here, unsent, as
/// [incompatible](crate::Code::Incompatible); a trace context is left out for it.
pub trait CallMetadataExt: Future + Sized {
    /// Sends this metadata with the calls of the future. Where an outer future has set some too,
    /// keys of both have the value that is set here.
    fn with_metadata(self, metadata: Metadata) -> WithCallMetadata<Self> {
        WithCallMetadata::new(self, HeadersChange::Metadata(metadata))
    }

    /// Sends this trace context with the calls of the future.
    fn with_trace_context(self, trace: TraceContext) -> WithCallMetadata<Self> {
        WithCallMetadata::new(self, HeadersChange::Trace(trace))
    }

    /// Adds the metadata of the reply to the output: of the last reply, if the future makes several
    /// calls, and empty if it had none. Errors of handlers have metadata too; a call that was sent
    /// and ends without a reply, as at its deadline, counts as one without metadata. A call that
    /// streams its replies has it at its end: the future reads them all.
    fn with_reply_metadata(self) -> WithReplyMetadata<Self> {
        let received = Arc::<Mutex<Metadata>>::default();
        WithReplyMetadata {
            future: WithCallMetadata::new(self, HeadersChange::Reply(Arc::clone(&received))),
            received,
        }
    }
}

impl<F: Future> CallMetadataExt for F {}

pin_project! {
    /// Future whose calls have headers: see [`CallMetadataExt`].
    #[derive(Debug)]
    #[must_use = "futures do nothing unless they are awaited"]
    pub struct WithCallMetadata<F> {
        #[pin]
        future: F,
        // Until the first poll.
        change: Option<HeadersChange>,
        outgoing: Option<Arc<OutgoingHeaders>>,
    }
}

pin_project! {
    /// Future with the metadata of the reply: see [`CallMetadataExt`].
    #[derive(Debug)]
    #[must_use = "futures do nothing unless they are awaited"]
    pub struct WithReplyMetadata<F> {
        #[pin]
        future: WithCallMetadata<F>,
        received: Arc<Mutex<Metadata>>,
    }
}

/// Change of the headers that were set outside of a future.
#[derive(Debug)]
enum HeadersChange {
    Metadata(Metadata),
    Trace(TraceContext),
    Reply(Arc<Mutex<Metadata>>),
    /// Others in their place; the place of the metadata of the reply stays.
    Replace(CallHeaders),
    /// None of them are left.
    Clear,
}

impl HeadersChange {
    fn apply(self, outgoing: Option<Arc<OutgoingHeaders>>) -> Option<Arc<OutgoingHeaders>> {
        let mut changed = outgoing.as_deref().cloned().unwrap_or_default();
        match self {
            Self::Metadata(metadata) => changed.headers.merge_metadata(metadata),
            Self::Trace(trace) => changed.headers.trace = Some(trace),
            Self::Reply(received) => {
                changed.headers.wants_reply_metadata = true;
                changed.reply = Some(received);
            }
            Self::Replace(headers) => changed.headers = headers,
            Self::Clear => return None,
        }
        (!changed.is_empty()).then(|| Arc::new(changed))
    }
}

impl<F> WithCallMetadata<F> {
    fn new(future: F, change: HeadersChange) -> Self {
        Self {
            future,
            change: Some(change),
            outgoing: None,
        }
    }

    /// A future whose calls have these headers instead of those that are set outside of it.
    pub(crate) fn replaced(future: F, headers: CallHeaders) -> Self {
        Self::new(future, HeadersChange::Replace(headers))
    }

    /// A future whose calls have none of the headers that are set outside of it.
    pub(crate) fn without(future: F) -> Self {
        Self::new(future, HeadersChange::Clear)
    }
}

impl<F: Future> Future for WithCallMetadata<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        if let Some(change) = this.change.take() {
            *this.outgoing = change.apply(outgoing_headers());
        }
        let _scope = HeadersScope::enter(this.outgoing.clone());
        this.future.poll(cx)
    }
}

impl<F: Future> Future for WithReplyMetadata<F> {
    type Output = (F::Output, Metadata);

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let output = ready!(this.future.poll(cx));
        Poll::Ready((output, std::mem::take(&mut *this.received.lock())))
    }
}

/// Headers of the calls that are made on this thread, while a future is polled.
#[derive(Debug, Clone, Default)]
pub(crate) struct OutgoingHeaders {
    pub(crate) headers: CallHeaders,
    /// Place of the metadata of a reply.
    reply: Option<Arc<Mutex<Metadata>>>,
}

impl OutgoingHeaders {
    fn is_empty(&self) -> bool {
        self.headers.is_empty() && self.reply.is_none()
    }
}

/// Headers of a call that is made here and now; `None` if it has none.
#[inline]
pub(crate) fn outgoing_headers() -> Option<Arc<OutgoingHeaders>> {
    if !IS_SET.get() {
        return None;
    }
    OUTGOING.with(|outgoing| {
        let current = outgoing.take();
        outgoing.set(current.clone());
        current
    })
}

/// Hands the metadata of a reply to the future that waits for it, if any does, in place of that of
/// an earlier reply. `None` for a reply without metadata, and for a call that ends without a reply.
#[inline]
pub(crate) fn deliver_reply_metadata(metadata: Option<Metadata>) {
    if IS_SET.get() {
        replace_reply_metadata(metadata.unwrap_or_default());
    }
}

#[cold]
fn replace_reply_metadata(metadata: Metadata) {
    if let Some(outgoing) = outgoing_headers()
        && let Some(reply) = &outgoing.reply
    {
        *reply.lock() = metadata;
    }
}

/// Guard that restores the previous headers when it is dropped, also when a call panics.
#[derive(Debug)]
#[must_use]
pub(crate) struct HeadersScope {
    before: Option<Arc<OutgoingHeaders>>,
}

impl HeadersScope {
    /// Calls that are made on this thread have none of the headers that are set outside, if any
    /// are.
    #[must_use]
    pub(crate) fn clear() -> Option<Self> {
        IS_SET.get().then(|| Self::enter(None))
    }

    /// Calls that are made on this thread have these headers.
    pub(crate) fn enter(scope: Option<Arc<OutgoingHeaders>>) -> Self {
        IS_SET.set(scope.is_some());
        Self {
            before: OUTGOING.replace(scope),
        }
    }
}

impl Drop for HeadersScope {
    fn drop(&mut self) {
        let before = self.before.take();
        IS_SET.set(before.is_some());
        OUTGOING.set(before);
    }
}

thread_local! {
    /// Whether there are any, at the cost of one load: most calls have none.
    static IS_SET: Cell<bool> = const { Cell::new(false) };
    static OUTGOING: Cell<Option<Arc<OutgoingHeaders>>> = const { Cell::new(None) };
}

#[cfg(test)]
mod tests {
    use futures::executor::block_on;

    use super::*;

    fn current() -> CallHeaders {
        outgoing_headers().map_or_else(CallHeaders::default, |set| set.headers.clone())
    }

    fn metadata(key: &str, value: &str) -> Metadata {
        Metadata::new().with(key, value).unwrap()
    }

    #[test]
    fn scopes_nest_and_the_inner_value_of_a_key_counts() {
        let trace = TraceContext::new([1; 16], [2; 8], 1).unwrap();
        let inner = async { current() }
            .with_metadata(metadata("tenant", "inner"))
            .with_trace_context(trace);
        let outer = async { (inner.await, current()) };
        let outer_metadata = metadata("tenant", "outer").with("job", "7").unwrap();
        let (inner, outer) = block_on(outer.with_metadata(outer_metadata));
        assert_eq!(inner.metadata.text("tenant"), Some("inner"));
        assert_eq!(inner.metadata.text("job"), Some("7"));
        assert_eq!(inner.trace, Some(trace));
        assert_eq!(outer.metadata.text("tenant"), Some("outer"));
        assert_eq!(outer.trace, None);
        assert_eq!(current(), CallHeaders::default());
    }

    #[test]
    fn reply_metadata_reaches_the_future_that_asked_last() {
        let call = async {
            deliver_reply_metadata(Some(metadata("of", "first")));
            deliver_reply_metadata(Some(metadata("of", "second")));
            current().wants_reply_metadata
        };
        let (wants, received) = block_on(call.with_reply_metadata());
        assert!(wants);
        assert_eq!(received.text("of"), Some("second"));
        let calls = async {
            deliver_reply_metadata(Some(metadata("of", "first")));
            deliver_reply_metadata(None);
        };
        let ((), received) = block_on(calls.with_reply_metadata());
        assert!(received.is_empty(), "the last reply had none");
        deliver_reply_metadata(Some(metadata("of", "none")));
        let ((), received) = block_on(async {}.with_reply_metadata());
        assert!(received.is_empty());
    }

    #[test]
    fn a_panic_ends_the_scope() {
        let call = async { panic!("in a call") };
        let call = call.with_metadata(metadata("tenant", "acme"));
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| block_on(call)));
        assert!(ended.is_err());
        assert!(outgoing_headers().is_none());
    }
}
