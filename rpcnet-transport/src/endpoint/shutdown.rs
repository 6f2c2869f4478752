//! Draining, and the end of an endpoint.

use std::{sync::atomic::Ordering::SeqCst, time::Duration};

use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use super::{Endpoint, EndpointShared};
use crate::close::CLOSE_SHUTDOWN;

/// What became of the calls while a shutdown went on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ShutdownReport {
    /// Calls whose handler's answer was sent in whole, and acknowledged if the caller lived to do so.
    pub completed: u64,
    /// Calls cut at the deadline: handlers that were dropped, handlers that block their threads and
    /// go on, and replies that were not sent and acknowledged in time.
    pub cancelled: u64,
    /// New calls that were refused.
    pub rejected: u64,
}

impl Endpoint {
    /// Waits until no call is being served. Unless it [drains](Self::set_draining), the next one may begin at once.
    pub async fn idle(&self) {
        self.0.shared.in_flight.wait_for_zero().await;
    }

    /// Says that it takes no new calls, and goes on taking them: on every connection, in the hello of new ones, and with
    /// every reply. Callers that have heard go elsewhere, and what those sent who have not is served. A server that is about
    /// to [refuse calls](Self::set_draining) begins with this. `false` takes it back, but no refusal.
    pub fn advertise_draining(&self, draining: bool) {
        self.0.shared.set_drain_bits(DRAIN_ADVERTISED, draining);
    }

    /// Says to all callers that no more calls are wanted, and refuses them [shortly after](crate::TransportConfig::with_drain_grace), or takes them
    /// again. Calls being served go on, and connections stay: callers go elsewhere, and those that have not heard it learn that
    /// nothing was done. A node that is about to leave its cluster begins with this. A shutdown cannot be
    /// taken back.
    pub fn set_draining(&self, draining: bool) {
        let bits = if draining {
            DRAIN_REQUESTED
        } else {
            DRAIN_REQUESTED | DRAIN_ADVERTISED
        };
        self.0.shared.set_drain_bits(bits, draining);
    }

    /// Whether it says that it takes no new calls.
    pub fn is_draining(&self) -> bool {
        self.0.shared.is_draining()
    }

    /// Stops, and returns by the deadline, or a millisecond after it if there was no time to send the
    /// closes.
    ///
    /// Callers are told, and [a moment later](crate::TransportConfig::with_drain_grace) new connections and calls are refused. Calls being served may end and their replies arrive; so may calls
    /// being made, which handlers may need. Shortly before the deadline (a tenth, at most 850 ms) the
    /// handlers that still run are dropped, and their callers told so. Then all connections are closed, and the port: when this is
    /// back, it is free to be bound again, whatever handles of endpoints, clients and streams are left. The
    /// [side channel](Self::side_channel) ends with it.
    ///
    /// The other sides are told that connections are closed, however much is under way, and again
    /// with each packet that they send before the deadline: with [`Duration::ZERO`] once, at the
    /// price of a millisecond. A peer that misses that, because the packet was lost or a handler
    /// blocked the thread that had to send it, finds out as if the node had been killed: by the
    /// [idle timeout](crate::TransportConfig::with_idle_timeout), or sooner if the port is bound
    /// again.
    ///
    /// A shutdown whose future is dropped goes no further; another one takes it up. So a handler that stops its own server
    /// spawns this: the shutdown would wait for the handler, and be dropped with it.
    pub async fn shutdown(&self, within: Duration) -> ShutdownReport {
        let before = self.0.shared.report();
        // On the timers of the caller if there are any: the threads of the endpoint's runtime may be blocked.
        let stopped = self.0.shared.runtime.in_any_runtime(self.stop(within));
        // A runtime that has ended has closed everything.
        let _ = stopped.await;
        self.0.shared.close_port();
        let unended = self.0.shared.blocked_calls();
        let after = self.0.shared.report();
        ShutdownReport {
            completed: after.completed - before.completed,
            cancelled: after.cancelled - before.cancelled + unended,
            rejected: after.rejected - before.rejected,
        }
    }

    async fn stop(&self, within: Duration) {
        let shared = &self.0.shared;
        let deadline = Instant::now() + within.min(SHUTDOWN_MAX);
        let ahead = (within / 10).min(CANCEL_AHEAD_MAX + CLOSE_AHEAD_MAX);
        let cancel_at = deadline - ahead;
        let accepted_until = shared.begin_drain(within / 4);
        // The task that accepts connections is always there.
        if shared.connections.len() > 1 {
            sleep_until(accepted_until).await;
        }
        shared.begin_shutdown();
        let idle = async {
            shared.outgoing.wait_for_zero().await;
            shared.unacknowledged.wait_for_zero().await;
        };
        let _ = timeout_at(cancel_at, idle).await;
        shared.cancel_calls.cancel();
        // On a busy machine the deadline may have passed by now: what was cut is to be counted all the same.
        yield_to_tasks().await;
        // From then on connections are closed.
        let stop_at = deadline - (ahead / 2).max(ahead.saturating_sub(CANCEL_AHEAD_MAX));
        let _ = timeout_at(stop_at, shared.unacknowledged.wait_for_zero()).await;
        // Refusals that are still on their way are worth a moment, not the whole time.
        shared.calls.close();
        let moment = stop_at.min(Instant::now() + CANCEL_AHEAD_MAX);
        let _ = timeout_at(moment, shared.calls.wait()).await;
        shared.stopped.cancel();
        shared.connections.close();
        // The task of each connection closes it with a reason of its own.
        yield_to_tasks().await;
        let _ = timeout_at(deadline, shared.connections.wait()).await;
        // Those whose tasks did not come to it, and those that were made from here.
        shared.registry.close_all(CLOSE_SHUTDOWN);
        // Handshakes too.
        shared.quinn.close(CLOSE_SHUTDOWN, b"");
        // QUIC sends what closes the connections, and answers with it what still comes.
        yield_to_tasks().await;
        let drained = async {
            tokio::select! {
                () = shared.runtime.ended() => {}
                () = shared.quinn.wait_idle() => {}
            }
        };
        let _ = timeout_at(deadline.max(Instant::now() + CLOSE_MIN), drained).await;
    }
}

/// Lets the other tasks of the thread have some turns.
async fn yield_to_tasks() {
    for _ in 0..YIELDS {
        tokio::task::yield_now().await;
    }
}

impl EndpointShared {
    /// Whether it says that it takes no new calls.
    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(SeqCst) != 0
    }

    /// Whether new calls are refused: the server drains, and who could hear it has.
    pub(crate) fn refuses_calls(&self) -> bool {
        let draining = self.draining.load(SeqCst);
        draining & DRAIN_STOPPING != 0
            || draining & (DRAIN_REQUESTED | DRAIN_SHUTDOWN) != 0 && self.is_drain_grace_over()
    }

    fn is_drain_grace_over(&self) -> bool {
        let until = *self.accept_until.lock();
        until.is_none_or(|until| until <= Instant::now())
    }

    /// Whether a shutdown has begun.
    pub(crate) fn is_shutting_down(&self) -> bool {
        self.draining.load(SeqCst) & DRAIN_STOPPING != 0
    }

    /// Tells the callers that a shutdown has begun. Says until when they may take to hear it, at most so long from now.
    fn begin_drain(&self, at_most: Duration) -> Instant {
        let now = Instant::now();
        self.set_drain_bits(DRAIN_SHUTDOWN, true);
        let until = self.accept_until.lock().unwrap_or(now);
        until.min(now + at_most)
    }

    fn set_drain_bits(&self, bits: u8, draining: bool) {
        if draining {
            let mut until = self.accept_until.lock();
            // Unless the callers were told before.
            if self.draining.fetch_or(bits, SeqCst) == 0 {
                *until = Some(Instant::now() + self.config.drain_grace);
            }
        } else {
            self.draining.fetch_and(!bits, SeqCst);
        }
        self.draining_changed.send_replace(());
    }

    /// Closes the port, even if handles of the endpoint, its connections or its side channel are left.
    fn close_port(&self) {
        self.port_closer.close();
        self.side_queue.close();
    }

    /// Begins a shutdown.
    pub(super) fn begin_shutdown(&self) {
        self.draining.fetch_or(DRAIN_STOPPING, SeqCst);
        self.draining_changed.send_replace(());
        self.closing.cancel();
    }

    /// Waits until those at the other ends were told that the endpoint is gone, after its last handle is. Not for long.
    pub(crate) async fn flush_closes(&self) {
        self.connections.close();
        let farewell = async {
            self.connections.wait().await;
            self.quinn.close(CLOSE_SHUTDOWN, b"");
            self.quinn.wait_idle().await;
        };
        let _ = timeout(CLOSE_FLUSH_MAX, farewell).await;
    }
}

const DRAIN_REQUESTED: u8 = 1;
const DRAIN_STOPPING: u8 = 2;
const DRAIN_ADVERTISED: u8 = 4;

/// A shutdown has begun and still takes calls.
const DRAIN_SHUTDOWN: u8 = 8;

/// Upper bound of `within`, so that the deadline is a point in time.
const SHUTDOWN_MAX: Duration = Duration::from_secs(365 * 24 * 3600);

/// How long before the deadline of a shutdown handlers are dropped at the most, so that callers can be told.
const CANCEL_AHEAD_MAX: Duration = Duration::from_millis(250);

/// How long before the deadline connections are closed at the most, so that QUIC can repeat the
/// close: three probe timeouts.
const CLOSE_AHEAD_MAX: Duration = Duration::from_millis(600);

/// How many turns other tasks have for what does not take time.
const YIELDS: usize = 4;

/// How long QUIC has to send what closes the connections, even if the deadline has passed.
const CLOSE_MIN: Duration = Duration::from_millis(1);

/// What is sent to close a connection leaves at once; waiting for what comes back is not worth more.
const CLOSE_FLUSH_MAX: Duration = Duration::from_millis(20).saturating_add(CLOSE_AHEAD_MAX);
