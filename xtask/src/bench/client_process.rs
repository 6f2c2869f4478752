//! Client process of a measurement, which starts its server.

use std::{
    env,
    error::Error,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use rpcnet_transport::DevCa;
use tokio::time::Instant;
use xtask_harness::ChildProcess;
use xtask_load::{Assignment, CLIENT, CallReport, ClientMessage, Job, Runtime, SERVER, Setup};

use super::{network::Network, node, options::Options, subjects::Subject};
use crate::project;

/// Setup that all measurements of a run share.
#[derive(Debug)]
pub(crate) struct BenchSetup {
    ca: DevCa,
    keys: tempfile::TempDir,
    network: Network,
    peers: Option<PathBuf>,
    /// Runtimes of server and client.
    runtimes: [Runtime; 2],
    /// Cores of server and client.
    cores: [Option<usize>; 2],
}

/// Measurement of a subject.
#[derive(Debug, Clone)]
pub(crate) struct Measurement {
    pub(crate) subject: Subject,
    pub(crate) job: Job,
    /// Calls at a time that limits have to allow.
    pub(crate) in_flight: usize,
    pub(crate) body_bytes: usize,
    /// The client connects only when it is [told to](RunningClient::proceed).
    pub(crate) hold: bool,
}

/// A client that runs. Dropped, it is killed, and its server ends with it.
#[derive(Debug)]
pub(crate) struct RunningClient {
    child: ChildProcess,
    timeout: Duration,
}

impl BenchSetup {
    /// Makes keys, finds cores, and builds the peers if there are any among the subjects.
    ///
    /// # Errors
    ///
    /// When one of them cannot be done.
    pub(crate) fn new(options: &Options, subjects: &[Subject]) -> Result<Self, Box<dyn Error>> {
        let keys = tempfile::tempdir()?;
        let ca = DevCa::new("bench");
        for name in [SERVER, CLIENT] {
            ca.write_pem(keys.path(), name)?;
        }
        let peers = subjects.iter().any(|it| it.is_peer());
        Ok(Self {
            ca,
            keys,
            network: Network::Loopback,
            peers: if peers {
                Some(project::build_peers("peers")?)
            } else {
                None
            },
            runtimes: [options.measuring.runtime(); 2],
            cores: cores(options),
        })
    }

    /// Makes keys for others too.
    ///
    /// # Errors
    ///
    /// When they cannot be written.
    pub(crate) fn issue_keys(&self, names: &[String]) -> Result<(), Box<dyn Error>> {
        for name in names {
            self.ca.write_pem(self.keys.path(), name)?;
        }
        Ok(())
    }

    /// Measures over this network from now on.
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

    /// Folder of keys and certificates.
    pub(crate) fn keys(&self) -> &Path {
        self.keys.path()
    }

    /// The core that clients have.
    pub(crate) fn client_core(&self) -> Option<usize> {
        self.cores[1]
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

    /// Measures calls.
    ///
    /// # Errors
    ///
    /// What went wrong, a wrong reply for one.
    pub(crate) async fn calls(
        &self,
        measurement: &Measurement,
    ) -> Result<CallReport, Box<dyn Error>> {
        match self.start(measurement).await?.result().await? {
            ClientMessage::Calls(report) => Ok(report),
            other => Err(format!("the client tells {other:?}").into()),
        }
    }

    /// Starts a measurement.
    ///
    /// # Errors
    ///
    /// When the client cannot be started.
    pub(crate) async fn start(
        &self,
        measurement: &Measurement,
    ) -> Result<RunningClient, Box<dyn Error>> {
        let [server_core, client_core] = self.cores;
        let [server_runtime, client_runtime] = self.runtimes;
        let setup = |core, runtime, ip| Setup {
            subject: measurement.subject.name.to_owned(),
            keys: self.keys.path().to_owned(),
            ip,
            core,
            runtime,
            in_flight: measurement.in_flight,
            body_bytes: measurement.body_bytes,
            early_data: matches!(measurement.job, Job::Reconnect(_)),
        };
        let assignment = Assignment {
            client: setup(client_core, client_runtime, self.network.client_ip()),
            server: setup(server_core, server_runtime, self.network.server_ip()),
            server_command: self.command(measurement.subject, "server")?,
            hold: measurement.hold,
            relay: self.network.relay(),
            job: measurement.job.clone(),
        };
        let command = self.command(measurement.subject, "client")?;
        let mut client = Command::new(&command[0]);
        client.args(&command[1..]);
        let mut child = ChildProcess::spawn("the client", client)?;
        child.send(&assignment).await?;
        Ok(RunningClient {
            child,
            timeout: job_time(&measurement.job) + OVERHEAD_MAX,
        })
    }

    /// Program and arguments of one side.
    fn command(&self, subject: Subject, role: &str) -> Result<Vec<String>, Box<dyn Error>> {
        let (program, first) = match &self.peers {
            Some(peers) if subject.is_peer() => (peers.clone(), None),
            _ => (env::current_exe()?, Some(node::COMMAND)),
        };
        let program = program.into_os_string().into_string();
        let program = program.map_err(|name| format!("{name:?} is no UTF-8"))?;
        let mut command = self.network.prefix(role == "server");
        command.push(program);
        let rest = [first, Some(role), Some(subject.name)];
        command.extend(rest.into_iter().flatten().map(str::to_owned));
        Ok(command)
    }
}

impl RunningClient {
    /// Next message of the client.
    ///
    /// # Errors
    ///
    /// When it fails, ends, or takes too long.
    pub(crate) async fn event(&mut self) -> Result<ClientMessage, Box<dyn Error>> {
        let deadline = Instant::now() + self.timeout;
        match self.child.recv_by(deadline, "measure").await? {
            ClientMessage::Failed { message } => Err(message.into()),
            event => Ok(event),
        }
    }

    /// Lets a client connect that was started to hold.
    ///
    /// # Errors
    ///
    /// When it has ended.
    pub(crate) async fn proceed(&mut self) -> Result<(), Box<dyn Error>> {
        // Any line will do.
        Ok(self.child.send(&()).await?)
    }

    /// Result of the measurement.
    ///
    /// # Errors
    ///
    /// As of [`event`](Self::event).
    pub(crate) async fn result(mut self) -> Result<ClientMessage, Box<dyn Error>> {
        loop {
            match self.event().await? {
                ClientMessage::Serving { .. } => {}
                event => {
                    // The last message; its server is gone already.
                    self.child.wait_by(Instant::now() + self.timeout).await?;
                    return Ok(event);
                }
            }
        }
    }
}

/// Cores for server and client: the first two that there are. On one alone they would take turns,
/// and the system chooses.
fn cores(options: &Options) -> [Option<usize>; 2] {
    match xtask_load::cores()[..] {
        [server, client, ..] if !options.measuring.unpinned => [Some(server), Some(client)],
        _ => [None, None],
    }
}

fn job_time(job: &Job) -> Duration {
    match job {
        Job::Closed(load) | Job::Beside { load, .. } => load.warm_up + load.window,
        Job::Spread(spread) => spread.load.warm_up + spread.load.window,
        Job::Open(load) => load.warm_up + load.window,
        Job::Stream(load) => load.warm_up + load.window,
        Job::Connections { .. } | Job::Reconnect(_) => Duration::from_secs(60),
    }
}

/// Time for a measurement beside its window: the start, and the end of the last calls.
const OVERHEAD_MAX: Duration = Duration::from_secs(30);
