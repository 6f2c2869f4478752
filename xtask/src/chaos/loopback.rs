//! Run of a scenario: a director or gateways, the workers that they call, and perhaps attackers of
//! these, as processes on this machine.

use std::{
    collections::BTreeMap, env, error::Error, net::SocketAddr, process::Command, time::Duration,
};

use rustix::process::Signal;
use tokio::time::Instant;

use super::{
    Options,
    call_report::{CallReport, VersionCounts},
    checks::ScenarioRow,
    cluster::Cluster,
    execution_log::ExecutionCounts,
    node::{self, Role},
    protocol::{Order, ServiceVersion, Setup, Target},
    record::{Record, RecordKind},
    report::Row,
    scenario::{Scenario, Step, Upgrade},
};

struct ScenarioRun {
    length: Duration,
    cluster: Cluster,
    upgrade: Option<Upgrade>,
    /// Calls that each caller begins per second.
    calls_per_s: u32,
    /// The director, or a gateway of each version.
    callers: Vec<Caller>,
    /// Addresses of the callers.
    seeds: Vec<String>,
    /// The workers with their addresses; the first is the faulty one.
    workers: Vec<Target>,
    attackers: Vec<String>,
}

/// Process that makes calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Caller {
    name: &'static str,
    /// Version of the typed service that it calls.
    version: Option<ServiceVersion>,
}

/// Results of a run.
#[derive(Debug, Default)]
pub(crate) struct RunResult {
    pub(crate) report: CallReport,
    pub(crate) runs: ExecutionCounts,
    /// Number of actions of the attacker; of two attackers the smaller number.
    pub(crate) attacker_actions: Option<u64>,
    /// Calls that workers rejected for the types of their callers.
    pub(crate) rejected_incompatible: u64,
    /// Answers to the gateway of each version, by the versions of the workers.
    pub(crate) answers_by_version: BTreeMap<u32, VersionCounts>,
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
    for caller in run.callers.clone() {
        // Until a worker is upgraded none understands an incompatible caller.
        if caller.version != Some(ServiceVersion::Incompatible) {
            run.begin_load(caller).await?;
        }
    }
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
    /// Starts the callers and the workers, and waits until each caller sees all workers.
    async fn start(scenario: &Scenario, options: &Options) -> Result<Self, Box<dyn Error>> {
        let callers = callers(scenario.upgrade);
        let mut run = Self {
            length: options.length(),
            cluster: Cluster::new()?,
            upgrade: scenario.upgrade,
            calls_per_s: options.calls_per_s() / callers.len() as u32,
            callers,
            seeds: Vec::new(),
            workers: Vec::new(),
            attackers: Vec::new(),
        };
        let workers = match scenario.upgrade {
            Some(_) => options.upgraded_workers(),
            None => options.workers(),
        };
        let names: Vec<_> = (1..=workers).map(worker_name).collect();
        let callers = run.callers.clone();
        // Before any node reads: each of them writes the CA's certificate anew.
        let callers_names = callers.iter().map(|caller| caller.name);
        for name in names.iter().map(|name| &**name).chain(callers_names) {
            run.cluster.processes.keys().issue(name)?;
        }
        for Caller { name, version } in callers {
            let mut setup = run.cluster.setup(name, run.seeds.clone());
            setup.reports_view = true;
            setup.version = version;
            run.launch(Role::Director, setup).await?;
            let addr = run.wait_until_ready(name).await?;
            run.seeds.push(addr.to_string());
        }
        for name in &names {
            let mut setup = run.worker_setup(name);
            setup.version = scenario.upgrade.map(|_| ServiceVersion::First);
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
        for Caller { name, .. } in &run.callers {
            let sees_all = |record: &mut Record| {
                let (_, status) = record.latest.get(*name)?;
                let is_live =
                    |it: &Target| status.members.get(&it.name).is_some_and(|it| it.is_live());
                workers.iter().all(is_live).then_some(())
            };
            let what = "see all workers";
            let seen = run.cluster.observe(name, what, SEEN_TIMEOUT, sees_all);
            seen.await?;
        }
        Ok(run)
    }

    async fn begin_load(&mut self, caller: Caller) -> Result<(), Box<dyn Error>> {
        let calls_per_s = self.calls_per_s;
        let load = Order::Load { calls_per_s };
        self.cluster.processes.send(caller.name, &load).await
    }

    /// Has a caller begin no more calls, await the others, and end.
    async fn finish_load(&mut self, caller: Caller) -> Result<(), Box<dyn Error>> {
        self.cluster
            .ask(caller.name, &Order::Finish, "finish")
            .await?;
        self.cluster.wait_until_ended(caller.name).await?;
        self.callers.retain(|it| *it != caller);
        Ok(())
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
                    self.restart(at, None).await?;
                }
            }
            Step::UpgradeEach => {
                let upgrade = self.upgrade.ok_or("the scenario has no upgrade")?;
                self.upgrade_workers(upgrade).await?;
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

    /// Restarts every worker in turn as the second version.
    async fn upgrade_workers(&mut self, upgrade: Upgrade) -> Result<(), Box<dyn Error>> {
        let workers = self.workers.len();
        for at in 0..workers {
            let share = 0.1 + 0.7 * at as f64 / workers as f64;
            self.sleep_until_share(share).await;
            if upgrade == Upgrade::Incompatible && at + 1 == workers {
                self.finish_load(OLD_GATEWAY).await?;
                let name = OLD_GATEWAY.name;
                self.cluster.print_step(format_args!("{name} has ended"));
            }
            self.restart(at, Some(upgrade.next_version())).await?;
            if upgrade == Upgrade::Incompatible && at == 0 {
                let gateway = new_gateway(upgrade);
                self.begin_load(gateway).await?;
                self.cluster
                    .print_step(format_args!("{} begins", gateway.name));
            }
        }
        Ok(())
    }

    /// Asks a worker to end (SIGTERM), and waits for that.
    async fn end_worker(&mut self, name: &str) -> Result<(), Box<dyn Error>> {
        self.cluster.processes.signal(name, Signal::TERM)?;
        let status = self.cluster.wait_until_ended(name).await?;
        match status.success() {
            true => Ok(()),
            false => Err(format!("{name} was asked to end, and did with {status}").into()),
        }
    }

    /// Ends a worker, and starts it again, as this version of its service.
    async fn restart(
        &mut self,
        at: usize,
        version: Option<ServiceVersion>,
    ) -> Result<(), Box<dyn Error>> {
        let name = self.workers[at].name.clone();
        let asked = Instant::now();
        self.end_worker(&name).await?;
        let ended = asked.elapsed();
        let mut setup = self.worker_setup(&name);
        setup.version = version;
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
        for caller in self.callers.clone() {
            self.finish_load(caller).await?;
        }
        let mut attacker_actions: Option<u64> = None;
        for attacker in &self.attackers {
            let actions = self.cluster.ask(attacker, &Order::Finish, "finish").await?;
            attacker_actions = Some(attacker_actions.map_or(actions, |it| it.min(actions)));
        }
        if self.upgrade.is_some() {
            // In order, so that they tell what they have rejected.
            for worker in self.workers.clone() {
                self.end_worker(&worker.name).await?;
            }
        }
        self.cluster.processes.kill_all().await?;
        let mut result = RunResult {
            runs: ExecutionCounts::read(self.cluster.folder())?,
            attacker_actions,
            ..RunResult::default()
        };
        let gateways = callers(self.upgrade);
        for entry in &self.cluster.record.log {
            match &entry.kind {
                RecordKind::Calls(report) => {
                    let gateway = gateways.iter().find(|it| it.name == entry.node);
                    if let Some(version) = gateway.and_then(|it| it.version) {
                        let answers = report.answered_by_version;
                        result.answers_by_version.insert(version.number(), answers);
                    }
                    result.report.merge(report.clone());
                }
                RecordKind::IncompatibleCalls(count) => result.rejected_incompatible += count,
                RecordKind::Event(_) | RecordKind::ServeDecision(_) => {}
            }
        }
        Ok(result)
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

/// The processes that make the calls.
fn callers(upgrade: Option<Upgrade>) -> Vec<Caller> {
    match upgrade {
        None => vec![DIRECTOR],
        Some(upgrade) => vec![OLD_GATEWAY, new_gateway(upgrade)],
    }
}

/// Gateway of the second version.
fn new_gateway(upgrade: Upgrade) -> Caller {
    Caller {
        name: "gateway-2",
        version: Some(upgrade.next_version()),
    }
}

/// Caller of methods without types.
const DIRECTOR: Caller = Caller {
    name: "director",
    version: None,
};
/// Gateway of the first version.
const OLD_GATEWAY: Caller = Caller {
    name: "gateway-1",
    version: Some(ServiceVersion::First),
};
const SEEN_TIMEOUT: Duration = Duration::from_secs(30);
/// When the late attacker begins: by then the director has most likely called every worker, so that
/// it is not a newcomer.
const LATE_ATTACK_DELAY: Duration = Duration::from_millis(500);
const STOP_TIME_MAX: Duration = Duration::from_secs(10);
const SETTLE_TIME: Duration = Duration::from_millis(500);
