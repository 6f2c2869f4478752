//! Busy polling: a thread spins for packets that it expects soon, instead of sleeping.

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

/// Busy polling of a current-thread runtime: keeps its thread awake for a moment after it had work.
///
/// A thread that sleeps takes some tens of microseconds to wake up, more than a call takes
/// otherwise. Spinning for as long as that costs at most as much time as sleeping and waking would
/// (the classic bound of spin-then-block), and mostly gains. Where it does not pay, because packets
/// are rare or the peer needs this very core, it is tried more and more rarely.
///
/// It has no effect on other runtimes: their sleeping threads take the packets first.
#[derive(Debug)]
pub(crate) struct BusyPoll {
    spin_max: Duration,
    /// Number of recorded events.
    work: AtomicU64,
    /// Whether more work is expected after the last event.
    expects_more: AtomicBool,
    /// Events until the task wakes; 0 while it is awake.
    events_until_wake: AtomicU32,
    task: AtomicWaker,
}

impl BusyPoll {
    pub(crate) fn new(limit: Duration) -> Self {
        Self {
            spin_max: limit,
            work: AtomicU64::new(0),
            expects_more: AtomicBool::new(false),
            events_until_wake: AtomicU32::new(NEVER),
            task: AtomicWaker::new(),
        }
    }

    /// Starts the task that keeps the current thread awake, until `stopped`; does nothing on other
    /// runtimes.
    pub(crate) fn start(self: &Arc<Self>, stopped: CancellationToken) {
        let runtime = Handle::current();
        if !self.spin_max.is_zero() && runtime.runtime_flavor() == RuntimeFlavor::CurrentThread {
            let poller = Arc::clone(self);
            runtime.spawn(async move {
                tokio::select! {
                    biased;
                    () = poller.spin_loop() => {}
                    () = stopped.cancelled() => {}
                }
            });
        }
    }

    /// Records that there was work; `expects_more` says whether more is expected without any action
    /// of this side.
    pub(crate) fn record(&self, expects_more: bool) {
        self.work
            .store(self.work.load(Relaxed).wrapping_add(1), Relaxed);
        self.expects_more.store(expects_more, Relaxed);
        match self.events_until_wake.load(Relaxed) {
            0 => {}
            1 if expects_more => {
                self.events_until_wake.store(0, Relaxed);
                self.task.wake();
            }
            1 | NEVER => {}
            left => self.events_until_wake.store(left - 1, Relaxed),
        }
    }

    /// Records that packets arrived: if more are to come, they come now.
    pub(crate) fn record_packets(&self) {
        if self.events_until_wake.load(Relaxed) == 0 {
            self.work
                .store(self.work.load(Relaxed).wrapping_add(1), Relaxed);
        }
    }

    async fn spin_loop(&self) {
        let mut backoff = SpinBackoff::default();
        loop {
            self.sleep(backoff.events_until_spin()).await;
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
            backoff.on_spin_ended(has_paid, has_given_up);
        }
    }

    /// Sleeps until `events` more events were recorded.
    async fn sleep(&self, events: u32) {
        self.events_until_wake.store(events, Relaxed);
        poll_fn(|cx| {
            self.task.register(cx.waker());
            if self.events_until_wake.load(Relaxed) == 0 {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
    }
}

/// Backoff of spins that did not pay.
#[derive(Debug, Default)]
struct SpinBackoff {
    /// Spins in a row without a packet.
    failures: u32,
}

impl SpinBackoff {
    /// Events until the next spin.
    fn events_until_spin(&self) -> u32 {
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

/// The thread is not kept awake at all.
const NEVER: u32 = u32::MAX;

/// At least every 1,024th event starts a spin.
const FAILURES_MAX: u32 = 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spins_that_do_not_pay_back_off_exponentially() {
        let mut backoff = SpinBackoff::default();
        assert_eq!(backoff.events_until_spin(), 1);
        let skips: Vec<u32> = (0..12)
            .map(|_| {
                backoff.on_spin_ended(false, true);
                backoff.events_until_spin()
            })
            .collect();
        assert_eq!(
            skips,
            [2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 1024, 1024]
        );
        backoff.on_spin_ended(false, false);
        assert_eq!(
            backoff.events_until_spin(),
            1024,
            "a spin without expected work does not count"
        );
        backoff.on_spin_ended(true, true);
        assert_eq!(backoff.events_until_spin(), 1);
    }

    #[tokio::test]
    async fn a_thread_without_expected_work_sleeps() {
        let stopped = CancellationToken::new();
        let busy = Arc::new(BusyPoll::new(Duration::from_secs(3600)));
        busy.start(stopped.clone());
        let is_asleep = || busy.events_until_wake.load(Relaxed) == 1;
        while !is_asleep() {
            yield_now().await;
        }
        busy.record(true);
        assert!(!is_asleep());
        for _ in 0..100 {
            yield_now().await;
            assert!(!is_asleep(), "more is expected, and there is an hour");
        }
        busy.record(false);
        while !is_asleep() {
            yield_now().await;
        }
        stopped.cancel();
    }

    #[tokio::test]
    async fn spins_that_find_nothing_are_woken_exponentially_less_often() {
        let stopped = CancellationToken::new();
        let busy = Arc::new(BusyPoll::new(Duration::from_micros(1)));
        busy.start(stopped.clone());
        for expected in [1, 2, 4, 8] {
            while busy.events_until_wake.load(Relaxed) != expected {
                yield_now().await;
            }
            for _ in 0..expected {
                busy.record(true);
            }
        }
        stopped.cancel();
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn busy_polling_is_off_on_multi_thread_runtimes() {
        let busy = Arc::new(BusyPoll::new(Duration::from_secs(3600)));
        busy.start(CancellationToken::new());
        busy.record(true);
        assert_eq!(Arc::strong_count(&busy), 1);
    }
}
