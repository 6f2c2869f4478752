//! Client process of a measurement, which starts its server.

use std::{env, error::Error, net::SocketAddr, path::PathBuf, process::Command, time::Duration};

use tokio::time::Instant;
use xtask_harness::{ChildProcess, RunKeys};
use xtask_load::{
    Assignment, BulkLoad, CLIENT, Job, Order, Report, Runtime, SERVER, Serving, Setup,
};

use super::{
    disturbance::DisturbanceWatch,
    flood_process::{self, Complete, Flood, FloodKind},
    grid::readable_bytes,
    network::Network,
    node,
    options::Measuring,
    rounds,
    rows::{Placement, Row},
    subjects::Subject,
};
use crate::project;

/// Setup that all measurements of a run share.
#[derive(Debug)]
pub(crate) struct BenchSetup {
    keys: RunKeys,
    network: Network,
    peers: Option<PathBuf>,
    /// Runtimes of server and client.
    runtimes: [Runtime; 2],
    /// Cores of server and client.
    cores: [Option<usize>; 2],
}

impl BenchSetup {
    /// Makes keys, finds cores, and builds the peers if there are any among the subjects.
    pub(crate) fn new(options: &Measuring, subjects: &[Subject]) -> Result<Self, Box<dyn Error>> {
        let keys = RunKeys::create("bench")?;
        for name in [SERVER, CLIENT] {
            keys.issue(name)?;
        }
        let peers = subjects.iter().any(|it| it.is_peer());
        Ok(Self {
            keys,
            network: Network::Loopback,
            peers: match peers {
                true => Some(project::build_peers("peers")?),
                false => None,
            },
            runtimes: [options.runtime(); 2],
            cores: match options.unpinned {
                true => [None, None],
                false => pinned_cores(),
            },
        })
    }

    pub(crate) fn issue_keys(&self, names: &[String]) -> Result<(), Box<dyn Error>> {
        names.iter().try_for_each(|name| self.keys.issue(name))
    }

    /// Cores of server and client, if they are pinned.
    pub(crate) fn cores(&self) -> [Option<usize>; 2] {
        self.cores
    }

    pub(crate) fn with_network(mut self, network: Network) -> Self {
        self.network = network;
        self
    }

    /// Server and client share all cores from now on: the server's runtime has a thread for each of
    /// them. A client has them by [spreading](Job::Spread) its load.
    pub(crate) fn with_shared_cores(mut self) -> Self {
        self.runtimes = [Runtime::Multi, Runtime::Current];
        self.cores = [None, None];
        self
    }

    /// Runtimes and cores that the processes have, as targets distinguish them.
    fn placement(&self) -> Placement {
        placement(self.runtimes, self.cores, xtask_load::cores().len())
    }

    /// Cores and runtimes of both processes, for people.
    pub(crate) fn describe(&self) -> String {
        let runtimes = match self.runtimes {
            [Runtime::Current, Runtime::Current] => "current-thread runtimes",
            [Runtime::Multi, Runtime::Multi] => "multi-thread runtimes",
            _ => "each with a thread for each core",
        };
        let cores = match self.cores {
            [Some(server), Some(client)] => {
                format!("server on core {server}, client on core {client}")
            }
            _ => "not pinned to cores".to_owned(),
        };
        format!("{cores}, {runtimes}, the system's allocator")
    }

    /// Measures groups of rows in [rounds](rounds::measure). A row has the failures of its subject,
    /// if that may fail.
    pub(crate) async fn measure_all(
        &self,
        options: &Measuring,
        mut groups: Vec<Vec<Row>>,
    ) -> Result<Vec<Row>, Box<dyn Error>> {
        let name = |row: &Row| {
            let bytes = readable_bytes(row.load.body_bytes);
            format!("{}, {bytes}, {}", row.subject.name, row.cell)
        };
        rounds::measure(options.rounds(), &mut groups, name, async |row| {
            if row.failed.is_some() {
                return Ok(());
            }
            row.placement = self.placement();
            match self.measure_undisturbed(row, options.repeats_max()).await {
                Ok(report) => row.reports.push(report),
                Err(error) if row.subject.may_fail() => row.failed = Some(error.to_string()),
                Err(error) => return Err(error),
            }
            Ok(())
        })
        .await?;
        Ok(groups.concat())
    }

    /// Measures a row until the machine is not [disturbed](super::disturbance), but no more than
    /// so many times again; else the report of the least disturbed time.
    async fn measure_undisturbed(
        &self,
        row: &mut Row,
        repeats_max: u32,
    ) -> Result<Report, Box<dyn Error>> {
        let mut best: Option<(f64, Report)> = None;
        for _ in 0..=repeats_max {
            let watch = DisturbanceWatch::begin(self.cores)?;
            let report = self.measure(row).await?;
            let disturbance = watch.end(row.flood.is_some())?;
            row.thrown_away += u32::from(best.is_some());
            if !disturbance.exceeds_limits() {
                return Ok(report);
            }
            let excess = disturbance.excess();
            best = match best {
                Some(best) if best.0 <= excess => Some(best),
                _ => Some((excess, report)),
            };
        }
        row.disturbed += 1;
        Ok(best.expect("it was measured once").1)
    }

    /// Measures a row once, under its flood if it has one.
    pub(crate) async fn measure(&self, row: &Row) -> Result<Report, Box<dyn Error>> {
        let command = self.command(row.subject, false)?;
        let mut process = Command::new(&command[0]);
        process.args(&command[1..]);
        let mut client = ChildProcess::spawn("the client", process)?;
        let assignment = self.assignment(row)?;
        client.send(&Order::Measure(assignment.into())).await?;
        let deadline = || Instant::now() + job_time(row) + OVERHEAD_MAX;
        let server: Serving = client.recv_by(deadline(), "start").await?;
        let _flood = match row.flood {
            Some(kind) => Some(self.start_flood(kind, server.address).await?),
            None => None,
        };
        if row.flood.is_some() {
            // It may connect now.
            client.send(&()).await?;
        }
        let report: Report = client.recv_by(deadline(), "measure").await?;
        // Its server is gone already.
        client.wait_by(deadline()).await?;
        Ok(report)
    }

    fn assignment(&self, row: &Row) -> Result<Assignment, Box<dyn Error>> {
        let bulk = match row.job {
            Job::Closed { bulk } => bulk,
            _ => None,
        };
        let ips = self.network.ips();
        let setup = |side: usize| Setup {
            subject: row.subject.name.to_owned(),
            keys: self.keys.folder().to_owned(),
            ip: ips[side].into(),
            core: self.cores[side],
            runtime: self.runtimes[side],
            in_flight: row.load.in_flight + bulk.map_or(0, BulkLoad::calls),
            body_bytes: bulk.map_or(0, |it| it.bytes_max).max(row.load.body_bytes),
            connections: match row.job {
                Job::Connections { count } => count,
                _ => 0,
            },
            early_data: matches!(row.job, Job::Reconnect { .. }),
        };
        Ok(Assignment {
            server: setup(0),
            client: setup(1),
            server_command: self.command(row.subject, true)?,
            hold: row.flood.is_some(),
            relay: self.network.relay(),
            load: row.load,
            job: row.job,
        })
    }

    /// Starts a flood and waits until it is complete. It ends with its handle.
    async fn start_flood(
        &self,
        kind: FloodKind,
        server: SocketAddr,
    ) -> Result<ChildProcess, Box<dyn Error>> {
        let mut process = ChildProcess::start("the flood", &[flood_process::COMMAND])?;
        let flood = Flood {
            kind,
            server,
            keys: self.keys.folder().to_owned(),
            // It takes no time of the server's core.
            core: self.cores[1],
        };
        process.send(&flood).await?;
        let deadline = Instant::now() + FLOOD_TIMEOUT;
        process.recv_by::<Complete>(deadline, "begin").await?;
        Ok(process)
    }

    fn command(&self, subject: Subject, server: bool) -> Result<Vec<String>, Box<dyn Error>> {
        let (program, subcommand) = match &self.peers {
            Some(peers) if subject.is_peer() => (peers.clone(), None),
            _ => (env::current_exe()?, Some(node::COMMAND.to_owned())),
        };
        let program = program.into_os_string().into_string();
        let program = program.map_err(|name| format!("{name:?} is no UTF-8"))?;
        let mut command = self.network.prefix(server);
        command.push(program);
        command.extend(subcommand);
        Ok(command)
    }
}

/// Cores for server and client: the first two that there are. On one alone they would take turns,
/// and the system chooses.
pub(crate) fn pinned_cores() -> [Option<usize>; 2] {
    match xtask_load::cores()[..] {
        [server, client, ..] => [Some(server), Some(client)],
        _ => [None, None],
    }
}

/// Placement of these runtimes on these cores, where so many are available. On one core alone
/// server and client take turns, whatever their runtimes.
fn placement(
    runtimes: [Runtime; 2],
    cores: [Option<usize>; 2],
    cores_available: usize,
) -> Placement {
    match (runtimes, cores) {
        ([Runtime::Current, Runtime::Current], [Some(_), Some(_)]) => Placement::Pinned,
        ([Runtime::Multi, Runtime::Multi], [None, None]) if cores_available > 1 => {
            Placement::Shared
        }
        _ => Placement::Other,
    }
}

fn job_time(row: &Row) -> Duration {
    match row.job {
        Job::Connections { .. } | Job::Reconnect { .. } => Duration::from_secs(60),
        _ => row.load.warm_up + row.load.window,
    }
}

/// Time for a measurement beside its window: the start, and the end of the last calls.
const OVERHEAD_MAX: Duration = Duration::from_secs(30);

const FLOOD_TIMEOUT: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_placement_is_that_of_the_cores_in_use() {
        let [current, multi] = [Runtime::Current, Runtime::Multi].map(|it| [it; 2]);
        let (pinned, free) = ([Some(0), Some(1)], [None; 2]);
        for (runtimes, cores, cores_available, expected) in [
            (current, pinned, 2, Placement::Pinned),
            (multi, free, 2, Placement::Shared),
            // There was one core only, as under `taskset -c 0`.
            (current, free, 1, Placement::Other),
            (multi, free, 1, Placement::Other),
            (multi, pinned, 2, Placement::Other),
            (current, free, 2, Placement::Other),
            ([multi[0], current[0]], free, 2, Placement::Other),
        ] {
            let what = format!("{runtimes:?} on {cores:?} of {cores_available}");
            assert_eq!(
                placement(runtimes, cores, cores_available),
                expected,
                "{what}"
            );
        }
    }
}
