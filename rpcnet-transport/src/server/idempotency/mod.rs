//! Idempotency cache: calls with a key run once, however often they are made.

mod table;

use std::{
    fmt,
    hash::{DefaultHasher, Hash, Hasher},
    panic::{AssertUnwindSafe, resume_unwind},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use futures::{FutureExt, future::pending};
use parking_lot::Mutex;
use tokio::{
    sync::oneshot,
    time::{Instant, timeout},
};

use self::table::{CacheBounds, KeyLookup, KeyTable, KeyedCall};
use super::{
    CallContext,
    detached::DetachedCall,
    handler::{HandlerFuture, StartHandler},
    handler_result::{HandlerResult, maybe_processed},
};
use crate::{
    Code, Processed, Status,
    accounts::{InFlightGuard, PeerAccount},
    endpoint::ServedCalls,
};

/// Cache of the results of calls with [idempotency keys](crate::CallOptions::with_idempotency_key),
/// so that a repeat is answered and not run again. Cheap to clone: clones share the cache. See
/// [`Router::with_idempotency`](crate::Router::with_idempotency).
///
/// The cache lives in the memory of one server: a repeat that goes to another server, or comes
/// after a restart, runs again there.
#[derive(Clone)]
pub struct IdempotencyCache {
    bounds: CacheBounds,
    shared: Arc<CacheState>,
}

struct CacheState {
    epoch: Instant,
    table: Mutex<Option<CallTable>>,
}

type CallTable = KeyTable<Arc<str>, CallKey, DetachedResult, oneshot::Sender<DetachedResult>>;

/// Identity of a call, the same for all its attempts.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct CallKey {
    peer: Arc<str>,
    method: Arc<str>,
    key: u128,
}

#[derive(Debug, Clone)]
enum DetachedResult {
    Returned(HandlerResult),
    Panicked,
    /// The run was cancelled before it returned.
    Cancelled,
}

impl IdempotencyCache {
    /// A cache of 16,384 calls and 16 MiB of replies, for 60 s.
    #[must_use]
    pub fn new() -> Self {
        Self {
            bounds: CacheBounds {
                len_max: 16_384,
                bytes_max: 16 * 1024 * 1024,
                ttl: Duration::from_secs(60),
            },
            shared: Arc::new(CacheState {
                epoch: Instant::now(),
                table: Mutex::default(),
            }),
        }
    }

    /// Number of cached calls, running ones included; default 16,384, at least one. It has to hold
    /// the calls of [`with_ttl`](Self::with_ttl). Beyond it the oldest result of the caller that
    /// has most is evicted. The running calls of one caller are at most half of what those of
    /// others leave, but at least 16. Its further calls with keys, and those that find the cache
    /// full of running calls, are [`Overloaded`](Code::Overloaded).
    #[must_use]
    pub fn with_capacity(mut self, calls: usize) -> Self {
        self.bounds.len_max = calls.max(1);
        self
    }

    /// Bytes of cached replies; default 16 MiB. Beyond it the oldest result of the caller that has
    /// most is evicted. A single larger reply is not cached, so its call runs again if it is
    /// repeated.
    #[must_use]
    pub fn with_bytes_max(mut self, bytes: usize) -> Self {
        self.bounds.bytes_max = bytes;
        self
    }

    /// How long a result is cached, and how long a call with a key may run; default 60 s. It has to
    /// be longer than the time in which callers repeat their calls; a longer time costs memory.
    #[must_use]
    pub fn with_ttl(mut self, time: Duration) -> Self {
        self.bounds.ttl = time;
        self
    }

    /// Calls in the cache now, running ones included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.with(|keys| keys.len())
    }

    /// Whether the cache is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of replies in the cache now.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.with(|keys| keys.bytes())
    }

    /// Serves a call: runs it if it is the first of its key.
    pub(super) async fn serve(
        self,
        start: Arc<StartHandler>,
        cx: CallContext,
        body: Bytes,
        key: u128,
    ) -> HandlerResult {
        let Some(detached) = cx.take_detached() else {
            return Err(Status::internal(
                "the call with an idempotency key was not prepared",
            ));
        };
        let counters = Arc::clone(&detached.counters);
        let stopping = detached.served.cancel.clone();
        let id = CallKey {
            peer: cx.peer().shared_name(),
            method: cx.shared_method(),
            key,
        };
        let (sender, receiver) = oneshot::channel();
        let call = KeyedCall {
            owner: Arc::clone(&id.peer),
            key: id.clone(),
            body_hash: body_hash(&body),
        };
        let is_gone = oneshot::Sender::is_closed;
        let lookup = self.with(|keys| keys.begin(self.now(), call, sender, is_gone));
        let mut waits = None;
        let is_first = match lookup {
            KeyLookup::Completed(result) => {
                counters.keys_answered.add_one();
                return result.into_repeat_result();
            }
            KeyLookup::BodyMismatch => {
                counters.invalid_requests.add_one();
                let message = "the idempotency key was used before with a different request body";
                // Another server would run what the caller has mistaken for a repeat.
                return Err(Status::invalid_request(message)
                    .not_processed()
                    .do_not_retry());
            }
            KeyLookup::Full => {
                counters.calls_refused_overloaded.add_one();
                return Err(Status::overloaded(
                    "the limit of concurrent calls with idempotency keys is reached",
                ));
            }
            // It waits without the permits that it came with.
            KeyLookup::Join => {
                counters.keys_joined.add_one();
                drop(detached);
                false
            }
            KeyLookup::Run(number) => {
                let count = Arc::<RunInFlight>::default();
                waits = Some(FirstCallerGuard {
                    served: Arc::clone(&detached.served),
                    account: Arc::clone(&detached.account),
                    run: Arc::clone(&count),
                });
                let end = Instant::now().checked_add(self.bounds.ttl);
                let run = DetachedRun {
                    cache: self,
                    id,
                    run_number: number,
                    result: DetachedResult::Cancelled,
                    in_flight: count,
                };
                tokio::spawn(run.serve(start, cx.detached_with_deadline(end), body, *detached));
                true
            }
        };
        let result = receiver.await.unwrap_or(DetachedResult::Cancelled);
        drop(waits);
        match result {
            // As if it had panicked here: the task that serves the call counts the panic.
            DetachedResult::Panicked if is_first => resume_unwind(Box::new("the handler panicked")),
            // The task that serves the call ends it for the same reason, and counts it as
            // cancelled.
            DetachedResult::Cancelled if stopping.is_cancelled() => pending().await,
            result => result.into_repeat_result(),
        }
    }

    fn with<R>(&self, f: impl FnOnce(&mut CallTable) -> R) -> R {
        let mut keys = self.shared.table.lock();
        f(keys.get_or_insert_with(|| KeyTable::new(self.bounds)))
    }

    fn now(&self) -> Duration {
        self.shared.epoch.elapsed()
    }
}

impl Default for IdempotencyCache {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for IdempotencyCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdempotencyCache")
            .field("bounds", &self.bounds)
            .field("len", &self.len())
            .field("bytes", &self.bytes())
            .finish()
    }
}

/// Whether a run counts as in flight by itself. While its first caller waits, the call of that
/// caller counts for both.
#[derive(Default)]
struct RunInFlight(Mutex<InFlightState>);

#[derive(Default)]
struct InFlightState {
    has_ended: bool,
    guard: Option<InFlightGuard>,
}

/// The caller that started a run. When it leaves before the end, the run counts by itself.
struct FirstCallerGuard {
    served: Arc<ServedCalls>,
    account: Arc<PeerAccount>,
    run: Arc<RunInFlight>,
}

impl RunInFlight {
    fn end(&self) {
        let mut run = self.0.lock();
        run.has_ended = true;
        run.guard = None;
    }
}

impl Drop for FirstCallerGuard {
    fn drop(&mut self) {
        let mut run = self.run.0.lock();
        if !run.has_ended {
            run.guard = Some(self.account.begin_call(&self.served.in_flight).0);
        }
    }
}

/// A running call. However it ends, its waiters are told.
struct DetachedRun {
    cache: IdempotencyCache,
    id: CallKey,
    run_number: u64,
    result: DetachedResult,
    in_flight: Arc<RunInFlight>,
}

impl DetachedRun {
    async fn serve(
        mut self,
        start: Arc<StartHandler>,
        cx: CallContext,
        body: Bytes,
        detached: DetachedCall,
    ) {
        let DetachedCall {
            mut permits,
            served,
            request_buffer: _reserved,
            ..
        } = detached;
        // A shutdown waits for the run, whether its caller is there or not.
        let _unacknowledged = served.unacknowledged.enter().0;
        let handled = cx.scope({
            let cx = cx.clone();
            async move {
                let mut started = HandlerFuture::default();
                start(cx, body, &mut started);
                started.finish().await
            }
        });
        let handled = AssertUnwindSafe(handled).catch_unwind();
        let ended = tokio::select! {
            biased;
            ended = timeout(self.cache.bounds.ttl, handled) => ended.ok(),
            () = served.cancel.cancelled() => None,
        };
        cx.end();
        self.result = match ended {
            Some(Ok(outcome)) => {
                permits.note(&outcome);
                DetachedResult::Returned(outcome.map_err(mark_unfinished))
            }
            Some(Err(_)) => DetachedResult::Panicked,
            None => DetachedResult::Cancelled,
        };
        drop(permits);
    }
}

impl Drop for DetachedRun {
    fn drop(&mut self) {
        self.in_flight.end();
        let answer = std::mem::replace(&mut self.result, DetachedResult::Cancelled);
        let remembered = answer.cacheable();
        let now = self.cache.now();
        let waiters = self
            .cache
            .with(|keys| keys.complete(now, &self.id, self.run_number, remembered));
        for waiter in waiters {
            let _ = waiter.send(answer.clone());
        }
    }
}

impl DetachedResult {
    /// The result for a call that has not run the handler.
    fn into_repeat_result(self) -> HandlerResult {
        match self {
            Self::Returned(outcome) => outcome,
            Self::Panicked => Err(maybe_processed(Code::Internal, "the handler panicked")),
            Self::Cancelled => Err(maybe_processed(
                Code::Cancelled,
                "the handler was cancelled before it returned",
            )),
        }
    }

    /// The part of the result that is cached, and its size. Nothing is cached of a call that was
    /// certainly not processed, or whose run was cut short: by its time limit, a shutdown, or a
    /// call that its handler made.
    fn cacheable(&self) -> Option<(Self, usize)> {
        match self {
            Self::Returned(Ok(reply)) => {
                // A copy, so that the packets of the request are freed.
                let reply = Bytes::copy_from_slice(reply);
                let bytes = reply.len() + ENTRY_BYTES;
                Some((Self::Returned(Ok(reply)), bytes))
            }
            Self::Returned(Err(status)) if status.processed == Processed::No => None,
            Self::Returned(Err(status)) if is_unfinished(status) => None,
            Self::Returned(Err(status)) => {
                let bytes = status.message.len() + status.details.len() + ENTRY_BYTES;
                Some((self.clone(), bytes))
            }
            Self::Panicked => Some((Self::Panicked, ENTRY_BYTES)),
            Self::Cancelled => None,
        }
    }
}

/// Whether the handler, or a call that it made, stopped before the work was done.
fn is_unfinished(status: &Status) -> bool {
    matches!(status.code, Code::DeadlineExceeded | Code::Cancelled)
}

/// Marks the status of a run that was cut short, so that a repeat runs again.
fn mark_unfinished(status: Status) -> Status {
    if is_unfinished(&status) && status.processed == Processed::Yes {
        return status.with_processed(Processed::Maybe);
    }
    status
}

fn body_hash(body: &Bytes) -> u64 {
    let mut hasher = DefaultHasher::new();
    body.hash(&mut hasher);
    hasher.finish()
}

/// Approximate size of an entry beside its reply.
const ENTRY_BYTES: usize = 200;
