//! Busy polling: a thread spins for packets that it expects soon, instead of sleeping.
//!
//! On a current-thread runtime a task of its own keeps the thread awake (`BusyPoll::start`): the
//! thread goes on doing whatever else there is to do. On a multi-thread runtime that would wake the
//! other threads again and again, so there the task that reads the socket spins (`in_place`), for
//! calls that are made one at a time.

mod in_place;
mod machine;
mod policy;
mod state;

pub(crate) use self::in_place::QuicRuntime;
pub use self::state::BusyPollState;

use std::{
    future::poll_fn,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed},
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

use self::{
    machine::{CoreSharing, Machine},
    policy::SpinBackoff,
};
use crate::stats::Counters;

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
    /// State of the spin in place: [`NO_SPIN`], [`SPINS_AFTER_SEND`] or [`SPINS_NOW`].
    spin_in_place: AtomicU8,
    /// Lane whose requests were served last.
    last_lane: AtomicUsize,
    /// Number of receives that brought packets.
    receives: AtomicU64,
    /// Counters of the endpoint.
    counters: Arc<Counters>,
}

/// Packets that are expected without any action of this side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expected {
    Nothing,
    /// The reply to the only call in flight, or the next request of a caller that makes one call
    /// at a time.
    One,
    /// Packets of several calls.
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
    pub(crate) fn new(bound: Duration, counters: Arc<Counters>) -> Self {
        Self {
            bound,
            machine: None,
            work: AtomicU64::new(0),
            expects_more: AtomicBool::new(false),
            events_until_wake: AtomicU32::new(NEVER),
            task: AtomicWaker::new(),
            spin_in_place: AtomicU8::new(NO_SPIN),
            last_lane: AtomicUsize::new(0),
            receives: AtomicU64::new(0),
            counters,
        }
    }

    /// State at the moment, of an endpoint that runs on this runtime.
    pub(crate) fn state(&self, runtime: &Handle) -> BusyPollState {
        if self.bound.is_zero() {
            return BusyPollState::Disabled;
        }
        if has_single_worker(runtime) {
            return BusyPollState::SingleWorkerThread;
        }
        match self.machine().core_sharing() {
            CoreSharing::Quota => BusyPollState::CpuQuota,
            CoreSharing::Stolen => BusyPollState::StolenTime,
            CoreSharing::None => BusyPollState::On {
                spin_max: self.spin_max(),
            },
        }
    }

    /// Longest spin at the moment; zero where it would take time from others.
    fn spin_max(&self) -> Duration {
        let machine = self.machine();
        match machine.core_sharing() {
            CoreSharing::None => policy::spin_max(machine.wake_up(), self.bound),
            CoreSharing::Quota | CoreSharing::Stolen => Duration::ZERO,
        }
    }

    fn machine(&self) -> &'static Machine {
        self.machine.unwrap_or_else(machine::machine)
    }

    /// Counts a spin that has ended.
    fn count_spin(&self, has_paid: bool) {
        self.counters.busy_poll_spins.add_one();
        if has_paid {
            self.counters.busy_poll_hits.add_one();
        }
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
        self.spin_in_place.store(
            match expected {
                Expected::One => SPINS_AFTER_SEND,
                Expected::Nothing | Expected::Several => NO_SPIN,
            },
            Relaxed,
        );
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

    /// Records that nothing is expected any more, without work.
    pub(crate) fn expect_nothing(&self) {
        self.spin_in_place.store(NO_SPIN, Relaxed);
        self.expects_more.store(false, Relaxed);
    }

    /// Records that packets left, of any connection.
    pub(crate) fn record_sent(&self) {
        self.replace_spin(SPINS_AFTER_SEND, SPINS_NOW);
    }

    /// Whether a packet has left since that is to be followed by a spin in place. It is so once.
    pub(crate) fn take_spin(&self) -> bool {
        self.replace_spin(SPINS_NOW, NO_SPIN)
    }

    fn replace_spin(&self, from: u8, to: u8) -> bool {
        let spin = &self.spin_in_place;
        // Most of the time there is none, and the cache line need not be owned.
        spin.load(Relaxed) == from && spin.compare_exchange(from, to, Relaxed, Relaxed).is_ok()
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

    /// Expected packets, as last recorded. A packet that has left is expected to be followed by
    /// one, like one that is about to.
    #[cfg(test)]
    pub(crate) fn expected(&self) -> Expected {
        match (
            self.expects_more.load(Relaxed),
            self.spin_in_place.load(Relaxed),
        ) {
            (false, _) => Expected::Nothing,
            (true, NO_SPIN) => Expected::Several,
            (true, _) => Expected::One,
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
            self.count_spin(has_paid);
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

/// Whether a multi-thread runtime has one worker thread, which has other tasks to run than to spin.
fn has_single_worker(runtime: &Handle) -> bool {
    runtime.runtime_flavor() != RuntimeFlavor::CurrentThread && runtime.metrics().num_workers() < 2
}

/// No packet is to be followed by a spin in place.
const NO_SPIN: u8 = 0;

/// The next packet that leaves is to be followed by a spin in place.
const SPINS_AFTER_SEND: u8 = 1;

/// That packet has left.
const SPINS_NOW: u8 = 2;

/// The thread is not kept awake at all.
const NEVER: u32 = u32::MAX;

#[cfg(test)]
mod tests {
    use super::*;

    /// Busy polling on a machine on which a wake-up costs this.
    fn busy_poll(wake_up: Duration) -> Arc<BusyPoll> {
        Arc::new(BusyPoll {
            machine: Some(Box::leak(Box::new(Machine::with_wake_up(wake_up)))),
            ..BusyPoll::new(2 * wake_up, Arc::default())
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
        while busy.events_until_wake.load(Relaxed) != 16 {
            yield_now().await;
        }
        let stats = busy.counters.snapshot();
        assert_eq!((stats.busy_poll_spins, stats.busy_poll_hits), (4, 0));
        stopped.cancel();
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn busy_polling_is_off_on_multi_thread_runtimes() {
        let busy = Arc::new(BusyPoll::new(Duration::from_secs(3600), Arc::default()));
        busy.start(CancellationToken::new());
        busy.record(Expected::Several);
        assert_eq!(Arc::strong_count(&busy), 1);
    }

    #[tokio::test]
    async fn nothing_spins_where_the_cores_are_shared() {
        let machine = Box::leak(Box::new(Machine::with_wake_up(Duration::from_micros(60))));
        let busy = BusyPoll {
            machine: Some(machine),
            ..BusyPoll::new(Duration::from_micros(400), Arc::default())
        };
        let spin_max = Duration::from_micros(170);
        let runtime = Handle::current();
        assert_eq!(busy.spin_max(), spin_max);
        assert_eq!(busy.state(&runtime), BusyPollState::On { spin_max });
        for (sharing, state) in [
            (CoreSharing::Quota, BusyPollState::CpuQuota),
            (CoreSharing::Stolen, BusyPollState::StolenTime),
        ] {
            machine.set_core_sharing(sharing);
            assert_eq!(busy.spin_max(), Duration::ZERO);
            assert_eq!(busy.state(&runtime), state);
        }
        let off = BusyPoll::new(Duration::ZERO, Arc::default());
        assert_eq!(off.state(&runtime), BusyPollState::Disabled);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn the_state_names_a_runtime_with_one_worker_thread() {
        let busy = busy_poll(Duration::from_secs(1));
        let state = busy.state(&Handle::current());
        assert_eq!(state, BusyPollState::SingleWorkerThread);
    }
}
