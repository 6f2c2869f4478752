//! Event loop of a node: receives or sleeps, feeds the engine, sends what it has to send.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
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
    /// Kept from one iteration to the next: most of them leave the deadline as it is.
    timer: Pin<Box<Sleep>>,
    /// The seed lookup under way.
    resolving: Option<Pin<Box<dyn Future<Output = ResolvedSeeds> + Send>>>,
    /// End of the last seed lookup.
    looked_up_at: Option<Instant>,
    outbound: Outbound,
    /// When it was last logged that this node has not joined.
    reminded_at: Instant,
    /// The last field, so dropped last: what it wakes finds the socket closed and its port free.
    _closing: CloseGuard,
}

impl Driver {
    /// Waits for the next thing to do and does it; `false` once the node has left or is dropped.
    async fn run_once(&mut self) -> bool {
        let due = self.shared.read(|engine| engine.poll_timeout());
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
            resolved = await_optional(&mut self.resolving) => self.on_resolved(resolved),
            () = poll_fn(|cx| self.outbound.poll_unblocked(&self.shared, &*self.socket, cx)) => {}
            () = self.shared.wake.notified() => {}
            () = &mut self.timer => {
                if due.elapsed() > LATE_WAKEUP {
                    // Stopped for a while: lets the runtime see what has arrived meanwhile.
                    tokio::task::yield_now().await;
                }
            }
        }
        let late = due.elapsed();
        if late > STALL_WARNING {
            tracing::warn!(
                ?late,
                "this process was stopped, or its runtime was blocked"
            );
        }
        if let Some(error) = failed {
            self.shared.count_socket_error(&error);
            sleep(ERROR_PAUSE).await;
        }
        self.drain_inbound().await;
        let has_left = self.handle_timeout();
        self.flush().await;
        self.shared.update_lifecycle();
        self.log_join_reminder();
        !has_left
    }

    fn on_resolved(&mut self, resolved: ResolvedSeeds) {
        self.resolving = None;
        self.looked_up_at = Some(Instant::now());
        let bound = self.socket.local_addr().ok();
        self.shared.suggest_advertise_addr(bound, &resolved.addrs);
        self.shared.input(|engine, now| {
            if !resolved.addrs.is_empty() {
                engine.set_own_addrs(resolved.own);
            }
            if resolved.is_partial || resolved.addrs.is_empty() {
                engine.handle_unresolved_seeds(now);
            }
            if !resolved.addrs.is_empty() {
                engine.handle_seeds(now, &resolved.addrs);
            }
        });
    }

    /// Lets the engine do what is due, and starts a seed lookup if it asks for one. Returns whether
    /// the node has left.
    fn handle_timeout(&mut self) -> bool {
        let may_resolve = self.resolving.is_none();
        let wall_clock = unix_millis(&self.shared.config);
        let (wants_seeds, has_left) = self.shared.input(|engine, now| {
            engine.set_wall_clock(now, wall_clock);
            engine.handle_timeout(now);
            // The engine asks once: a request that comes during a lookup waits for its end.
            (may_resolve && engine.wants_seeds(), engine.has_left())
        });
        if wants_seeds && let Some(seeds) = self.shared.seeds() {
            self.resolving = Some(Box::pin(self.resolve(seeds)));
        }
        has_left
    }

    /// Resolves the seeds, not before the pause after the last lookup is over.
    fn resolve(&self, seeds: Vec<String>) -> impl Future<Output = ResolvedSeeds> + Send + use<> {
        let not_before = self.looked_up_at.map(|at| at + LOOKUP_PAUSE);
        let bound: Option<SocketAddr> = self.socket.local_addr().ok();
        let shared = Arc::clone(&self.shared);
        async move {
            if let Some(not_before) = not_before {
                sleep_until(not_before).await;
            }
            resolve_seeds(shared, seeds, bound).await
        }
    }

    /// Warns once in a while that no seed has let this node in, and why.
    fn log_join_reminder(&mut self) {
        if self.reminded_at.elapsed() < JOIN_REMINDER_INTERVAL {
            return;
        }
        self.reminded_at = Instant::now();
        let is_joining = self.shared.read(|engine| engine.state()) == MembershipState::Joining;
        if is_joining && self.shared.seeds().is_some() {
            let error = self.shared.join_failure();
            tracing::warn!(%error, "this node has not joined yet, and goes on trying");
        }
    }

    /// Feeds the engine everything that has arrived, before any deadline is judged; the runtime's
    /// budget would end it after some hundred datagrams.
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
            // A datagram that the socket has no room for waits, and nothing else waits for it.
            let _ = outbound.poll_flush(shared, &**socket, cx);
            Poll::Ready(())
        })
        .await;
    }
}

/// Marks the node as ended when it is dropped: however the driver ends, also by a panic of the
/// socket or with its runtime, `join` and `leave` return.
struct CloseGuard(Arc<DriverShared>);

impl Drop for CloseGuard {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// Receives one datagram, if there is one, and feeds it to the engine.
///
/// The buffer is the thread's: at rest a node has none, and a process may run a thousand nodes.
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
        shared.input(|engine, now| engine.handle_datagram(now, from, &mut buf[..len]));
    }
    BUFFER.set(buf);
    received.map_ok(drop)
}

/// Awaits the future, if there is one; never resolves without one.
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
    /// Receive buffer of [`poll_receive`].
    static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Largest UDP datagram.
const DATAGRAM_BYTES_MAX: usize = 65_535;
/// Most datagrams fed in before deadlines are judged all the same.
const DRAIN_MAX: usize = 4_096;
/// A sleep that ends later than this was no ordinary one.
const LATE_WAKEUP: Duration = Duration::from_millis(20);
/// A sleep that ends later than this is logged as a warning.
const STALL_WARNING: Duration = Duration::from_secs(1);
/// Time between two warnings that this node has not joined.
const JOIN_REMINDER_INTERVAL: Duration = Duration::from_secs(60);
/// Least time between two seed lookups, however often the engine asks for one.
const LOOKUP_PAUSE: Duration = Duration::from_millis(100);
/// Pause after a socket error, so that a broken socket does not burn a core.
const ERROR_PAUSE: Duration = Duration::from_millis(5);
