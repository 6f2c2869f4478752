//! Looking for packets without sleeping, while they are expected at once.

use std::{
    future::poll_fn,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    task::Poll,
    time::{Duration, Instant},
};

use futures::task::AtomicWaker;
use tokio::{
    runtime::{Handle, RuntimeFlavor},
    task::yield_now,
};
use tokio_util::sync::CancellationToken;

/// Keeps a thread awake for a moment after it had work.
///
/// A thread that sleeps takes some tens of microseconds to come back, more than a call takes otherwise. One that looks
/// again and again for as long as that has lost at most as much time as it would have needed to sleep and wake, the
/// classic bound of spinning before blocking, and mostly gains. Where it does not pay, since packets come rarely or the other
/// side needs this very core, it is tried ever more rarely.
///
/// It works on current-thread runtimes only: in others, threads that sleep take the packets first.
#[derive(Debug)]
pub(crate) struct BusyPoll {
    spin_max: Duration,
    /// Counts what was noted.
    work: AtomicU64,
    /// Whether the last that was noted lets expect more.
    expects_more: AtomicBool,
    /// 0 while the task is awake; else it wakes when so many more were noted.
    notes_until_wake: AtomicU32,
    task: AtomicWaker,
}

impl BusyPoll {
    pub(crate) fn new(limit: Duration) -> Self {
        Self {
            spin_max: limit,
            work: AtomicU64::new(0),
            expects_more: AtomicBool::new(false),
            notes_until_wake: AtomicU32::new(NEVER),
            task: AtomicWaker::new(),
        }
    }

    /// Begins to keep the current thread awake, until `stopped`; does nothing where it would be of no use.
    pub(crate) fn start(self: &Arc<Self>, stopped: CancellationToken) {
        let runtime = Handle::current();
        if !self.spin_max.is_zero() && runtime.runtime_flavor() == RuntimeFlavor::CurrentThread {
            let looking = Arc::clone(self);
            runtime.spawn(async move {
                tokio::select! {
                    biased;
                    () = looking.spin_loop() => {}
                    () = stopped.cancelled() => {}
                }
            });
        }
    }

    /// There was something to do; `expects_more` says whether something is to follow without anything else being done here.
    pub(crate) fn note(&self, expects_more: bool) {
        self.work
            .store(self.work.load(Relaxed).wrapping_add(1), Relaxed);
        self.expects_more.store(expects_more, Relaxed);
        match self.notes_until_wake.load(Relaxed) {
            0 => {}
            1 if expects_more => {
                self.notes_until_wake.store(0, Relaxed);
                self.task.wake();
            }
            1 | NEVER => {}
            left => self.notes_until_wake.store(left - 1, Relaxed),
        }
    }

    /// Packets came, whatever is in them: if there are more to come, they come now.
    pub(crate) fn note_packets(&self) {
        if self.notes_until_wake.load(Relaxed) == 0 {
            self.work
                .store(self.work.load(Relaxed).wrapping_add(1), Relaxed);
        }
    }

    async fn spin_loop(&self) {
        let mut policy = SpinBackoff::default();
        loop {
            self.sleep(policy.wakes_to_skip()).await;
            let mut has_paid = false;
            let mut seen = self.work.load(Relaxed);
            let mut since = Instant::now();
            let has_given_up = loop {
                yield_now().await;
                let work = self.work.load(Relaxed);
                if work != seen {
                    (seen, since, has_paid) = (work, Instant::now(), true);
                } else if !self.expects_more.load(Relaxed) {
                    break false;
                } else if since.elapsed() > self.spin_max {
                    break true;
                }
            };
            policy.on_spin_ended(has_paid, has_given_up);
        }
    }

    /// Until so many more were noted.
    async fn sleep(&self, notes: u32) {
        self.notes_until_wake.store(notes, Relaxed);
        poll_fn(|cx| {
            self.task.register(cx.waker());
            if self.notes_until_wake.load(Relaxed) == 0 {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
    }
}

/// When it is worth looking.
#[derive(Debug, Default)]
struct SpinBackoff {
    /// Times in a row that nothing came.
    failures: u32,
}

impl SpinBackoff {
    /// How much has to happen before it is tried again.
    fn wakes_to_skip(&self) -> u32 {
        1 << self.failures.min(FAILURES_MAX)
    }

    fn on_spin_ended(&mut self, has_paid: bool, has_given_up: bool) {
        if has_paid {
            self.failures = 0;
        } else if has_given_up {
            self.failures = self.failures.saturating_add(1);
        }
    }
}

/// Of a thread that is not kept awake at all.
const NEVER: u32 = u32::MAX;

/// It is tried at every 1,024th occasion at the least.
const FAILURES_MAX: u32 = 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_pay_is_tried_ever_more_rarely() {
        let mut policy = SpinBackoff::default();
        assert_eq!(policy.wakes_to_skip(), 1);
        let skips: Vec<u32> = (0..12)
            .map(|_| {
                policy.on_spin_ended(false, true);
                policy.wakes_to_skip()
            })
            .collect();
        assert_eq!(
            skips,
            [2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 1024, 1024]
        );
        policy.on_spin_ended(false, false);
        assert_eq!(
            policy.wakes_to_skip(),
            1024,
            "nothing was expected, nothing learnt"
        );
        policy.on_spin_ended(true, true);
        assert_eq!(policy.wakes_to_skip(), 1);
    }

    #[tokio::test]
    async fn a_thread_with_nothing_to_expect_sleeps() {
        let stopped = CancellationToken::new();
        let busy = Arc::new(BusyPoll::new(Duration::from_secs(3600)));
        busy.start(stopped.clone());
        let is_asleep = || busy.notes_until_wake.load(Relaxed) == 1;
        while !is_asleep() {
            yield_now().await;
        }
        busy.note(true);
        assert!(!is_asleep());
        for _ in 0..100 {
            yield_now().await;
            assert!(!is_asleep(), "more is expected, and there is an hour");
        }
        busy.note(false);
        while !is_asleep() {
            yield_now().await;
        }
        stopped.cancel();
    }

    #[tokio::test]
    async fn a_thread_gives_up_and_is_woken_less_often() {
        let stopped = CancellationToken::new();
        let busy = Arc::new(BusyPoll::new(Duration::from_micros(1)));
        busy.start(stopped.clone());
        for expected in [1, 2, 4, 8] {
            while busy.notes_until_wake.load(Relaxed) != expected {
                yield_now().await;
            }
            for _ in 0..expected {
                busy.note(true);
            }
        }
        stopped.cancel();
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn it_does_not_run_where_it_is_of_no_use() {
        let busy = Arc::new(BusyPoll::new(Duration::from_secs(3600)));
        busy.start(CancellationToken::new());
        busy.note(true);
        assert_eq!(Arc::strong_count(&busy), 1);
    }
}
