//! Parent process of the demo: starts the processes, kills, adds and drains workers, and checks the
//! outcome.

use std::{
    error::Error,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use clap::{Args, ValueEnum};
use tokio::time::{Instant, sleep_until};
use xtask_harness::{ChildProcess, NodeSetup, Outcome, RunKeys, run_until_interrupted};
use xtask_report::Document;

use crate::{
    live_view::{LiveView, Snapshot},
    node,
    protocol::{EventKind, Notice, Order, Role},
    summary::DemoSummary,
};

/// Options of the demo.
#[derive(Debug, Args)]
pub struct Options {
    /// Folder or file to digest [default: the workspace].
    path: Option<PathBuf>,
    /// Duration of the calls in seconds, at least 6.
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u64).range(6..=86_400))]
    seconds: u64,
    /// 8 seconds.
    #[arg(long, conflicts_with = "seconds")]
    quick: bool,
    /// Write the figures to this file, as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Runs the demo.
///
/// # Errors
///
/// When it could not be carried through: no corpus, no process, a child that fails.
pub fn run(options: &Options) -> Outcome {
    let path = options.path.clone().unwrap_or_else(workspace_root);
    let length = Duration::from_secs(if options.quick {
        QUICK_SECONDS
    } else {
        options.seconds
    });
    run_until_interrupted(async {
        let summary = demo(&path, length).await?;
        if let Some(file) = &options.json {
            Document::new("demo", &[&summary]).write(file)?;
        }
        Ok(match summary.failed_checks().is_empty() {
            true => ExitCode::SUCCESS,
            false => ExitCode::FAILURE,
        })
    })
}

/// The folder of the workspace, which the demo digests by default.
fn workspace_root() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.ancestors().nth(2).unwrap_or(package).to_owned()
}

async fn demo(path: &Path, length: Duration) -> Result<DemoSummary, Box<dyn Error>> {
    let path = path
        .canonicalize()
        .map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    let mut cluster = DemoCluster::new()?;
    cluster.start_director().await?;
    for _ in 0..INITIAL_WORKERS {
        cluster.start_worker().await?;
    }
    cluster.wait_for_workers().await?;
    cluster.run_timeline(&path, length).await?;
    cluster.finish().await
}

/// The processes and what is known of them.
struct DemoCluster {
    keys: RunKeys,
    director: Option<ChildProcess>,
    seeds: Vec<std::net::SocketAddr>,
    workers: Vec<ChildProcess>,
    workers_started: u64,
    /// The worker that was killed, and when.
    killed: Option<(String, Instant)>,
    /// The workers that were started while calls flowed.
    added: Vec<String>,
    live: LiveView<std::io::Stdout>,
    begin: Instant,
    latest: Snapshot,
    outcome: DemoSummary,
}

impl DemoCluster {
    fn new() -> Result<Self, Box<dyn Error>> {
        Ok(Self {
            keys: RunKeys::create("demo")?,
            director: None,
            seeds: Vec::new(),
            workers: Vec::new(),
            workers_started: 0,
            killed: None,
            added: Vec::new(),
            live: LiveView::stdout(),
            begin: Instant::now(),
            latest: Snapshot::default(),
            outcome: DemoSummary::default(),
        })
    }

    async fn start_director(&mut self) -> Result<(), Box<dyn Error>> {
        self.director = Some(self.start("director", Role::Director).await?);
        Ok(())
    }

    async fn start_worker(&mut self) -> Result<String, Box<dyn Error>> {
        self.workers_started += 1;
        let name = format!("worker-{}", self.workers_started);
        let worker = self.start(&name, Role::Worker).await?;
        self.workers.push(worker);
        Ok(name)
    }

    /// Starts a process and waits until its node runs.
    async fn start(&mut self, name: &str, role: Role) -> Result<ChildProcess, Box<dyn Error>> {
        self.keys.issue(name)?;
        let role = role.to_possible_value().expect("no role is hidden");
        let arguments = [node::COMMAND, "--role", role.get_name()];
        let mut child = ChildProcess::start(name, &arguments)?;
        let setup = NodeSetup {
            name: name.to_owned(),
            keys: self.keys.folder().to_owned(),
            seeds: self.seeds.clone(),
        };
        child.send(&Order::Start(setup)).await?;
        match child
            .recv_by(Instant::now() + START_TIMEOUT, "start")
            .await?
        {
            Notice::Ready { addr } => self.seeds.push(addr),
            Notice::Failed { message } => return Err(format!("{name}: {message}").into()),
            other => return Err(format!("{name} answered its start with {other:?}").into()),
        }
        self.print_event(&format!(
            "{name} started, process {}",
            child.id().unwrap_or_default()
        ))?;
        Ok(child)
    }

    async fn wait_for_workers(&mut self) -> Result<(), Box<dyn Error>> {
        let deadline = Instant::now() + START_TIMEOUT;
        loop {
            let alive = self
                .latest
                .members
                .iter()
                .filter(|row| row.state == "alive")
                .count();
            if alive > INITIAL_WORKERS {
                return Ok(());
            }
            let notice = self
                .director()?
                .recv_by(deadline, "see all workers")
                .await?;
            self.on_notice(notice)?;
        }
    }

    /// Has files digested, and meanwhile kills, adds and drains a worker.
    async fn run_timeline(&mut self, path: &Path, length: Duration) -> Result<(), Box<dyn Error>> {
        let begin = Instant::now();
        self.director()?
            .send(&Order::Digest {
                path: path.to_owned(),
            })
            .await?;
        self.watch_until(begin + length.mul_f64(0.2)).await?;
        self.kill_one().await?;
        self.watch_until(begin + length.mul_f64(0.45)).await?;
        let added = self.start_worker().await?;
        self.added.push(added);
        self.outcome.workers_added += 1;
        self.watch_until(begin + length.mul_f64(0.7)).await?;
        self.drain_one().await?;
        self.watch_until(begin + length).await?;
        self.outcome.took = begin.elapsed();
        Ok(())
    }

    /// Handles notices of the director until a time; its errors end the demo.
    async fn watch_until(&mut self, time: Instant) -> Result<(), Box<dyn Error>> {
        loop {
            let director = self.director.as_mut().ok_or("there is no director")?;
            let notice = tokio::select! {
                notice = director.recv() => notice?,
                () = sleep_until(time) => return Ok(()),
            };
            self.on_notice(notice)?;
        }
    }

    async fn kill_one(&mut self) -> Result<(), Box<dyn Error>> {
        let mut victim = self.workers.remove(0);
        self.print_event(&format!("killing {} (SIGKILL)", victim.name()))?;
        self.killed = Some((victim.name().to_owned(), Instant::now()));
        victim.kill().await?;
        self.outcome.workers_killed += 1;
        Ok(())
    }

    async fn drain_one(&mut self) -> Result<(), Box<dyn Error>> {
        let mut leaver = self.workers.remove(0);
        self.print_event(&format!("draining {}", leaver.name()))?;
        leaver.send(&Order::Drain).await?;
        let deadline = Instant::now() + DRAIN_TIMEOUT;
        let status = loop {
            let director = self.director.as_mut().ok_or("there is no director")?;
            tokio::select! {
                status = leaver.wait_by(deadline) => break status?,
                notice = director.recv() => {
                    let notice = notice?;
                    self.on_notice(notice)?;
                }
            }
        };
        if status.success() {
            self.outcome.workers_drained += 1;
        }
        self.print_event(&format!("{} has ended: {status}", leaver.name()))
    }

    /// Ends in order and sums up.
    async fn finish(mut self) -> Result<DemoSummary, Box<dyn Error>> {
        self.director()?.send(&Order::Finish).await?;
        let deadline = Instant::now() + FINISH_TIMEOUT;
        let last = loop {
            match self.director()?.recv_by(deadline, "finish").await? {
                Notice::Finished(snapshot) => break snapshot,
                notice => self.on_notice(notice)?,
            }
        };
        let calls_of_added = last
            .members
            .iter()
            .filter(|row| self.added.contains(&row.name))
            .map(|row| row.calls)
            .sum();
        let outcome = DemoSummary {
            calls_ok: last.calls_ok,
            calls_failed: last.calls_failed,
            wrong_results: last.wrong_results,
            p50_us: last.p50_us,
            p99_us: last.p99_us,
            rounds: last.rounds,
            calls_of_added,
            ..self.outcome
        };
        if let Some(mut director) = self.director {
            director.wait_by(deadline).await?;
        }
        self.live.finish(&outcome.lines())?;
        Ok(outcome)
    }

    fn on_notice(&mut self, notice: Notice) -> Result<(), Box<dyn Error>> {
        let elapsed = self.begin.elapsed();
        match notice {
            Notice::Stats(snapshot) => {
                self.live.snapshot(elapsed, &snapshot)?;
                self.latest = snapshot;
            }
            Notice::Event { node, kind } => {
                let mut what = format!("{node} {kind}");
                if let Some((_, at)) = self.killed.as_ref().filter(|(name, _)| *name == node) {
                    let millis = u64::try_from(at.elapsed().as_millis()).unwrap_or(u64::MAX);
                    what += &format!(", {millis} ms after its death");
                    if kind == EventKind::Unselectable {
                        self.outcome.detect_ms.get_or_insert(millis);
                    }
                }
                self.print_event(&what)?;
            }
            Notice::Corpus { files, skipped } => {
                self.outcome.files = files;
                self.outcome.files_skipped = skipped;
            }
            Notice::Note { text } => self.print_event(&text)?,
            Notice::Failed { message } => return Err(format!("director: {message}").into()),
            Notice::Ready { .. } | Notice::Finished(_) => {}
        }
        Ok(())
    }

    fn print_event(&mut self, what: &str) -> Result<(), Box<dyn Error>> {
        Ok(self.live.event(self.begin.elapsed(), what)?)
    }

    fn director(&mut self) -> Result<&mut ChildProcess, Box<dyn Error>> {
        self.director
            .as_mut()
            .ok_or_else(|| "there is no director".into())
    }
}

const QUICK_SECONDS: u64 = 8;
const INITIAL_WORKERS: usize = 3;
const START_TIMEOUT: Duration = Duration::from_secs(15);
const DRAIN_TIMEOUT: Duration = Duration::from_secs(15);
const FINISH_TIMEOUT: Duration = Duration::from_secs(15);
