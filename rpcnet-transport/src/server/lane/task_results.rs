//! Where handlers with tasks of their own leave their results.

use std::task::Context;

use futures::task::AtomicWaker;
use parking_lot::Mutex;

use crate::server::router::HandlerResult;

/// Results that wait for the lane's task. There are at most as many as calls under way.
#[derive(Debug, Default)]
pub(super) struct TaskResults {
    results: Mutex<Vec<(u32, TaskResult)>>,
    lane_waker: AtomicWaker,
}

/// What a task has done for a call.
#[derive(Debug)]
pub(super) enum TaskResult {
    Returned(HandlerResult),
    Panicked,
    /// The reply has gone its own way, or has not.
    ReplySent {
        delivered: bool,
    },
}

impl TaskResults {
    pub(super) fn push(&self, id: u32, work: TaskResult) {
        let is_first = {
            let mut results = self.results.lock();
            results.push((id, work));
            results.len() == 1
        };
        if is_first {
            self.lane_waker.wake();
        }
    }

    /// Takes what is there into `taken`, which is empty; the task is woken for what comes later.
    pub(super) fn take(&self, taken: &mut Vec<(u32, TaskResult)>, cx: &Context<'_>) {
        self.lane_waker.register(cx.waker());
        std::mem::swap(&mut *self.results.lock(), taken);
    }
}
