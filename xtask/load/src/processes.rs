//! Client and server processes of a measurement.

use std::{net::SocketAddr, process::ExitCode, time::Instant};

use crate::{
    Assignment, ClientMessage, ConnectionReport, Failure, Job, Runtime, Setup, Subject, closed,
    control::{self, ServerMessage, ServerProcess},
    open, spread,
    system::{pin, usage},
};

/// The server's process: takes its [`Setup`] from standard input, serves, and ends with its input.
pub fn run_server<S: Subject>() -> ExitCode {
    let served = control::read_message().and_then(|setup: Setup| {
        start_runtime(&setup)?.block_on(async {
            let (address, _server) = S::serve(&setup).await?;
            control::write_message(&ServerMessage::Serving { address })?;
            control::answer_usage();
            std::future::pending::<Result<(), Failure>>().await
        })
    });
    let message = match served {
        Ok(()) => "it ended".to_owned(),
        Err(failure) => failure.to_string(),
    };
    // A client that is gone needs no answer.
    let _ = control::write_message(&ServerMessage::Failed { message });
    ExitCode::FAILURE
}

/// The client's process: takes its [`Assignment`] from standard input, starts the server, measures,
/// says what came of it, and ends.
pub fn run_client<S: Subject>() -> ExitCode {
    let event = control::read_message()
        .and_then(|assignment| measure::<S>(&assignment))
        .unwrap_or_else(|failure| ClientMessage::Failed {
            message: failure.to_string(),
        });
    let failed = matches!(event, ClientMessage::Failed { .. });
    if control::write_message(&event).is_err() || failed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}

fn measure<S: Subject>(assignment: &Assignment) -> Result<ClientMessage, Failure> {
    let mut server = ServerProcess::start(&assignment.server_command, &assignment.server)?;
    control::write_message(&ClientMessage::Serving {
        address: server.address(),
    })?;
    if assignment.hold {
        control::wait_for_line()?;
    }
    control::end_with_input();
    let runtime = start_runtime(&assignment.client)?;
    let address = match assignment.relay {
        Some(relay) => crate::relay::start(server.address(), relay)?,
        None => server.address(),
    };
    let event = runtime.block_on(async {
        let client = S::client(&assignment.client)?;
        match assignment.job {
            Job::Closed(load) => {
                let caller = client.connect(address).await?;
                Ok(ClientMessage::Calls(
                    closed::run(caller, load, &mut server).await?,
                ))
            }
            Job::Beside { load, bulk } => {
                let caller = client.connect(address).await?;
                let report = closed::run_beside(caller, load, bulk, &mut server);
                Ok(ClientMessage::Calls(report.await?))
            }
            Job::Spread(spread) => {
                let report = spread::run::<S>(&assignment.client, address, spread, &mut server);
                Ok(ClientMessage::Calls(report.await?))
            }
            Job::Open(load) => {
                let caller = client.connect(address).await?;
                Ok(ClientMessage::Calls(
                    open::run(caller, load, &mut server).await?,
                ))
            }
            Job::Stream(load) => {
                let caller = client.connect(address).await?;
                Ok(ClientMessage::Stream(S::stream(caller, load).await?))
            }
            Job::Reconnect(load) => S::reconnects(&assignment.client, address, load)
                .await
                .map(ClientMessage::Reconnects),
            Job::Connections { count } => connections(&client, address, count, &mut server)
                .await
                .map(ClientMessage::Connections),
        }
    });
    // What a library still has running is of no more interest.
    runtime.shutdown_background();
    event
}

/// Opens connections and looks at what they take.
async fn connections<S: Subject>(
    client: &S,
    address: SocketAddr,
    count: usize,
    server: &mut ServerProcess,
) -> Result<ConnectionReport, Failure> {
    // The first one pays for what all share.
    let mut open = vec![client.connect(address).await?];
    let (server_before, client_before) = (server.usage()?, usage());
    let begin = Instant::now();
    for _ in 0..count {
        open.push(client.connect(address).await?);
    }
    let seconds = begin.elapsed().as_secs_f64();
    let (server_after, client_after) = (server.usage()?, usage());
    drop(open);
    Ok(ConnectionReport {
        connections: count,
        client_bytes: client_after
            .rss_bytes
            .saturating_sub(client_before.rss_bytes),
        server_bytes: server_after
            .rss_bytes
            .saturating_sub(server_before.rss_bytes),
        seconds,
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
