//! Admission gate: concurrency limit, shares of callers, and the queue.

use std::{
    fmt,
    sync::atomic::{
        AtomicU64, AtomicUsize,
        Ordering::{Relaxed, SeqCst},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{sync::oneshot, time::Instant};

use super::{
    Admission, AdmissionState, Limit,
    caller_quota::{CallerKey, CallerQuota, GateCallers, GatePermits},
    gradient_limiter::{GradientLimiter, Sample},
    permit::Permit,
    permit_counts::PermitCounts,
    queue::{AdmissionQueue, ShedReason},
};

/// Concurrency limit of a server or a method. Of each caller as many calls run as its
/// [quota](CallerQuota) allows; others are queued. Acquiring a free permit, and releasing it while
/// no call is queued, take a few atomic operations each.
pub(crate) struct AdmissionGate {
    pub(super) permits: PermitCounts,
    /// Queued calls that have not started, to be read without the lock of the queue.
    queued: AtomicUsize,
    /// Queued calls that yielded a permit and want it back.
    reacquiring: AtomicUsize,
    /// Next number of a call that wants a permit back. Lower numbers reacquire first.
    next_reacquire_number: AtomicU64,
    pub(super) interval: Duration,
    epoch: Instant,
    pub(super) queue: Mutex<AdmissionQueue<CallerKey, PermitSender>>,
    limiter: Option<Mutex<GradientLimiter>>,
    pub(super) callers: GateCallers,
}

/// Grants or rejects a queued call.
pub(super) type PermitSender = oneshot::Sender<Result<Permit, Rejection>>;

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
            permits: PermitCounts::new(limit),
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
            limit: self.permits.limit(),
            running: self.permits.running() + self.permits.over_limit(),
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

    /// Grants free permits to queued calls, if there are any. `just_ended` is the caller whose call
    /// has just ended.
    pub(super) fn grant_if_awaited(&self, just_ended: Option<&CallerQuota>) {
        if self.has_waiters() {
            self.grant_free_permits(just_ended);
        }
    }

    pub(super) fn has_waiters(&self) -> bool {
        self.queued.load(SeqCst) > 0 || self.reacquiring.load(SeqCst) > 0
    }

    /// Grants free permits to the queued calls that may have them.
    fn grant_free_permits(&self, just_ended: Option<&CallerQuota>) {
        loop {
            let mut shed = Vec::new();
            let next = {
                let mut queue = self.queue.lock();
                let is_empty = queue.len() == 0 && queue.reacquiring_len() == 0;
                if is_empty || !self.permits.has_free() {
                    return;
                }
                let mut late = Vec::new();
                let on_shed = |caller: &CallerKey, waiter, why| match why {
                    ShedReason::WaitedTooLong => late.push((caller.clone(), waiter)),
                    ShedReason::Expired => shed.push((waiter, Rejection::Expired)),
                };
                let now = self.now();
                let mut permits = GatePermits { now, just_ended };
                let next = queue.pop(now, &mut permits, on_shed);
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

    pub(super) fn store_queue_lengths(&self, queue: &AdmissionQueue<CallerKey, PermitSender>) {
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
    pub(super) fn record_sample(&self, began: Duration, succeeded: bool) {
        let Some(limiter) = &self.limiter else { return };
        let mut limiter = limiter.lock();
        limiter.on_end(Sample {
            began,
            ended: self.now(),
            succeeded,
            running: self.permits.running(),
        });
        self.permits.set_limit(limiter.limit());
    }

    pub(super) fn now(&self) -> Duration {
        self.epoch.elapsed()
    }

    pub(super) fn since_epoch(&self, at: Instant) -> Duration {
        at.saturating_duration_since(self.epoch)
    }
}

impl fmt::Debug for AdmissionGate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.state().fmt(f)
    }
}

#[cfg(test)]
mod tests;
