//! Client and server processes of a measurement.

use std::{convert::Infallible, net::SocketAddr, process::ExitCode, thread, time::Instant};

use crate::{
    Assignment, Failure, Job, Load, Order, Report, Runtime, Serving, Setup, Subject, Usage,
    clock_loop, closed,
    control::{self, ServerProcess},
    file_limit::raise_file_limit,
    open, relay, spread,
    system::{pin, usage},
};

/// Executes an order: [`execute`] of a subject.
pub type Executor = fn(Order) -> Result<(), Failure>;

/// Takes an order from standard input and has the executor of its subject execute it.
pub fn run(executor: impl FnOnce(&str) -> Option<Executor>) -> ExitCode {
    let done = control::read_message().and_then(|order: Order| {
        let subject = order.subject();
        let executor = executor(subject).ok_or_else(|| format!("no subject {subject:?}"))?;
        executor(order)
    });
    control::exit_code(done)
}

/// Serves a subject until the input ends, or measures it.
pub fn execute<S: Subject>(order: Order) -> Result<(), Failure> {
    match order {
        Order::Serve(setup) => match serve::<S>(&setup)? {},
        Order::Measure(assignment) => {
            let report = measure::<S>(*assignment)?;
            Ok(control::write_message(&report)?)
        }
    }
}

fn serve<S: Subject>(setup: &Setup) -> Result<Infallible, Failure> {
    if setup.connections > 0 {
        raise_file_limit(setup.connections + FILES_BESIDE)?;
    }
    start_runtime(setup)?.block_on(async {
        let (address, _server) = S::serve(setup).await?;
        control::write_message(&Serving { address })?;
        thread::spawn(|| {
            control::answer_each(|()| Ok(usage()));
            std::process::exit(0);
        });
        std::future::pending().await
    })
}

fn measure<S: Subject>(assignment: Assignment) -> Result<Report, Failure> {
    let (mut server, serving) =
        ServerProcess::start(&assignment.server_command, assignment.server)?;
    control::write_message(&serving)?;
    if assignment.hold {
        control::read_message::<()>()?;
    }
    control::end_with_input();
    let runtime = start_runtime(&assignment.client)?;
    let address = match assignment.relay {
        Some(relay) => relay::start(serving.address, relay)?,
        None => serving.address,
    };
    let (setup, load) = (&assignment.client, assignment.load);
    let report = runtime.block_on(async {
        let client = S::client(setup)?;
        let connect = || client.connect(address);
        match assignment.job {
            Job::Closed { bulk } => closed::run(connect().await?, load, bulk, &mut server).await,
            Job::Spread(threads) => {
                spread::run::<S>(setup, address, load, threads, &mut server).await
            }
            Job::Open { calls_per_s } => {
                open::run(connect().await?, load, calls_per_s, &mut server).await
            }
            Job::Empty { calls_per_s } => Ok(empty_calls(load, calls_per_s)),
            Job::Stream(direction) => S::stream(connect().await?, load, direction).await,
            Job::Reconnect { handshake, count } => {
                S::reconnects(setup, address, handshake, count).await
            }
            Job::Connections { count } => connections(&client, address, count, &mut server).await,
        }
    });
    // What a library still has running is of no more interest.
    runtime.shutdown_background();
    report
}

/// Runs [an empty loop](clock_loop) on the client's core.
fn empty_calls(load: Load, calls_per_s: f64) -> Report {
    let before = usage();
    let report = clock_loop::empty_calls(load.window, calls_per_s);
    let waited_us = usage().waited_since(before);
    Report {
        run_queue_wait: waited_us.map(|waited_us| waited_us / 1e6 / report.seconds),
        ..report
    }
}

/// Opens connections and looks at what they take.
async fn connections<S: Subject>(
    client: &S,
    address: SocketAddr,
    count: usize,
    server: &mut ServerProcess,
) -> Result<Report, Failure> {
    raise_file_limit(count + FILES_BESIDE)?;
    // The first one pays for what all share.
    let mut open = vec![client.connect(address).await?];
    let (server_before, client_before) = (server.usage()?, usage());
    let begin = Instant::now();
    for _ in 0..count {
        open.push(client.connect(address).await?);
    }
    let seconds = begin.elapsed().as_secs_f64();
    let (server_after, client_after) = (server.usage()?, usage());
    let growth = |before: Usage, after: Usage| after.rss_bytes.saturating_sub(before.rss_bytes);
    Ok(Report {
        count: count as u64,
        seconds,
        client_rss_bytes: growth(client_before, client_after),
        server_rss_bytes: growth(server_before, server_after),
        ..Report::default()
    })
}

/// Pins this process, and makes its runtime.
pub(crate) fn start_runtime(setup: &Setup) -> Result<tokio::runtime::Runtime, Failure> {
    if let Some(core) = setup.core {
        pin(core).map_err(|error| format!("cannot use core {core}: {error}"))?;
    }
    let mut builder = match setup.runtime {
        Runtime::Current => tokio::runtime::Builder::new_current_thread(),
        Runtime::Multi => tokio::runtime::Builder::new_multi_thread(),
    };
    Ok(builder.enable_all().build()?)
}

/// Open files of a process beside its connections.
const FILES_BESIDE: usize = 64;
