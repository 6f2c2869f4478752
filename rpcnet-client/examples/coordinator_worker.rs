//! Coordinators and workers: a front submits jobs to any of two coordinators, which cut each into
//! parts and farm these out to workers. One coordinator is killed in the middle, and no job is
//! lost.
//!
//! No address is configured but a seed's: coordinators and workers are found by their tag `role`.
//! A job has the same result however often it runs, and `idempotent` says so; that is what lets the
//! front's client submit a job again when its coordinator has died with it.
//!
//! Run with `cargo run -p rpcnet-client --example coordinator_worker`.

mod common;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    ops::Range,
    time::Duration,
};

use common::{PATIENCE, Process, Result, Trust, count, ensure, until};
use futures::{StreamExt, future::try_join_all, stream};
use rpcnet_client::{
    CallContext, Message, Node, NodeBuilder, NodeState, Status, WorkerChannel, service,
};
use serde::{Deserialize, Serialize};

const COORDINATORS: Option<&str> = Some("role=coordinator");
const WORKERS: Option<&str> = Some("role=worker");

/// What a front submits to coordinators.
#[service]
trait Jobs {
    /// Counts the primes below a number.
    #[rpc(idempotent)]
    async fn submit(&self, cx: &CallContext, upto: u64) -> Result<JobReply, Status>;
}

/// What a coordinator farms out to workers.
#[service]
trait Parts {
    /// Counts the primes from one number up to another.
    #[rpc(idempotent)]
    async fn count(&self, from: u64, upto: u64) -> PartReply;
}

/// Reply to a job.
#[derive(Serialize, Deserialize, Message)]
struct JobReply {
    primes: u64,
    coordinator: String,
    workers: Vec<String>,
    /// Which attempt this was: 1 if a coordinator before did not answer.
    attempt: u8,
}

/// Reply to a part of a job.
#[derive(Serialize, Deserialize, Message)]
struct PartReply {
    primes: u64,
    worker: String,
}

/// Counts the primes of a part.
struct Counter {
    name: &'static str,
}

impl Parts for Counter {
    async fn count(&self, from: u64, upto: u64) -> PartReply {
        // So that there is something to wait for.
        tokio::time::sleep(Duration::from_millis(10)).await;
        PartReply {
            primes: primes(from..upto),
            worker: self.name.to_owned(),
        }
    }
}

async fn worker(name: &'static str, builder: NodeBuilder) -> Result<Node> {
    let methods = PartsServer::new(Counter { name }).into_router();
    Ok(builder.tag("role", "worker").serve(methods).start().await?)
}

/// Cuts a job into parts, has each done by a worker, and adds up.
struct Coordinator {
    name: &'static str,
    workers: PartsClient<WorkerChannel>,
}

impl Jobs for Coordinator {
    async fn submit(&self, cx: &CallContext, upto: u64) -> Result<JobReply, Status> {
        let cut = |part| upto * part / PARTS;
        let calls = (0..PARTS).map(|part| self.workers.count(cut(part), cut(part + 1)));
        let done = try_join_all(calls).await?;
        Ok(JobReply {
            primes: done.iter().map(|part| part.primes).sum(),
            coordinator: self.name.to_owned(),
            workers: done.into_iter().map(|part| part.worker).collect(),
            attempt: cx.attempt(),
        })
    }
}

async fn coordinator(name: &'static str, builder: NodeBuilder) -> Result<Node> {
    let node = builder.tag("role", "coordinator").start().await?;
    let workers = PartsClient::new(node.client().workers(WORKERS));
    // The handler calls on, so it needs the node; hence only now.
    node.serve(JobsServer::new(Coordinator { name, workers }).into_router());
    Ok(node)
}

#[tokio::main]
async fn main() -> Result {
    let trust = Trust::new();
    let front = trust
        .node("front")?
        .client_config(|config| config.with_timeout(PATIENCE))
        .start()
        .await?;
    let seed = front.addr().to_string();
    let mut coordinators = BTreeMap::new();
    for name in ["coordinator-1", "coordinator-2"] {
        let builder = trust.node(name)?.seeds([seed.clone()]);
        coordinators.insert(name, Process::start(coordinator(name, builder)).await?);
    }
    let mut workers = Vec::new();
    for name in ["worker-1", "worker-2", "worker-3"] {
        workers.push(worker(name, trust.node(name)?.seeds([seed.clone()])).await?);
    }
    until("all nodes know all nodes", || {
        let known = |node: &Node| count(node, WORKERS) == workers.len();
        coordinators.values().all(|one| known(one)) && count(&front, COORDINATORS) == 2
    })
    .await?;
    println!(
        "{JOBS} jobs for 2 coordinators and {} workers",
        workers.len()
    );

    let (before, after) = run_jobs(&front, &mut coordinators).await?;
    let total = before.jobs + after.jobs;
    ensure(total == JOBS, "no job is lost")?;
    ensure(before.by.len() == 2, "both coordinators took part")?;
    ensure(before.workers.len() == 3, "all workers took part")?;
    until("the cluster declares it failed", || {
        let nodes = front.nodes().snapshot();
        nodes
            .node("coordinator-1")
            .is_some_and(|node| node.state == NodeState::Failed)
    })
    .await?;
    println!("all {total} jobs are done, each with the right result");
    Ok(())
}

/// Submits all jobs and kills a coordinator in the middle: what came of those before, and of those
/// after.
async fn run_jobs(
    front: &Node,
    coordinators: &mut BTreeMap<&str, Process<Node>>,
) -> Result<(Tally, Tally)> {
    // Eight at a time, to whichever coordinator is best.
    let service = JobsClient::new(front.client().workers(COORDINATORS));
    let jobs = (1..=JOBS).map(async |job| {
        let upto = job as u64 * 100;
        (upto, service.submit(upto).await)
    });
    let mut jobs = stream::iter(jobs).buffer_unordered(8);
    let (mut before, mut after) = (Tally::default(), Tally::default());
    while let Some((upto, done)) = jobs.next().await {
        let done = done?;
        ensure(done.primes == primes(0..upto), "every result is right")?;
        match coordinators.len() {
            2 => before.add(done),
            _ => after.add(done),
        }
        if before.jobs == JOBS / 3
            && let Some(doomed) = coordinators.remove("coordinator-1")
        {
            println!("{before}");
            println!("coordinator-1 is killed, in the middle of its jobs");
            doomed.kill().await?;
        }
    }
    println!("{after}");
    println!("{} jobs were submitted again", after.repeated);
    Ok((before, after))
}

/// What came of jobs.
#[derive(Default)]
struct Tally {
    jobs: usize,
    repeated: usize,
    by: BTreeMap<String, usize>,
    workers: BTreeSet<String>,
}

impl Tally {
    fn add(&mut self, done: JobReply) {
        self.jobs += 1;
        self.repeated += usize::from(done.attempt > 0);
        *self.by.entry(done.coordinator).or_default() += 1;
        self.workers.extend(done.workers);
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} jobs done", self.jobs)?;
        for (name, jobs) in &self.by {
            write!(f, ", {jobs} by {name}")?;
        }
        Ok(())
    }
}

/// How many primes there are in a range.
fn primes(range: Range<u64>) -> u64 {
    let is_prime = |&n: &u64| {
        n > 1
            && !(2..)
                .take_while(|d| d * d <= n)
                .any(|d| n.is_multiple_of(d))
    };
    range.filter(is_prime).count() as u64
}

const JOBS: usize = 150;

/// Into how many parts a coordinator cuts a job.
const PARTS: u64 = 6;
