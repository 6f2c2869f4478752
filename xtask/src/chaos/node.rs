//! Child process: director, worker or attacker.

use std::{error::Error, io, num::NonZeroUsize, sync::Arc, time::Duration};

use bytes::Bytes;
use clap::{Args, ValueEnum};
use rpcnet_client::{
    Code, Hedging, MethodPolicy, Node, Router, Sender, Status, TransportConfig, transport::Raw,
};
use rpcnet_transport::{Admission, IdempotencyCache};
use tokio::time::sleep;
use xtask_harness::{Outcome, ParentLink, interrupted, node_builder, run_child};

use super::{
    attacker, director,
    execution_log::ExecutionLog,
    protocol::{Notice, Order, Setup, WorkerBehaviour},
};

/// Link to the parent.
pub(crate) type Link = ParentLink<Order, Notice>;

/// Command line of a child.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Role in the cluster.
    role: Role,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Role {
    /// Makes calls.
    Director,
    /// Serves them.
    Worker,
    /// Exhausts resources of the workers.
    Greedy,
    /// Makes calls that take long, and gives them up.
    Keyed,
    /// Violates the protocol.
    Liar,
}

impl Role {
    /// Name on the command line.
    pub(crate) fn name(self) -> String {
        let value = self.to_possible_value().expect("no role is hidden");
        value.get_name().to_owned()
    }
}

/// Runs a child until its parent has it end, or is gone.
///
/// # Errors
///
/// When the runtime or the link to the parent cannot be made.
pub(crate) fn run(options: &Options) -> Outcome {
    run_child(async |link: &mut Link| match options.role {
        Role::Director => director::run_director(link).await,
        Role::Worker => run_worker(link).await,
        Role::Greedy | Role::Keyed | Role::Liar => attacker::run_attacker(link, options.role).await,
    })
}

/// Serves until the system asks it to end (SIGTERM).
async fn run_worker(link: &mut Link) -> Result<(), Box<dyn Error + Send + Sync>> {
    let Some(Order::Start(setup)) = link.next_order().await else {
        return Err("the first order of the parent is no setup".into());
    };
    if setup.kind == WorkerBehaviour::Panics {
        // Hundreds a second would be told.
        std::panic::set_hook(Box::new(|_| {}));
    }
    let asked_to_end = interrupted();
    tokio::pin!(asked_to_end);
    let node = node_builder("chaos", &setup.node)?
        .tag("role", "worker")
        .serve(router(&setup)?)
        .transport_config(transport_config(&setup))
        .start()
        .await?;
    let notices = link.notices();
    notices.send(Notice::Ready { addr: node.addr() }).await;
    loop {
        let order = tokio::select! {
            order = link.next_order() => order,
            asked = &mut asked_to_end => {
                asked?;
                node.shutdown(DRAIN_TIMEOUT).await;
                return Ok(());
            }
        };
        match order {
            Some(Order::Drain) => {
                let remaining = node.drain(DRAIN_TIMEOUT).await.remaining;
                notices.send(Notice::Drained { remaining }).await;
            }
            Some(Order::Resume) => node.resume(),
            Some(_) => {}
            None => return Ok(()),
        }
    }
}

fn transport_config(setup: &Setup) -> TransportConfig {
    let config = TransportConfig::default();
    if !setup.limited {
        return config;
    }
    config
        .with_admission(Admission::fixed(CONCURRENCY_LIMIT))
        .with_calls_max(CALLS_MAX)
        .with_connections_max(CONNECTIONS_MAX)
}

/// The methods that the director calls do the same: a note in the ledger, a while, and the answer
/// with the call's number and the worker's name. The others are for attackers.
fn router(setup: &Setup) -> io::Result<Router> {
    if setup.kind == WorkerBehaviour::Old {
        // It knows one of the methods, with other parameters: it finds the requests too short.
        let old = |_: (u64, [u8; BODY_BYTES])| async {};
        return Ok(Router::new().typed(IDEMPOTENT, old));
    }
    let log = Arc::new(ExecutionLog::open(&setup.execution_log)?);
    let name: Arc<str> = setup.node.name.as_str().into();
    let panics = setup.kind == WorkerBehaviour::Panics;
    let service_time = match setup.kind {
        WorkerBehaviour::Slow => SLOW_FACTOR * SERVICE_TIME,
        _ => SERVICE_TIME,
    };
    let serve = move |body: Bytes| {
        let (log, name) = (Arc::clone(&log), Arc::clone(&name));
        async move {
            let call =
                call_number(&body).ok_or_else(|| Status::new(Code::InvalidRequest, "short"))?;
            log.record(call)
                .map_err(|error| Status::new(Code::Internal, error.to_string()))?;
            assert!(!panics, "this worker panics in each call");
            sleep(service_time).await;
            Ok(Bytes::from([&body[..8], name.as_bytes()].concat()))
        }
    };
    let other = serve.clone();
    Ok(Router::new()
        .raw(IDEMPOTENT, move |_cx, body| serve(body))
        .raw(NOT_IDEMPOTENT, move |_cx, body| other(body))
        .raw(LARGE_REPLY, |_cx, _body| async {
            Ok(vec![0; LARGE_BYTES].into())
        })
        .raw(LONG_CALL, |_cx, body| async {
            sleep(LONG_TIME).await;
            Ok(body)
        })
        .with_idempotency(LONG_CALL, IdempotencyCache::new())
        .server_streaming(
            ENDLESS_STREAM,
            |_cx, (): (), mut replies: Sender<Raw>| async move {
                loop {
                    replies.send(Raw(vec![0; ITEM_BYTES].into())).await?;
                }
            },
        ))
}

/// The number of a call, and of an answer.
pub(crate) fn call_number(body: &[u8]) -> Option<u64> {
    body.first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
}

/// A node that calls, and how: one of the methods may run twice, so a worker that hangs need not
/// hold its calls up.
pub(crate) async fn start_caller(setup: &Setup) -> Result<Node, Box<dyn Error + Send + Sync>> {
    let twice = MethodPolicy::new()
        .with_hedging(Hedging::at_quantile(0.95))
        .with_attempt_timeout(ATTEMPT_TIMEOUT);
    let node = node_builder("chaos", &setup.node)?
        .tag("role", "director")
        .client_config(move |config| config.with_method(IDEMPOTENT, twice));
    Ok(node.start().await?)
}

/// The hidden subcommand.
pub(crate) const COMMAND: &str = "chaos-node";
/// The method that may run twice.
pub(crate) const IDEMPOTENT: &str = "look";
/// The method that may not.
pub(crate) const NOT_IDEMPOTENT: &str = "book";
/// Answers with much. Not called by the director, like the next two.
pub(super) const LARGE_REPLY: &str = "grow";
/// Takes long.
pub(super) const LONG_CALL: &str = "keep";
/// Answers with a stream that has no end.
pub(super) const ENDLESS_STREAM: &str = "feed";
/// Bytes of the body of the director's calls.
pub(super) const BODY_BYTES: usize = 32;
const LARGE_BYTES: usize = 1 << 20;
const LONG_TIME: Duration = Duration::from_secs(2);
const ITEM_BYTES: usize = 16 << 10;
/// Limits of a worker where they are few: calls that run, calls that are known, connections.
const CONCURRENCY_LIMIT: usize = 8;
const CALLS_MAX: NonZeroUsize = NonZeroUsize::new(1_024).unwrap();
const CONNECTIONS_MAX: NonZeroUsize = NonZeroUsize::new(64).unwrap();
/// Factor of the service time of a slow worker.
const SLOW_FACTOR: u32 = 100;
/// Long enough that there is always a call with each worker.
const SERVICE_TIME: Duration = Duration::from_millis(5);
/// Timeout of an attempt, which ends those that no hedge was granted for. It is long enough for a
/// busy machine: a shorter one would retry calls under overload.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(2);
/// Longest drain of a worker that leaves.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);
