//! Admission gate: concurrency limit, shares of callers, and the queue.

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

/// Concurrency limit of a server or a method. Of each caller as many calls run as its
/// [quota](CallerQuota) allows; others are queued. Acquiring a free permit, and releasing it while
/// no call is queued, take a few atomic operations each.
pub(crate) struct AdmissionGate {
    pub(super) limit: AtomicUsize,
    pub(super) running: AtomicUsize,
    /// Calls that resumed without a permit, since they stopped waiting for their caller and none
    /// was free.
    pub(super) over_limit: AtomicUsize,
    /// Queued calls that have not started, to be read without the lock of the queue.
    queued: AtomicUsize,
    /// Queued calls that yielded a permit and want it back.
    reacquiring: AtomicUsize,
    /// Next number of a call that wants a permit back. Lower numbers reacquire first.
    next_reacquire_number: AtomicU64,
    interval: Duration,
    epoch: Instant,
    queue: Mutex<AdmissionQueue<CallerKey, PermitSender>>,
    limiter: Option<Mutex<GradientLimiter>>,
    pub(super) callers: GateCallers,
}

type PermitSender = oneshot::Sender<Result<Permit, Rejection>>;

/// A call that asks for admission.
#[derive(Debug, Clone, Copy)]
pub(in crate::server) struct AdmissionRequest {
    pub(in crate::server) priority: Priority,
    pub(in crate::server) is_retry: bool,
    pub(in crate::server) deadline: Option<Instant>,
}

/// Outcome of an admission request.
#[derive(Debug)]
pub(super) enum GateOutcome {
    Admitted(Permit),
    Queued(Ticket),
    Rejected(Rejection),
}

/// Reason for which a call was not admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rejection {
    /// The queue is full.
    QueueFull { retry_after: Duration },
    /// The call was shed from the queue, for a more important call or because it waited too long.
    Shed { retry_after: Duration },
    /// The deadline passed while the call was queued.
    Expired,
}

/// Position of a queued call. Dropping the ticket removes the call from the queue.
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

    /// Whether callers had better choose another server.
    pub(crate) fn is_busy(&self) -> bool {
        let AdmissionState {
            limit,
            running,
            waiting,
        } = self.state();
        waiting > 0 || running >= limit.saturating_mul(4).div_ceil(5)
    }

    /// Grants free permits to queued calls, if there are any. `ended` is the caller whose call has
    /// just ended.
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

    /// Grants free permits to the queued calls that may have them.
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
                let sender = |caller: &CallerKey, waiter, why| match why {
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
                    sender,
                );
                self.store_queue_lengths(&queue);
                shed.extend(late.into_iter().map(|(caller, waiter)| {
                    let retry_after = queue.retry_after(&caller);
                    (waiter, Rejection::Shed { retry_after })
                }));
                next
            };
            // Not under the lock: the receiver may be gone, and then its permit comes back.
            for (waiter, rejection) in shed {
                let _ = waiter.send(Err(rejection));
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

    /// Number of a call that wants its permit back, behind earlier ones.
    pub(super) fn next_reacquire_number(&self) -> u64 {
        self.next_reacquire_number.fetch_add(1, Relaxed)
    }

    pub(super) fn is_adaptive(&self) -> bool {
        self.limiter.is_some()
    }

    /// Records the latency of a call that says something about the load of the server.
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
    /// Admits, queues or rejects a call.
    pub(super) fn admit(
        self: &Arc<Self>,
        now: Instant,
        request: impl FnOnce() -> AdmissionRequest,
    ) -> GateOutcome {
        let gate = &self.gate;
        self.note_seen(gate.since_epoch(now));
        if let Some(permit) = self.try_acquire_permit() {
            return GateOutcome::Admitted(permit);
        }
        let rank = self.rank(&request());
        let own = rank.peer.clone();
        let (sender, receiver) = oneshot::channel();
        let (pushed, retry_after) = {
            let mut queue = gate.queue.lock();
            let pushed = queue.push(gate.now(), rank, sender);
            gate.store_queue_lengths(&queue);
            let told = match &pushed {
                PushOutcome::Queued { shed, .. } => shed.as_ref().map(|(caller, _)| caller),
                PushOutcome::QueueFull => Some(&own),
            };
            let retry_after = told.map_or(Duration::ZERO, |caller| queue.retry_after(caller));
            (pushed, retry_after)
        };
        // A permit may have become free before this call was seen in the queue.
        gate.grant_if_awaited(None);
        match pushed {
            PushOutcome::QueueFull => GateOutcome::Rejected(Rejection::QueueFull { retry_after }),
            PushOutcome::Queued {
                position: permit,
                shed,
            } => {
                if let Some((_, shed)) = shed {
                    let _ = shed.send(Err(Rejection::Shed { retry_after }));
                }
                let caller = Arc::clone(self);
                GateOutcome::Queued(Ticket {
                    caller,
                    position: permit,
                    outcome: receiver,
                })
            }
        }
    }

    /// Acquires a permit that is free and that no queued call may have.
    fn try_acquire_permit(self: &Arc<Self>) -> Option<Permit> {
        self.gate.grant_if_awaited(None);
        self.try_acquire()
            .then(|| Permit::acquired(Arc::clone(self)))
    }

    /// The rejection of a call that would be rejected if it came now.
    pub(super) fn early_rejection(
        self: &Arc<Self>,
        now: Instant,
        request: &AdmissionRequest,
    ) -> Option<Rejection> {
        let gate = &self.gate;
        self.note_seen(gate.since_epoch(now));
        if self.may_acquire() {
            return None;
        }
        let rank = self.rank(request);
        let queue = gate.queue.lock();
        let is_refused = !queue.has_room(&rank);
        is_refused.then(|| Rejection::QueueFull {
            retry_after: queue.retry_after(&rank.peer),
        })
    }

    fn rank(self: &Arc<Self>, request: &AdmissionRequest) -> Rank<CallerKey> {
        Rank {
            priority: request.priority,
            is_retry: request.is_retry,
            peer: CallerKey(Arc::clone(self)),
            deadline: request.deadline.map(|at| self.gate.since_epoch(at)),
        }
    }

    /// Releases the permit of a call, and grants it to a queued call.
    pub(super) fn release(&self, sample: Option<(Duration, bool)>) {
        let gate = &self.gate;
        if let Some((began, well)) = sample {
            gate.note_sample(began, well);
        }
        self.release_without_grant();
        // One of both sees the other: this sees the queued call, or the call that is being queued
        // sees the permit.
        gate.grant_if_awaited(Some(self));
    }

    /// Waits for a permit for a call that has yielded its own, before the calls of the same caller
    /// with a greater [number](AdmissionGate::next_reacquire_number). Each call has a number of its
    /// own.
    pub(super) async fn reacquire(self: Arc<Self>, number: u64) -> Permit {
        let gate = &self.gate;
        self.note_seen(gate.now());
        if let Some(permit) = self.try_acquire_permit() {
            return permit;
        }
        let (sender, receiver) = oneshot::channel();
        let permit = {
            let mut queue = gate.queue.lock();
            let permit = queue.push_reacquiring(CallerKey(Arc::clone(&self)), number, sender);
            gate.store_queue_lengths(&queue);
            permit
        };
        let caller = Arc::clone(&self);
        let mut ticket = Ticket {
            caller,
            position: permit,
            outcome: receiver,
        };
        gate.grant_if_awaited(None);
        match (&mut ticket.outcome).await {
            Ok(Ok(permit)) => permit,
            // It stays in the queue until it is removed.
            Ok(Err(_)) | Err(_) => unreachable!("a call that has started is not shed"),
        }
    }
}

impl Ticket {
    /// Waits until the call is admitted or rejected.
    pub(super) async fn wait_admitted(mut self) -> Result<Permit, Rejection> {
        let gate = Arc::clone(&self.caller.gate);
        match timeout(gate.interval, &mut self.outcome).await {
            Ok(Ok(receiver)) => receiver,
            // Dropping the ticket removes it.
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
