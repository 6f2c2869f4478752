//! Open loop: calls begin at fixed times, whether or not earlier ones have ended.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::{task::yield_now, time::sleep};
use xtask_report::Latencies;

use crate::{
    Body, Caller, Failure, Load, Report,
    closed::{LAST_CALLS_TIMEOUT, Window},
    control::ServerProcess,
};

/// State that the calls of a run share.
#[derive(Debug, Default)]
struct OpenLoopState {
    latencies: Mutex<Latencies>,
    in_flight: AtomicU64,
    /// Bodies of calls that have ended, for those to come.
    bodies: Mutex<Vec<Body>>,
    /// Why the first call failed that did.
    failure: OnceLock<String>,
}

impl OpenLoopState {
    fn check(&self) -> Result<(), Failure> {
        self.failure
            .get()
            .map_or(Ok(()), |failure| Err(failure.as_str().into()))
    }
}

/// Runs the load over one connection.
///
/// Arrivals are evenly spaced. A timer of a millisecond would bunch them and so invent latency;
/// hence the client never sleeps when an arrival is near, but gives way to other tasks and looks at
/// the clock again, which keeps its core busy: its CPU time says nothing here. A call's latency
/// counts from when it was to begin. So it has in it what the client itself was late by, as a
/// user's would.
pub(crate) async fn run<C: Caller>(
    caller: C,
    load: Load,
    calls_per_s: f64,
    server: &mut ServerProcess,
) -> Result<Report, Failure> {
    let shared = Arc::new(OpenLoopState::default());
    let mut schedule = Schedule {
        caller: &caller,
        body_bytes: load.body_bytes,
        calls_per_s,
        shared: &shared,
        begin: Instant::now(),
        begun: 0,
        bodies: 0,
    };
    schedule.issue_calls(load.warm_up, false).await?;
    let window = Window::begin(server)?;
    // The clock of arrivals has gone on while the server's was read.
    schedule.restart();
    let begun = schedule.issue_calls(load.window, true).await?;
    let mut report = window.end(server)?;
    let deadline = Instant::now() + LAST_CALLS_TIMEOUT;
    while shared.in_flight.load(Relaxed) > 0 && shared.failure.get().is_none() {
        if Instant::now() > deadline {
            return Err(format!("calls that take longer than {LAST_CALLS_TIMEOUT:?}").into());
        }
        sleep(Duration::from_millis(1)).await;
    }
    shared.check()?;
    report.count = begun;
    report.latency = shared.latencies.lock().quantiles();
    Ok(report)
}

/// Schedule of calls.
struct Schedule<'a, C> {
    caller: &'a C,
    body_bytes: usize,
    calls_per_s: f64,
    shared: &'a Arc<OpenLoopState>,
    begin: Instant,
    begun: u64,
    bodies: u32,
}

impl<C: Caller> Schedule<'_, C> {
    fn restart(&mut self) {
        self.begin = Instant::now();
        self.begun = 0;
    }

    /// Begins calls for so long; how many.
    async fn issue_calls(&mut self, time: Duration, measured: bool) -> Result<u64, Failure> {
        loop {
            self.shared.check()?;
            let now = self.begin.elapsed();
            let due = calls_due(now.min(time), self.calls_per_s);
            while self.begun < due && self.shared.in_flight.load(Relaxed) < IN_FLIGHT_MAX {
                self.issue_call(measured);
            }
            if now >= time && self.begun >= due {
                return Ok(self.begun);
            }
            // It does not keep up: what it was offered and what it took differ, and say so.
            if now > time + BEHIND_MAX {
                return Ok(self.begun);
            }
            let next = intended_start(self.begun, self.calls_per_s);
            match next.checked_sub(self.begin.elapsed()) {
                // A timer is late by up to 2 ms.
                Some(wait) if wait > Duration::from_millis(5) => {
                    sleep(wait - Duration::from_millis(3)).await;
                }
                _ => yield_now().await,
            }
        }
    }

    fn issue_call(&mut self, measured: bool) {
        let intended = self.begin + intended_start(self.begun, self.calls_per_s);
        self.begun += 1;
        let mut body = match self.shared.bodies.lock().pop() {
            Some(body) => body,
            None => {
                self.bodies += 1;
                Body::new(self.bodies, self.body_bytes)
            }
        };
        let (caller, shared) = (self.caller.clone(), Arc::clone(self.shared));
        shared.in_flight.fetch_add(1, Relaxed);
        tokio::spawn(async move {
            let reply = caller.call(body.advance()).await;
            let latency = intended.elapsed();
            let checked = match &reply {
                Ok(reply) => body.check(reply),
                Err(error) => Err(error.to_string()),
            };
            match checked {
                Ok(()) if measured => shared.latencies.lock().record(latency),
                Ok(()) => {}
                Err(failure) => {
                    let _ = shared.failure.set(failure);
                }
            }
            shared.bodies.lock().push(body);
            shared.in_flight.fetch_sub(1, Relaxed);
        });
    }
}

/// Number of calls that have to have begun.
fn calls_due(elapsed: Duration, calls_per_s: f64) -> u64 {
    (elapsed.as_secs_f64() * calls_per_s) as u64
}

/// Intended start of the call of this number, counted from 0.
fn intended_start(number: u64, calls_per_s: f64) -> Duration {
    Duration::from_secs_f64((number + 1) as f64 / calls_per_s)
}

/// Calls at a time: fewer than servers take. More arrivals wait, and their waiting counts.
const IN_FLIGHT_MAX: u64 = 8_192;

/// Longest delay behind the schedule at the end of a window.
const BEHIND_MAX: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrivals_are_evenly_spaced() {
        let second = Duration::from_secs(1);
        assert_eq!(calls_due(second, 1000.0), 1000);
        assert_eq!(calls_due(second / 2, 1000.0), 500);
        for number in 0..1000 {
            let at = intended_start(number, 1000.0);
            assert_eq!(calls_due(at + Duration::from_nanos(1), 1000.0), number + 1);
            assert_eq!(calls_due(at - Duration::from_micros(1), 1000.0), number);
        }
    }
}
