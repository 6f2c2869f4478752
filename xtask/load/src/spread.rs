//! Closed loop from several threads that share nothing but the clock.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::task::JoinSet;

use crate::{
    Failure, Load, Report, Setup, Spread, Subject,
    closed::{self, ClosedLoopState},
    control::ServerProcess,
    processes::start_runtime,
};

/// Load of one thread.
struct ThreadLoad {
    setup: Setup,
    address: SocketAddr,
    load: Load,
    /// Number of its first caller.
    first: usize,
    /// Callers of each of its connections.
    callers: Vec<usize>,
    shared: Arc<ClosedLoopState>,
    /// Threads that have all their connections.
    ready: Arc<AtomicUsize>,
}

/// Runs the load; the thread that this runs on makes no calls.
pub(crate) async fn run<S: Subject>(
    setup: &Setup,
    address: SocketAddr,
    load: Load,
    spread: Spread,
    server: &mut ServerProcess,
) -> Result<Report, Failure> {
    let (shared, ready) = (Arc::new(ClosedLoopState::default()), Arc::default());
    let mut threads = JoinSet::new();
    let mut first = 0;
    for callers in spread.spread(load.in_flight) {
        let count: usize = callers.iter().sum();
        let part = ThreadLoad {
            setup: setup.clone(),
            address,
            load,
            first,
            callers,
            shared: Arc::clone(&shared),
            ready: Arc::clone(&ready),
        };
        first += count;
        threads.spawn_blocking(|| part.run::<S>());
    }
    while ready.load(Relaxed) < threads.len() {
        closed::wait_unless_failed(POLL_INTERVAL, &mut threads).await?;
    }
    closed::measure_window(threads, load, &shared, server).await
}

impl ThreadLoad {
    /// Calls until it is over; the number of calls that ended in the window.
    fn run<S: Subject>(self) -> Result<u64, Failure> {
        start_runtime(&self.setup)?.block_on(async {
            let mut connections = Vec::with_capacity(self.callers.len());
            for callers in &self.callers {
                let client = S::client(&self.setup)?;
                let caller = client.connect(self.address).await?;
                connections.push((client, caller, callers));
            }
            self.ready.fetch_add(1, Relaxed);
            let mut tasks = JoinSet::new();
            let mut first = self.first;
            for (_, caller, callers) in &connections {
                let numbers = first..first + *callers;
                first = numbers.end;
                closed::spawn_callers(&mut tasks, caller, numbers, self.load, &self.shared)?;
            }
            closed::join(tasks).await
        })
    }
}

/// Interval of checks whether all threads are ready.
const POLL_INTERVAL: Duration = Duration::from_millis(1);
