//! Results that the tasks of a lane's calls hand to the task of the lane.

use std::task::Context;

use futures::task::AtomicWaker;
use parking_lot::Mutex;

use crate::server::handler_result::HandlerResult;

/// Results that wait for the lane's task. There are at most as many as calls in progress.
#[derive(Debug, Default)]
pub(super) struct TaskResults {
    results: Mutex<Vec<(u32, TaskResult)>>,
    lane_waker: AtomicWaker,
}

/// Result of the task of a call.
#[derive(Debug)]
pub(super) enum TaskResult {
    Returned(HandlerResult),
    Panicked,
    /// The reply was sent on a stream of its own, or could not be delivered.
    ReplySent {
        delivered: bool,
    },
}

impl TaskResults {
    pub(super) fn push(&self, id: u32, result: TaskResult) {
        let is_first = {
            let mut results = self.results.lock();
            results.push((id, result));
            results.len() == 1
        };
        if is_first {
            self.lane_waker.wake();
        }
    }

    /// Moves the results into `taken`, which is empty. Later results wake the task.
    pub(super) fn take(&self, taken: &mut Vec<(u32, TaskResult)>, cx: &Context<'_>) {
        self.lane_waker.register(cx.waker());
        std::mem::swap(&mut *self.results.lock(), taken);
    }
}
