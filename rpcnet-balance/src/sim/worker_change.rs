//! Changes of a simulated worker: faults, drains, restarts.

/// Change of a worker at a time of a [`FleetScenario`](super::FleetScenario).
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum WorkerChange {
    /// Requests take this many times as long as in the beginning: 100 for a straggler, 1 for one
    /// that has recovered.
    Slowdown(f64),
    /// Each request fails within 0.1 ms, whatever is queued.
    Fail,
    /// Each request is rejected within 0.1 ms, before it runs: as by a worker of an older version
    /// that does not know the method.
    Reject,
    /// Reports say that the worker is idle, whatever it serves.
    Underreport,
    /// The worker hangs: it takes requests and replies to none. With [`Recover`](Self::Recover) it
    /// goes on.
    Hang,
    /// The worker no longer fails, rejects, underreports or hangs.
    Recover,
    /// The worker drains: it says so with every reply and in the membership; after a second it
    /// rejects calls.
    Drain,
    /// The worker crashes and loses everything that it was serving. The membership learns it after
    /// a delay.
    Crash,
    /// The worker moves to another address and loses everything that it was serving; the old
    /// address cannot be reached. The membership learns it as late as a crash.
    Move,
    /// The worker starts, again or for the first time, cold if it [starts
    /// slowly](super::SimWorker::with_cold_start). The membership learns it after a delay. Without
    /// effect on a running worker.
    Start,
}
