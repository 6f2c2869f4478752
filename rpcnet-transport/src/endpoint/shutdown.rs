//! Draining and graceful shutdown of an endpoint.

use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use super::{Endpoint, EndpointShared};
use crate::close::CLOSE_SHUTDOWN;

/// Outcome of the calls during a shutdown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ShutdownReport {
    /// Calls whose reply was sent completely, and acknowledged if the caller lived to do so.
    pub completed: u64,
    /// Calls cancelled at the deadline: handlers that were dropped, handlers that block their
    /// threads and go on, and replies that were not sent and acknowledged in time.
    pub cancelled: u64,
    /// New calls that were rejected.
    pub rejected: u64,
}

impl Endpoint {
    /// Waits until no call is being served. Unless the endpoint [drains](Self::set_draining),
    /// another call may begin at once.
    pub async fn idle(&self) {
        self.0.shared.served.in_flight.wait_for_zero().await;
    }

    /// Advertises that the endpoint drains, and goes on accepting calls: on every connection, in
    /// the hello of new ones, and with every reply. Callers that have learnt it go elsewhere; calls
    /// of those that have not are served. A server that is about to [reject
    /// calls](Self::set_draining) starts with this. `false` withdraws the advertisement, but no
    /// rejection.
    pub fn advertise_draining(&self, draining: bool) {
        self.0.shared.lifecycle.set_advertised(draining);
    }

    /// Starts or ends a drain: tells all callers to go elsewhere, and rejects new calls after the
    /// [drain grace](crate::TransportConfig::with_drain_grace). Calls being served go on and
    /// connections stay open; the caller of a rejected call learns that it was not processed. A
    /// node that is about to leave its cluster starts with this. A shutdown cannot be taken back.
    pub fn set_draining(&self, draining: bool) {
        self.0.shared.lifecycle.set_draining(draining);
    }

    /// Whether the endpoint advertises that it drains.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.0.shared.lifecycle.is_draining()
    }

    /// Shuts down gracefully, and returns by the deadline, or a millisecond after it if there was
    /// no time to send the closes.
    ///
    /// Callers are told, and after the [drain grace](crate::TransportConfig::with_drain_grace) new
    /// connections are refused and new calls rejected. Calls being served may end and their replies
    /// arrive; so may calls being made, which handlers may need. Shortly before the deadline (a
    /// tenth of the time, at most 850 ms) the handlers that still run are dropped, and their
    /// callers told so. Then all connections are closed, and the port. When this returns, the port
    /// is free to be bound again, whatever handles of endpoints, clients and streams are left. The
    /// [side channel](Self::side_channel) ends too.
    ///
    /// Peers are told that their connections are closed, however much is being sent, and again with
    /// each packet that they send before the deadline: with [`Duration::ZERO`] once, at the price
    /// of a millisecond. A peer that misses the close, because the packet was lost or a handler
    /// blocked the thread that had to send it, learns it as if the node had been killed: by the
    /// [idle timeout](crate::TransportConfig::with_idle_timeout), or sooner if the port is bound
    /// again.
    ///
    /// A shutdown whose future is dropped stops where it is; another call resumes it. A handler
    /// that stops its own server therefore spawns the shutdown: it would wait for the handler, and
    /// be dropped with it.
    pub async fn shutdown(&self, within: Duration) -> ShutdownReport {
        let before = self.0.shared.report();
        // On the timers of the caller's runtime if it has one: the threads of the endpoint's
        // runtime may be blocked.
        let stopped = self.0.shared.runtime.in_any_runtime(self.stop(within));
        // An error means that the runtime has ended, which has closed everything.
        let _ = stopped.await;
        self.0.shared.port.close();
        let blocked = self.0.shared.served.blocked();
        let after = self.0.shared.report();
        ShutdownReport {
            completed: after.completed - before.completed,
            cancelled: after.cancelled - before.cancelled + blocked,
            rejected: after.rejected - before.rejected,
        }
    }

    /// Ends the endpoint at once, as a crash of its process would: closes the port before any peer
    /// can be told, drops the handlers that run, and ends all connections here. To its peers it is
    /// silent from now on, and the port is free to be bound again. For tests of failures; a
    /// [`shutdown`](Self::shutdown) is kinder to callers.
    pub fn abort(&self) {
        let shared = &self.0.shared;
        // First, so that nothing more is sent.
        shared.port.close();
        shared.lifecycle.close();
        shared.served.cancel.cancel();
        shared.lifecycle.stopped.cancel();
        shared.connections.close();
        shared.dialer.registry.close_all(CLOSE_SHUTDOWN);
        shared.dialer.quinn.close(CLOSE_SHUTDOWN, b"");
    }

    async fn stop(&self, within: Duration) {
        let shared = &self.0.shared;
        let deadline = Instant::now() + within.min(SHUTDOWN_MAX);
        let ahead = (within / 10).min(CANCEL_AHEAD_MAX + CLOSE_AHEAD_MAX);
        let cancel_at = deadline - ahead;
        let accepted_until = shared.lifecycle.begin_shutdown(within / 4);
        // The task that accepts connections is always counted.
        if shared.connections.len() > 1 {
            sleep_until(accepted_until).await;
        }
        shared.lifecycle.close();
        let idle = async {
            shared.dialer.outgoing.wait_for_zero().await;
            shared.served.unacknowledged.wait_for_zero().await;
        };
        let _ = timeout_at(cancel_at, idle).await;
        shared.served.cancel.cancel();
        // On a busy machine the deadline may have passed by now; cancelled calls have to be counted
        // all the same.
        yield_to_tasks().await;
        // Connections are closed from this time on.
        let stop_at = deadline - (ahead / 2).max(ahead.saturating_sub(CANCEL_AHEAD_MAX));
        let _ = timeout_at(stop_at, shared.served.unacknowledged.wait_for_zero()).await;
        // Rejections that are still being sent get a moment, not the whole time.
        shared.served.tasks.close();
        let moment = stop_at.min(Instant::now() + CANCEL_AHEAD_MAX);
        let _ = timeout_at(moment, shared.served.tasks.wait()).await;
        shared.lifecycle.stopped.cancel();
        shared.connections.close();
        // The task of each connection closes it with the number of streams that it accepted.
        yield_to_tasks().await;
        let _ = timeout_at(deadline, shared.connections.wait()).await;
        // Connections whose tasks did not get to run, and outgoing ones.
        shared.dialer.registry.close_all(CLOSE_SHUTDOWN);
        // Handshakes too.
        shared.dialer.quinn.close(CLOSE_SHUTDOWN, b"");
        // QUIC sends the closes, and answers later packets with them.
        yield_to_tasks().await;
        let drained = async {
            tokio::select! {
                biased;
                () = shared.runtime.ended() => {}
                () = shared.dialer.quinn.wait_idle() => {}
            }
        };
        let _ = timeout_at(deadline.max(Instant::now() + CLOSE_MIN), drained).await;
    }
}

/// Yields to the other tasks of the thread a few times.
async fn yield_to_tasks() {
    for _ in 0..YIELDS {
        tokio::task::yield_now().await;
    }
}

impl EndpointShared {
    fn report(&self) -> ShutdownReport {
        let stats = self.counters.snapshot();
        ShutdownReport {
            completed: stats.calls_completed,
            cancelled: self.served.cancelled_by_shutdown.value(),
            rejected: stats.calls_rejected_draining,
        }
    }

    /// Waits until the peers were told that the endpoint is gone, after its last handle was
    /// dropped; at most [`CLOSE_FLUSH_MAX`].
    pub(crate) async fn flush_closes(&self) {
        self.connections.close();
        let flushed = async {
            self.connections.wait().await;
            self.dialer.quinn.close(CLOSE_SHUTDOWN, b"");
            self.dialer.quinn.wait_idle().await;
        };
        let _ = timeout(CLOSE_FLUSH_MAX, flushed).await;
    }
}

/// Upper bound of `within`, so that the deadline is a representable time.
const SHUTDOWN_MAX: Duration = Duration::from_secs(365 * 24 * 3600);

/// Longest time before the deadline of a shutdown at which handlers are dropped, so that callers
/// can be told.
const CANCEL_AHEAD_MAX: Duration = Duration::from_millis(250);

/// Longest time before the deadline at which connections are closed, so that QUIC can repeat the
/// close: three probe timeouts.
const CLOSE_AHEAD_MAX: Duration = Duration::from_millis(600);

/// Times that other tasks are scheduled to finish work that needs no waiting.
const YIELDS: usize = 4;

/// Time that QUIC has to send the closes, even if the deadline has passed.
const CLOSE_MIN: Duration = Duration::from_millis(1);

/// Closes are sent at once; waiting longer for the peers' packets gains nothing.
const CLOSE_FLUSH_MAX: Duration = Duration::from_millis(20).saturating_add(CLOSE_AHEAD_MAX);
