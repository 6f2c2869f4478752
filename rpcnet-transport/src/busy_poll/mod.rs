//! Busy polling: a thread spins for packets that it expects soon, instead of sleeping.
//!
//! On a current-thread runtime a task of its own keeps the thread awake (`BusyPoll::start`): the
//! thread goes on doing whatever else there is to do. On a multi-thread runtime that would wake the
//! other threads again and again, so there the task that reads the socket spins (`in_place`), for
//! calls that are made one at a time.

mod in_place;
mod machine;
mod policy;

pub(crate) use self::in_place::QuicRuntime;

use std::{
    future::poll_fn,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed},
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

use self::{machine::Machine, policy::SpinBackoff};

/// Busy polling of the sockets of an endpoint: keeps a thread awake for a moment after it had work.
///
/// A thread that sleeps takes some tens of microseconds to wake up, more than a call takes
/// otherwise. How long it spins instead follows what a wake-up costs on this machine
/// ([`policy::spin_max`]). Where it does not pay, because packets are rare or the peer needs this
/// very core, it is tried more and more rarely; where the cores are shared with others, never.
#[derive(Debug)]
pub(crate) struct BusyPoll {
    /// Bound of the configuration.
    bound: Duration,
    /// `None` for the one that the process runs on.
    machine: Option<&'static Machine>,
    /// Number of recorded events.
    work: AtomicU64,
    /// Whether more work is expected after the last event.
    expects_more: AtomicBool,
    /// Events until the task wakes; 0 while it is awake.
    events_until_wake: AtomicU32,
    task: AtomicWaker,
    /// Whether the next packet that leaves is to be followed by a spin in place.
    spins_after_send: AtomicBool,
    /// Lane whose requests were served last.
    last_lane: AtomicUsize,
    /// Number of receives that brought packets.
    receives: AtomicU64,
}

/// Packets that are expected without any action of this side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expected {
    Nothing,
    /// The reply to the only call in flight, or the next request of a caller that makes one call
    /// at a time.
    One,
    /// Those of several calls.
    Several,
}

impl Expected {
    /// Packets for so many calls.
    pub(crate) fn of(calls: usize) -> Self {
        match calls {
            0 => Self::Nothing,
            1 => Self::One,
            _ => Self::Several,
        }
    }
}

impl BusyPoll {
    pub(crate) fn new(bound: Duration) -> Self {
        Self {
            bound,
            machine: None,
            work: AtomicU64::new(0),
            expects_more: AtomicBool::new(false),
            events_until_wake: AtomicU32::new(NEVER),
            task: AtomicWaker::new(),
            spins_after_send: AtomicBool::new(false),
            last_lane: AtomicUsize::new(0),
            receives: AtomicU64::new(0),
        }
    }

    /// Longest spin at the moment; zero where it would take time from others.
    fn spin_max(&self) -> Duration {
        let machine = self.machine.unwrap_or_else(machine::machine);
        if machine.has_shared_cores() {
            return Duration::ZERO;
        }
        policy::spin_max(machine.wake_up(), self.bound)
    }

    /// Starts the task that keeps the current thread awake, until `stopped`; does nothing on
    /// multi-thread runtimes.
    pub(crate) fn start(self: &Arc<Self>, stopped: CancellationToken) {
        let runtime = Handle::current();
        if !self.bound.is_zero() && runtime.runtime_flavor() == RuntimeFlavor::CurrentThread {
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

    /// Records that there was work, and what is expected next.
    pub(crate) fn record(&self, expected: Expected) {
        let expects_more = expected != Expected::Nothing;
        (self.spins_after_send).store(expected == Expected::One, Relaxed);
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

    /// Records that so many requests of a lane were served in one round. The next one of its caller
    /// is all that is expected if there was one, and no other lane had any since.
    pub(crate) fn record_requests(&self, lane: usize, requests: usize) {
        let is_alone = self.last_lane.swap(lane, Relaxed) == lane;
        self.record(match requests {
            0 | 1 if is_alone => Expected::One,
            _ => Expected::Several,
        });
    }

    /// Records that packets arrived: if more are to come, they come now.
    pub(crate) fn record_packets(&self) {
        self.receives
            .store(self.receives.load(Relaxed).wrapping_add(1), Relaxed);
        if self.events_until_wake.load(Relaxed) == 0 {
            self.work
                .store(self.work.load(Relaxed).wrapping_add(1), Relaxed);
        }
    }

    async fn spin_loop(&self) {
        let mut backoff = SpinBackoff::default();
        loop {
            self.sleep(backoff.events_until_spin()).await;
            let (spin_max, mut has_paid) = (self.spin_max(), false);
            let mut seen = self.work.load(Relaxed);
            let mut since = Instant::now();
            let has_given_up = loop {
                yield_now().await;
                let work = self.work.load(Relaxed);
                if work != seen {
                    (seen, since, has_paid) = (work, Instant::now(), true);
                } else if !self.expects_more.load(Relaxed) {
                    break false;
                } else if since.elapsed() > spin_max {
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

/// The thread is not kept awake at all.
const NEVER: u32 = u32::MAX;

#[cfg(test)]
mod tests {
    use super::*;

    /// Busy polling on a machine on which a wake-up costs this.
    fn busy_poll(wake_up: Duration) -> Arc<BusyPoll> {
        Arc::new(BusyPoll {
            machine: Some(Box::leak(Box::new(Machine::with_wake_up(wake_up)))),
            ..BusyPoll::new(2 * wake_up)
        })
    }

    #[tokio::test]
    async fn a_thread_without_expected_work_sleeps() {
        let stopped = CancellationToken::new();
        let busy = busy_poll(Duration::from_secs(3600));
        busy.start(stopped.clone());
        let is_asleep = || busy.events_until_wake.load(Relaxed) == 1;
        while !is_asleep() {
            yield_now().await;
        }
        busy.record(Expected::Several);
        assert!(!is_asleep());
        for _ in 0..100 {
            yield_now().await;
            assert!(!is_asleep(), "more is expected, and there are two hours");
        }
        busy.record(Expected::Nothing);
        while !is_asleep() {
            yield_now().await;
        }
        stopped.cancel();
    }

    #[tokio::test]
    async fn spins_that_find_nothing_are_woken_exponentially_less_often() {
        let stopped = CancellationToken::new();
        let busy = busy_poll(Duration::from_nanos(500));
        busy.start(stopped.clone());
        for expected in [1, 2, 4, 8] {
            while busy.events_until_wake.load(Relaxed) != expected {
                yield_now().await;
            }
            for _ in 0..expected {
                busy.record(Expected::Several);
            }
        }
        stopped.cancel();
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn busy_polling_is_off_on_multi_thread_runtimes() {
        let busy = Arc::new(BusyPoll::new(Duration::from_secs(3600)));
        busy.start(CancellationToken::new());
        busy.record(Expected::Several);
        assert_eq!(Arc::strong_count(&busy), 1);
    }

    #[test]
    fn nothing_spins_where_the_cores_are_shared() {
        let machine = Box::leak(Box::new(Machine::with_wake_up(Duration::from_micros(60))));
        let busy = BusyPoll {
            machine: Some(machine),
            ..BusyPoll::new(Duration::from_micros(400))
        };
        assert_eq!(busy.spin_max(), Duration::from_micros(170));
        machine.share_cores();
        assert_eq!(busy.spin_max(), Duration::ZERO);
    }
}
