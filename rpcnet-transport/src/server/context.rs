//! What a handler learns of its call.

use std::{
    fmt,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering::SeqCst, fence},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::idempotency::DetachedCall;
use crate::{Inherited, Peer, Priority};

/// What a handler may know about the call that it serves. Cheap to clone.
#[derive(Clone)]
pub struct CallContext(Arc<Inner>);

struct Inner {
    peer: Peer,
    call: CallInfo,
    has_ended: AtomicBool,
    /// Made when somebody waits for the end; most handlers do not.
    end_token: OnceLock<CancellationToken>,
    /// On their way to where the handler runs, if that is not where its call is served.
    detached: Mutex<Option<Box<DetachedCall>>>,
}

/// What a request says of its call.
#[derive(Debug, Clone)]
pub(crate) struct CallInfo {
    pub(crate) method: Arc<str>,
    pub(crate) meta: CallMeta,
}

/// What a request says of its call beside its method.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CallMeta {
    pub(crate) attempt: u8,
    pub(crate) idempotent: bool,
    pub(crate) priority: Priority,
    /// As it came: that is smaller to carry than a number.
    pub(crate) idempotency_key: Option<[u8; 16]>,
    pub(crate) deadline: Option<tokio::time::Instant>,
}

impl CallMeta {
    /// What calls take over that are made to serve this one.
    pub(crate) fn inherited(&self) -> Inherited {
        Inherited::new(self.deadline, self.priority)
    }
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

    /// A context that ends with this token, and not before.
    pub(crate) fn with_token(peer: Peer, call: CallInfo, token: CancellationToken) -> Self {
        Self(Arc::new(Inner {
            peer,
            call,
            has_ended: AtomicBool::new(false),
            end_token: OnceLock::from(token),
            detached: Mutex::default(),
        }))
    }

    /// What calls take over that are made to serve this one.
    pub(crate) fn inherited(&self) -> Inherited {
        self.0.call.meta.inherited()
    }

    /// What its request says.
    pub(super) fn meta(&self) -> CallMeta {
        self.0.call.meta
    }

    /// Makes it the context of another call of the same method; says whether it could, for nobody else may have it.
    #[inline(always)]
    pub(crate) fn reuse(&mut self, asked: &CallMeta) -> bool {
        let Some(inner) = Arc::get_mut(&mut self.0) else {
            return false;
        };
        inner.call.meta = *asked;
        *inner.has_ended.get_mut() = false;
        // Most have neither.
        if inner.end_token.get().is_some() {
            inner.end_token = OnceLock::new();
        }
        if inner.detached.get_mut().is_some() {
            *inner.detached.get_mut() = None;
        }
        true
    }

    /// Leaves something to whoever runs the handler, which is not its caller's task.
    pub(super) fn set_detached(&self, lent: DetachedCall) {
        *self.0.detached.lock() = Some(Box::new(lent));
    }

    /// Takes what was left.
    pub(super) fn take_detached(&self) -> Option<Box<DetachedCall>> {
        self.0.detached.lock().take()
    }

    /// A context of the same call that does not end with it, but at its own deadline.
    pub(super) fn detached_with_deadline(&self, deadline: Option<tokio::time::Instant>) -> Self {
        let mut call = self.0.call.clone();
        call.meta.deadline = deadline;
        Self::new(self.0.peer.clone(), call)
    }

    pub(super) fn shared_method(&self) -> Arc<str> {
        Arc::clone(&self.0.call.method)
    }

    /// The call is over. Says whether nobody else has the context any more.
    pub(crate) fn end_unless_unique(&mut self) -> bool {
        if Arc::get_mut(&mut self.0).is_some() {
            return true;
        }
        self.end();
        false
    }

    /// The call is over.
    pub(crate) fn end(&self) {
        self.0.has_ended.store(true, SeqCst);
        // Between this and `cancelled` one at least sees what the other wrote.
        fence(SeqCst);
        if let Some(token) = self.0.end_token.get() {
            token.cancel();
        }
    }

    /// The caller: the name that its certificate vouches for, and its address.
    pub fn peer(&self) -> &Peer {
        &self.0.peer
    }

    /// Name of the method.
    pub fn method(&self) -> &str {
        &self.0.call.method
    }

    /// Which attempt of the caller this is, from 0.
    pub fn attempt(&self) -> u8 {
        self.0.call.meta.attempt
    }

    /// Whether the caller says that the call may run twice.
    pub fn is_idempotent(&self) -> bool {
        self.0.call.meta.idempotent
    }

    /// How much the call matters, as its caller says.
    pub fn priority(&self) -> Priority {
        self.0.call.meta.priority
    }

    /// What all attempts of this call share and no other call has; `None` if the caller gave no key.
    pub fn idempotency_key(&self) -> Option<u128> {
        self.0.call.meta.idempotency_key.map(u128::from_le_bytes)
    }

    /// Runs a future so that the calls that it makes take over the deadline and the priority of this call, as the handler's own do:
    /// for a task that the handler spawns.
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

    /// When the call ends at the latest; `None` if the caller set no deadline. For a call that is
    /// [remembered](crate::Router::with_idempotency) by its key, the end of its run, which its callers may outlive or not.
    pub fn deadline(&self) -> Option<Instant> {
        self.0
            .call
            .meta
            .deadline
            .map(tokio::time::Instant::into_std)
    }

    /// Time left; zero when it is over, `None` if the caller set no deadline.
    pub fn remaining(&self) -> Option<Duration> {
        let now = tokio::time::Instant::now();
        self.0
            .call
            .meta
            .deadline
            .map(|deadline| deadline.saturating_duration_since(now))
    }

    /// Whether the call is over, or nobody waits for the reply any more.
    pub fn is_cancelled(&self) -> bool {
        self.0.has_ended.load(SeqCst)
            || self
                .0
                .end_token
                .get()
                .is_some_and(CancellationToken::is_cancelled)
    }

    /// Ends when the call does: the handler has returned, the caller gave up or was lost, the deadline passed, or the
    /// server stops. The handler itself is dropped at its next await then; this is for work that it spawned.
    pub async fn cancelled(&self) {
        let ended = self.0.end_token.get_or_init(CancellationToken::new);
        fence(SeqCst);
        // Looked at after the token is there to be seen: either it is cancelled, or this was set before.
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
