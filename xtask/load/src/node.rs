//! The two processes.

use std::{net::SocketAddr, process::ExitCode, time::Instant};

use crate::{
    Assignment, ConnectionReport, Event, Failure, Job, Runtime, Setup, Subject, closed,
    control::{self, Answer, Server},
    open, spread,
    system::{pin, usage},
};

/// The server's process: takes its [`Setup`] from standard input, serves, and ends with its input.
pub fn run_server<S: Subject>() -> ExitCode {
    let served = control::hear().and_then(|setup: Setup| {
        begin(&setup)?.block_on(async {
            let (address, _server) = S::serve(&setup).await?;
            control::say(&Answer::Serving { address })?;
            control::answer_usage();
            std::future::pending::<Result<(), Failure>>().await
        })
    });
    let message = match served {
        Ok(()) => "it ended".to_owned(),
        Err(failure) => failure.to_string(),
    };
    // If nobody hears it, nobody wants to know.
    let _ = control::say(&Answer::Failed { message });
    ExitCode::FAILURE
}

/// The client's process: takes its [`Assignment`] from standard input, starts the server, measures, says what came
/// of it, and ends.
pub fn run_client<S: Subject>() -> ExitCode {
    let event = control::hear()
        .and_then(|assignment| measure::<S>(&assignment))
        .unwrap_or_else(|failure| Event::Failed {
            message: failure.to_string(),
        });
    let failed = matches!(event, Event::Failed { .. });
    if control::say(&event).is_err() || failed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}

fn measure<S: Subject>(assignment: &Assignment) -> Result<Event, Failure> {
    let mut server = Server::start(&assignment.server_command, &assignment.server)?;
    control::say(&Event::Serving {
        address: server.address(),
    })?;
    if assignment.hold {
        control::hear_any()?;
    }
    control::end_with_input();
    let runtime = begin(&assignment.client)?;
    let address = match assignment.relay {
        Some(relay) => crate::relay::start(server.address(), relay)?,
        None => server.address(),
    };
    let event = runtime.block_on(async {
        let client = S::client(&assignment.client)?;
        match assignment.job {
            Job::Closed(load) => {
                let caller = client.connect(address).await?;
                Ok(Event::Calls(closed::run(caller, load, &mut server).await?))
            }
            Job::Beside { load, bulk } => {
                let caller = client.connect(address).await?;
                let report = closed::run_beside(caller, load, bulk, &mut server);
                Ok(Event::Calls(report.await?))
            }
            Job::Spread(spread) => {
                let report = spread::run::<S>(&assignment.client, address, spread, &mut server);
                Ok(Event::Calls(report.await?))
            }
            Job::Open(load) => {
                let caller = client.connect(address).await?;
                Ok(Event::Calls(open::run(caller, load, &mut server).await?))
            }
            Job::Stream(load) => {
                let caller = client.connect(address).await?;
                Ok(Event::Stream(S::stream(caller, load).await?))
            }
            Job::Reconnect(load) => S::reconnects(&assignment.client, address, load)
                .await
                .map(Event::Reconnects),
            Job::Connections { count } => connections(&client, address, count, &mut server)
                .await
                .map(Event::Connections),
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
    server: &mut Server,
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
pub(crate) fn begin(setup: &Setup) -> Result<tokio::runtime::Runtime, Failure> {
    if let Some(core) = setup.core {
        pin(core).map_err(|error| format!("cannot use core {core}: {error}"))?;
    }
    let mut builder = match setup.runtime {
        Runtime::Current => tokio::runtime::Builder::new_current_thread(),
        Runtime::Multi => tokio::runtime::Builder::new_multi_thread(),
    };
    Ok(builder.enable_all().build()?)
}
