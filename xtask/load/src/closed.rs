//! Closed loop: a fixed number of callers, each with one call at a time.

use std::{
    ops::Range,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::{
    Body, BulkLoad, Caller, ClosedLoopState, Direction, Failure, Load, Phase, Report, Usage, bulk,
    control::ServerProcess, system::usage,
};

/// Runs the load over one connection, and bulk calls beside it on the same connection.
pub(crate) async fn run<C: Caller>(
    caller: C,
    load: Load,
    bulk: Option<BulkLoad>,
    server: &mut ServerProcess,
) -> Result<Report, Failure> {
    let shared = Arc::new(ClosedLoopState::default());
    let mut callers = JoinSet::new();
    for bytes in bulk.into_iter().flat_map(BulkLoad::sizes) {
        for direction in [Direction::Up, Direction::Down] {
            let (caller, shared) = (caller.clone(), Arc::clone(&shared));
            callers.spawn(async move {
                let phase = || shared.phase();
                bulk::call(caller, bytes, direction, phase, &shared.bulk_bytes).await
            });
        }
    }
    match caller.closed_loop(load, &shared) {
        Some(calls) => {
            callers.spawn(calls);
        }
        None => spawn_callers(&mut callers, &caller, 0..load.in_flight, load, &shared)?,
    }
    measure_window(callers, load, &shared, server).await
}

/// Starts the callers of these numbers.
pub(crate) fn spawn_callers<C: Caller>(
    callers: &mut JoinSet<Result<u64, Failure>>,
    caller: &C,
    numbers: Range<usize>,
    load: Load,
    shared: &Arc<ClosedLoopState>,
) -> Result<(), Failure> {
    for number in numbers {
        let number = u32::try_from(number)?;
        callers.spawn(run_caller(caller.clone(), number, load, Arc::clone(shared)));
    }
    Ok(())
}

/// Measures what callers, or groups of them, do that have been started.
pub(crate) async fn measure_window(
    mut callers: JoinSet<Result<u64, Failure>>,
    load: Load,
    shared: &ClosedLoopState,
    server: &mut ServerProcess,
) -> Result<Report, Failure> {
    wait_unless_failed(load.warm_up, &mut callers).await?;
    let window = Window::begin(server)?;
    shared.begin(Phase::Window);
    wait_unless_failed(load.window, &mut callers).await?;
    shared.begin(Phase::Over);
    let mut report = window.end(server)?;
    report.count = timeout(LAST_CALLS_TIMEOUT, join(callers))
        .await
        .map_err(|_| format!("calls that take longer than {LAST_CALLS_TIMEOUT:?}"))??;
    report.latency = shared.quantiles();
    report.bulk_bytes = shared.bulk_bytes.load(Relaxed);
    if report.count == 0 {
        return Err("no call ended in the window".into());
    }
    Ok(report)
}

/// Waits for the end of all; the number of calls that ended in the window.
pub(crate) async fn join(mut callers: JoinSet<Result<u64, Failure>>) -> Result<u64, Failure> {
    let mut calls = 0;
    while let Some(ended) = callers.join_next().await {
        calls += ended??;
    }
    Ok(calls)
}

/// Calls until it is over; the number of calls that ended in the window.
async fn run_caller<C: Caller>(
    caller: C,
    number: u32,
    load: Load,
    shared: Arc<ClosedLoopState>,
) -> Result<u64, Failure> {
    let mut body = Body::new(number, load.body_bytes);
    let mut batch = Vec::with_capacity(BATCH_LEN);
    let mut calls = 0;
    let mut phase = shared.phase();
    // The end of a call is the beginning of the next: a second look at the clock would be a good
    // part of a call's price.
    let mut begin = Instant::now();
    loop {
        caller.exchange(&mut body).await?;
        let end = Instant::now();
        let latency = end.duration_since(std::mem::replace(&mut begin, end));
        let begun_in = std::mem::replace(&mut phase, shared.phase());
        match phase {
            Phase::Window => {
                calls += 1;
                // Those that were under way when the window began have waited while the server's
                // clock was read: they count only where calls take so long that there are no
                // others.
                if begun_in == Phase::Window {
                    batch.push(latency);
                    if batch.len() == BATCH_LEN {
                        shared.record(&mut batch);
                    }
                } else {
                    shared.record_started_before_window(latency);
                }
            }
            Phase::Over => break,
            Phase::WarmUp => {}
        }
    }
    shared.record(&mut batch);
    Ok(calls)
}

/// Waits, unless a caller fails.
pub(crate) async fn wait_unless_failed(
    time: Duration,
    callers: &mut JoinSet<Result<u64, Failure>>,
) -> Result<(), Failure> {
    let failure = async {
        while let Some(ended) = callers.join_next().await {
            match ended {
                Ok(Ok(_)) => {}
                Ok(Err(failure)) => return failure,
                Err(failure) => return failure.into(),
            }
        }
        "all callers have ended early".into()
    };
    tokio::select! {
        biased;
        failure = failure => Err(failure),
        () = sleep(time) => Ok(()),
    }
}

/// The clocks at the beginning of what is measured.
#[derive(Debug)]
pub(crate) struct Window {
    server: Usage,
    client: Usage,
    begin: Instant,
}

impl Window {
    pub(crate) fn begin(server: &mut ServerProcess) -> Result<Self, Failure> {
        Ok(Self {
            server: server.usage()?,
            client: usage(),
            begin: Instant::now(),
        })
    }

    /// A report in which calls and latencies are missing.
    pub(crate) fn end(self, server: &mut ServerProcess) -> Result<Report, Failure> {
        let seconds = self.begin.elapsed().as_secs_f64();
        let client = usage();
        let server = server.usage()?;
        let waits = [
            client.waited_since(self.client),
            server.waited_since(self.server),
        ];
        let waited_us: Option<f64> = waits.into_iter().sum();
        Ok(Report {
            seconds,
            run_queue_wait: waited_us.map(|waited_us| waited_us / 1e6 / seconds),
            client_cpu_us: client.cpu_us - self.client.cpu_us,
            server_cpu_us: server.cpu_us - self.server.cpu_us,
            client_rss_bytes: client.rss_bytes,
            server_rss_bytes: server.rss_bytes,
            ..Report::default()
        })
    }
}

/// Latencies that a caller keeps.
const BATCH_LEN: usize = 32;

/// Time for the calls that are in flight at the end.
pub(crate) const LAST_CALLS_TIMEOUT: Duration = Duration::from_secs(10);
