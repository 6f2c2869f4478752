//! Calls of a lane that are in progress.

use std::sync::Arc;

use tokio::{task::AbortHandle, time::Instant};

use super::start_once::StartOnce;
use crate::{endpoint::EndpointShared, metadata::CallHeaders, server::CallContext};

/// Calls in progress, found by their id without a search.
#[derive(Debug)]
pub(super) struct PendingCalls {
    /// By the low half of the id, which the caller chooses as low as possible.
    calls: Vec<Option<PendingCall>>,
    calls_max: usize,
    len: usize,
    /// No deadline of a call is earlier.
    earliest_deadline: Option<Instant>,
}

/// A call in progress.
#[derive(Debug)]
pub(super) struct PendingCall {
    pub(super) id: u32,
    pub(super) deadline: Option<Instant>,
    pub(super) task: AbortHandle,
    pub(super) stage: CallStage,
}

/// Stage of a call in progress.
#[derive(Debug)]
pub(super) enum CallStage {
    Running {
        context: CallContext,
        /// Present if the call had to wait for a permit.
        start_once: Option<Arc<StartOnce>>,
    },
    /// The reply is being sent on a stream of its own.
    Replying,
    /// The reply was acknowledged by QUIC; the receipt of the caller is missing.
    Delivered,
}

/// A call id that is past the announced limit, or in use.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct InvalidCallId;

impl PendingCall {
    /// Whether the caller has the reply and only its receipt is missing.
    pub(super) fn is_delivered(&self) -> bool {
        matches!(self.stage, CallStage::Delivered)
    }

    /// Cancels a call whose handler has not started. `false` if it has.
    pub(super) fn cancel_before_start(&self) -> bool {
        let CallStage::Running { start_once, .. } = &self.stage else {
            return false;
        };
        start_once.as_ref().is_some_and(|once| once.try_cancel())
    }

    /// Headers of the reply, if the handler has set any.
    pub(super) fn take_reply_headers(&self) -> Option<Box<CallHeaders>> {
        match &self.stage {
            CallStage::Running { context, .. } => context.take_reply_headers(),
            CallStage::Replying | CallStage::Delivered => None,
        }
    }

    /// Counts the call as cancelled by a shutdown.
    pub(super) fn count_cancelled_by_shutdown(&self, shared: &EndpointShared) {
        shared.served.cancelled_by_shutdown.add_one();
        shared
            .served
            .aborted_by_shutdown
            .lock()
            .push(self.task.clone());
    }

    /// Aborts the task of the call, and ends its context.
    pub(super) fn end(self) {
        self.task.abort();
        if let CallStage::Running { context, .. } = self.stage {
            context.end();
        }
    }
}

impl PendingCalls {
    pub(super) fn new(calls_max: usize) -> Self {
        Self {
            calls: Vec::new(),
            calls_max,
            len: 0,
            earliest_deadline: None,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(super) fn earliest_deadline(&self) -> Option<Instant> {
        self.earliest_deadline
    }

    /// Checks that a call with this id may begin.
    pub(super) fn check(&self, id: u32) -> Result<(), InvalidCallId> {
        let index = slot(id);
        let is_free = self.calls.get(index).is_none_or(Option::is_none);
        (index < self.calls_max && is_free)
            .then_some(())
            .ok_or(InvalidCallId)
    }

    /// Adds a call whose id was checked.
    pub(super) fn insert(&mut self, call: PendingCall) {
        let index = slot(call.id);
        if self.calls.len() <= index {
            self.calls.resize_with(index + 1, || None);
        }
        if let Some(deadline) = call.deadline {
            self.earliest_deadline =
                Some(self.earliest_deadline.map_or(deadline, |e| e.min(deadline)));
        }
        let replaced = self.calls[index].replace(call);
        debug_assert!(replaced.is_none(), "the id was checked");
        self.len += usize::from(replaced.is_none());
    }

    /// The call with this id.
    pub(super) fn find(&mut self, id: u32) -> Option<&mut PendingCall> {
        let call = self.calls.get_mut(slot(id))?.as_mut();
        call.filter(|call| call.id == id)
    }

    pub(super) fn remove(&mut self, id: u32) -> Option<PendingCall> {
        let call = self
            .calls
            .get_mut(slot(id))?
            .take_if(|call| call.id == id)?;
        self.len -= 1;
        Some(call)
    }

    /// Removes the calls whose deadline has passed.
    pub(super) fn expire(&mut self, now: Instant, mut expired: impl FnMut(PendingCall)) {
        if self.earliest_deadline.is_none_or(|earliest| now < earliest) {
            return;
        }
        self.earliest_deadline = None;
        for call in &mut self.calls {
            let Some(deadline) = call.as_ref().and_then(|call| call.deadline) else {
                continue;
            };
            if deadline > now {
                self.earliest_deadline =
                    Some(self.earliest_deadline.map_or(deadline, |e| e.min(deadline)));
            } else if let Some(call) = call.take() {
                self.len -= 1;
                expired(call);
            }
        }
    }

    /// Removes all calls.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = PendingCall> + '_ {
        self.len = 0;
        self.earliest_deadline = None;
        self.calls.drain(..).flatten()
    }
}

fn slot(id: u32) -> usize {
    usize::from(id as u16)
}

#[cfg(test)]
mod tests {
    use std::{future::pending, time::Duration};

    use super::*;

    fn call(id: u32, deadline: Option<Instant>) -> PendingCall {
        PendingCall {
            id,
            deadline,
            task: tokio::spawn(pending::<()>()).abort_handle(),
            stage: CallStage::Replying,
        }
    }

    #[tokio::test]
    async fn a_call_id_is_free_after_its_call_and_below_the_limit() {
        let mut pending = PendingCalls::new(4);
        assert_eq!(pending.check(3), Ok(()));
        assert_eq!(pending.check(4), Err(InvalidCallId));
        // The high half says how often the low one was used.
        assert_eq!(pending.check(7 << 16 | 3), Ok(()));
        pending.insert(call(7 << 16 | 3, None));
        assert_eq!(pending.check(7 << 16 | 3), Err(InvalidCallId));
        assert_eq!(pending.check(8 << 16 | 3), Err(InvalidCallId));
        assert!(pending.find(8 << 16 | 3).is_none() && pending.remove(3).is_none());
        assert!(!pending.is_empty());
        assert_eq!(
            pending.remove(7 << 16 | 3).map(|call| call.id),
            Some(7 << 16 | 3)
        );
        assert!(pending.is_empty());
        assert!(pending.remove(7 << 16 | 3).is_none());
        assert_eq!(pending.check(8 << 16 | 3), Ok(()));
        assert!(pending.find(u32::MAX).is_none() && pending.remove(u32::MAX).is_none());
    }

    #[tokio::test]
    async fn calls_expire_once_at_their_deadline() {
        let mut pending = PendingCalls::new(8);
        let start = Instant::now();
        let after = |ms| start + Duration::from_millis(ms);
        for (id, deadline) in [(0, None), (1, Some(after(30))), (2, Some(after(10)))] {
            pending.insert(call(id, deadline));
        }
        assert_eq!(pending.earliest_deadline(), Some(after(10)));
        let expire = |pending: &mut PendingCalls, at| {
            let mut expired = Vec::new();
            pending.expire(at, |call| expired.push(call.id));
            expired
        };
        assert_eq!(expire(&mut pending, after(9)), []);
        assert_eq!(expire(&mut pending, after(10)), [2]);
        assert_eq!(pending.earliest_deadline(), Some(after(30)));
        assert_eq!(expire(&mut pending, after(29)), []);
        // A call that ended leaves a deadline behind at which nothing happens.
        pending.remove(1);
        assert_eq!(expire(&mut pending, after(30)), []);
        assert_eq!(pending.earliest_deadline(), None);
        assert_eq!(pending.drain().count(), 1);
        assert!(pending.is_empty());
    }
}
