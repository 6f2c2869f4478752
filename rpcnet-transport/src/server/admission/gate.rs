//! Places and the queue for them, shared by all tasks of a server.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{
            AtomicU64, AtomicUsize,
            Ordering::{Relaxed, SeqCst},
        },
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    sync::oneshot,
    time::{Instant, timeout},
};

use super::{
    Admission, AdmissionState, Limit,
    caller::{CallerKey, CallerShare, Callers, TakePlaces},
    limiter::{Limiter, Sample},
    place::Place,
    queue::{self, Pushed, Queue, Rank, Why},
};
use crate::Priority;

/// So many may pass at a time, and of each caller as many as its [share](CallerShare) allows;
/// others wait. Taking a place that is free, and giving it back while no call waits, are a few
/// atomic operations each.
pub(crate) struct Gate {
    pub(super) limit: AtomicUsize,
    pub(super) running: AtomicUsize,
    /// Calls that stopped waiting for their caller and found no place.
    pub(super) overdrawn: AtomicUsize,
    /// Calls in the queue that have not begun, to be read without its lock.
    waiting: AtomicUsize,
    /// Calls in the queue that had a place, lent it, and want it back.
    returning: AtomicUsize,
    /// Numbers of the calls that want a place back, in the order in which they have it.
    next_return_number: AtomicU64,
    interval: Duration,
    epoch: Instant,
    queue: Mutex<Queue<CallerKey, Waiter>>,
    limiter: Option<Mutex<Limiter>>,
    pub(super) callers: Callers,
}

type Waiter = oneshot::Sender<Result<Place, Turned>>;

/// A call that wants to pass.
#[derive(Debug, Clone, Copy)]
pub(in crate::server) struct Newcomer {
    pub(in crate::server) priority: Priority,
    pub(in crate::server) is_retry: bool,
    pub(in crate::server) deadline: Option<Instant>,
}

/// What became of a call that came.
#[derive(Debug)]
pub(super) enum Passed {
    Through(Place),
    Waits(Ticket),
    Turned(Turned),
}

/// Why a call did not pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turned {
    /// The queue is full.
    Refused { retry_after: Duration },
    /// It has waited, and others matter more or it was too long.
    Shed { retry_after: Duration },
    /// Its deadline passed while it waited.
    Expired,
}

/// A call that waits. Dropped, it waits no longer.
#[derive(Debug)]
pub(in crate::server) struct Ticket {
    caller: Arc<CallerShare>,
    place: queue::Place<CallerKey>,
    verdict: oneshot::Receiver<Result<Place, Turned>>,
}

impl Gate {
    pub(crate) fn new(admission: &Admission) -> Self {
        let (limit, limiter) = match admission.limit {
            Limit::Fixed(calls) => (calls, None),
            Limit::Adaptive { floor, ceiling } => {
                let limiter = Limiter::new(floor, ceiling);
                (limiter.limit(), Some(Mutex::new(limiter)))
            }
        };
        Self {
            limit: AtomicUsize::new(limit),
            running: AtomicUsize::new(0),
            overdrawn: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            returning: AtomicUsize::new(0),
            next_return_number: AtomicU64::new(0),
            interval: admission.interval,
            epoch: Instant::now(),
            queue: Mutex::new(Queue::new(admission.bounds())),
            limiter,
            callers: Callers::default(),
        }
    }

    pub(crate) fn state(&self) -> AdmissionState {
        AdmissionState {
            limit: self.limit.load(SeqCst),
            running: self.running.load(SeqCst) + self.overdrawn.load(SeqCst),
            waiting: self.waiting.load(SeqCst),
        }
    }

    /// Whether callers better go elsewhere.
    pub(crate) fn is_busy(&self) -> bool {
        let AdmissionState {
            limit,
            running,
            waiting,
        } = self.state();
        waiting > 0 || running >= limit.saturating_mul(4).div_ceil(5)
    }

    /// Gives free places to those that wait, if any does, after a call of this caller has `ended`.
    pub(super) fn promote_waiting(&self, ended: Option<&CallerShare>) {
        if self.is_awaited() {
            self.promote(ended);
        }
    }

    pub(super) fn is_awaited(&self) -> bool {
        self.waiting.load(SeqCst) > 0 || self.returning.load(SeqCst) > 0
    }

    fn has_room(&self) -> bool {
        self.running.load(SeqCst) < self.limit.load(SeqCst)
    }

    /// Gives free places to those that wait and may have them.
    fn promote(&self, ended: Option<&CallerShare>) {
        loop {
            let mut shed = Vec::new();
            let next = {
                let mut queue = self.queue.lock();
                let is_empty = queue.len() == 0 && queue.returning_len() == 0;
                if is_empty || !self.has_room() {
                    return;
                }
                let mut late = Vec::new();
                let tell = |caller: &CallerKey, waiter, why| match why {
                    Why::Late => late.push((caller.clone(), waiter)),
                    Why::Expired => shed.push((waiter, Turned::Expired)),
                };
                let now = self.now();
                let next = queue.pop(now, &mut TakePlaces { now, ended }, tell);
                self.note_lengths(&queue);
                shed.extend(late.into_iter().map(|(caller, waiter)| {
                    let retry_after = queue.retry_after(&caller);
                    (waiter, Turned::Shed { retry_after })
                }));
                next
            };
            // Not under the lock: who is told may be gone, and then its place comes back.
            for (waiter, turned) in shed {
                let _ = waiter.send(Err(turned));
            }
            let Some((CallerKey(caller), waiter)) = next else {
                return;
            };
            if let Err(Ok(unwanted)) = waiter.send(Ok(Place::of_taken(caller))) {
                unwanted.give_back();
            }
        }
    }

    fn note_lengths(&self, queue: &Queue<CallerKey, Waiter>) {
        self.waiting.store(queue.len(), SeqCst);
        self.returning.store(queue.returning_len(), SeqCst);
    }

    /// The number of a call that wants its place back, behind those that want it already.
    pub(super) fn next_return_number(&self) -> u64 {
        self.next_return_number.fetch_add(1, Relaxed)
    }

    pub(super) fn is_adaptive(&self) -> bool {
        self.limiter.is_some()
    }

    /// A call has ended whose time says something about the server.
    fn note_sample(&self, began: Duration, well: bool) {
        let Some(limiter) = &self.limiter else { return };
        let mut limiter = limiter.lock();
        limiter.on_end(Sample {
            began,
            ended: self.now(),
            well,
            running: self.running.load(SeqCst),
        });
        self.limit.store(limiter.limit(), SeqCst);
    }

    pub(super) fn now(&self) -> Duration {
        self.epoch.elapsed()
    }

    fn since_epoch(&self, at: Instant) -> Duration {
        at.saturating_duration_since(self.epoch)
    }
}

impl CallerShare {
    /// A call comes.
    pub(super) fn pass(self: &Arc<Self>, now: Instant, who: impl FnOnce() -> Newcomer) -> Passed {
        let gate = &self.gate;
        self.note_seen(gate.since_epoch(now));
        if let Some(place) = self.take_now() {
            return Passed::Through(place);
        }
        let rank = self.rank(&who());
        let own = rank.peer.clone();
        let (tell, verdict) = oneshot::channel();
        let (pushed, retry_after) = {
            let mut queue = gate.queue.lock();
            let pushed = queue.push(gate.now(), rank, tell);
            gate.note_lengths(&queue);
            let told = match &pushed {
                Pushed::Waits { shed, .. } => shed.as_ref().map(|(caller, _)| caller),
                Pushed::Refused => Some(&own),
            };
            let retry_after = told.map_or(Duration::ZERO, |caller| queue.retry_after(caller));
            (pushed, retry_after)
        };
        // A place may have become free before this one was seen to wait.
        gate.promote_waiting(None);
        match pushed {
            Pushed::Refused => Passed::Turned(Turned::Refused { retry_after }),
            Pushed::Waits { place, shed } => {
                if let Some((_, shed)) = shed {
                    let _ = shed.send(Err(Turned::Shed { retry_after }));
                }
                let caller = Arc::clone(self);
                Passed::Waits(Ticket {
                    caller,
                    place,
                    verdict,
                })
            }
        }
    }

    /// A place that is free, and that no call that waits may have.
    fn take_now(self: &Arc<Self>) -> Option<Place> {
        self.gate.promote_waiting(None);
        self.try_take().then(|| Place::of_taken(Arc::clone(self)))
    }

    /// Why a call that comes now would be refused, if it would.
    pub(super) fn refusal(self: &Arc<Self>, now: Instant, who: &Newcomer) -> Option<Turned> {
        let gate = &self.gate;
        self.note_seen(gate.since_epoch(now));
        if self.may_take() {
            return None;
        }
        let rank = self.rank(who);
        let queue = gate.queue.lock();
        let is_refused = !queue.has_room(&rank);
        is_refused.then(|| Turned::Refused {
            retry_after: queue.retry_after(&rank.peer),
        })
    }

    fn rank(self: &Arc<Self>, who: &Newcomer) -> Rank<CallerKey> {
        Rank {
            priority: who.priority,
            is_retry: who.is_retry,
            peer: CallerKey(Arc::clone(self)),
            deadline: who.deadline.map(|at| self.gate.since_epoch(at)),
        }
    }

    /// Gives back a place of a call, and gives it to one that waits.
    pub(super) fn release(&self, sample: Option<(Duration, bool)>) {
        let gate = &self.gate;
        if let Some((began, well)) = sample {
            gate.note_sample(began, well);
        }
        self.give_back();
        // Seen by one of both: this sees who waits, or who begins to wait sees the place.
        gate.promote_waiting(Some(self));
    }

    /// Waits until a place is free again for a call that has lent its own, before the calls of the
    /// same caller that have a greater [number](Gate::next_return_number). Each call has a number
    /// of its own.
    pub(super) async fn regain(self: Arc<Self>, number: u64) -> Place {
        let gate = &self.gate;
        self.note_seen(gate.now());
        if let Some(place) = self.take_now() {
            return place;
        }
        let (tell, verdict) = oneshot::channel();
        let place = {
            let mut queue = gate.queue.lock();
            let place = queue.push_returning(CallerKey(Arc::clone(&self)), number, tell);
            gate.note_lengths(&queue);
            place
        };
        let caller = Arc::clone(&self);
        let mut ticket = Ticket {
            caller,
            place,
            verdict,
        };
        gate.promote_waiting(None);
        match (&mut ticket.verdict).await {
            Ok(Ok(place)) => place,
            // It waits until it is removed.
            Ok(Err(_)) | Err(_) => unreachable!("a call that has begun is not shed"),
        }
    }
}

impl Ticket {
    /// Until it is the call's turn or there is no hope for it.
    pub(super) async fn turn(mut self) -> Result<Place, Turned> {
        let gate = Arc::clone(&self.caller.gate);
        match timeout(gate.interval, &mut self.verdict).await {
            Ok(Ok(verdict)) => verdict,
            // It is removed when it is dropped.
            Ok(Err(_)) | Err(_) => {
                let own = CallerKey(Arc::clone(&self.caller));
                let retry_after = gate.queue.lock().retry_after(&own);
                Err(Turned::Shed { retry_after })
            }
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let gate = &self.caller.gate;
        let removed = {
            let mut queue = gate.queue.lock();
            let removed = queue.remove(&self.place);
            gate.note_lengths(&queue);
            removed
        };
        drop(removed);
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.state().fmt(f)
    }
}

#[cfg(test)]
mod tests;
