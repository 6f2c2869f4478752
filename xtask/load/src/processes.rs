//! Client and server processes of a measurement.

use std::{convert::Infallible, io, net::SocketAddr, process::ExitCode, time::Instant};

use serde::Serialize;

use crate::{
    Assignment, Failure, Job, Report, Runtime, Setup, Subject, Usage, closed,
    control::{self, ServerProcess},
    open, relay, spread,
    system::{pin, usage},
};

/// The server's process: takes its [`Setup`] from standard input, serves, and ends with its input.
pub fn run_server<S: Subject>() -> ExitCode {
    let served = control::read_message().and_then(|setup: Setup| {
        start_runtime(&setup)?.block_on(async {
            let (address, _server) = S::serve(&setup).await?;
            write_outcome(Ok(address))?;
            control::answer_usage();
            std::future::pending::<Result<Infallible, Failure>>().await
        })
    });
    let Err(failure) = served;
    // A client that is gone needs no answer.
    let _ = write_outcome::<()>(Err(failure));
    ExitCode::FAILURE
}

/// The client's process: takes its [`Assignment`] from standard input, starts the server, measures,
/// says what came of it, and ends.
pub fn run_client<S: Subject>() -> ExitCode {
    let report = control::read_message().and_then(|assignment| measure::<S>(&assignment));
    let failed = report.is_err();
    if write_outcome(report).is_err() || failed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}

/// Tells the process that gave the order what came of it.
fn write_outcome<T: Serialize>(outcome: Result<T, Failure>) -> io::Result<()> {
    control::write_message(&outcome.map_err(|failure| failure.to_string()))
}

fn measure<S: Subject>(assignment: &Assignment) -> Result<Report, Failure> {
    let mut server = ServerProcess::start(&assignment.server_command, &assignment.server)?;
    write_outcome(Ok(server.address()))?;
    if assignment.hold {
        control::wait_for_line()?;
    }
    control::end_with_input();
    let runtime = start_runtime(&assignment.client)?;
    let address = match assignment.relay {
        Some(relay) => relay::start(server.address(), relay)?,
        None => server.address(),
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

/// Opens connections and looks at what they take.
async fn connections<S: Subject>(
    client: &S,
    address: SocketAddr,
    count: usize,
    server: &mut ServerProcess,
) -> Result<Report, Failure> {
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
