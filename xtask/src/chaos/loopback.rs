//! Run of a scenario: a director, its workers, and perhaps attackers of them, as processes on this
//! machine.

use std::{env, error::Error, net::SocketAddr, process::Command, time::Duration};

use rustix::process::Signal;
use tokio::time::Instant;

use super::{
    Options,
    call_report::CallReport,
    checks::ScenarioRow,
    cluster::Cluster,
    execution_log::ExecutionCounts,
    node::{self, Role},
    protocol::{Order, Setup, Target},
    record::{Record, RecordKind},
    report::Row,
    scenario::{Scenario, Step},
};

struct ScenarioRun {
    length: Duration,
    cluster: Cluster,
    /// Address of the director.
    seeds: Vec<String>,
    /// The workers with their addresses; the first is the faulty one.
    workers: Vec<Target>,
    attackers: Vec<String>,
}

/// Results of a run.
#[derive(Debug, Default)]
pub(crate) struct RunResult {
    pub(crate) report: CallReport,
    pub(crate) runs: ExecutionCounts,
    /// Number of actions of the attacker; of two attackers the smaller number.
    pub(crate) attacker_actions: Option<u64>,
}

/// Runs a scenario from its first process to its row.
pub(crate) async fn run_scenario(
    scenario: &Scenario,
    options: &Options,
) -> Result<ScenarioRow, Box<dyn Error>> {
    let length = options.length();
    let mut run = ScenarioRun::start(scenario, options).await?;
    if let Some(attacker) = scenario.attacker {
        run.start_attacker(attacker).await?;
    }
    let calls_per_s = options.calls_per_s();
    let load = Order::Load { calls_per_s };
    run.cluster.processes.send(DIRECTOR, &load).await?;
    run.cluster.begin = Instant::now();
    if let Some(attacker) = scenario.late_attacker {
        run.cluster.sleep(LATE_ATTACK_DELAY).await;
        run.start_attacker(attacker).await?;
    }
    for (share, step) in scenario.steps {
        run.sleep_until_share(*share).await;
        run.take_step(*step).await?;
    }
    // Whatever went wrong is to be seen for a moment more.
    let least = Instant::now() + SETTLE_TIME;
    let end = least.max(run.cluster.begin + length);
    run.cluster.sleep_until(end).await;
    let result = run.finish().await?;
    let row = ScenarioRow::new(scenario, &worker_name(1), result, length);
    for failed_check in row.failed_checks() {
        println!("  FAILED: {failed_check}");
    }
    Ok(row)
}

impl ScenarioRun {
    /// Starts the director and the workers, and waits until the director sees them.
    async fn start(scenario: &Scenario, options: &Options) -> Result<Self, Box<dyn Error>> {
        let mut run = Self {
            length: options.length(),
            cluster: Cluster::new()?,
            seeds: Vec::new(),
            workers: Vec::new(),
            attackers: Vec::new(),
        };
        let names: Vec<_> = (1..=options.workers()).map(worker_name).collect();
        // Before any node reads: each of them writes the CA's certificate anew.
        for name in names.iter().map(|name| &**name).chain([DIRECTOR]) {
            run.cluster.processes.keys().issue(name)?;
        }
        let mut setup = run.cluster.setup(DIRECTOR, Vec::new());
        setup.reports_view = true;
        run.launch(Role::Director, setup).await?;
        run.seeds = vec![run.wait_until_ready(DIRECTOR).await?.to_string()];
        for name in &names {
            let mut setup = run.worker_setup(name);
            // There is to be something to hold.
            setup.limited = scenario.attacker.is_some();
            if name == &names[0] {
                setup.behaviour = scenario.first_worker;
            }
            run.launch(Role::Worker, setup).await?;
        }
        for name in names {
            let addr = run.wait_until_ready(&name).await?;
            run.workers.push(Target { name, addr });
        }
        let workers = &run.workers;
        let sees_all = |record: &mut Record| {
            let (_, status) = record.latest.get(DIRECTOR)?;
            let is_live = |it: &Target| status.members.get(&it.name).is_some_and(|it| it.is_live());
            workers.iter().all(is_live).then_some(())
        };
        let what = "see all workers";
        let seen = run.cluster.observe(DIRECTOR, what, SEEN_TIMEOUT, sees_all);
        seen.await?;
        Ok(run)
    }

    /// Starts an attacker of all workers, and waits until its attacks have begun.
    async fn start_attacker(&mut self, role: Role) -> Result<(), Box<dyn Error>> {
        let name = role.name();
        self.cluster.processes.keys().issue(&name)?;
        let setup = self.cluster.setup(&name, Vec::new());
        self.launch(role, setup).await?;
        self.wait_until_ready(&name).await?;
        let targets = self.workers.clone();
        let attack = Order::Attack { targets };
        self.cluster
            .ask(&name, &attack, "attack all workers")
            .await?;
        self.attackers.push(name);
        Ok(())
    }

    async fn take_step(&mut self, step: Step) -> Result<(), Box<dyn Error>> {
        let half = self.workers.len() / 2;
        match step {
            Step::Kill => {
                let faulty = self.workers.remove(0).name;
                self.cluster.print_step(format_args!("{faulty} is killed"));
                self.cluster.processes.kill(&faulty).await?;
            }
            Step::Stop => {
                let faulty = &self.workers[0].name;
                let pause = STOP_TIME_MAX.min(self.length / 3);
                self.cluster.processes.signal(faulty, Signal::STOP)?;
                self.cluster
                    .print_step(format_args!("{faulty} is stopped for {pause:?}"));
                self.cluster.sleep(pause).await;
                self.cluster.processes.signal(faulty, Signal::CONT)?;
                self.cluster.print_step(format_args!("{faulty} goes on"));
            }
            Step::RestartEach => {
                let workers = self.workers.len();
                for at in 0..workers {
                    // Over the first four fifths, if it is not slower than that.
                    let share = 0.1 + 0.7 * at as f64 / workers as f64;
                    self.sleep_until_share(share).await;
                    self.restart(at).await?;
                }
            }
            Step::DrainHalf => {
                for worker in &self.workers[..half] {
                    let drain = Order::Drain;
                    self.cluster.processes.send(&worker.name, &drain).await?;
                }
                for Target { name, .. } in &self.workers[..half] {
                    let remaining = self.cluster.wait_until_done(name, "drain").await?;
                    if remaining > 0 {
                        return Err(format!("{name} still serves {remaining} calls").into());
                    }
                }
                self.cluster
                    .print_step(format_args!("{half} workers have drained"));
            }
            Step::ResumeHalf => {
                for worker in &self.workers[..half] {
                    let resume = Order::Resume;
                    self.cluster.processes.send(&worker.name, &resume).await?;
                }
                self.cluster
                    .print_step(format_args!("{half} workers take calls again"));
            }
        }
        Ok(())
    }

    /// Asks a worker to end (SIGTERM), waits for that, and starts it again.
    async fn restart(&mut self, at: usize) -> Result<(), Box<dyn Error>> {
        let name = self.workers[at].name.clone();
        self.cluster.processes.signal(&name, Signal::TERM)?;
        let asked = Instant::now();
        let status = self.cluster.wait_until_ended(&name).await?;
        if !status.success() {
            return Err(format!("{name} was asked to end, and did with {status}").into());
        }
        let ended = asked.elapsed();
        let setup = self.worker_setup(&name);
        self.launch(Role::Worker, setup).await?;
        self.workers[at].addr = self.wait_until_ready(&name).await?;
        self.cluster.print_step(format_args!(
            "{name} ended within {:.2} s and was ready again after {:.2} s",
            ended.as_secs_f64(),
            asked.elapsed().as_secs_f64()
        ));
        Ok(())
    }

    /// Ends the calls, and sums up. The workers end with this.
    async fn finish(mut self) -> Result<RunResult, Box<dyn Error>> {
        let finish = Order::Finish;
        self.cluster.ask(DIRECTOR, &finish, "finish").await?;
        self.cluster.wait_until_ended(DIRECTOR).await?;
        let mut attacker_actions: Option<u64> = None;
        for attacker in &self.attackers {
            let actions = self.cluster.ask(attacker, &finish, "finish").await?;
            attacker_actions = Some(attacker_actions.map_or(actions, |it| it.min(actions)));
        }
        self.cluster.processes.kill_all().await?;
        let log = self.cluster.record.log.iter();
        let mut reports = log.filter_map(|entry| match &entry.kind {
            RecordKind::Calls(report) => Some(report.clone()),
            _ => None,
        });
        Ok(RunResult {
            report: reports.next().unwrap_or_default(),
            runs: ExecutionCounts::read(self.cluster.folder())?,
            attacker_actions,
        })
    }

    fn worker_setup(&self, name: &str) -> Setup {
        self.cluster.setup(name, self.seeds.clone())
    }

    async fn launch(&mut self, role: Role, setup: Setup) -> Result<(), Box<dyn Error>> {
        let mut command = Command::new(env::current_exe()?);
        command.args([node::COMMAND, &role.name()]);
        self.cluster.launch(command, setup).await
    }

    /// Waits until a node runs; where it is reached.
    async fn wait_until_ready(&mut self, name: &str) -> Result<SocketAddr, Box<dyn Error>> {
        self.cluster.wait_until_done(name, "start").await?;
        let start = self.cluster.record.starts.get(name);
        Ok(start.ok_or("a node has not started")?.addr)
    }

    /// Waits for a time of the run.
    async fn sleep_until_share(&mut self, share: f64) {
        let time = self.cluster.begin + self.length.mul_f64(share);
        self.cluster.sleep_until(time).await;
    }
}

fn worker_name(number: usize) -> String {
    format!("worker-{number}")
}

/// The process that makes the calls.
const DIRECTOR: &str = "director";
const SEEN_TIMEOUT: Duration = Duration::from_secs(30);
/// When the late attacker begins: by then the director has most likely called every worker, so that
/// it is not a newcomer.
const LATE_ATTACK_DELAY: Duration = Duration::from_millis(500);
const STOP_TIME_MAX: Duration = Duration::from_secs(10);
const SETTLE_TIME: Duration = Duration::from_millis(500);
