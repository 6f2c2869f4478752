//! Coordinators and workers: a front submits jobs to any of two coordinators, which cut each into
//! parts and farm these out to workers. One coordinator is killed in the middle, and no job is
//! lost.
//!
//! No address is configured but a seed's: coordinators and workers are found by their tag `role`.
//! A job has the same result however often it runs, and `with_idempotent` says so; that is what
//! lets the front's client submit a job again when its coordinator has died with it.
//!
//! Run with `cargo run -p rpcnet-client --example coordinator_worker`.

mod common;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    ops::Range,
    sync::Arc,
    time::Duration,
};

use common::{PATIENCE, Process, Result, Trust, count, ensure, until};
use futures::{StreamExt, future::try_join_all, stream};
use rpcnet_client::{CallContext, ClusterError, Node, NodeBuilder, NodeState, Router, Status};
use serde::{Deserialize, Serialize};

const COORDINATORS: Option<&str> = Some("role=coordinator");
const WORKERS: Option<&str> = Some("role=worker");

/// Reply to a job.
#[derive(Serialize, Deserialize)]
struct JobReply {
    primes: usize,
    coordinator: String,
    workers: Vec<String>,
    /// Which attempt this was: 1 if a coordinator before did not answer.
    attempt: u8,
}

/// Counts the primes of a range.
async fn worker(name: &'static str, builder: NodeBuilder) -> Result<Node> {
    let count = move |range: Range<u64>| async move {
        // So that there is something to wait for.
        tokio::time::sleep(Duration::from_millis(10)).await;
        (primes(range), name)
    };
    let methods = Router::new().typed("count", count);
    Ok(builder.tag("role", "worker").serve(methods).start().await?)
}

/// Cuts a job into parts, has each done by a worker, and adds up.
async fn coordinator(name: &'static str, builder: NodeBuilder) -> Result<Node> {
    let node = builder
        .tag("role", "coordinator")
        .client_config(|config| config.with_idempotent(["count"]))
        .start()
        .await?;
    let client = Arc::clone(node.client());
    let submit = move |cx: CallContext, upto: u64| {
        let client = Arc::clone(&client);
        async move {
            let cuts = (0..PARTS).map(|part| upto * part / PARTS..upto * (part + 1) / PARTS);
            let calls = cuts.map(async |range| {
                let done: (usize, String) =
                    client.call_worker_typed("count", &range, WORKERS).await?;
                Ok::<_, ClusterError>(done)
            });
            let (counts, workers): (Vec<_>, _) = try_join_all(calls).await?.into_iter().unzip();
            Ok::<_, Status>(JobReply {
                primes: counts.iter().sum(),
                coordinator: name.to_owned(),
                workers,
                attempt: cx.attempt(),
            })
        }
    };
    // The handler calls on, so it needs the node; hence only now.
    node.serve(Router::new().typed_with("submit", submit));
    Ok(node)
}

#[tokio::main]
async fn main() -> Result {
    let trust = Trust::new();
    let front = trust
        .node("front")?
        .client_config(|config| config.with_idempotent(["submit"]).with_timeout(PATIENCE))
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
    let jobs = (1..=JOBS).map(async |job| {
        let upto = job as u64 * 100;
        let client = front.client();
        let done: Result<JobReply, ClusterError> = client
            .call_worker_typed("submit", &upto, COORDINATORS)
            .await;
        (upto, done)
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
fn primes(range: Range<u64>) -> usize {
    let is_prime = |&n: &u64| {
        n > 1
            && !(2..)
                .take_while(|d| d * d <= n)
                .any(|d| n.is_multiple_of(d))
    };
    range.filter(is_prime).count()
}

const JOBS: usize = 150;

/// Into how many parts a coordinator cuts a job.
const PARTS: u64 = 6;
