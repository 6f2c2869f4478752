//! Node processes of a situation, one in each host.

use std::{
    collections::BTreeMap,
    error::Error,
    fs::{self, File},
    net::Ipv4Addr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    sync::mpsc,
    task::JoinHandle,
    time::{Instant, sleep},
};
use xtask_harness::{ChildProcess, RunKeys};

use super::{
    faults::port,
    hosts::{HostNetwork, PORT},
    node,
    protocol::{Notice, Order, Setup},
    record::ClusterRecord,
};

/// The processes of a situation and what they told. Dropped, they are killed.
pub(crate) struct NodeProcesses<'a> {
    network: &'a HostNetwork,
    keys: RunKeys,
    logs: PathBuf,
    record: Arc<Mutex<ClusterRecord>>,
    running: BTreeMap<usize, RunningNode>,
}

struct RunningNode {
    id: Option<Pid>,
    orders: mpsc::Sender<Order>,
    task: JoinHandle<()>,
}

/// Options of the start of a node.
#[derive(Clone, Debug, Default)]
pub(crate) struct NodeLaunch {
    /// The seeds, as an operator would write them.
    pub(crate) seeds: Vec<String>,
    /// Tags beside the role.
    pub(crate) tags: Vec<(String, String)>,
    /// Its wall clock is behind by this.
    pub(crate) clock_back: Option<Duration>,
}

impl<'a> NodeProcesses<'a> {
    /// No process yet. `logs`: the folder for what they write to standard error.
    pub(crate) fn new(network: &'a HostNetwork, logs: &Path) -> Result<Self, Box<dyn Error>> {
        let keys = RunKeys::create("chaos")?;
        fs::create_dir_all(logs)?;
        // Before any node reads: each of them writes the CA's certificate anew.
        for host in 1..=network.hosts() {
            keys.issue(&port(host))?;
            // Not those of the run before.
            File::create(log_path(logs, host))?;
        }
        Ok(Self {
            network,
            keys,
            logs: logs.to_owned(),
            record: Arc::new(Mutex::new(ClusterRecord::new())),
            running: BTreeMap::new(),
        })
    }

    /// Reads the record.
    pub(crate) fn with_record<T>(&self, read: impl FnOnce(&ClusterRecord) -> T) -> T {
        read(&self.record.lock())
    }

    /// Starts a node process; back at once.
    pub(crate) async fn launch(
        &mut self,
        host: usize,
        launch: NodeLaunch,
    ) -> Result<(), Box<dyn Error>> {
        let name = port(host);
        let mut command = self.network.command_in(host, &[node::COMMAND])?;
        let log = log_path(&self.logs, host);
        let log = File::options().create(true).append(true).open(log)?;
        command.stderr(log);
        if let Some(back) = launch.clock_back {
            let library = libfaketime_path().ok_or("libfaketime is missing")?;
            command
                .env("LD_PRELOAD", library)
                .env("FAKETIME", format!("-{}s", back.as_secs()))
                .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        }
        let mut child = ChildProcess::spawn(&name, command)?;
        let setup = Setup {
            name: name.clone(),
            keys: self.keys.folder().to_owned(),
            seeds: launch.seeds,
            bind: (Ipv4Addr::UNSPECIFIED, PORT).into(),
            tags: launch.tags,
            is_client: host == CLIENT,
        };
        child.send(&Order::Start(setup)).await?;
        let id = child.id().and_then(|id| i32::try_from(id).ok());
        let (orders, receiver) = mpsc::channel(8);
        self.record.lock().forget_host(&name);
        let running = RunningNode {
            id: id.and_then(Pid::from_raw),
            orders,
            task: tokio::spawn(relay_messages(child, Arc::clone(&self.record), receiver)),
        };
        self.running.insert(host, running);
        Ok(())
    }

    /// Waits until the nodes of these hosts have started.
    pub(crate) async fn wait_until_started(&self, hosts: &[usize]) -> Result<(), Box<dyn Error>> {
        let deadline = Instant::now() + START_TIMEOUT;
        loop {
            let missing = self.with_record(|record| {
                if let Some(ended) = record.ended.first() {
                    return Err(ended.clone());
                }
                let has_started = |host: &&usize| !record.starts_ms.contains_key(&port(**host));
                Ok(hosts.iter().find(has_started).copied())
            })?;
            match missing {
                None => return Ok(()),
                Some(host) if Instant::now() > deadline => {
                    let name = port(host);
                    return Err(format!("{name} did not start within {START_TIMEOUT:?}").into());
                }
                Some(_) => sleep(POLL_INTERVAL).await,
            }
        }
    }

    /// Kills a host's node process (SIGKILL) and waits until it is gone.
    pub(crate) async fn kill(&mut self, host: usize) -> Result<(), Box<dyn Error>> {
        let running = self.running.remove(&host).ok_or("no such process")?;
        drop(running.orders);
        Ok(running.task.await?)
    }

    /// Kills all processes and waits until they are gone, so that their ports are free.
    pub(crate) async fn end(mut self) -> Result<(), Box<dyn Error>> {
        let hosts: Vec<_> = self.running.keys().copied().collect();
        for host in hosts {
            self.kill(host).await?;
        }
        Ok(())
    }

    /// Sends a signal to a host's node process.
    pub(crate) fn signal(&self, host: usize, signal: Signal) -> Result<(), Box<dyn Error>> {
        let running = self.running.get(&host);
        let id = running.and_then(|running| running.id);
        let id = id.ok_or_else(|| format!("{} does not run", port(host)))?;
        Ok(kill_process(id, signal)?)
    }

    /// Has the client begin to make calls.
    pub(crate) async fn start_load(&mut self, calls_per_s: u32) -> Result<(), Box<dyn Error>> {
        self.order_client(Order::Load { calls_per_s }).await
    }

    /// Has the client make no more calls, and waits until all have ended.
    pub(crate) async fn end_load(&mut self) -> Result<(), Box<dyn Error>> {
        self.order_client(Order::EndLoad).await?;
        let deadline = Instant::now() + END_LOAD_TIMEOUT;
        while !self.with_record(|record| record.load_ended) {
            if Instant::now() > deadline {
                return Err(format!("calls did not end within {END_LOAD_TIMEOUT:?}").into());
            }
            sleep(POLL_INTERVAL).await;
        }
        Ok(())
    }

    async fn order_client(&mut self, order: Order) -> Result<(), Box<dyn Error>> {
        let client = self.running.get(&CLIENT).ok_or("there is no client")?;
        let sent = client.orders.send(order).await;
        sent.map_err(|_| "the client has ended".into())
    }

    /// The last warnings of a host's node.
    pub(crate) fn last_warnings(&self, host: usize) -> Vec<String> {
        let text = fs::read_to_string(log_path(&self.logs, host)).unwrap_or_default();
        let lines = text.lines().filter(|line| {
            ["WARN", "ERROR", "panicked"]
                .iter()
                .any(|word| line.contains(word))
        });
        let lines: Vec<_> = lines.map(str::to_owned).collect();
        lines[lines.len().saturating_sub(WARNINGS_MAX)..].to_vec()
    }
}

/// Path of the log of a host's node.
fn log_path(folder: &Path, host: usize) -> PathBuf {
    folder.join(port(host)).with_extension("log")
}

/// Notes what a child tells, and passes orders on, until there can be no more of them: then the
/// child is killed.
async fn relay_messages(
    mut child: ChildProcess,
    record: Arc<Mutex<ClusterRecord>>,
    mut orders: mpsc::Receiver<Order>,
) {
    let name = child.name().to_owned();
    loop {
        let error = tokio::select! {
            notice = child.recv::<Notice>() => match notice {
                Ok(notice) => {
                    record.lock().add(&name, notice);
                    continue;
                }
                Err(error) => error,
            },
            order = orders.recv() => match order {
                Some(order) => match child.send(&order).await {
                    Ok(()) => continue,
                    Err(error) => error,
                },
                None => match child.kill().await {
                    Ok(()) => return,
                    Err(error) => error,
                },
            },
        };
        record.lock().ended.push(error.to_string());
        return;
    }
}

/// The library that shows a process another wall clock, if it is installed.
pub(crate) fn libfaketime_path() -> Option<PathBuf> {
    let folders = fs::read_dir("/usr/lib").into_iter().flatten().flatten();
    let mut paths = folders.map(|folder| folder.path().join("faketime/libfaketimeMT.so.1"));
    paths.find(|path| path.exists())
}

/// The host whose node makes the calls.
pub(crate) const CLIENT: usize = 2;
const START_TIMEOUT: Duration = Duration::from_secs(30);
/// Longer than the deadline of a call.
const END_LOAD_TIMEOUT: Duration = Duration::from_secs(40);
const POLL_INTERVAL: Duration = Duration::from_millis(10);
const WARNINGS_MAX: usize = 4;
