//! Where handlers with tasks of their own leave their results.

use std::task::Context;

use futures::task::AtomicWaker;
use parking_lot::Mutex;

use crate::server::router::Outcome;

/// Results that wait for the lane's task. There are at most as many as calls under way.
#[derive(Debug, Default)]
pub(super) struct Done {
    results: Mutex<Vec<(u32, Work)>>,
    lane: AtomicWaker,
}

/// What a task has done for a call.
#[derive(Debug)]
pub(super) enum Work {
    Returned(Outcome),
    Panicked,
    /// The reply has gone its own way, or has not.
    Replied {
        delivered: bool,
    },
}

impl Done {
    pub(super) fn push(&self, id: u32, work: Work) {
        let is_first = {
            let mut results = self.results.lock();
            results.push((id, work));
            results.len() == 1
        };
        if is_first {
            self.lane.wake();
        }
    }

    /// Takes what is there into `taken`, which is empty; the task is woken for what comes later.
    pub(super) fn take(&self, taken: &mut Vec<(u32, Work)>, cx: &Context<'_>) {
        self.lane.register(cx.waker());
        std::mem::swap(&mut *self.results.lock(), taken);
    }
}
