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
    ClosedLoopState, Failure, Load, Report, Setup, Spread, Subject, closed, control::ServerProcess,
    processes::start_runtime,
};

/// Runs the load; the thread that this runs on makes no calls.
pub(crate) async fn run<S: Subject>(
    setup: &Setup,
    address: SocketAddr,
    load: Load,
    spread: Spread,
    server: &mut ServerProcess,
) -> Result<Report, Failure> {
    let shared = Arc::new(ClosedLoopState::default());
    // Threads that have all their connections.
    let ready = Arc::new(AtomicUsize::new(0));
    let mut threads = JoinSet::new();
    let mut first = 0;
    for callers in spread.spread(load.in_flight) {
        let mut number = first;
        first += callers.iter().sum::<usize>();
        let (setup, shared, ready) = (setup.clone(), Arc::clone(&shared), Arc::clone(&ready));
        threads.spawn_blocking(move || {
            start_runtime(&setup)?.block_on(async {
                let connections = connect::<S>(&setup, address, callers).await?;
                ready.fetch_add(1, Relaxed);
                let mut tasks = JoinSet::new();
                for (_, caller, count) in &connections {
                    let numbers = number..number + count;
                    number = numbers.end;
                    closed::spawn_callers(&mut tasks, caller, numbers, load, &shared)?;
                }
                closed::join(tasks).await
            })
        });
    }
    while ready.load(Relaxed) < threads.len() {
        closed::wait_unless_failed(POLL_INTERVAL, &mut threads).await?;
    }
    closed::measure_window(threads, load, &shared, server).await
}

/// Connections of a thread, each with its client and the number of its callers.
async fn connect<S: Subject>(
    setup: &Setup,
    address: SocketAddr,
    callers: Vec<usize>,
) -> Result<Vec<(S, S::Caller, usize)>, Failure> {
    let mut connections = Vec::with_capacity(callers.len());
    for count in callers {
        let client = S::client(setup)?;
        let caller = client.connect(address).await?;
        connections.push((client, caller, count));
    }
    Ok(connections)
}

/// Interval of checks whether all threads are ready.
const POLL_INTERVAL: Duration = Duration::from_millis(1);
