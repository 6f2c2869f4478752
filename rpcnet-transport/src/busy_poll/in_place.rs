//! Spinning in place, on multi-thread runtimes: the task that reads the socket waits for the next
//! packet in its poll.
//!
//! A task that yields in a loop makes tokio wake the other threads of the runtime each time, and a
//! thread that sleeps in the runtime's poll for events is woken for each packet. So the reader does
//! not yield: it asks the socket again and again, for as long as a spin may take, right after a
//! packet has left to which one reply is expected.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{
            AtomicBool, AtomicU32,
            Ordering::{Relaxed, SeqCst},
        },
    },
    task::{Context, Poll},
    time::Instant,
};

use futures::task::AtomicWaker;
use quinn::{AsyncTimer, AsyncUdpSocket, Runtime};
use tokio::{runtime::RuntimeFlavor, task::unconstrained};

use super::{BusyPoll, has_single_worker, policy::SpinBackoff};
use crate::{runtime::EndpointRuntime, socket::ClosableUdpSocket};

/// Runtime of QUIC's tasks, of which one reads the socket and one for each connection writes to it.
#[derive(Debug)]
pub(crate) struct QuicRuntime {
    runtime: EndpointRuntime,
    /// `None` if nothing spins in place.
    reader: Option<Arc<ReaderControl>>,
    /// The first task that QUIC spawns is the reader.
    has_reader: AtomicBool,
}

/// State that the reader shares with the tasks that send.
#[derive(Debug)]
struct ReaderControl {
    busy_poll: Arc<BusyPoll>,
    socket: Arc<ClosableUdpSocket>,
    task: AtomicWaker,
    /// Packets to leave until one is followed by a spin.
    sends_until_spin: AtomicU32,
    spins: AtomicBool,
}

impl QuicRuntime {
    /// Runtime of an endpoint with this socket; `None` for one in memory, which needs no spinning.
    pub(crate) fn new(
        runtime: EndpointRuntime,
        busy_poll: &Arc<BusyPoll>,
        socket: Option<&Arc<ClosableUdpSocket>>,
    ) -> Self {
        let handle = runtime.handle();
        let spins_in_place = !busy_poll.bound.is_zero()
            && handle.runtime_flavor() != RuntimeFlavor::CurrentThread
            && !has_single_worker(handle);
        let reader = socket.filter(|_| spins_in_place).map(|socket| {
            Arc::new(ReaderControl {
                busy_poll: Arc::clone(busy_poll),
                socket: Arc::clone(socket),
                task: AtomicWaker::new(),
                sends_until_spin: AtomicU32::new(1),
                spins: AtomicBool::new(false),
            })
        });
        Self {
            runtime,
            reader,
            has_reader: AtomicBool::new(false),
        }
    }
}

impl Runtime for QuicRuntime {
    fn new_timer(&self, at: Instant) -> Pin<Box<dyn AsyncTimer>> {
        Runtime::new_timer(&self.runtime, at)
    }

    fn spawn(&self, future: Pin<Box<dyn Future<Output = ()> + Send>>) {
        let Some(control) = self.reader.clone() else {
            return Runtime::spawn(&self.runtime, future);
        };
        if self.has_reader.swap(true, SeqCst) {
            self.runtime.spawn(SendingTask { future, control });
        } else {
            let backoff = SpinBackoff::default();
            // A spin polls it more often than the budget of a task allows.
            self.runtime.spawn(unconstrained(ReadingTask {
                future,
                control,
                backoff,
            }));
        }
    }

    fn wrap_udp_socket(&self, socket: std::net::UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        Runtime::wrap_udp_socket(&self.runtime, socket)
    }

    fn now(&self) -> Instant {
        Runtime::now(&self.runtime)
    }
}

/// QUIC's task of a connection, which sends its packets.
struct SendingTask {
    future: Pin<Box<dyn Future<Output = ()> + Send>>,
    control: Arc<ReaderControl>,
}

impl Future for SendingTask {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        let polled = this.future.as_mut().poll(cx);
        this.control.after_poll();
        polled
    }
}

impl ReaderControl {
    /// Wakes the reader if it is to spin now, because a packet has left. A poll for a timer or for
    /// what was received may have sent nothing.
    fn after_poll(&self) {
        if !self.busy_poll.take_spin() {
            return;
        }
        match self.sends_until_spin.load(Relaxed) {
            0 => {}
            1 => {
                self.sends_until_spin.store(0, Relaxed);
                self.spins.store(true, Relaxed);
                self.task.wake();
            }
            left => self.sends_until_spin.store(left - 1, Relaxed),
        }
    }
}

/// QUIC's task that reads the socket.
struct ReadingTask {
    future: Pin<Box<dyn Future<Output = ()> + Send>>,
    control: Arc<ReaderControl>,
    backoff: SpinBackoff,
}

impl ReadingTask {
    /// Polls until packets come or the spin ends.
    fn spin(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let busy_poll = &self.control.busy_poll;
        let (since, spin_max) = (Instant::now(), busy_poll.spin_max());
        let receives = busy_poll.receives.load(Relaxed);
        self.control.socket.read_directly(true);
        let (polled, has_paid) = loop {
            let polled = self.future.as_mut().poll(cx);
            let has_paid = busy_poll.receives.load(Relaxed) != receives;
            if polled.is_ready() || has_paid || since.elapsed() > spin_max {
                break (polled, has_paid);
            }
            std::hint::spin_loop();
        };
        self.control.socket.read_directly(false);
        busy_poll.count_spin(has_paid);
        self.backoff.on_spin_ended(has_paid, !has_paid);
        let next = self.backoff.events_until_spin();
        self.control.sends_until_spin.store(next, Relaxed);
        polled
    }
}

impl Future for ReadingTask {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        this.control.task.register(cx.waker());
        if this.control.spins.swap(false, Relaxed) && this.spin(cx).is_ready() {
            return Poll::Ready(());
        }
        // Registers the task with the socket.
        this.future.as_mut().poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::{net::UdpSocket, time::Duration};

    use super::{
        super::{Expected, machine::Machine},
        *,
    };

    /// State of a reader on a machine on which a wake-up costs this.
    fn control(wake_up: Duration) -> ReaderControl {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
        socket.set_nonblocking(true).expect("no blocking");
        ReaderControl {
            busy_poll: Arc::new(BusyPoll {
                machine: Some(Box::leak(Box::new(Machine::with_wake_up(wake_up)))),
                ..BusyPoll::new(2 * wake_up, Arc::default())
            }),
            socket: Arc::new(ClosableUdpSocket::new(socket).expect("a runtime")),
            task: AtomicWaker::new(),
            sends_until_spin: AtomicU32::new(1),
            spins: AtomicBool::new(false),
        }
    }

    #[tokio::test]
    async fn the_reader_spins_after_a_packet_to_which_one_reply_is_expected() {
        let control = control(Duration::ZERO);
        let is_spun_after = |expected| {
            control.sends_until_spin.store(1, Relaxed);
            control.busy_poll.record(expected);
            control.after_poll();
            assert!(!control.spins.load(Relaxed), "no packet has left");
            control.busy_poll.record_sent();
            control.after_poll();
            control.spins.swap(false, Relaxed)
        };
        assert!(!is_spun_after(Expected::Nothing));
        assert!(is_spun_after(Expected::One));
        assert!(!is_spun_after(Expected::Several));
        control.busy_poll.record_sent();
        control.after_poll();
        assert!(!control.spins.load(Relaxed), "nothing was recorded since");

        control.busy_poll.record(Expected::One);
        control.busy_poll.expect_nothing();
        control.busy_poll.record_sent();
        control.after_poll();
        assert!(!control.spins.load(Relaxed), "the call was cancelled");
    }

    #[tokio::test]
    async fn spins_that_do_not_pay_are_tried_more_rarely() {
        let mut reader = ReadingTask {
            future: Box::pin(std::future::pending()),
            control: Arc::new(control(Duration::ZERO)),
            backoff: SpinBackoff::default(),
        };
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let mut spins = Vec::new();
        for send in 1..=16 {
            reader.control.busy_poll.record(Expected::One);
            reader.control.busy_poll.record_sent();
            reader.control.after_poll();
            if reader.control.spins.load(Relaxed) {
                spins.push(send);
            }
            assert!(Pin::new(&mut reader).poll(&mut cx).is_pending());
        }
        assert_eq!(spins, [1, 3, 7, 15]);
    }

    #[tokio::test]
    async fn a_spin_ends_with_the_first_packets() {
        let control = Arc::new(control(Duration::from_secs(100)));
        control.spins.store(true, Relaxed);
        let busy_poll = Arc::clone(&control.busy_poll);
        let mut polls = 0;
        let packets_at_third_poll = std::future::poll_fn(move |_| {
            polls += 1;
            if polls == 3 {
                busy_poll.record_packets();
            }
            Poll::Pending
        });
        let mut reader = ReadingTask {
            future: Box::pin(packets_at_third_poll),
            control: Arc::clone(&control),
            backoff: SpinBackoff::default(),
        };
        reader.backoff.on_spin_ended(false, true);
        let mut cx = Context::from_waker(std::task::Waker::noop());
        assert!(Pin::new(&mut reader).poll(&mut cx).is_pending());
        assert_eq!(control.busy_poll.receives.load(Relaxed), 1);
        assert_eq!(control.sends_until_spin.load(Relaxed), 1, "it has paid");
        let stats = control.busy_poll.counters.snapshot();
        assert_eq!((stats.busy_poll_spins, stats.busy_poll_hits), (1, 1));
    }
}
