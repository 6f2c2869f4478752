//! Context of a call, as its handler sees it.

use std::{
    any::Any,
    fmt,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering::SeqCst, fence},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::{
    call_attachments::CallAttachments, call_properties::CallProperties, detached_call::DetachedCall,
};
use crate::{
    CallOptions, Inherited, Metadata, Peer, Priority, TraceContext, codec::Encoding,
    metadata::CallHeaders,
};

/// Context of a call: what its handler may know about it. Cheap to clone.
#[derive(Clone)]
pub struct CallContext(Arc<Inner>);

struct Inner {
    peer: Peer,
    call: CallInfo,
    has_ended: AtomicBool,
    /// Created when a task waits for the end of the call; most handlers do not.
    end_token: OnceLock<CancellationToken>,
    /// Passed on to the task in which the handler runs, if the call goes on without its caller.
    detached: Mutex<Option<Box<DetachedCall>>>,
}

/// Properties of a call that its request states.
#[derive(Debug, Clone)]
pub(crate) struct CallInfo {
    pub(crate) method: Arc<str>,
    /// Encoding of the request and the reply.
    pub(crate) encoding: Encoding,
    pub(crate) meta: CallProperties,
    /// `None` for most calls.
    pub(crate) attachments: Option<Arc<CallAttachments>>,
}

impl CallContext {
    pub(crate) fn new(peer: Peer, call: CallInfo) -> Self {
        Self(Arc::new(Inner {
            peer,
            call,
            has_ended: AtomicBool::new(false),
            end_token: OnceLock::new(),
            detached: Mutex::default(),
        }))
    }

    /// The context of a call in this process, without a network.
    pub(crate) fn local(
        method: &str,
        encoding: Encoding,
        options: &CallOptions,
        attachments: Option<Arc<CallAttachments>>,
    ) -> Self {
        let meta = CallProperties {
            attempt: 0,
            idempotent: options.idempotent,
            priority: options.priority(),
            idempotency_key: options.idempotency_key,
            deadline: options.resolved_deadline(),
        };
        let call = CallInfo {
            method: method.into(),
            encoding,
            meta,
            attachments,
        };
        Self::new(Peer::local(), call)
    }

    /// A context that ends when this token is cancelled, and not before.
    pub(crate) fn with_token(peer: Peer, call: CallInfo, token: CancellationToken) -> Self {
        Self(Arc::new(Inner {
            peer,
            call,
            has_ended: AtomicBool::new(false),
            end_token: OnceLock::from(token),
            detached: Mutex::default(),
        }))
    }

    /// Deadline and priority that calls inherit which the handler makes.
    pub(crate) fn inherited(&self) -> Inherited {
        Inherited::new(self.0.call.meta.deadline, self.priority())
    }

    /// Lowers the priority of a call whose context was made before its layers ran.
    pub(super) fn limit_priority(&self, priority: Priority) {
        if let Some(attachments) = &self.0.call.attachments {
            attachments.set_priority(priority);
        }
    }

    /// Properties that the request states.
    pub(super) fn meta(&self) -> CallProperties {
        self.0.call.meta
    }

    /// Reuses the context for another call of the same method. `false` if another task still holds
    /// it.
    #[inline(always)]
    pub(crate) fn reuse(&mut self, meta: &CallProperties) -> bool {
        let Some(inner) = Arc::get_mut(&mut self.0) else {
            return false;
        };
        inner.call.meta = *meta;
        if inner.call.attachments.is_some() {
            inner.call.attachments = None;
        }
        *inner.has_ended.get_mut() = false;
        // Most contexts have neither.
        if inner.end_token.get().is_some() {
            inner.end_token = OnceLock::new();
        }
        if inner.detached.get_mut().is_some() {
            *inner.detached.get_mut() = None;
        }
        true
    }

    /// Sets the attachments of a call that has just begun.
    #[cold]
    pub(super) fn with_attachments(mut self, attachments: Arc<CallAttachments>) -> Self {
        match Arc::get_mut(&mut self.0) {
            Some(inner) => {
                inner.call.attachments = Some(attachments);
                self
            }
            None => {
                let call = CallInfo {
                    attachments: Some(attachments),
                    ..self.0.call.clone()
                };
                Self::new(self.0.peer.clone(), call)
            }
        }
    }

    /// Headers of the reply, if the handler has set any.
    #[inline]
    pub(crate) fn take_reply_headers(&self) -> Option<Box<CallHeaders>> {
        self.0.call.attachments.as_ref()?.take_reply_headers()
    }

    /// Stores the parts of a call that goes on without its caller, for the task that runs the
    /// handler.
    pub(super) fn set_detached(&self, detached: DetachedCall) {
        *self.0.detached.lock() = Some(Box::new(detached));
    }

    /// Takes the stored parts.
    pub(super) fn take_detached(&self) -> Option<Box<DetachedCall>> {
        self.0.detached.lock().take()
    }

    /// Drops the stored parts, if the call was answered without them.
    #[cfg(feature = "tower")]
    pub(crate) fn drop_detached(&self) {
        drop(self.take_detached());
    }

    /// A context of the same call that does not end with it, but at its own deadline.
    pub(super) fn detached_with_deadline(&self, deadline: Option<tokio::time::Instant>) -> Self {
        let mut call = self.0.call.clone();
        call.meta.deadline = deadline;
        Self::new(self.0.peer.clone(), call)
    }

    /// Encoding of the request and the reply.
    pub(super) fn encoding(&self) -> Encoding {
        self.0.call.encoding
    }

    pub(super) fn shared_method(&self) -> Arc<str> {
        Arc::clone(&self.0.call.method)
    }

    /// Ends the context unless no other task holds it, and returns whether that is so.
    pub(crate) fn end_unless_unique(&mut self) -> bool {
        if let Some(inner) = Arc::get_mut(&mut self.0) {
            // They end with their call, and not with the next one.
            if inner.call.attachments.is_some() {
                inner.call.attachments = None;
            }
            return true;
        }
        self.end();
        false
    }

    /// Ends the context, because the call is over.
    pub(crate) fn end(&self) {
        self.0.has_ended.store(true, SeqCst);
        // Between this and `cancelled`, at least one sees what the other wrote.
        fence(SeqCst);
        if let Some(token) = self.0.end_token.get() {
            token.cancel();
        }
    }

    /// The caller: its name, address and [identity](Peer::identity).
    #[must_use]
    pub fn peer(&self) -> &Peer {
        &self.0.peer
    }

    /// Name of the method.
    #[must_use]
    pub fn method(&self) -> &str {
        &self.0.call.method
    }

    /// Number of this attempt of the caller, from 0.
    #[must_use]
    pub fn attempt(&self) -> u8 {
        self.0.call.meta.attempt
    }

    /// Whether the caller declares that the call may run twice.
    #[must_use]
    pub fn is_idempotent(&self) -> bool {
        self.0.call.meta.idempotent
    }

    /// Priority of the call: the one that the caller claims, as far as
    /// [layers](crate::IncomingCall::limit_priority) permit it.
    #[must_use]
    pub fn priority(&self) -> Priority {
        let attachments = self.0.call.attachments.as_ref();
        let lowered = attachments.and_then(|attachments| attachments.priority());
        lowered.unwrap_or(self.0.call.meta.priority)
    }

    /// Idempotency key, which all attempts of this call share and no other call has; `None` if the
    /// caller gave none.
    #[must_use]
    pub fn idempotency_key(&self) -> Option<u128> {
        self.0.call.meta.idempotency_key.map(u128::from_le_bytes)
    }

    /// Metadata of the request; empty for most calls.
    #[must_use]
    pub fn metadata(&self) -> &Metadata {
        static NONE: Metadata = Metadata::new();
        let attachments = self.0.call.attachments.as_ref();
        attachments.map_or(&NONE, |attachments| &attachments.headers.metadata)
    }

    /// Trace context of the caller, if it sent one.
    #[must_use]
    pub fn trace_context(&self) -> Option<TraceContext> {
        self.0.call.attachments.as_ref()?.headers.trace
    }

    /// Value of a type that a [layer](crate::ServerLayer) has set for this call.
    #[must_use]
    pub fn extension<T: Any + Send + Sync>(&self) -> Option<Arc<T>> {
        self.0.call.attachments.as_ref()?.extension()
    }

    /// Whether the caller reads metadata of the reply.
    #[must_use]
    pub fn wants_reply_metadata(&self) -> bool {
        let attachments = self.0.call.attachments.as_ref();
        attachments.is_some_and(|attachments| attachments.headers.wants_reply_metadata)
    }

    /// Sets the metadata of the reply, of an error too, instead of what was set before. It is
    /// dropped if the caller does not [read it](crate::CallMetadataExt::with_reply_metadata). The
    /// repeat of a call that is answered from an [idempotency
    /// cache](crate::Router::with_idempotency) has none.
    pub fn set_reply_metadata(&self, metadata: Metadata) {
        if let Some(attachments) = &self.0.call.attachments {
            attachments.set_reply_metadata(metadata);
        }
    }

    /// Runs a future whose calls inherit the deadline and the priority of this call, as the calls
    /// of the handler do. Meant for tasks that the handler spawns.
    ///
    /// ```
    /// # use rpcnet_transport::{CallContext, RpcClient};
    /// async fn handler(cx: CallContext, next: RpcClient) {
    ///     tokio::spawn(cx.scope(async move { next.call("audit", "something happened").await }));
    /// }
    /// ```
    pub fn scope<F: Future>(&self, future: F) -> impl Future<Output = F::Output> + use<F> {
        self.inherited().scope(future)
    }

    /// Latest end of the call; `None` if the caller set no deadline. For a call that is
    /// [cached](crate::Router::with_idempotency) by its key, the latest end of its run, which does
    /// not depend on its callers.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.0
            .call
            .meta
            .deadline
            .map(tokio::time::Instant::into_std)
    }

    /// Time left; zero after the deadline, `None` if the caller set no deadline.
    #[must_use]
    pub fn remaining(&self) -> Option<Duration> {
        let now = tokio::time::Instant::now();
        self.0
            .call
            .meta
            .deadline
            .map(|deadline| deadline.saturating_duration_since(now))
    }

    /// Whether the call is over, or its caller has stopped waiting for the reply.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.0.has_ended.load(SeqCst)
            || self
                .0
                .end_token
                .get()
                .is_some_and(CancellationToken::is_cancelled)
    }

    /// Completes when the call ends: the handler has returned, the caller cancelled or was lost,
    /// the deadline passed, or the server stops. The handler itself is dropped at its next await
    /// then; this is for tasks that it spawned.
    pub async fn cancelled(&self) {
        let ended = self.0.end_token.get_or_init(CancellationToken::new);
        fence(SeqCst);
        // Read after the token is visible to others: either the token is cancelled, or this was set
        // before.
        if !self.0.has_ended.load(SeqCst) {
            ended.cancelled().await;
        }
    }
}

impl fmt::Debug for CallContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallContext")
            .field("peer", &self.0.peer)
            .field("method", &self.0.call.method)
            .field("attempt", &self.0.call.meta.attempt)
            .field("priority", &self.0.call.meta.priority)
            .field("remaining", &self.remaining())
            .finish_non_exhaustive()
    }
}
