//! Calls that run once however often they are made.

mod core;

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

use self::core::{Begun, Bounds, Keys};
use super::{
    CallContext,
    admission::Places,
    call::unsure,
    router::{Outcome, Start, Started},
};
use crate::{
    Code, Processed, Status,
    accounts::{Account, InFlight, Reservation},
    endpoint::Shared,
};

/// Remembers how calls with [idempotency keys](crate::CallOptions::with_idempotency_key) ended, so that a repeat is answered and not run
/// again. Cheap to clone: clones share what they remember. See [`Router::with_idempotency`](crate::Router::with_idempotency).
///
/// It lives in the memory of one server: a repeat that goes to another one, or comes after a restart, runs again there.
#[derive(Clone)]
pub struct KeyMemory {
    bounds: Bounds,
    shared: Arc<Remembered>,
}

struct Remembered {
    epoch: Instant,
    keys: Mutex<Option<Core>>,
}

type Core = Keys<Arc<str>, Id, Answer, oneshot::Sender<Answer>>;

/// A call, for all its attempts.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Id {
    peer: Arc<str>,
    method: Arc<str>,
    key: u128,
}

#[derive(Debug, Clone)]
enum Answer {
    Returned(Outcome),
    Panicked,
    /// It was cut before it returned.
    Cut,
}

/// What a call brings along that runs apart from its caller.
pub(super) struct Lent {
    pub(super) places: Places,
    pub(super) shared: Arc<Shared>,
    /// On which it stays, its caller being there or not.
    pub(super) account: Arc<Account>,
    /// For the body of its request.
    pub(super) room: Option<Reservation>,
}

impl KeyMemory {
    /// Remembers 16,384 calls, 16 MiB of replies, for 60 s.
    pub fn new() -> Self {
        Self {
            bounds: Bounds {
                len_max: 16_384,
                bytes_max: 16 * 1024 * 1024,
                time: Duration::from_secs(60),
            },
            shared: Arc::new(Remembered {
                epoch: Instant::now(),
                keys: Mutex::default(),
            }),
        }
    }

    /// Calls that are remembered, those that run included; default 16,384, at least one. It has to
    /// hold the calls of [`with_time`](Self::with_time). Past it what ended first of the caller
    /// that has most is forgotten. Calls of one caller that run are at most half of what those of
    /// others leave, but at least 16; its further calls with keys, and those that find the memory
    /// full of calls that run, are [`Overloaded`](Code::Overloaded).
    #[must_use]
    pub fn with_capacity(mut self, calls: usize) -> Self {
        self.bounds.len_max = calls.max(1);
        self
    }

    /// Bytes of replies that are remembered; default 16 MiB. Past it what ended first of the caller that has most is forgotten; a reply that is larger
    /// alone is not remembered, so its call runs again if it is repeated.
    #[must_use]
    pub fn with_bytes_max(mut self, bytes: usize) -> Self {
        self.bounds.bytes_max = bytes;
        self
    }

    /// How long a reply is remembered, and how long a call with a key may run; default 60 s. It has to be longer than the time in
    /// which callers repeat their calls; a larger one costs memory.
    #[must_use]
    pub fn with_time(mut self, time: Duration) -> Self {
        self.bounds.time = time;
        self
    }

    /// Calls that are remembered now, those that run included.
    pub fn len(&self) -> usize {
        self.with(|keys| keys.len())
    }

    /// Whether no call is remembered.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of replies that are remembered now.
    pub fn bytes(&self) -> usize {
        self.with(|keys| keys.bytes())
    }

    /// Serves a call: runs it if it is the first of its key.
    pub(super) async fn serve(
        self,
        start: Arc<Start>,
        cx: CallContext,
        body: Bytes,
        key: u128,
    ) -> Outcome {
        let Some(lent) = cx.take_lent() else {
            return Err(Status::internal(
                "the call with an idempotency key was not prepared",
            ));
        };
        let counters = Arc::clone(&lent.shared.counters);
        let stopping = lent.shared.cancel_calls.clone();
        let id = Id {
            peer: cx.peer().shared_name(),
            method: cx.shared_method(),
            key,
        };
        let (tell, told) = oneshot::channel();
        let hash = hash(&body);
        let begun = self.with(|keys| {
            let is_gone = oneshot::Sender::is_closed;
            keys.begin(self.now(), &id.peer, id.clone(), hash, tell, is_gone)
        });
        let mut waits = None;
        let is_first = match begun {
            Begun::Ended(answer) => {
                counters.keys_answered.add_one();
                return answer.of_repeat();
            }
            Begun::Differs => {
                counters.invalid_requests.add_one();
                let message = "the idempotency key was used before with a different request body";
                // Another worker would run what the caller has mistaken for a repeat.
                return Err(Status::invalid_request(message)
                    .not_processed()
                    .do_not_retry());
            }
            Begun::Full => {
                counters.calls_refused_overloaded.add_one();
                return Err(Status::overloaded(
                    "the limit of concurrent calls with idempotency keys is reached",
                ));
            }
            // It waits without the place that it has come with.
            Begun::Joins => {
                counters.keys_joined.add_one();
                drop(lent);
                false
            }
            Begun::Runs(number) => {
                let count = Arc::<RunCount>::default();
                waits = Some(FirstCaller {
                    shared: Arc::clone(&lent.shared),
                    account: Arc::clone(&lent.account),
                    run: Arc::clone(&count),
                });
                let end = Instant::now().checked_add(self.bounds.time);
                let run = Run {
                    memory: self,
                    id,
                    number,
                    answer: Answer::Cut,
                    count,
                };
                tokio::spawn(run.serve(start, cx.of_its_own(end), body, *lent));
                true
            }
        };
        let told = told.await.unwrap_or(Answer::Cut);
        drop(waits);
        match told {
            // As if it had panicked here: that is counted there.
            Answer::Panicked if is_first => resume_unwind(Box::new("the handler panicked")),
            // Who serves the call ends it for the same reason, and counts it as cut.
            Answer::Cut if stopping.is_cancelled() => pending().await,
            answer => answer.of_repeat(),
        }
    }

    fn with<R>(&self, f: impl FnOnce(&mut Core) -> R) -> R {
        let mut keys = self.shared.keys.lock();
        f(keys.get_or_insert_with(|| Keys::new(self.bounds)))
    }

    fn now(&self) -> Duration {
        self.shared.epoch.elapsed()
    }
}

impl Default for KeyMemory {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for KeyMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyMemory")
            .field("bounds", &self.bounds)
            .field("len", &self.len())
            .field("bytes", &self.bytes())
            .finish()
    }
}

/// Whether a run counts as in flight by itself. While its first caller waits, that one's call counts for both.
#[derive(Default)]
struct RunCount(Mutex<RunState>);

#[derive(Default)]
struct RunState {
    has_ended: bool,
    alone: Option<InFlight>,
}

/// The caller that a run was begun for. When it leaves before the end, the run counts by itself.
struct FirstCaller {
    shared: Arc<Shared>,
    account: Arc<Account>,
    run: Arc<RunCount>,
}

impl RunCount {
    fn end(&self) {
        let mut run = self.0.lock();
        run.has_ended = true;
        run.alone = None;
    }
}

impl Drop for FirstCaller {
    fn drop(&mut self) {
        let mut run = self.run.0.lock();
        if !run.has_ended {
            run.alone = Some(self.account.enter(&self.shared.in_flight).0);
        }
    }
}

/// A call that runs; however it ends, those that wait are told.
struct Run {
    memory: KeyMemory,
    id: Id,
    number: u64,
    answer: Answer,
    count: Arc<RunCount>,
}

impl Run {
    async fn serve(mut self, start: Arc<Start>, cx: CallContext, body: Bytes, lent: Lent) {
        let Lent {
            mut places,
            shared,
            room: _room,
            ..
        } = lent;
        // A shutdown waits for it, its caller being there or not.
        let _unacknowledged = shared.unacknowledged.enter().0;
        let handled = cx.scope({
            let cx = cx.clone();
            async move {
                let mut started = Started::default();
                start(cx, body, &mut started);
                started.finish().await
            }
        });
        let handled = AssertUnwindSafe(handled).catch_unwind();
        let ended = tokio::select! {
            biased;
            ended = timeout(self.memory.bounds.time, handled) => ended.ok(),
            () = shared.cancel_calls.cancelled() => None,
        };
        cx.end();
        self.answer = match ended {
            Some(Ok(outcome)) => {
                places.note(&outcome);
                Answer::Returned(outcome.map_err(unended))
            }
            Some(Err(_)) => Answer::Panicked,
            None => Answer::Cut,
        };
        drop(places);
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        self.count.end();
        let answer = std::mem::replace(&mut self.answer, Answer::Cut);
        let remembered = answer.remembered();
        let now = self.memory.now();
        let waiters = self
            .memory
            .with(|keys| keys.end(now, &self.id, self.number, remembered));
        for waiter in waiters {
            let _ = waiter.send(answer.clone());
        }
    }
}

impl Answer {
    /// For who has not run it.
    fn of_repeat(self) -> Outcome {
        match self {
            Self::Returned(outcome) => outcome,
            Self::Panicked => Err(unsure(Code::Internal, "the handler panicked")),
            Self::Cut => Err(unsure(
                Code::Cancelled,
                "the handler was cancelled before it returned",
            )),
        }
    }

    /// What is kept of it, and its size. Nothing of what was certainly not processed, nor of what was given up before its end: by
    /// the time of the run, a shutdown, or a call that its handler made.
    fn remembered(&self) -> Option<(Self, usize)> {
        match self {
            Self::Returned(Ok(reply)) => {
                // So that it does not keep the packets of its request.
                let reply = Bytes::copy_from_slice(reply);
                let bytes = reply.len() + ENTRY_BYTES;
                Some((Self::Returned(Ok(reply)), bytes))
            }
            Self::Returned(Err(status)) if status.processed == Processed::No => None,
            Self::Returned(Err(status)) if is_unended(status) => None,
            Self::Returned(Err(status)) => {
                let bytes = status.message.len() + status.details.len() + ENTRY_BYTES;
                Some((self.clone(), bytes))
            }
            Self::Panicked => Some((Self::Panicked, ENTRY_BYTES)),
            Self::Cut => None,
        }
    }
}

/// Whether the handler gave up, or what it called did, before the work was done.
fn is_unended(status: &Status) -> bool {
    matches!(status.code, Code::DeadlineExceeded | Code::Cancelled)
}

/// The status of a run that was given up says so: a repeat runs again.
fn unended(status: Status) -> Status {
    if is_unended(&status) && status.processed == Processed::Yes {
        return status.with_processed(Processed::Maybe);
    }
    status
}

fn hash(body: &Bytes) -> u64 {
    let mut hasher = DefaultHasher::new();
    body.hash(&mut hasher);
    hasher.finish()
}

/// About what an entry takes beside its reply.
const ENTRY_BYTES: usize = 200;
