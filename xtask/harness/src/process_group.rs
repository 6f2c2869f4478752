//! Child processes of a run, and what all of them do.

use std::{
    collections::BTreeMap,
    error::Error,
    io,
    process::{Command, ExitStatus},
    time::Duration,
};

use futures::future::{pending, select_all};
use serde::{Serialize, de::DeserializeOwned};
use tokio::time::Instant;

use crate::{ChildProcess, ProcessError, RunKeys};

/// The running child processes of a cluster by name, with their keys. Dropped, they are killed.
#[derive(Debug)]
pub struct ProcessGroup {
    keys: RunKeys,
    running: BTreeMap<String, ChildProcess>,
}

/// Message or end of a child.
#[derive(Debug)]
pub enum ChildEvent<N> {
    /// It sent a message.
    Notice(N),
    /// It ended, by itself or by a signal.
    Ended(ExitStatus),
}

impl ProcessGroup {
    /// No process yet; the keys of a CA of this name.
    pub fn new(ca: &str) -> io::Result<Self> {
        Ok(Self {
            keys: RunKeys::create(ca)?,
            running: BTreeMap::new(),
        })
    }

    /// The keys of the nodes.
    pub fn keys(&self) -> &RunKeys {
        &self.keys
    }

    /// Starts a child and sends it its first order; its process id.
    pub async fn start(
        &mut self,
        name: &str,
        command: Command,
        order: &impl Serialize,
    ) -> Result<u32, ProcessError> {
        let mut child = ChildProcess::spawn(name, command)?;
        child.send(order).await?;
        let id = child.id().unwrap_or_default();
        self.running.insert(name.to_owned(), child);
        Ok(id)
    }

    /// Sends an order to a child.
    pub async fn send(&mut self, name: &str, order: &impl Serialize) -> Result<(), Box<dyn Error>> {
        let child = self.running.get_mut(name);
        Ok(child.ok_or_else(|| not_running(name))?.send(order).await?)
    }

    /// Sends a signal to a child.
    #[cfg(unix)]
    pub fn signal(
        &self,
        name: &str,
        signal: rustix::process::Signal,
    ) -> Result<(), Box<dyn Error>> {
        let child = self.running.get(name);
        let id = child.and_then(|child| i32::try_from(child.id()?).ok());
        let id = id.and_then(rustix::process::Pid::from_raw);
        let id = id.ok_or_else(|| not_running(name))?;
        Ok(rustix::process::kill_process(id, signal)?)
    }

    /// Kills a child (SIGKILL) and waits until it is gone.
    pub async fn kill(&mut self, name: &str) -> Result<(), Box<dyn Error>> {
        let child = self.running.remove(name);
        Ok(child.ok_or_else(|| not_running(name))?.kill().await?)
    }

    /// Kills all children and waits until they are gone.
    pub async fn kill_all(&mut self) -> Result<(), ProcessError> {
        for child in self.running.values_mut() {
            child.kill().await?;
        }
        self.running.clear();
        Ok(())
    }

    /// The next event of any child. A child that has ended or failed is no longer in
    /// the group. Cancel safe.
    pub async fn next<N: DeserializeOwned>(
        &mut self,
    ) -> (String, Result<ChildEvent<N>, ProcessError>) {
        if self.running.is_empty() {
            return pending().await;
        }
        let events = self.running.iter_mut().map(|(name, child)| {
            Box::pin(async move {
                let event = match child.recv().await {
                    Ok(notice) => Ok(ChildEvent::Notice(notice)),
                    Err(ProcessError::Ended(_)) => {
                        let ended = child.wait_by(Instant::now() + END_TIMEOUT).await;
                        ended.map(ChildEvent::Ended)
                    }
                    Err(error) => Err(error),
                };
                (name.clone(), event)
            })
        });
        let ((name, event), ..) = select_all(events).await;
        if !matches!(event, Ok(ChildEvent::Notice(_))) {
            self.running.remove(&name);
        }
        (name, event)
    }
}

fn not_running(name: &str) -> String {
    format!("{name} does not run")
}

/// Time that a child may take to end after it closed its output.
const END_TIMEOUT: Duration = Duration::from_secs(5);
