//! Deadlines of the calls of a lane, and the stall timeout of its caller.

use std::task::{Context, Poll};

use tokio::time::sleep_until;

use super::{LaneServer, LaneServerEnd};
use crate::server::{call_checks::expired_status, call_status};

impl LaneServer {
    pub(super) fn expire_calls(&mut self) {
        let mut calls = Vec::new();
        self.pending.expire(self.now, |call| calls.push(call));
        for call in calls {
            let status = if call.cancel_before_start() {
                expired_status(&self.shared)
            } else {
                self.shared.counters.calls_timed_out.add_one();
                call_status::timed_out()
            };
            self.write_failure(call.id, status);
            call.end();
        }
    }

    /// Waits for the next deadline, or for the stall timeout of a caller that reads nothing.
    pub(super) fn poll_deadlines(&mut self, cx: &mut Context<'_>) -> Poll<LaneServerEnd> {
        let stall_timeout = self.shared.config.limits.stall_timeout;
        let stalled_at = self.replies.stalled_at(stall_timeout);
        if stalled_at.is_some_and(|at| at <= self.now) {
            return Poll::Ready(LaneServerEnd::Stalled);
        }
        let deadline = self.pending.earliest_deadline();
        let Some(at) = deadline.into_iter().chain(stalled_at).min() else {
            return Poll::Pending;
        };
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(at)));
        if timer.deadline() != at {
            timer.as_mut().reset(at);
        }
        if timer.as_mut().poll(cx).is_ready() {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }
}
