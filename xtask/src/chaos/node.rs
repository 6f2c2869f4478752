//! Child process: director, worker or attacker.

use std::{
    error::Error,
    io,
    num::NonZeroUsize,
    ops::ControlFlow,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use clap::{Args, ValueEnum};
use rpcnet_client::{
    Code, Hedging, LoadBalancingStrategy, MethodPolicy, Node, Router, Sender, Status,
    TransportConfig,
    swim::{ClusterConfig, Event, SplitBrainPolicy},
    transport::Raw,
};
use rpcnet_transport::{Admission, IdempotencyCache};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use xtask_harness::{Notices, Outcome, ParentLink, interrupted, node_builder, run_child};

use super::{
    attacker,
    call_report::CallReport,
    execution_log::ExecutionLog,
    load::{CallSource, LoadGenerator},
    protocol::{
        self, EventKind, MemberView, Notice, Order, SeenEvent, ServiceVersion, Setup,
        WorkerBehaviour,
    },
    typed_service::{self, VersionedWorker},
    untyped_calls::UntypedCalls,
};

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
    SlotHolder,
    /// Violates the protocol.
    ProtocolViolator,
}

impl Role {
    /// Name on the command line.
    pub(crate) fn name(self) -> String {
        let value = self.to_possible_value().expect("no role is hidden");
        value.get_name().to_owned()
    }
}

/// Runs a child until its parent has it end, or is gone.
pub(crate) fn run(options: &Options) -> Outcome {
    run_child(async |link: &mut Link| {
        let Some(Order::Start(setup)) = link.next_order().await else {
            return Err("the first order of the parent is no setup".into());
        };
        match options.role {
            Role::Director | Role::Worker => run_node(link, &setup, options.role).await,
            Role::Greedy | Role::SlotHolder | Role::ProtocolViolator => {
                attacker::run_attacker(link, &setup.node, options.role).await
            }
        }
    })
}

/// Runs a node until the parent or the system (SIGTERM) asks it to end.
async fn run_node(
    link: &mut Link,
    setup: &Setup,
    role: Role,
) -> Result<(), Box<dyn Error + Send + Sync>> {
    if setup.host.is_some() {
        log_to_standard_error();
    }
    if setup.behaviour == WorkerBehaviour::Panics {
        // Hundreds a second would be told.
        std::panic::set_hook(Box::new(|_| {}));
    }
    let asked_to_end = interrupted();
    tokio::pin!(asked_to_end);
    let begin = Instant::now();
    let node = start_node(setup, role).await?;
    let notices = link.notices();
    let ready = Notice::Ready {
        addr: node.addr(),
        took_ms: u64::try_from(begin.elapsed().as_millis())?,
        clock_ms: unix_ms(),
    };
    notices.send(ready).await;
    let mut events = node.membership().subscribe();
    let mut ticks = interval(STATUS_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut running = RunningNode {
        node,
        notices,
        has_host: setup.host.is_some(),
        version: setup.version,
        load: None,
    };
    loop {
        tokio::select! {
            order = link.next_order() => {
                let Some(order) = order else { return Ok(()) };
                if running.carry_out(order).await?.is_break() {
                    return Ok(());
                }
            }
            Some(event) = events.recv(), if setup.reports_view => {
                if let Some(seen) = seen_event(&event) {
                    running.notices.send(Notice::Event(seen)).await;
                }
            }
            _ = ticks.tick(), if setup.reports_view => running.report().await,
            asked = &mut asked_to_end => {
                asked?;
                running.node.shutdown(DRAIN_TIMEOUT).await;
                let stats = running.node.endpoint().stats();
                let incompatible = stats.calls_rejected_incompatible;
                running.notices.send(Notice::Rejections { incompatible }).await;
                return Ok(());
            }
        }
    }
}

/// Node that has started, and the calls that it makes.
struct RunningNode {
    node: Node,
    notices: Notices<Notice>,
    /// Whether it runs in a host of its own.
    has_host: bool,
    /// Version of the typed service that it calls.
    version: Option<ServiceVersion>,
    load: Option<LoadGenerator>,
}

impl RunningNode {
    /// Carries out an order; breaks if the process is to end.
    async fn carry_out(
        &mut self,
        order: Order,
    ) -> Result<ControlFlow<()>, Box<dyn Error + Send + Sync>> {
        match order {
            Order::Load { calls_per_s } => {
                let calls = self.calls().await?;
                self.load = Some(LoadGenerator::begin(calls, calls_per_s)?);
            }
            Order::Drain => {
                let count = self.node.drain(DRAIN_TIMEOUT).await.remaining as u64;
                self.notices.send(Notice::Done { count }).await;
            }
            Order::Resume => self.node.resume(),
            Order::Finish => {
                let report = match self.load.take() {
                    Some(load) => load.finish().await,
                    None => CallReport::default(),
                };
                let count = report.ok();
                self.notices.send(Notice::Calls(report)).await;
                self.notices.send(Notice::Done { count }).await;
                self.node.shutdown(SHUTDOWN_TIMEOUT).await;
                return Ok(ControlFlow::Break(()));
            }
            Order::Start(_) | Order::Attack { .. } => {}
        }
        Ok(ControlFlow::Continue(()))
    }

    /// The calls that this node makes. Of a typed service it waits for a worker that
    /// understands them.
    async fn calls(&self) -> Result<Box<dyn CallSource>, Box<dyn Error + Send + Sync>> {
        let client = Arc::clone(self.node.client());
        let Some(version) = self.version else {
            let all_idempotent = self.has_host;
            return Ok(Box::new(UntypedCalls {
                client,
                all_idempotent,
            }));
        };
        let callable = match version {
            ServiceVersion::Compatible => "role=worker".to_owned(),
            _ => format!("{VERSION_TAG}={}", version.number()),
        };
        let workers = self.node.wait_for_workers(Some(&callable), 1, SEEN_TIMEOUT);
        workers.await?;
        Ok(typed_service::calls(version, client))
    }

    /// Sends the view of the cluster, and from a host of its own the calls that have ended.
    async fn report(&self) {
        self.notices
            .try_send(Notice::Status(current_status(&self.node)));
        let ended = self.load.as_ref().filter(|_| self.has_host);
        if let Some(calls) = ended.and_then(LoadGenerator::take) {
            self.notices.send(Notice::Calls(calls)).await;
        }
    }
}

fn log_to_standard_error() {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(false)
        .init();
}

/// Starts the node. One of the methods may run twice, so a worker that hangs need not hold its
/// calls up.
async fn start_node(setup: &Setup, role: Role) -> Result<Node, Box<dyn Error + Send + Sync>> {
    let policy = MethodPolicy::new()
        .with_hedging(Hedging::at_quantile(0.95))
        .with_attempt_timeout(ATTEMPT_TIMEOUT);
    let mut builder = node_builder("chaos", &setup.node)?
        .tag("role", role.name())
        .client_config(move |config| config.with_method(IDEMPOTENT, policy));
    if let Some(host) = &setup.host {
        builder = builder
            .bind(host.bind)
            .cluster_config(ClusterConfig::lan())
            // So that calls tell of every worker, not of the quick ones.
            .strategy(LoadBalancingStrategy::RoundRobin);
        for (key, value) in &host.tags {
            builder = builder.tag(key, value);
        }
    }
    if role == Role::Worker {
        builder = builder.serve(router(setup)?);
        if let Some(version) = setup.version {
            builder = builder.tag(VERSION_TAG, version.number().to_string());
        }
    }
    if setup.limited {
        let config = TransportConfig::default()
            .with_admission(Admission::fixed(CONCURRENCY_LIMIT))
            .with_calls_max(CALLS_MAX)
            .with_connections_max(CONNECTIONS_MAX);
        builder = builder.transport_config(config);
    }
    Ok(builder.start().await?)
}

/// The methods that the director calls do the same: a note in the log, a while, and the answer with
/// the call's number and the worker's name. The others are for attackers.
fn router(setup: &Setup) -> io::Result<Router> {
    if setup.behaviour == WorkerBehaviour::Old {
        // It knows one of the methods, with other parameters: it finds the requests too short.
        let old = |_: (u64, [u8; BODY_BYTES])| async {};
        return Ok(Router::new().typed(IDEMPOTENT, old));
    }
    let log = Arc::new(ExecutionLog::open(&setup.execution_log)?);
    let name: Arc<str> = setup.node.name.as_str().into();
    if let Some(version) = setup.version {
        let worker = VersionedWorker {
            name,
            version: version.number(),
            log,
            service_time: SERVICE_TIME,
        };
        return Ok(typed_service::router(version, worker));
    }
    let panics = setup.behaviour == WorkerBehaviour::Panics;
    let service_time = match setup.behaviour {
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

pub(crate) fn call_number(body: &[u8]) -> Option<u64> {
    body.first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
}

/// The wall clock, in milliseconds since the Unix epoch.
pub(crate) fn unix_ms() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn current_status(node: &Node) -> protocol::Status {
    let membership = node.membership();
    let seen = membership.members().into_iter().map(|member| {
        let seen = MemberView {
            state: format!("{:?}", member.state).to_lowercase(),
            addr: member.addr,
            epoch: member.id.epoch,
        };
        (member.id.name.to_string(), seen)
    });
    protocol::Status {
        members: seen.collect(),
        refuses: node
            .may_serve(&SplitBrainPolicy::keep_majority())
            .reason()
            .map(ToString::to_string),
        sent: membership.stats().sent,
    }
}

/// The event, if it is about a failure.
fn seen_event(event: &Event) -> Option<SeenEvent> {
    let (kind, member) = match event {
        Event::NodeSuspect { member, .. } => (EventKind::Suspect, member),
        Event::NodeFailed(member) => (EventKind::Failed, member),
        _ => return None,
    };
    let member = member.id.name.to_string();
    Some(SeenEvent { kind, member })
}

/// The hidden subcommand.
pub(crate) const COMMAND: &str = "chaos-node";
/// The method that may run twice.
pub(crate) const IDEMPOTENT: &str = "idempotent";
/// The method that may not.
pub(crate) const NOT_IDEMPOTENT: &str = "not_idempotent";
/// Answers with much. Not called by the director, like the next two.
pub(super) const LARGE_REPLY: &str = "large_reply";
/// Takes long.
pub(super) const LONG_CALL: &str = "long_call";
/// Answers with a stream that has no end.
pub(super) const ENDLESS_STREAM: &str = "endless_stream";
/// Bytes of the body of the director's calls.
pub(super) const BODY_BYTES: usize = 32;
const LARGE_BYTES: usize = 1 << 20;
const LONG_TIME: Duration = Duration::from_secs(2);
const ITEM_BYTES: usize = 16 << 10;
/// Limits of a worker where they are few: calls that run, calls that are known, connections.
const CONCURRENCY_LIMIT: usize = 8;
const CALLS_MAX: NonZeroUsize = NonZeroUsize::new(1_024).unwrap();
const CONNECTIONS_MAX: NonZeroUsize = NonZeroUsize::new(64).unwrap();
/// Tag of the version of a typed service.
const VERSION_TAG: &str = "version";
/// Longest wait for a worker that can be called.
const SEEN_TIMEOUT: Duration = Duration::from_secs(20);
/// Factor of the service time of a slow worker.
const SLOW_FACTOR: u32 = 100;
/// Long enough that there is always a call with each worker.
const SERVICE_TIME: Duration = Duration::from_millis(5);
/// Timeout of an attempt, which ends those that no hedge was granted for. It is long enough for a
/// busy machine: a shorter one would retry calls under overload.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(2);
const STATUS_INTERVAL: Duration = Duration::from_millis(200);
/// Longest drain of a worker that leaves.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(3);
