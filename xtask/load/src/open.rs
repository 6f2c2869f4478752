//! Open loop: calls begin at fixed times, whether or not earlier ones have ended.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
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
    /// Whether calls that end now count.
    is_window: AtomicBool,
    /// Calls that ended in the window, also those that began before it.
    ended: AtomicU64,
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

    /// Ends a call that was to begin `latency` ago. Latencies are those of the calls of the window,
    /// whenever they end.
    fn on_end(&self, body: Body, checked: Result<(), String>, latency: Option<Duration>) {
        match checked {
            Ok(()) => {
                if self.is_window.load(Relaxed) {
                    self.ended.fetch_add(1, Relaxed);
                }
                if let Some(latency) = latency {
                    self.latencies.lock().record(latency);
                }
            }
            Err(failure) => {
                let _ = self.failure.set(failure);
            }
        }
        self.bodies.lock().push(body);
        self.in_flight.fetch_sub(1, Relaxed);
    }
}

/// Runs the load over one connection.
///
/// Arrivals are evenly spaced. A timer of a millisecond would bunch them and so invent latency;
/// hence the client never sleeps when an arrival is near, but gives way to other tasks and looks at
/// the clock again, which keeps its core busy: its CPU time says nothing here. A call's latency
/// counts from when it was to begin. So it has in it what the client itself was late by, as a
/// user's would.
///
/// What counts as done is what was answered within the window. Calls that were due in it and had
/// no reply at its end are the backlog; their latencies count all the same.
pub(crate) async fn run<C: Caller>(
    caller: C,
    load: Load,
    calls_per_s: f64,
    server: &mut ServerProcess,
) -> Result<Report, Failure> {
    let shared = Arc::new(OpenLoopState::default());
    let mut schedule = Schedule::new(&caller, load, calls_per_s, &shared);
    schedule.issue_calls(load.warm_up, false).await?;
    let window = Window::begin(server)?;
    // The clock of arrivals has gone on while the server's was read.
    schedule.restart();
    shared.is_window.store(true, Relaxed);
    schedule.issue_calls(load.window, true).await?;
    shared.is_window.store(false, Relaxed);
    let backlog = schedule.backlog(load.window);
    let mut report = window.end(server)?;
    schedule.issue_late_calls(load.window).await?;
    let deadline = Instant::now() + LAST_CALLS_TIMEOUT;
    while shared.in_flight.load(Relaxed) > 0 && shared.failure.get().is_none() {
        if Instant::now() > deadline {
            return Err(format!("calls that take longer than {LAST_CALLS_TIMEOUT:?}").into());
        }
        sleep(Duration::from_millis(1)).await;
    }
    shared.check()?;
    report.count = shared.ended.load(Relaxed);
    report.backlog = backlog;
    report.latency = shared.latencies.lock().quantiles();
    Ok(report)
}

/// Schedule of calls.
struct Schedule<'a, C> {
    caller: &'a C,
    body_bytes: usize,
    /// Calls in flight at a time. More arrivals wait, and their waiting counts.
    in_flight_max: u64,
    calls_per_s: f64,
    shared: &'a Arc<OpenLoopState>,
    begin: Instant,
    begun: u64,
    bodies: u32,
}

impl<'a, C: Caller> Schedule<'a, C> {
    fn new(caller: &'a C, load: Load, calls_per_s: f64, shared: &'a Arc<OpenLoopState>) -> Self {
        Self {
            caller,
            body_bytes: load.body_bytes,
            in_flight_max: load.in_flight as u64,
            calls_per_s,
            shared,
            begin: Instant::now(),
            begun: 0,
            bodies: 0,
        }
    }

    fn restart(&mut self) {
        self.begin = Instant::now();
        self.begun = 0;
    }

    /// Begins calls for so long.
    async fn issue_calls(&mut self, time: Duration, measured: bool) -> Result<(), Failure> {
        loop {
            self.shared.check()?;
            let now = self.begin.elapsed();
            self.issue_due(now.min(time), measured);
            if now >= time {
                return Ok(());
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

    /// Begins the calls of a window that were due in it but had to wait for others, unless it takes
    /// too long.
    async fn issue_late_calls(&mut self, window: Duration) -> Result<(), Failure> {
        while self.begun < calls_due(window, self.calls_per_s)
            && self.begin.elapsed() < window + BEHIND_MAX
        {
            self.shared.check()?;
            self.issue_due(window, true);
            yield_now().await;
        }
        Ok(())
    }

    /// Calls that were due by then and have no reply, those of the warm-up among them.
    fn backlog(&self, time: Duration) -> u64 {
        let not_begun = calls_due(time, self.calls_per_s).saturating_sub(self.begun);
        not_begun + self.shared.in_flight.load(Relaxed)
    }

    fn issue_due(&mut self, elapsed: Duration, measured: bool) {
        let due = calls_due(elapsed, self.calls_per_s);
        while self.begun < due && self.shared.in_flight.load(Relaxed) < self.in_flight_max {
            self.issue_call(measured);
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
            let checked = caller.exchange(&mut body).await;
            let latency = measured.then(|| intended.elapsed());
            shared.on_end(body, checked, latency);
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

/// Longest time after a window for the calls of it that had to wait for others.
const BEHIND_MAX: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tokio::sync::Semaphore;

    use super::*;

    /// Answers as many calls as it has permits.
    #[derive(Clone)]
    struct Limited(Arc<Semaphore>);

    impl Caller for Limited {
        type Error = Failure;

        async fn call(&self, body: Bytes) -> Result<Bytes, Failure> {
            self.0.acquire().await?.forget();
            Ok(body)
        }
    }

    async fn wait_until(condition: impl Fn() -> bool) {
        while !condition() {
            yield_now().await;
        }
    }

    #[tokio::test]
    async fn calls_that_are_answered_after_the_window_are_backlog_with_latencies() {
        let caller = Limited(Arc::new(Semaphore::new(10)));
        let shared = Arc::new(OpenLoopState::default());
        let window = Duration::from_millis(20);
        let load = Load {
            body_bytes: 32,
            in_flight: 60,
            ..Load::default()
        };
        let mut schedule = Schedule::new(&caller, load, 5_000.0, &shared);
        shared.is_window.store(true, Relaxed);
        schedule.issue_calls(window, true).await.unwrap();
        // A process that was stopped may have begun all at the end.
        wait_until(|| shared.ended.load(Relaxed) == 10).await;
        shared.is_window.store(false, Relaxed);
        assert_eq!(schedule.backlog(window), 90);
        assert!(schedule.begun <= 70, "{} have begun", schedule.begun);
        caller.0.add_permits(90);
        schedule.issue_late_calls(window).await.unwrap();
        wait_until(|| shared.in_flight.load(Relaxed) == 0).await;
        assert_eq!((schedule.begun, schedule.backlog(window)), (100, 0));
        assert_eq!(shared.ended.load(Relaxed), 10);
        assert_eq!(shared.latencies.lock().calls(), 100);
    }

    #[tokio::test]
    async fn a_wrong_reply_ends_the_loop() {
        let caller = Limited(Arc::new(Semaphore::new(0)));
        caller.0.close();
        let shared = Arc::new(OpenLoopState::default());
        let load = Load {
            body_bytes: 32,
            in_flight: 1,
            ..Load::default()
        };
        let mut schedule = Schedule::new(&caller, load, 5_000.0, &shared);
        let forever = Duration::from_secs(3_600);
        assert!(schedule.issue_calls(forever, true).await.is_err());
        assert_eq!(shared.ended.load(Relaxed), 0);
    }

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
