//! Parent process of the demo: starts the processes, kills, adds and drains workers, and checks the
//! outcome.

use std::{
    collections::VecDeque,
    env,
    error::Error,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    time::Duration,
};

use clap::{Args, ValueEnum};
use tokio::time::{Instant, timeout_at};
use xtask_harness::{ChildEvent, NodeSetup, Outcome, ProcessGroup, run_until_interrupted};
use xtask_report::Document;

use crate::{
    live_view::{LiveView, Snapshot},
    node,
    protocol::{Notice, Order, Role},
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
    cluster.start(DIRECTOR, Role::Director).await?;
    for _ in 0..INITIAL_WORKERS {
        cluster.start_worker().await?;
    }
    let all_alive = |it: &DemoCluster| {
        let states = it.latest.members.iter().map(|row| &row.state);
        states.filter(|state| *state == "alive").count() > INITIAL_WORKERS
    };
    cluster
        .watch(DIRECTOR, "see all workers", all_alive)
        .await?;
    cluster.run_timeline(path, length).await?;
    cluster.finish().await
}

/// The processes and what is known of them.
struct DemoCluster {
    processes: ProcessGroup,
    /// Addresses of the nodes.
    seeds: Vec<String>,
    /// The workers that run and are not to end.
    workers: VecDeque<String>,
    workers_started: u64,
    /// The worker that was killed, and when.
    killed: Option<(String, Instant)>,
    /// The worker that was asked to leave.
    leaver: Option<String>,
    /// The worker that was started while calls flowed.
    added: Option<String>,
    live: LiveView<std::io::Stdout>,
    begin: Instant,
    latest: Snapshot,
    /// The final figures.
    last: Option<Snapshot>,
    outcome: DemoSummary,
}

impl DemoCluster {
    fn new() -> Result<Self, Box<dyn Error>> {
        Ok(Self {
            processes: ProcessGroup::new("demo")?,
            seeds: Vec::new(),
            workers: VecDeque::new(),
            workers_started: 0,
            killed: None,
            leaver: None,
            added: None,
            live: LiveView::stdout(),
            begin: Instant::now(),
            latest: Snapshot::default(),
            last: None,
            outcome: DemoSummary::default(),
        })
    }

    async fn start_worker(&mut self) -> Result<String, Box<dyn Error>> {
        self.workers_started += 1;
        let name = format!("worker-{}", self.workers_started);
        self.start(&name, Role::Worker).await?;
        self.workers.push_back(name.clone());
        Ok(name)
    }

    /// Starts a process and waits until its node runs.
    async fn start(&mut self, name: &str, role: Role) -> Result<(), Box<dyn Error>> {
        self.processes.keys().issue(name)?;
        let role = role.to_possible_value().expect("no role is hidden");
        let mut command = Command::new(env::current_exe()?);
        command.args([node::COMMAND, "--role", role.get_name()]);
        let setup = Order::Start(NodeSetup {
            name: name.to_owned(),
            keys: self.processes.keys().folder().to_owned(),
            seeds: self.seeds.clone(),
        });
        let id = self.processes.start(name, command, &setup).await?;
        let nodes = self.seeds.len();
        self.watch(name, "start", |it| it.seeds.len() > nodes)
            .await?;
        self.print_event(&format!("{name} started, process {id}"))
    }

    /// Has files digested, and meanwhile kills, adds and drains a worker.
    async fn run_timeline(
        &mut self,
        path: PathBuf,
        length: Duration,
    ) -> Result<(), Box<dyn Error>> {
        let begin = Instant::now();
        let digest = Order::Digest { path };
        self.processes.send(DIRECTOR, &digest).await?;
        self.watch_until(begin + length.mul_f64(0.2)).await?;
        self.kill_one().await?;
        self.watch_until(begin + length.mul_f64(0.45)).await?;
        self.added = Some(self.start_worker().await?);
        self.outcome.workers_added += 1;
        self.watch_until(begin + length.mul_f64(0.7)).await?;
        self.drain_one().await?;
        self.watch_until(begin + length).await?;
        self.outcome.took = begin.elapsed();
        Ok(())
    }

    async fn kill_one(&mut self) -> Result<(), Box<dyn Error>> {
        let victim = self.workers.pop_front().ok_or("there is no worker")?;
        self.print_event(&format!("killing {victim} (SIGKILL)"))?;
        self.killed = Some((victim.clone(), Instant::now()));
        self.processes.kill(&victim).await?;
        self.outcome.workers_killed += 1;
        Ok(())
    }

    async fn drain_one(&mut self) -> Result<(), Box<dyn Error>> {
        let leaver = self.workers.pop_front().ok_or("there is no worker")?;
        self.print_event(&format!("draining {leaver}"))?;
        self.processes.send(&leaver, &Order::Drain).await?;
        self.leaver = Some(leaver.clone());
        self.watch(&leaver, "end", |it| it.leaver.is_none()).await
    }

    /// Ends in order and sums up.
    async fn finish(mut self) -> Result<DemoSummary, Box<dyn Error>> {
        self.processes.send(DIRECTOR, &Order::Finish).await?;
        self.watch(DIRECTOR, "finish", |it| it.last.is_some())
            .await?;
        let last = self.last.take().unwrap_or_default();
        self.leaver = Some(DIRECTOR.to_owned());
        self.watch(DIRECTOR, "end", |it| it.leaver.is_none())
            .await?;
        let rows = last.members.iter();
        let of_added = rows.filter(|row| self.added.as_ref() == Some(&row.name));
        let outcome = DemoSummary {
            calls: last.calls,
            rounds: last.rounds,
            calls_of_added: of_added.map(|row| row.calls).sum(),
            ..self.outcome
        };
        self.live.finish(&outcome.lines())?;
        Ok(outcome)
    }

    /// Handles what the processes do until a time.
    async fn watch_until(&mut self, time: Instant) -> Result<(), Box<dyn Error>> {
        while let Ok((name, event)) = timeout_at(time, self.processes.next()).await {
            self.on_event(&name, event?)?;
        }
        Ok(())
    }

    /// Handles what the processes do until a condition holds.
    async fn watch(
        &mut self,
        name: &str,
        what: &str,
        holds: impl Fn(&Self) -> bool,
    ) -> Result<(), Box<dyn Error>> {
        let deadline = Instant::now() + TIMEOUT;
        while !holds(self) {
            let (name, event) = timeout_at(deadline, self.processes.next())
                .await
                .map_err(|_| format!("{name} took too long to {what}"))?;
            self.on_event(&name, event?)?;
        }
        Ok(())
    }

    fn on_event(&mut self, name: &str, event: ChildEvent<Notice>) -> Result<(), Box<dyn Error>> {
        match event {
            ChildEvent::Notice(notice) => self.on_notice(notice),
            ChildEvent::Ended(status) if self.leaver.as_deref() == Some(name) => {
                self.leaver = None;
                if name == DIRECTOR {
                    return Ok(());
                }
                self.outcome.workers_drained += u64::from(status.success());
                self.print_event(&format!("{name} has ended: {status}"))
            }
            ChildEvent::Ended(status) => Err(format!("{name} has ended: {status}").into()),
        }
    }

    fn on_notice(&mut self, notice: Notice) -> Result<(), Box<dyn Error>> {
        match notice {
            Notice::Ready { addr } => self.seeds.push(addr.to_string()),
            Notice::Stats(snapshot) => {
                self.live.snapshot(self.begin.elapsed(), &snapshot)?;
                self.latest = snapshot;
            }
            Notice::Event { node, text } => {
                let after = self.ms_since_death(&node);
                let after = after.map(|ms| format!(", {ms} ms after its death"));
                self.print_event(&format!("{node} {text}{}", after.unwrap_or_default()))?;
            }
            Notice::Unselectable { node } => {
                if let Some(ms) = self.ms_since_death(&node) {
                    self.outcome.detect_ms.get_or_insert(ms);
                }
                let text = "is out of selection".to_owned();
                self.on_notice(Notice::Event { node, text })?;
            }
            Notice::Corpus { files, skipped } => {
                self.outcome.files = files;
                self.outcome.files_skipped = skipped;
            }
            Notice::Note { text } => self.print_event(&text)?,
            Notice::Finished(snapshot) => self.last = Some(snapshot),
        }
        Ok(())
    }

    /// Time since a worker was killed, if it is that one.
    fn ms_since_death(&self, node: &str) -> Option<u64> {
        let (_, at) = self.killed.as_ref().filter(|(name, _)| name == node)?;
        u64::try_from(at.elapsed().as_millis()).ok()
    }

    fn print_event(&mut self, what: &str) -> Result<(), Box<dyn Error>> {
        Ok(self.live.event(self.begin.elapsed(), what)?)
    }
}

/// Name of the process that makes the calls.
const DIRECTOR: &str = "director";
const QUICK_SECONDS: u64 = 8;
const INITIAL_WORKERS: usize = 3;
/// Longest start, drain or end of a process.
const TIMEOUT: Duration = Duration::from_secs(15);
