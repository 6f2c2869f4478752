//! Admission at one gate: a permit at once, a position in the queue, or a rejection.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::oneshot,
    time::{Instant, timeout},
};

use super::{
    caller_quota::{CallerKey, CallerQuota},
    gate::Rejection,
    permit::Permit,
    queue::{PushOutcome, QueuePosition, Rank},
};
use crate::Priority;

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

/// Position of a queued call. Dropping the ticket removes the call from the queue.
#[derive(Debug)]
pub(in crate::server) struct Ticket {
    caller: Arc<CallerQuota>,
    position: QueuePosition<CallerKey>,
    pub(super) outcome: oneshot::Receiver<Result<Permit, Rejection>>,
}

impl CallerQuota {
    /// Admits, queues or rejects a call.
    pub(super) fn admit(
        self: &Arc<Self>,
        now: Instant,
        request: impl FnOnce() -> AdmissionRequest,
    ) -> GateOutcome {
        let gate = &self.gate;
        self.record_seen(gate.since_epoch(now));
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
            let loser = match &pushed {
                PushOutcome::Queued { shed, .. } => shed.as_ref().map(|(caller, _)| caller),
                PushOutcome::QueueFull => Some(&own),
            };
            let retry_after = loser.map_or(Duration::ZERO, |caller| queue.retry_after(caller));
            (pushed, retry_after)
        };
        // A permit may have become free before this call was seen in the queue.
        gate.grant_if_awaited(None);
        match pushed {
            PushOutcome::QueueFull => GateOutcome::Rejected(Rejection::QueueFull { retry_after }),
            PushOutcome::Queued { position, shed } => {
                if let Some((_, shed)) = shed {
                    let _ = shed.send(Err(Rejection::Shed { retry_after }));
                }
                let caller = Arc::clone(self);
                GateOutcome::Queued(Ticket {
                    caller,
                    position,
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
        self.record_seen(gate.since_epoch(now));
        if self.may_acquire() {
            return None;
        }
        let rank = self.rank(request);
        let queue = gate.queue.lock();
        let is_full = !queue.has_capacity(&rank);
        is_full.then(|| Rejection::QueueFull {
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
        if let Some((began, succeeded)) = sample {
            gate.record_sample(began, succeeded);
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
        self.record_seen(gate.now());
        if let Some(permit) = self.try_acquire_permit() {
            return permit;
        }
        let (sender, receiver) = oneshot::channel();
        let position = {
            let mut queue = gate.queue.lock();
            let position = queue.push_reacquiring(CallerKey(Arc::clone(&self)), number, sender);
            gate.store_queue_lengths(&queue);
            position
        };
        let caller = Arc::clone(&self);
        let mut ticket = Ticket {
            caller,
            position,
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
            Ok(Ok(outcome)) => outcome,
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
