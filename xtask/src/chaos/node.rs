//! A child process: one node of the cluster, director or worker.

use std::{error::Error, io, process::ExitCode, sync::Arc, time::Duration};

use bytes::Bytes;
use clap::{Args, ValueEnum};
use rpcnet_client::{Code, Hedging, MethodPolicy, Node, Router, Status};
use tokio::time::sleep;

use super::{
    director,
    ledger::Ledger,
    protocol::{Notice, Order, Setup},
};
use crate::{children::link::ParentLink, demo::node::builder, signal::interrupted};

/// The way to the parent.
pub(crate) type Link = ParentLink<Order, Notice>;

/// How a child is started.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// What it is in the cluster.
    role: Role,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Role {
    /// Makes calls.
    Director,
    /// Serves them.
    Worker,
}

/// Runs a child until its parent has it end, or is gone.
pub(crate) fn run(options: &Options) -> crate::project::Outcome {
    // One that is stopped would not see its input end.
    #[cfg(target_os = "linux")]
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(THREADS)
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut link = Link::open()?;
        let result = match options.role {
            Role::Director => director::direct(&mut link).await,
            Role::Worker => work(&mut link).await,
        };
        let code = match result {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                let message = error.to_string();
                link.notices().tell(Notice::Failed { message }).await;
                ExitCode::FAILURE
            }
        };
        link.close().await;
        Ok(code)
    })
}

/// Serves until the system asks it to end (SIGTERM).
async fn work(link: &mut Link) -> Result<(), Box<dyn Error + Send + Sync>> {
    let setup = setup(link).await?;
    if setup.panics {
        // Hundreds a second would be told.
        std::panic::set_hook(Box::new(|_| {}));
    }
    let asked_to_end = interrupted();
    tokio::pin!(asked_to_end);
    let node = builder(&setup.node)?
        .tag("role", "worker")
        .serve(router(&setup)?)
        .start()
        .await?;
    let notices = link.notices();
    notices.tell(Notice::Ready { addr: node.addr() }).await;
    loop {
        let order = tokio::select! {
            order = link.order() => order,
            asked = &mut asked_to_end => {
                asked?;
                node.shutdown(DRAIN_WITHIN).await;
                return Ok(());
            }
        };
        match order {
            Some(Order::Drain) => {
                let remaining = node.drain(DRAIN_WITHIN).await.remaining;
                notices.tell(Notice::Drained { remaining }).await;
            }
            Some(Order::Resume) => node.resume(),
            Some(_) => {}
            None => return Ok(()),
        }
    }
}

/// Both methods do the same: a note in the ledger, a while, and the answer with the call's number and the worker's name.
fn router(setup: &Setup) -> io::Result<Router> {
    let ledger = Arc::new(Ledger::open(&setup.ledger)?);
    let name: Arc<str> = setup.node.name.as_str().into();
    let panics = setup.panics;
    let serve = move |body: Bytes| {
        let (ledger, name) = (Arc::clone(&ledger), Arc::clone(&name));
        async move {
            let call = number(&body).ok_or_else(|| Status::new(Code::InvalidRequest, "short"))?;
            ledger
                .note(call)
                .map_err(|error| Status::new(Code::Internal, error.to_string()))?;
            assert!(!panics, "as told");
            sleep(SERVICE_TIME).await;
            Ok(Bytes::from([&body[..8], name.as_bytes()].concat()))
        }
    };
    let other = serve.clone();
    Ok(Router::new()
        .raw(IDEMPOTENT, move |_cx, body| serve(body))
        .raw(OTHER, move |_cx, body| other(body)))
}

/// The number of a call, and of an answer.
pub(crate) fn number(body: &[u8]) -> Option<u64> {
    body.first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
}

/// What the parent says at first.
pub(crate) async fn setup(link: &mut Link) -> io::Result<Setup> {
    match link.order().await {
        Some(Order::Start(setup)) => Ok(setup),
        other => Err(io::Error::other(format!(
            "expected to be started, got {other:?}"
        ))),
    }
}

/// A node that calls, and how: one of the methods may run twice, so a worker that hangs need not hold its calls up.
pub(crate) async fn caller(setup: &Setup) -> Result<Node, Box<dyn Error + Send + Sync>> {
    let twice = MethodPolicy::new()
        .with_hedging(Hedging::at_quantile(0.95))
        .with_attempt_timeout(ATTEMPT_WITHIN);
    let node = builder(&setup.node)?
        .tag("role", "director")
        .client_config(move |config| config.with_method(IDEMPOTENT, twice));
    Ok(node.start().await?)
}

/// The hidden subcommand.
pub(crate) const COMMAND: &str = "chaos-node";
/// The method that may run twice.
pub(crate) const IDEMPOTENT: &str = "look";
/// The method that may not.
pub(crate) const OTHER: &str = "book";
/// There are many processes and few cores.
const THREADS: usize = 2;
/// Long enough that there is always a call with each worker.
const SERVICE_TIME: Duration = Duration::from_millis(5);
/// What a hedge was not granted for ends then. Long enough for a busy machine: a shorter one would make more of too much.
const ATTEMPT_WITHIN: Duration = Duration::from_secs(2);
/// How long a leaving worker may take for what it has begun.
const DRAIN_WITHIN: Duration = Duration::from_secs(5);
