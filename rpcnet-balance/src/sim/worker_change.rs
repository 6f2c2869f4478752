//! What happens to a worker.

/// What happens to a worker at a moment of a [`FleetScenario`](super::FleetScenario).
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum WorkerChange {
    /// From now on requests take it so many times as long as in the beginning: 100 for a straggler, 1 for one that has got
    /// over it.
    Slowdown(f64),
    /// From now on it fails each request within 0.1 ms, whatever waits.
    Fail,
    /// From now on it refuses each request within 0.1 ms, before running it: as one of an older version, which does not know the
    /// method.
    Reject,
    /// From now on it reports that it has nothing to do, whatever it has.
    Underreport,
    /// It does nothing any more: it takes requests and answers none. With [`Recover`](Self::Recover) it goes on.
    Hang,
    /// It fails, rejects, underreports and hangs no longer.
    Recover,
    /// It says that it takes no new calls, with every reply and in the membership; after a second it refuses them.
    Drain,
    /// It is gone, with all that it was serving. The membership says so after a while.
    Crash,
    /// It goes on at another address, without what it was serving; its old one cannot be reached. The membership says so as late
    /// as of a crash.
    Move,
    /// It is there again, or for the first time, cold if it [starts slowly](super::SimWorker::with_cold_start). The membership
    /// says so after a while. Without effect on one that runs.
    Start,
}
