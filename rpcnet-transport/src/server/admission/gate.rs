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
    caller_quota::{CallerKey, CallerQuota, GateCallers, GatePermits},
    limiter::{GradientLimiter, Sample},
    permit::Permit,
    queue::{self, AdmissionQueue, PushOutcome, Rank, ShedReason},
};
use crate::Priority;

/// So many may pass at a time, and of each caller as many as its [share](CallerQuota) allows;
/// others wait. Taking a place that is free, and giving it back while no call waits, are a few
/// atomic operations each.
pub(crate) struct AdmissionGate {
    pub(super) limit: AtomicUsize,
    pub(super) running: AtomicUsize,
    /// Calls that stopped waiting for their caller and found no place.
    pub(super) over_limit: AtomicUsize,
    /// Calls in the queue that have not begun, to be read without its lock.
    queued: AtomicUsize,
    /// Calls in the queue that had a place, lent it, and want it back.
    reacquiring: AtomicUsize,
    /// Numbers of the calls that want a place back, in the order in which they have it.
    next_reacquire_number: AtomicU64,
    interval: Duration,
    epoch: Instant,
    queue: Mutex<AdmissionQueue<CallerKey, PermitSender>>,
    limiter: Option<Mutex<GradientLimiter>>,
    pub(super) callers: GateCallers,
}

type PermitSender = oneshot::Sender<Result<Permit, Rejection>>;

/// A call that wants to pass.
#[derive(Debug, Clone, Copy)]
pub(in crate::server) struct AdmissionRequest {
    pub(in crate::server) priority: Priority,
    pub(in crate::server) is_retry: bool,
    pub(in crate::server) deadline: Option<Instant>,
}

/// What became of a call that came.
#[derive(Debug)]
pub(super) enum GateOutcome {
    Admitted(Permit),
    Queued(Ticket),
    Rejected(Rejection),
}

/// Why a call did not pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rejection {
    /// The queue is full.
    QueueFull { retry_after: Duration },
    /// It has waited, and others matter more or it was too long.
    Shed { retry_after: Duration },
    /// Its deadline passed while it waited.
    Expired,
}

/// A call that waits. Dropped, it waits no longer.
#[derive(Debug)]
pub(in crate::server) struct Ticket {
    caller: Arc<CallerQuota>,
    position: queue::QueuePosition<CallerKey>,
    outcome: oneshot::Receiver<Result<Permit, Rejection>>,
}

impl AdmissionGate {
    pub(crate) fn new(admission: &Admission) -> Self {
        let (limit, limiter) = match admission.limit {
            Limit::Fixed(calls) => (calls, None),
            Limit::Adaptive { floor, ceiling } => {
                let limiter = GradientLimiter::new(floor, ceiling);
                (limiter.limit(), Some(Mutex::new(limiter)))
            }
        };
        Self {
            limit: AtomicUsize::new(limit),
            running: AtomicUsize::new(0),
            over_limit: AtomicUsize::new(0),
            queued: AtomicUsize::new(0),
            reacquiring: AtomicUsize::new(0),
            next_reacquire_number: AtomicU64::new(0),
            interval: admission.interval,
            epoch: Instant::now(),
            queue: Mutex::new(AdmissionQueue::new(admission.bounds())),
            limiter,
            callers: GateCallers::default(),
        }
    }

    pub(crate) fn state(&self) -> AdmissionState {
        AdmissionState {
            limit: self.limit.load(SeqCst),
            running: self.running.load(SeqCst) + self.over_limit.load(SeqCst),
            waiting: self.queued.load(SeqCst),
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
    pub(super) fn grant_if_awaited(&self, ended: Option<&CallerQuota>) {
        if self.has_waiters() {
            self.grant_free_permits(ended);
        }
    }

    pub(super) fn has_waiters(&self) -> bool {
        self.queued.load(SeqCst) > 0 || self.reacquiring.load(SeqCst) > 0
    }

    fn has_free_permit(&self) -> bool {
        self.running.load(SeqCst) < self.limit.load(SeqCst)
    }

    /// Gives free places to those that wait and may have them.
    fn grant_free_permits(&self, ended: Option<&CallerQuota>) {
        loop {
            let mut shed = Vec::new();
            let next = {
                let mut queue = self.queue.lock();
                let is_empty = queue.len() == 0 && queue.reacquiring_len() == 0;
                if is_empty || !self.has_free_permit() {
                    return;
                }
                let mut late = Vec::new();
                let tell = |caller: &CallerKey, waiter, why| match why {
                    ShedReason::WaitedTooLong => late.push((caller.clone(), waiter)),
                    ShedReason::Expired => shed.push((waiter, Rejection::Expired)),
                };
                let now = self.now();
                let next = queue.pop(
                    now,
                    &mut GatePermits {
                        now,
                        just_ended: ended,
                    },
                    tell,
                );
                self.store_queue_lengths(&queue);
                shed.extend(late.into_iter().map(|(caller, waiter)| {
                    let retry_after = queue.retry_after(&caller);
                    (waiter, Rejection::Shed { retry_after })
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
            if let Err(Ok(unwanted)) = waiter.send(Ok(Permit::acquired(caller))) {
                unwanted.return_unused();
            }
        }
    }

    fn store_queue_lengths(&self, queue: &AdmissionQueue<CallerKey, PermitSender>) {
        self.queued.store(queue.len(), SeqCst);
        self.reacquiring.store(queue.reacquiring_len(), SeqCst);
    }

    /// The number of a call that wants its place back, behind those that want it already.
    pub(super) fn next_reacquire_number(&self) -> u64 {
        self.next_reacquire_number.fetch_add(1, Relaxed)
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
            succeeded: well,
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

impl CallerQuota {
    /// A call comes.
    pub(super) fn admit(
        self: &Arc<Self>,
        now: Instant,
        who: impl FnOnce() -> AdmissionRequest,
    ) -> GateOutcome {
        let gate = &self.gate;
        self.note_seen(gate.since_epoch(now));
        if let Some(place) = self.try_acquire_permit() {
            return GateOutcome::Admitted(place);
        }
        let rank = self.rank(&who());
        let own = rank.peer.clone();
        let (tell, verdict) = oneshot::channel();
        let (pushed, retry_after) = {
            let mut queue = gate.queue.lock();
            let pushed = queue.push(gate.now(), rank, tell);
            gate.store_queue_lengths(&queue);
            let told = match &pushed {
                PushOutcome::Queued { shed, .. } => shed.as_ref().map(|(caller, _)| caller),
                PushOutcome::QueueFull => Some(&own),
            };
            let retry_after = told.map_or(Duration::ZERO, |caller| queue.retry_after(caller));
            (pushed, retry_after)
        };
        // A place may have become free before this one was seen to wait.
        gate.grant_if_awaited(None);
        match pushed {
            PushOutcome::QueueFull => GateOutcome::Rejected(Rejection::QueueFull { retry_after }),
            PushOutcome::Queued {
                position: place,
                shed,
            } => {
                if let Some((_, shed)) = shed {
                    let _ = shed.send(Err(Rejection::Shed { retry_after }));
                }
                let caller = Arc::clone(self);
                GateOutcome::Queued(Ticket {
                    caller,
                    position: place,
                    outcome: verdict,
                })
            }
        }
    }

    /// A place that is free, and that no call that waits may have.
    fn try_acquire_permit(self: &Arc<Self>) -> Option<Permit> {
        self.gate.grant_if_awaited(None);
        self.try_acquire()
            .then(|| Permit::acquired(Arc::clone(self)))
    }

    /// Why a call that comes now would be refused, if it would.
    pub(super) fn early_rejection(
        self: &Arc<Self>,
        now: Instant,
        who: &AdmissionRequest,
    ) -> Option<Rejection> {
        let gate = &self.gate;
        self.note_seen(gate.since_epoch(now));
        if self.may_acquire() {
            return None;
        }
        let rank = self.rank(who);
        let queue = gate.queue.lock();
        let is_refused = !queue.has_room(&rank);
        is_refused.then(|| Rejection::QueueFull {
            retry_after: queue.retry_after(&rank.peer),
        })
    }

    fn rank(self: &Arc<Self>, who: &AdmissionRequest) -> Rank<CallerKey> {
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
        self.release_without_grant();
        // Seen by one of both: this sees who waits, or who begins to wait sees the place.
        gate.grant_if_awaited(Some(self));
    }

    /// Waits until a place is free again for a call that has lent its own, before the calls of the
    /// same caller that have a greater [number](AdmissionGate::next_reacquire_number). Each call has a number
    /// of its own.
    pub(super) async fn reacquire(self: Arc<Self>, number: u64) -> Permit {
        let gate = &self.gate;
        self.note_seen(gate.now());
        if let Some(place) = self.try_acquire_permit() {
            return place;
        }
        let (tell, verdict) = oneshot::channel();
        let place = {
            let mut queue = gate.queue.lock();
            let place = queue.push_reacquiring(CallerKey(Arc::clone(&self)), number, tell);
            gate.store_queue_lengths(&queue);
            place
        };
        let caller = Arc::clone(&self);
        let mut ticket = Ticket {
            caller,
            position: place,
            outcome: verdict,
        };
        gate.grant_if_awaited(None);
        match (&mut ticket.outcome).await {
            Ok(Ok(place)) => place,
            // It waits until it is removed.
            Ok(Err(_)) | Err(_) => unreachable!("a call that has begun is not shed"),
        }
    }
}

impl Ticket {
    /// Until it is the call's turn or there is no hope for it.
    pub(super) async fn wait_admitted(mut self) -> Result<Permit, Rejection> {
        let gate = Arc::clone(&self.caller.gate);
        match timeout(gate.interval, &mut self.outcome).await {
            Ok(Ok(verdict)) => verdict,
            // It is removed when it is dropped.
            Ok(Err(_)) | Err(_) => {
                let own = CallerKey(Arc::clone(&self.caller));
                let retry_after = gate.queue.lock().retry_after(&own);
                Err(Rejection::Shed { retry_after })
            }
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let gate = &self.caller.gate;
        let removed = {
            let mut queue = gate.queue.lock();
            let removed = queue.remove(&self.position);
            gate.store_queue_lengths(&queue);
            removed
        };
        drop(removed);
    }
}

impl fmt::Debug for AdmissionGate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.state().fmt(f)
    }
}

#[cfg(test)]
mod tests;
