//! The loop: receive or sleep, feed the engine, drain it.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::task::unconstrained;
use tokio::time::{Instant, Sleep, sleep, sleep_until};

use super::outbound::Outbound;
use super::seed_resolver::{ResolvedSeeds, resolve_seeds};
use super::shared::{DriverShared, unix_millis};
use super::socket::DatagramSocket;
use crate::event::MembershipState;

/// Drives a node until it has left or the last handle is gone.
pub(super) async fn run(shared: Arc<DriverShared>, socket: Arc<dyn DatagramSocket>) {
    let outbound = Outbound::new(socket.local_addr().ok());
    let mut driver = Driver {
        _closing: CloseGuard(Arc::clone(&shared)),
        shared,
        socket,
        timer: Box::pin(sleep_until(far_future())),
        resolving: None,
        looked_up_at: None,
        outbound,
        reminded_at: Instant::now(),
    };
    while driver.run_once().await {}
}

struct Driver {
    shared: Arc<DriverShared>,
    socket: Arc<dyn DatagramSocket>,
    /// Kept over turns: most of them leave the deadline where it is.
    timer: Pin<Box<Sleep>>,
    /// The seeds being resolved.
    resolving: Option<Pin<Box<dyn Future<Output = ResolvedSeeds> + Send>>>,
    /// End of the last look-up.
    looked_up_at: Option<Instant>,
    outbound: Outbound,
    /// When it was last logged that this node is not in.
    reminded_at: Instant,
    /// The last field, so dropped last: who is woken finds the socket closed and its port free.
    _closing: CloseGuard,
}

impl Driver {
    /// Waits for something to do and does it; false when it is over.
    async fn run_once(&mut self) -> bool {
        let due = self.shared.engine.lock().poll_timeout();
        let due = due.map_or_else(far_future, |at| self.shared.instant(at));
        if due != self.timer.deadline() {
            self.timer.as_mut().reset(due);
        }
        let mut failed = None;
        tokio::select! {
            biased;
            () = self.shared.stop.notified() => return false,
            received = poll_fn(|cx| poll_receive(&self.shared, &*self.socket, cx)) => {
                failed = received.err();
            }
            found = await_optional(&mut self.resolving) => {
                self.resolving = None;
                self.looked_up_at = Some(Instant::now());
                let bound = self.socket.local_addr().ok();
                self.shared.suggest_advertise_addr(bound, &found.addrs);
                let (now, mut engine) = (self.shared.now(), self.shared.engine.lock());
                if !found.addrs.is_empty() {
                    engine.set_own_addrs(found.own);
                }
                if found.is_partial || found.addrs.is_empty() {
                    engine.handle_unresolved_seeds(now);
                }
                if !found.addrs.is_empty() {
                    engine.handle_seeds(now, &found.addrs);
                }
            }
            () = poll_fn(|cx| self.outbound.poll_unblocked(&self.shared, &*self.socket, cx)) => {}
            () = self.shared.wake.notified() => {}
            () = &mut self.timer => {
                if due.elapsed() > LATE_WAKEUP {
                    // Stopped for a while: lets the runtime see what arrived meanwhile.
                    tokio::task::yield_now().await;
                }
            }
        }
        let late = due.elapsed();
        if late > STALL_WARNING {
            tracing::warn!(
                ?late,
                "this process stood still, or its runtime was blocked"
            );
        }
        if let Some(error) = failed {
            self.shared.count_socket_error(&error);
            sleep(ERROR_PAUSE).await;
        }
        self.drain_inbound().await;
        let gone = {
            let mut engine = self.shared.engine.lock();
            engine.set_wall_clock(self.shared.now(), unix_millis());
            engine.handle_timeout(self.shared.now());
            // Asked for once: a wish that comes while others are resolved has to wait for them.
            if self.resolving.is_none() && engine.wants_seeds() {
                let not_before = self.looked_up_at.map(|at| at + LOOKUP_PAUSE);
                let bound = self.socket.local_addr().ok();
                self.resolving =
                    self.shared
                        .seeds()
                        .map(|seeds| -> Pin<Box<dyn Future<Output = _> + Send>> {
                            let shared = Arc::clone(&self.shared);
                            Box::pin(async move {
                                if let Some(not_before) = not_before {
                                    sleep_until(not_before).await;
                                }
                                resolve_seeds(shared, seeds, bound).await
                            })
                        });
            }
            engine.has_left()
        };
        self.flush().await;
        self.log_join_reminder();
        !gone
    }

    /// Says now and then that no seed has let this node in, and why.
    fn log_join_reminder(&mut self) {
        if self.reminded_at.elapsed() < JOIN_REMINDER_INTERVAL {
            return;
        }
        self.reminded_at = Instant::now();
        let is_joining = self.shared.engine.lock().state() == MembershipState::Joining;
        if is_joining && self.shared.seeds().is_some() {
            let error = self.shared.join_failure();
            tracing::warn!(%error, "this node has not joined yet, and goes on trying");
        }
    }

    /// Everything that has arrived goes in before any deadline is judged; the runtime's budget
    /// would end it after some hundred datagrams.
    async fn drain_inbound(&mut self) {
        let drain = poll_fn(|_| {
            let mut cx = Context::from_waker(Waker::noop());
            for _ in 0..DRAIN_MAX {
                match poll_receive(&self.shared, &*self.socket, &mut cx) {
                    Poll::Ready(Ok(())) => {}
                    Poll::Ready(Err(error)) => {
                        self.shared.count_socket_error(&error);
                        break;
                    }
                    Poll::Pending => break,
                }
            }
            Poll::Ready(())
        });
        unconstrained(drain).await;
    }

    async fn flush(&mut self) {
        let Self {
            shared,
            socket,
            outbound,
            ..
        } = self;
        poll_fn(|cx| {
            // What the socket has no room for waits, and nothing else does.
            let _ = outbound.poll_flush(shared, &**socket, cx);
            Poll::Ready(())
        })
        .await;
        self.shared.publish();
    }
}

/// Wakes who waits for the end of the driver. However that ends, also by a panic of the socket or
/// with its runtime, nobody waits for it in vain.
struct CloseGuard(Arc<DriverShared>);

impl Drop for CloseGuard {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// Feeds the engine one datagram, if there is one.
///
/// The buffer is the thread's: at rest a node has none, and a process may have a thousand.
fn poll_receive(
    shared: &DriverShared,
    socket: &dyn DatagramSocket,
    cx: &mut Context<'_>,
) -> Poll<io::Result<()>> {
    // Taken out, so that a socket that itself drives a node finds none rather than this one.
    let mut buf = BUFFER.take();
    buf.resize(DATAGRAM_BYTES_MAX, 0);
    let received = socket.poll_recv(cx, &mut buf);
    if let Poll::Ready(Ok((len, from))) = received {
        let mut engine = shared.engine.lock();
        engine.handle_datagram(shared.now(), from, &mut buf[..len]);
    }
    BUFFER.set(buf);
    received.map_ok(drop)
}

/// Waits for a future that there may not be.
async fn await_optional<T>(future: &mut Option<Pin<Box<dyn Future<Output = T> + Send>>>) -> T {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}

fn far_future() -> Instant {
    Instant::now() + Duration::from_secs(3600)
}

thread_local! {
    /// What [`poll_receive`] receives into.
    static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Largest datagram that UDP can bring.
const DATAGRAM_BYTES_MAX: usize = 65_535;
/// Most datagrams fed in before deadlines are judged all the same.
const DRAIN_MAX: usize = 4_096;
/// A sleep that ends so much late was no ordinary one.
const LATE_WAKEUP: Duration = Duration::from_millis(20);
/// One that ends so much late is worth a line in the log.
const STALL_WARNING: Duration = Duration::from_secs(1);
/// How often it is logged that this node has not joined.
const JOIN_REMINDER_INTERVAL: Duration = Duration::from_secs(60);
/// Least time between two look-ups of the seeds, however often somebody asks for one.
const LOOKUP_PAUSE: Duration = Duration::from_millis(100);
/// After an error of the socket, so that a broken one does not burn a core.
const ERROR_PAUSE: Duration = Duration::from_millis(5);
