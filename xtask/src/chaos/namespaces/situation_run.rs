//! Run of a situation: its steps, what was seen, and the checks that failed.

use std::{
    collections::{BTreeMap, BTreeSet},
    error::Error,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    time::Duration,
};

use tokio::time::{Instant, sleep};

use super::{
    checks::{
        CheckResult, Names, calls, false_failures, most_datagrams, suspicions, views_are_whole,
    },
    faults::{Fault, port},
    hosts::{HostNetwork, HostsFile, PORT, address, socket_address},
    processes::{NodeLaunch, NodeProcesses},
    protocol::Status,
    record::ClusterRecord,
    report::Row,
    situations::Situation,
};

/// A situation in play.
pub(crate) struct SituationRun<'a> {
    network: &'a HostNetwork,
    processes: NodeProcesses<'a>,
    quick: bool,
    begin: Instant,
    /// The running hosts and where each is reached.
    expected_addrs: BTreeMap<usize, SocketAddr>,
    /// Members that may be held failed.
    may_fail: BTreeSet<usize>,
    /// Hosts that may hold others failed.
    may_report_failures: BTreeSet<usize>,
    fault_began: Duration,
    recovery_from: Duration,
    sent_before: BTreeMap<String, (Duration, Status)>,
    detected: Option<Duration>,
    recovered: Option<Duration>,
    complaints: Vec<String>,
}

/// Runs a situation from its first process to its row.
///
/// # Errors
///
/// When the hosts cannot be put back as they were.
pub(crate) async fn run_situation(
    situation: Situation,
    network: &HostNetwork,
    logs: &Path,
    quick: bool,
) -> Result<Row, Box<dyn Error>> {
    let logs = logs.join(situation.name());
    let mut run = SituationRun::new(network, &logs, quick)?;
    let mut played = situation.inject(&mut run).await;
    if played.is_ok() {
        played = run.processes.end_load().await;
    }
    if let Err(error) = played {
        run.fail(format!("could not be played to its end: {error}"));
    }
    let row = run.evaluate(situation);
    run.restore().await?;
    Ok(row)
}

impl<'a> SituationRun<'a> {
    fn new(network: &'a HostNetwork, logs: &Path, quick: bool) -> Result<Self, Box<dyn Error>> {
        Ok(Self {
            network,
            processes: NodeProcesses::new(network, logs)?,
            quick,
            begin: Instant::now(),
            expected_addrs: BTreeMap::new(),
            may_fail: BTreeSet::new(),
            may_report_failures: BTreeSet::new(),
            fault_began: Duration::ZERO,
            recovery_from: Duration::ZERO,
            sent_before: BTreeMap::new(),
            detected: None,
            recovered: None,
            complaints: Vec::new(),
        })
    }

    /// Starts the first of these nodes, then the others at once, and waits until all see each
    /// other.
    pub(crate) async fn start(
        &mut self,
        mut nodes: Vec<(usize, NodeLaunch)>,
    ) -> Result<(), Box<dyn Error>> {
        let others = nodes.split_off(1);
        self.launch(nodes).await?;
        self.launch(others).await?;
        let roster = self.expected_addrs();
        let seen = self
            .wait_for(
                "all see each other at first",
                FULL_VIEWS_TIMEOUT,
                |record| views_are_whole(record, &roster, Duration::ZERO),
            )
            .await;
        match seen {
            Some(_) => Ok(()),
            None => Err("there is no whole cluster to begin with".into()),
        }
    }

    /// Starts one node and waits until it has.
    pub(crate) async fn start_alone(
        &mut self,
        node: (usize, NodeLaunch),
    ) -> Result<(), Box<dyn Error>> {
        self.launch(vec![node]).await
    }

    /// Starts these nodes at once and waits until they have.
    pub(crate) async fn launch(
        &mut self,
        nodes: Vec<(usize, NodeLaunch)>,
    ) -> Result<(), Box<dyn Error>> {
        let hosts: Vec<_> = nodes.iter().map(|(host, _)| *host).collect();
        for (host, launch) in nodes {
            self.processes.launch(host, launch).await?;
            self.expected_addrs
                .entry(host)
                .or_insert_with(|| socket_address(host));
        }
        self.processes.wait_until_started(&hosts).await
    }

    /// Has calls flow, and a moment of calm pass.
    pub(crate) async fn start_load(&mut self) -> Result<(), Box<dyn Error>> {
        self.processes.start_load(CALLS_PER_S).await?;
        sleep(SETTLE_TIME).await;
        Ok(())
    }

    /// Sets the faults of the network.
    pub(crate) fn set_faults(&mut self, faults: &[Fault]) -> Result<(), Box<dyn Error>> {
        self.network.set_faults(faults)
    }

    /// Marks the begin of the fault, from which on notices are evaluated.
    pub(crate) fn begin_fault(&mut self) -> Duration {
        self.fault_began = self.now();
        self.sent_before = self.with_record(|record| record.latest.clone());
        self.print_step("the fault begins");
        self.fault_began
    }

    /// Ends the faults of the network.
    pub(crate) fn clear_faults(&mut self) -> Result<Duration, Box<dyn Error>> {
        self.network.set_faults(&[])?;
        self.begin_recovery();
        self.print_step("the fault ends");
        Ok(self.recovery_from)
    }

    /// Marks the time from which on the cluster can recover.
    pub(crate) fn begin_recovery(&mut self) {
        self.recovery_from = self.now();
    }

    /// Lets time pass, less of it in the quick form.
    pub(crate) async fn wait_seconds(&self, seconds: u64, quick_seconds: u64) {
        let seconds = if self.quick { quick_seconds } else { seconds };
        sleep(Duration::from_secs(seconds)).await;
    }

    /// Replaces the address of a host.
    pub(crate) fn change_address(
        &mut self,
        host: usize,
        to: Ipv4Addr,
    ) -> Result<(), Box<dyn Error>> {
        self.network.change_address(host, address(host), to)?;
        self.expected_addrs.insert(host, (to, PORT).into());
        Ok(())
    }

    /// These hosts may be held failed.
    pub(crate) fn allow_failures_of(&mut self, hosts: &[usize]) {
        self.may_fail.extend(hosts);
    }

    /// These hosts may hold others failed.
    pub(crate) fn allow_failures_by(&mut self, hosts: &[usize]) {
        self.may_report_failures.extend(hosts);
    }

    /// Waits until the check has nothing to complain of; how long that took. If it does not come to
    /// that, it is a complaint.
    pub(crate) async fn wait_for(
        &mut self,
        what: &str,
        within: Duration,
        check: impl Fn(&ClusterRecord) -> CheckResult,
    ) -> Option<Duration> {
        let begin = Instant::now();
        loop {
            let finding = self.with_record(&check);
            let took = begin.elapsed();
            match finding {
                Ok(()) => {
                    self.print_step(&format!("{what} (after {:.2} s)", took.as_secs_f64()));
                    return Some(took);
                }
                Err(seen) if took > within => {
                    self.fail(format!("{what}: not within {within:?}: {seen}"));
                    return None;
                }
                Err(_) => sleep(POLL_INTERVAL).await,
            }
        }
    }

    /// Reads the record.
    pub(crate) fn with_record<T>(&self, check: impl FnOnce(&ClusterRecord) -> T) -> T {
        self.processes.with_record(check)
    }

    /// Fails the situation unless the check passed.
    pub(crate) fn expect(&mut self, what: &str, finding: CheckResult) {
        if let Err(seen) = finding {
            self.fail(format!("{what}: {seen}"));
        }
    }

    /// Fails the situation if a start waited for a seed that does not answer.
    pub(crate) fn expect_quick_starts(&mut self) {
        let starts = self.with_record(|record| record.starts_ms.clone());
        let longest = starts.iter().max_by_key(|(_, took)| **took);
        let Some((host, took)) = longest else { return };
        self.print_step(&format!(
            "{host} took longest to start: {took} ms until it had joined"
        ));
        let limit = u64::try_from(START_TIME_MAX.as_millis()).unwrap_or(u64::MAX);
        let late: Vec<_> = starts
            .iter()
            .filter(|(_, took)| **took > limit)
            .map(|(host, took)| format!("{host} took {took} ms"))
            .collect();
        if !late.is_empty() {
            self.fail(format!(
                "starts take at most {limit} ms: {}",
                late.join(", ")
            ));
        }
    }

    /// Records a failed check.
    pub(crate) fn fail(&mut self, complaint: String) {
        println!("  FAILED: {complaint}");
        self.complaints.push(complaint);
    }

    /// Prints a step.
    pub(crate) fn print_step(&self, what: &str) {
        println!("  {:6.2} s  {what}", self.begin.elapsed().as_secs_f64());
    }

    /// Records the time of the detection.
    pub(crate) fn record_detection(&mut self, after: Option<Duration>) {
        let since_fault = after.map(|_| self.now().saturating_sub(self.fault_began));
        self.detected = self.detected.max(since_fault);
    }

    /// Records the time of the recovery.
    pub(crate) fn record_recovery(&mut self, after: Option<Duration>) {
        self.recovered = after.map(|_| self.now().saturating_sub(self.recovery_from));
    }

    /// Time since the situation began.
    pub(crate) fn elapsed(&self) -> Duration {
        self.begin.elapsed()
    }

    /// Time of the record.
    pub(crate) fn now(&self) -> Duration {
        self.with_record(ClusterRecord::now)
    }

    pub(crate) fn fault_began(&self) -> Duration {
        self.fault_began
    }

    pub(crate) fn recovery_from(&self) -> Duration {
        self.recovery_from
    }

    pub(crate) fn is_quick(&self) -> bool {
        self.quick
    }

    pub(crate) fn hosts(&self) -> usize {
        self.network.hosts()
    }

    pub(crate) fn network(&self) -> &'a HostNetwork {
        self.network
    }

    pub(crate) fn processes(&mut self) -> &mut NodeProcesses<'a> {
        &mut self.processes
    }

    /// The running hosts by name, and where each is reached.
    pub(crate) fn expected_addrs(&self) -> BTreeMap<String, SocketAddr> {
        let hosts = self.expected_addrs.iter();
        hosts.map(|(host, addr)| (port(*host), *addr)).collect()
    }

    /// The names of the running hosts but these.
    pub(crate) fn names_but(&self, hosts: &[usize]) -> Names {
        let others = self
            .expected_addrs
            .keys()
            .filter(|host| !hosts.contains(host));
        others.map(|host| port(*host)).collect()
    }

    /// Judges what has been told since the fault began.
    fn evaluate(&mut self, situation: Situation) -> Row {
        let since = self.fault_began;
        let named = |hosts: &BTreeSet<usize>| names(&hosts.iter().copied().collect::<Vec<_>>());
        let (may_fail, may_accuse) = (named(&self.may_fail), named(&self.may_report_failures));
        let mut observers = self.names_but(&[]);
        observers.retain(|name| !may_accuse.contains(name));
        let calls = self.with_record(|record| calls(record, since));
        let failures =
            self.with_record(|record| false_failures(record, &observers, &may_fail, since));
        let (most, suspicions) = self.with_record(|record| suspicions(record, &observers, since));
        let ended = self.with_record(|record| record.ended.clone());
        let now = self.with_record(|record| record.latest.clone());
        let busiest = most_datagrams(&self.sent_before, &now);
        if let Some(first) = failures.first() {
            let count = failures.len();
            self.fail(format!("{count} false failures, such as: {first}"));
        }
        if let Some((pair, count)) = most.filter(|(_, count)| *count > SUSPICIONS_MAX) {
            self.fail(format!(
                "{pair}: {count} suspicions, at most {SUSPICIONS_MAX}"
            ));
        }
        if let Some((host, rate)) = busiest.as_ref().filter(|(_, rate)| *rate > DATAGRAMS_S_MAX) {
            self.fail(format!(
                "{host} sent {rate:.0} datagrams/s, at most {DATAGRAMS_S_MAX}"
            ));
        }
        if calls.failed > 0 {
            let errors = calls.errors.join("; ");
            self.fail(format!("{} calls failed: {errors}", calls.failed));
        }
        if calls.ok() == 0 {
            self.fail("no call was answered".to_owned());
        }
        for end in ended {
            self.fail(format!("a process ended by itself: {end}"));
        }
        if !self.complaints.is_empty() {
            self.show_warnings();
        }
        Row {
            situation: situation.name(),
            hosts: self.hosts(),
            ok: self.complaints.is_empty(),
            detect_s: self.detected.map(|it| it.as_secs_f64()),
            recovered_s: self.recovered.map(|it| it.as_secs_f64()),
            calls_ok: calls.ok(),
            calls_failed: calls.failed,
            false_failures: failures.len() as u64,
            suspicions,
            datagrams_s: busiest.map(|(_, rate)| rate),
            seconds: self.begin.elapsed().as_secs_f64(),
            complaints: self.complaints.clone(),
        }
    }

    /// Shows what nodes have warned of, for those who look for the reason.
    fn show_warnings(&self) {
        for host in self.expected_addrs.keys() {
            for line in self.processes.last_warnings(*host) {
                println!("          {}: {line}", port(*host));
            }
        }
    }

    /// Ends the processes and puts the hosts back as they were.
    async fn restore(self) -> Result<(), Box<dyn Error>> {
        self.processes.end().await?;
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
            self.network.write_hosts_file(host, &HostsFile::Addresses)?;
        }
        Ok(())
    }
}

/// The names of hosts.
pub(crate) fn names(hosts: &[usize]) -> Names {
    hosts.iter().map(|host| port(*host)).collect()
}

const CALLS_PER_S: u32 = 50;
/// Time before a fault begins.
const SETTLE_TIME: Duration = Duration::from_secs(1);
const FULL_VIEWS_TIMEOUT: Duration = Duration::from_secs(15);
/// A start that waits for a seed which never answers takes the whole join timeout, 10 s.
const START_TIME_MAX: Duration = Duration::from_secs(5);
const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// Most suspicions of one member by one observer in a situation.
const SUSPICIONS_MAX: u64 = 3;
/// Highest rate of a host, on average over a situation.
const DATAGRAMS_S_MAX: f64 = 300.0;
const USUAL_MTU: u16 = 1_500;
