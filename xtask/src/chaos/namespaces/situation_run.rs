//! Run of a situation: its steps, what was seen, and the checks that failed.

use std::{
    collections::BTreeMap,
    error::Error,
    fs::{self, File},
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::time::sleep;

use super::{
    CLIENT,
    faults::{Fault, host_name},
    hosts::{HostNames, HostNetwork, PORT, ROTATING_NAME, USUAL_MTU, address, socket_address},
    situation_row::SituationRow,
    situations::{Launch, Seeds, Situation, Step},
    views::{self, Check, Hosts, Roster, check},
};
use crate::chaos::{
    cluster::Cluster,
    node::{self, Role},
    protocol::{HostSetup, Order},
    record::Record,
};

struct SituationRun<'a> {
    network: &'a HostNetwork,
    logs: PathBuf,
    quick: bool,
    cluster: Cluster,
    /// The running hosts and where each is reached.
    expected_addrs: BTreeMap<usize, SocketAddr>,
    /// Members that may be held failed.
    may_fail: Hosts,
    /// Hosts that may hold others failed.
    may_report_failures: Hosts,
    recovery_from: Duration,
    row: SituationRow,
}

/// Runs a situation from its first process to its row.
pub(crate) async fn run_situation(
    situation: &Situation,
    network: &HostNetwork,
    logs: &Path,
    quick: bool,
) -> Result<SituationRow, Box<dyn Error>> {
    let mut run = SituationRun::new(situation, network, logs, quick)?;
    let played = tokio::select! {
        biased;
        named = keep_names(network, situation.names) => named,
        played = run.play(situation) => played,
    };
    if let Err(error) = played {
        let what = format!("could not be played to its end: {error}");
        run.cluster.fail(what);
    }
    run.check();
    let row = run.row.clone();
    run.restore().await?;
    Ok(row)
}

/// Writes the names that hosts know, and goes on where they change.
async fn keep_names(network: &HostNetwork, names: HostNames) -> Result<(), Box<dyn Error>> {
    for turn in 0.. {
        network.write_hosts_files(names, turn)?;
        match names {
            HostNames::Rotating(_) => sleep(ROTATED_EVERY).await,
            _ => std::future::pending().await,
        }
    }
    Ok(())
}

impl<'a> SituationRun<'a> {
    fn new(
        situation: &Situation,
        network: &'a HostNetwork,
        logs: &Path,
        quick: bool,
    ) -> Result<Self, Box<dyn Error>> {
        let run = Self {
            network,
            logs: logs.join(situation.name),
            quick,
            cluster: Cluster::new()?,
            expected_addrs: BTreeMap::new(),
            may_fail: Hosts::new(),
            may_report_failures: Hosts::new(),
            recovery_from: Duration::ZERO,
            row: SituationRow {
                situation: situation.name,
                hosts: network.hosts(),
                ..SituationRow::default()
            },
        };
        fs::create_dir_all(&run.logs)?;
        for host in 1..=network.hosts() {
            // Before any node reads: each of them writes the CA's certificate anew.
            run.cluster.processes.keys().issue(&host_name(host))?;
            // Not the log of the run before.
            File::create(run.log_path(host))?;
        }
        Ok(run)
    }

    /// Starts the cluster, injects the fault, and waits for the recovery and the last calls.
    async fn play(&mut self, situation: &Situation) -> Result<(), Box<dyn Error>> {
        self.take_steps(situation.before).await?;
        let mut waiting: Vec<_> = (1..=self.network.hosts()).collect();
        waiting.retain(|host| !self.expected_addrs.contains_key(host));
        waiting.retain(|host| !situation.late.contains(host));
        // The first of them alone, as it may begin the cluster.
        let others = waiting.split_off(1);
        self.launch(waiting, situation.launch).await?;
        self.launch(others, situation.launch).await?;
        let at_first = Check {
            fact: "all see each other at first",
            ..VIEWS_ARE_WHOLE
        };
        let seen = self.wait_for(at_first, FULL_VIEWS_TIMEOUT, Duration::ZERO);
        seen.await
            .ok_or("there is no whole cluster to begin with")?;
        if !situation.late.is_empty() {
            for host in situation.late {
                self.network.set_mtu(*host, SMALL_MTU)?;
            }
            self.network.set_faults(&[Fault::Mtu {
                hosts: situation.late,
                bytes: SMALL_MTU,
            }])?;
        }
        let client = host_name(CLIENT);
        let load = Order::Load {
            calls_per_s: CALLS_PER_S,
        };
        self.cluster.processes.send(&client, &load).await?;
        self.cluster.sleep(SETTLE_TIME).await;
        self.take_steps(situation.steps).await?;
        self.recovery_from = self.cluster.record.now();
        let (since, within) = (self.recovery_from, situation.recovered_within);
        let recovered = self.wait_for(VIEWS_ARE_WHOLE, within, since).await;
        self.row.recovered_s = recovered.map(|it| it.as_secs_f64());
        self.wait_for(WORKERS_ANSWER, ANSWERED_WITHIN, since).await;
        self.take_steps(situation.after).await?;
        self.cluster.ask(&client, &Order::Finish, "finish").await?;
        Ok(())
    }

    async fn take_steps(&mut self, steps: &[Step]) -> Result<(), Box<dyn Error>> {
        for step in steps {
            self.take_step(step).await?;
        }
        Ok(())
    }

    async fn take_step(&mut self, step: &Step) -> Result<(), Box<dyn Error>> {
        let fault_began = self.cluster.record.fault_began;
        match step {
            Step::Launch(hosts, launch) => self.launch(hosts.clone(), *launch).await?,
            Step::BeginFault => self.begin_fault(),
            Step::Network(fault) => self.network.set_faults(std::slice::from_ref(fault))?,
            Step::EndFault => {
                self.network.set_faults(&[])?;
                self.cluster.print_step("the fault ends");
            }
            Step::Readdress(host, to) => self.readdress(*host, *to)?,
            Step::Signal(host, signal) => {
                self.cluster.processes.signal(&host_name(*host), *signal)?;
            }
            Step::Kill(host) => self.cluster.processes.kill(&host_name(*host)).await?,
            Step::Wait(seconds, quick) => {
                self.cluster.sleep(self.duration(*seconds, *quick)).await;
            }
            Step::WaitSinceFault(seconds, quick) => {
                let end = fault_began + self.duration(*seconds, *quick);
                let rest = end.saturating_sub(self.cluster.record.now());
                self.cluster.sleep(rest).await;
            }
            Step::MayFail(hosts) => self.may_fail.extend(names(hosts)),
            Step::MayReportFailures(hosts) => self.may_report_failures.extend(names(hosts)),
            Step::Detected(seconds, check) => self.wait_for_detection(*seconds, *check).await,
            Step::ExpectSinceFault(check) => self.expect(*check, fault_began),
            Step::ExpectNow(check) => {
                let recent = self.cluster.record.now().saturating_sub(RECENT);
                self.expect(*check, recent);
            }
            Step::ExpectWithin(seconds, check) => {
                let within = Duration::from_secs(*seconds);
                self.wait_for(*check, within, self.recovery_from).await;
            }
            Step::PrintDropped => {
                let dropped = self.network.dropped()?;
                self.cluster.print_step(format_args!(
                    "{dropped} packets were too large for the path"
                ));
            }
            Step::StartsAreQuick => self.expect_quick_starts(),
            Step::ClockIsBehind(host, by) => self.expect_clock_behind(*host, *by),
            Step::IsCalmAlone => self.expect_calm_alone(),
            Step::IsCalm(seconds, quick) => {
                self.expect_calm_cluster(self.duration(*seconds, *quick))
                    .await;
            }
        }
        Ok(())
    }

    fn readdress(&mut self, host: usize, to: Ipv4Addr) -> Result<(), Box<dyn Error>> {
        self.network.change_address(host, address(host), to)?;
        self.expected_addrs.insert(host, (to, PORT).into());
        self.begin_fault();
        self.cluster
            .print_step(format_args!("{} is {to} now", host_name(host)));
        Ok(())
    }

    /// Waits until a check passes by what was told since the fault began, which is how long the
    /// detection took. Of two detections the later one counts.
    async fn wait_for_detection(&mut self, seconds: u64, check: Check) {
        let fault_began = self.cluster.record.fault_began;
        self.may_fail.extend(names(check.hosts));
        let within = Duration::from_secs(seconds);
        let detected = self.wait_for(check, within, fault_began).await;
        let took = self.cluster.record.now().saturating_sub(fault_began);
        self.row.detect_s = detected.map(|_| took.as_secs_f64()).or(self.row.detect_s);
    }

    /// Waits until a check passes, by what is told since a time; how long that took.
    async fn wait_for(
        &mut self,
        check: Check,
        within: Duration,
        since: Duration,
    ) -> Option<Duration> {
        let (roster, hosts) = (self.roster(), names(check.hosts));
        let passes = |record: &Record| check.run(record, &roster, &hosts, since);
        self.cluster.wait_for(check.fact, within, passes).await
    }

    /// Fails the situation unless a check passes, by what was told since a time.
    fn expect(&mut self, check: Check, since: Duration) {
        let (roster, hosts) = (self.roster(), names(check.hosts));
        if let Err(seen) = check.run(&self.cluster.record, &roster, &hosts, since) {
            self.cluster.fail(format!("{}: {seen}", check.fact));
        }
    }

    /// Starts nodes at once and waits until they have started.
    async fn launch(
        &mut self,
        hosts: impl IntoIterator<Item = usize> + Clone,
        launch: Launch,
    ) -> Result<(), Box<dyn Error>> {
        for host in hosts.clone() {
            let role = match host {
                CLIENT => Role::Director,
                _ => Role::Worker,
            };
            let arguments = [node::COMMAND, &role.name()];
            let mut command = self.network.command_in(host, &arguments)?;
            command.stderr(File::options().append(true).open(self.log_path(host))?);
            if !launch.clock_back.is_zero() {
                let library = libfaketime_path().ok_or("libfaketime is missing")?;
                command
                    .env("LD_PRELOAD", library)
                    .env("FAKETIME", format!("-{}s", launch.clock_back.as_secs()))
                    .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
            }
            let mut setup = self
                .cluster
                .setup(&host_name(host), seeds(launch.seeds, host));
            setup.reports_view = true;
            let tags: &[_] = if launch.large_tags { &FILLER_TAGS } else { &[] };
            let filler = |tag: &&str| ((*tag).to_owned(), "x".repeat(FILLER_BYTES));
            setup.host = Some(HostSetup {
                bind: ([0, 0, 0, 0], PORT).into(),
                tags: tags.iter().map(filler).collect(),
            });
            self.cluster.launch(command, setup).await?;
            let addr = self.expected_addrs.entry(host);
            addr.or_insert_with(|| socket_address(host));
        }
        for host in hosts {
            self.cluster
                .wait_until_done(&host_name(host), "start")
                .await?;
        }
        Ok(())
    }

    fn begin_fault(&mut self) {
        self.cluster.record.begin_fault();
        self.cluster.print_step("the fault begins");
    }

    fn duration(&self, seconds: u64, quick_seconds: u64) -> Duration {
        Duration::from_secs(if self.quick { quick_seconds } else { seconds })
    }

    /// Fails the situation if a start waited for a seed that does not answer.
    fn expect_quick_starts(&mut self) {
        let starts = self.cluster.record.starts.iter();
        let mut starts: Vec<_> = starts
            .map(|(host, it)| (it.took_ms, host.clone()))
            .collect();
        starts.sort_unstable();
        if let Some((took, host)) = starts.last() {
            self.cluster.print_step(format_args!(
                "{host} took longest to start: {took} ms until it had joined"
            ));
        }
        let late = starts.iter().filter(|(took, _)| *took > START_MS_MAX);
        let late: Vec<_> = late
            .map(|(took, host)| format!("{host} took {took} ms"))
            .collect();
        if !late.is_empty() {
            let late = late.join(", ");
            self.cluster
                .fail(format!("starts take at most {START_MS_MAX} ms: {late}"));
        }
    }

    /// Fails the situation unless the clock of a host is behind by about this.
    fn expect_clock_behind(&mut self, host: usize, by: Duration) {
        let start = self.cluster.record.starts.get(&host_name(host));
        let behind = start.map_or(Duration::ZERO, |start| start.clock_behind);
        self.cluster
            .print_step(format_args!("its clock is behind by {behind:.0?}"));
        if behind < by / 2 {
            self.cluster
                .fail(format!("its clock is behind by {behind:?} only"));
        }
    }

    /// Fails the situation if the first node, which has been alone so far, has sent much.
    fn expect_calm_alone(&mut self) {
        let sent = self.cluster.record.latest.get(&host_name(1));
        let sent = sent.map_or(0, |(_, status)| status.sent);
        let rate = sent as f64 / self.cluster.begin.elapsed().as_secs_f64();
        self.cluster
            .print_step(format_args!("alone, it has sent {rate:.1} datagrams/s"));
        self.expect_calm(&format!("{} alone", host_name(1)), "", rate);
    }

    /// Watches a cluster without news for a time, and fails the situation if a node sends much.
    async fn expect_calm_cluster(&mut self, time: Duration) {
        // News of the joins ends.
        self.cluster.sleep(Duration::from_secs(2)).await;
        let before = self.cluster.record.latest.clone();
        self.cluster.sleep(time).await;
        let busiest = views::most_datagrams(&before, &self.cluster.record.latest);
        if let Some((host, rate)) = busiest {
            self.cluster.print_step(format_args!(
                "{host} sends most: {rate:.1} datagrams/s in a calm cluster"
            ));
            self.expect_calm(&host, " in a calm cluster", rate);
        }
    }

    fn expect_calm(&mut self, who: &str, place: &str, rate: f64) {
        if rate > CALM_DATAGRAMS_S_MAX {
            self.cluster.fail(format!(
                "{who} sent {rate:.0} datagrams/s{place}, at most {CALM_DATAGRAMS_S_MAX}"
            ));
        }
    }

    /// The running hosts by name, and where each is reached.
    fn roster(&self) -> Roster {
        let hosts = self.expected_addrs.iter();
        hosts
            .map(|(host, addr)| (host_name(*host), *addr))
            .collect()
    }

    /// Checks the record since the fault began.
    fn check(&mut self) {
        let roster = self.roster();
        let observers = views::others(&roster, &self.may_report_failures);
        let observers: Hosts = observers.cloned().collect();
        let record = &self.cluster.record;
        let failed_checks = self.row.check(record, &observers, &self.may_fail);
        for failed_check in failed_checks {
            self.cluster.fail(failed_check);
        }
        self.row.seconds = self.cluster.begin.elapsed().as_secs_f64();
        self.row.ok = self.cluster.failed_checks.is_empty();
        self.row
            .failed_checks
            .clone_from(&self.cluster.failed_checks);
        if !self.row.ok {
            self.show_warnings();
        }
    }

    /// Shows the last warnings of the nodes, for those who look for the reason.
    fn show_warnings(&self) {
        for host in self.expected_addrs.keys() {
            let log = fs::read_to_string(self.log_path(*host)).unwrap_or_default();
            let words = ["WARN", "ERROR", "panicked"];
            let is_warning = |line: &&str| words.iter().any(|word| line.contains(word));
            let lines: Vec<_> = log.lines().filter(is_warning).collect();
            for line in &lines[lines.len().saturating_sub(WARNINGS_MAX)..] {
                println!("          {}: {line}", host_name(*host));
            }
        }
    }

    /// Path of the log of a host's node.
    fn log_path(&self, host: usize) -> PathBuf {
        self.logs.join(host_name(host)).with_extension("log")
    }

    /// Ends the processes, so that their ports are free, and puts the hosts back as they were.
    async fn restore(mut self) -> Result<(), Box<dyn Error>> {
        self.cluster.processes.kill_all().await?;
        self.network.set_faults(&[])?;
        for (host, addr) in &self.expected_addrs {
            if let SocketAddr::V4(addr) = addr
                && *addr.ip() != address(*host)
            {
                self.network
                    .change_address(*host, *addr.ip(), address(*host))?;
            }
        }
        for host in 1..=self.network.hosts() {
            self.network.set_mtu(host, USUAL_MTU)?;
        }
        self.network.write_hosts_files(HostNames::Usual, 0)
    }
}

/// The seeds of a host's node, as an operator would write them.
fn seeds(kind: Seeds, host: usize) -> Vec<String> {
    let addr = |host| socket_address(host).to_string();
    match kind {
        Seeds::Usual if host == 1 => Vec::new(),
        Seeds::Usual if host == CLIENT => vec![addr(1)],
        Seeds::Usual => [1, CLIENT].map(addr).to_vec(),
        Seeds::Names => [1, CLIENT]
            .map(|host| format!("{}:{PORT}", host_name(host)))
            .to_vec(),
        Seeds::Wrong => vec![
            addr(host),
            format!("no-such-host.invalid:{PORT}"),
            format!("{ROTATING_NAME}:{PORT}"),
            addr(1),
        ],
    }
}

/// The library that shows a process another wall clock, if it is installed.
pub(crate) fn libfaketime_path() -> Option<PathBuf> {
    let folders = fs::read_dir("/usr/lib").into_iter().flatten().flatten();
    let mut paths = folders.map(|folder| folder.path().join("faketime/libfaketimeMT.so.1"));
    paths.find(|path| path.exists())
}

fn names(hosts: &[usize]) -> Hosts {
    hosts.iter().map(|host| host_name(*host)).collect()
}

/// Every host sees all others.
const VIEWS_ARE_WHOLE: Check = check("every view is whole", &[], |it| it.all_are_whole());
const WORKERS_ANSWER: Check = check("every worker answers calls", &[CLIENT], |it| {
    it.others_answer()
});
const CALLS_PER_S: u32 = 50;
/// Time before a fault begins.
const SETTLE_TIME: Duration = Duration::from_secs(1);
const FULL_VIEWS_TIMEOUT: Duration = Duration::from_secs(15);
/// A worker that was out of reach is tried again after this time at the latest.
const ANSWERED_WITHIN: Duration = Duration::from_secs(30);
/// A start that waits for a seed which never answers takes the whole join timeout, 10 s.
const START_MS_MAX: u64 = 5_000;
/// Datagrams a second of a node whose cluster has no news.
const CALM_DATAGRAMS_S_MAX: f64 = 50.0;
/// Bound above the age of a status.
const RECENT: Duration = Duration::from_secs(2);
const ROTATED_EVERY: Duration = Duration::from_millis(50);
const WARNINGS_MAX: usize = 4;
/// The least that IPv6 asks for; what many tunnels have.
const SMALL_MTU: u16 = 1_280;
/// The records of two members with tags of this size fill a datagram that does not pass the small
/// path, and one alone passes.
const FILLER_TAGS: [&str; 3] = ["filler-a", "filler-b", "filler-c"];
const FILLER_BYTES: usize = 190;

#[cfg(test)]
mod tests {
    use super::*;
    #[test]
    fn the_usual_seeds_start_before_their_nodes() {
        assert_eq!(seeds(Seeds::Usual, 1), Vec::<String>::new());
        assert_eq!(seeds(Seeds::Usual, CLIENT), ["10.77.0.1:7946"]);
        assert_eq!(seeds(Seeds::Usual, 7), ["10.77.0.1:7946", "10.77.0.2:7946"]);
    }
}
