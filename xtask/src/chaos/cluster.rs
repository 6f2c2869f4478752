//! Cluster of a run: director, workers and attackers as processes.

use std::{error::Error, net::SocketAddr, time::Duration};

use rustix::process::{Pid, Signal, kill_process};
use tokio::time::Instant;
use xtask_harness::{ChildProcess, NodeSetup, RunKeys};

use super::{
    call_report::DirectorReport,
    execution_log::{ExecutionCounts, LOG_EXTENSION},
    node::{self, Role},
    protocol::{Notice, Order, Setup, Target, WorkerBehaviour},
    scenario::Scenario,
};

/// A director, its workers, and perhaps attackers of them.
pub(crate) struct ChaosCluster {
    keys: RunKeys,
    director: ChildProcess,
    seeds: Vec<String>,
    workers: Vec<ChildProcess>,
    /// First addresses of the workers.
    targets: Vec<Target>,
    attackers: Vec<ChildProcess>,
    /// Start of the load.
    begin: Instant,
}

/// Results of a run.
#[derive(Debug, Default)]
pub(crate) struct RunResult {
    pub(crate) report: DirectorReport,
    pub(crate) runs: ExecutionCounts,
    /// Number of actions of the attacker; of two attackers the smaller number.
    pub(crate) attacker_actions: Option<u64>,
}

/// Role and behaviour of a process.
#[derive(Debug, Clone, Copy)]
struct ProcessSpec {
    role: Role,
    kind: WorkerBehaviour,
    limited: bool,
}

impl ProcessSpec {
    const fn new(role: Role) -> Self {
        Self {
            role,
            kind: WorkerBehaviour::Good,
            limited: false,
        }
    }
}

impl ChaosCluster {
    /// Starts so many workers; the first of them is what the scenario says.
    pub(crate) async fn start(workers: usize, scenario: Scenario) -> Result<Self, Box<dyn Error>> {
        let keys = RunKeys::create("chaos")?;
        let (director, addr) =
            start_process(&keys, "director", ProcessSpec::new(Role::Director), &[]).await?;
        let seeds = vec![addr.to_string()];
        let numbers = 1..=workers;
        let starting = numbers.map(|number| {
            let (keys, seeds) = (&keys, &seeds);
            async move {
                let mut spec = ProcessSpec::new(Role::Worker);
                // There is to be something to hold.
                spec.limited = scenario.attacker().is_some();
                if number == 1 {
                    spec.kind = scenario.victim_behaviour();
                }
                start_process(keys, &worker_name(number), spec, seeds).await
            }
        });
        let started = futures::future::try_join_all(starting).await?;
        let target = |(child, addr): &(ChildProcess, SocketAddr)| Target {
            name: child.name().to_owned(),
            addr: *addr,
        };
        let targets = started.iter().map(target).collect();
        let workers = started.into_iter().map(|(child, _)| child).collect();
        let mut cluster = Self {
            keys,
            director,
            seeds,
            workers,
            targets,
            attackers: Vec::new(),
            begin: Instant::now(),
        };
        cluster.wait_for_workers().await?;
        Ok(cluster)
    }

    /// Waits until the director sees all workers.
    async fn wait_for_workers(&mut self) -> Result<(), Box<dyn Error>> {
        let workers = self.workers.len();
        self.director.send(&Order::See { workers }).await?;
        let deadline = Instant::now() + START_TIMEOUT;
        match self.director.recv_by(deadline, "see all workers").await? {
            Notice::Seen => Ok(()),
            other => Err(unexpected_notice("director", &other)),
        }
    }

    /// Starts an attacker of all workers, and waits until its attacks have begun.
    pub(crate) async fn start_attacker(&mut self, role: Role) -> Result<(), Box<dyn Error>> {
        let (name, spec) = (role.name(), ProcessSpec::new(role));
        let (mut attacker, _) = start_process(&self.keys, &name, spec, &[]).await?;
        let targets = self.targets.clone();
        attacker.send(&Order::Attack { targets }).await?;
        let deadline = Instant::now() + START_TIMEOUT;
        match attacker.recv_by(deadline, "attack all workers").await? {
            Notice::Attacking => self.attackers.push(attacker),
            other => return Err(unexpected_notice(&name, &other)),
        }
        Ok(())
    }

    /// Starts the load.
    pub(crate) async fn start_load(&mut self, calls_per_s: u32) -> Result<(), Box<dyn Error>> {
        self.director.send(&Order::Load { calls_per_s }).await?;
        self.begin = Instant::now();
        Ok(())
    }

    /// Start of the load.
    pub(crate) fn load_started_at(&self) -> Instant {
        self.begin
    }

    pub(crate) fn names(&self) -> Vec<String> {
        let names = self.workers.iter().map(|worker| worker.name().to_owned());
        names.collect()
    }

    pub(crate) fn print_step(&self, what: &str) {
        println!("  {:6.2} s  {what}", self.begin.elapsed().as_secs_f64());
    }

    /// Kills a worker (SIGKILL). It is not started again.
    pub(crate) async fn kill(&mut self, at: usize) -> Result<(), Box<dyn Error>> {
        let mut victim = self.workers.remove(at);
        self.print_step(&format!("{} is killed", victim.name()));
        Ok(victim.kill().await?)
    }

    /// Sends a signal to a worker.
    pub(crate) fn signal(&self, at: usize, signal: Signal) -> Result<(), Box<dyn Error>> {
        let worker = &self.workers[at];
        let id = worker.id().and_then(|id| i32::try_from(id).ok());
        let id = id.and_then(Pid::from_raw);
        let id = id.ok_or_else(|| format!("{} has ended", worker.name()))?;
        Ok(kill_process(id, signal)?)
    }

    /// Asks a worker to end (SIGTERM), waits for that, and starts it again.
    pub(crate) async fn restart(&mut self, at: usize) -> Result<(), Box<dyn Error>> {
        self.signal(at, Signal::TERM)?;
        let worker = &mut self.workers[at];
        let name = worker.name().to_owned();
        let asked = Instant::now();
        let status = worker.wait_by(asked + END_TIMEOUT).await?;
        if !status.success() {
            return Err(format!("{name} was asked to end, and did with {status}").into());
        }
        let ended = asked.elapsed();
        let spec = ProcessSpec::new(Role::Worker);
        let (worker, _) = start_process(&self.keys, &name, spec, &self.seeds).await?;
        self.workers[at] = worker;
        self.print_step(&format!(
            "{name} ended within {:.2} s and was ready again after {:.2} s",
            ended.as_secs_f64(),
            asked.elapsed().as_secs_f64()
        ));
        Ok(())
    }

    /// Drains the first workers, all at the same time, and waits until they have.
    pub(crate) async fn drain(&mut self, workers: usize) -> Result<(), Box<dyn Error>> {
        for worker in &mut self.workers[..workers] {
            worker.send(&Order::Drain).await?;
        }
        let deadline = Instant::now() + END_TIMEOUT;
        for worker in &mut self.workers[..workers] {
            match worker.recv_by(deadline, "drain").await? {
                Notice::Drained { remaining: 0 } => {}
                Notice::Drained { remaining } => {
                    let name = worker.name();
                    return Err(format!("{name} still serves {remaining} calls").into());
                }
                other => return Err(unexpected_notice(worker.name(), &other)),
            }
        }
        self.print_step(&format!("{workers} workers have drained"));
        Ok(())
    }

    /// Ends the drain of the first workers.
    pub(crate) async fn resume(&mut self, workers: usize) -> Result<(), Box<dyn Error>> {
        for worker in &mut self.workers[..workers] {
            worker.send(&Order::Resume).await?;
        }
        self.print_step(&format!("{workers} workers take calls again"));
        Ok(())
    }

    /// Ends the calls, and sums up. The workers end with this.
    pub(crate) async fn finish(mut self) -> Result<RunResult, Box<dyn Error>> {
        self.director.send(&Order::Finish).await?;
        let deadline = Instant::now() + FINISH_TIMEOUT;
        let report = match self.director.recv_by(deadline, "finish").await? {
            Notice::Finished(report) => report,
            other => return Err(unexpected_notice("director", &other)),
        };
        self.director.wait_by(deadline).await?;
        let mut actions = Vec::new();
        for attacker in &mut self.attackers {
            attacker.send(&Order::Finish).await?;
            match attacker.recv_by(deadline, "finish").await? {
                Notice::Attacked { actions: count } => actions.push(count),
                other => return Err(unexpected_notice(attacker.name(), &other)),
            }
        }
        for worker in &mut self.workers {
            worker.kill().await?;
        }
        Ok(RunResult {
            report,
            runs: ExecutionCounts::read(self.keys.folder())?,
            attacker_actions: actions.into_iter().min(),
        })
    }
}

/// Starts a process and waits until its node runs; where it is reached.
async fn start_process(
    keys: &RunKeys,
    name: &str,
    spec: ProcessSpec,
    seeds: &[String],
) -> Result<(ChildProcess, SocketAddr), Box<dyn Error>> {
    keys.issue(name)?;
    let folder = keys.folder();
    let mut child = ChildProcess::start(name, &[node::COMMAND, &spec.role.name()])?;
    let setup = Setup {
        node: NodeSetup {
            name: name.to_owned(),
            keys: folder.to_owned(),
            seeds: seeds.to_vec(),
        },
        execution_log: folder.join(name).with_extension(LOG_EXTENSION),
        kind: spec.kind,
        limited: spec.limited,
    };
    child.send(&Order::Start(setup)).await?;
    let deadline = Instant::now() + START_TIMEOUT;
    match child.recv_by(deadline, "start").await? {
        Notice::Ready { addr } => Ok((child, addr)),
        other => Err(unexpected_notice(name, &other)),
    }
}

fn unexpected_notice(name: &str, notice: &Notice) -> Box<dyn Error> {
    format!("{name} tells {notice:?}").into()
}

/// The name of a worker, counted from 1.
pub(crate) fn worker_name(number: usize) -> String {
    format!("worker-{number}")
}

const START_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest orderly end of a worker.
const END_TIMEOUT: Duration = Duration::from_secs(20);
/// Longer than the deadline of a call.
const FINISH_TIMEOUT: Duration = Duration::from_secs(30);
