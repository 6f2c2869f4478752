//! Shared parts of the examples of topologies: identities, processes that can be killed, waiting.

#![allow(dead_code, reason = "no example needs all of it")]

use std::{
    error::Error,
    ops::Deref,
    sync::Arc,
    time::{Duration, Instant},
};

use rpcnet_client::{ClusterConfig, ClusterKey, DevCa, Node, NodeBuilder};
use tokio::runtime::{Builder, Runtime};

pub(crate) type Result<T = (), E = Box<dyn Error + Send + Sync>> = std::result::Result<T, E>;

/// Who may take part: made for one run. Real processes read theirs from files and the environment.
#[derive(Clone)]
pub(crate) struct Trust {
    ca: Arc<DevCa>,
    key: ClusterKey,
}

impl Trust {
    pub(crate) fn new() -> Self {
        Self {
            ca: Arc::new(DevCa::new("example")),
            key: ClusterKey::generate(),
        }
    }

    /// A node of this name, on a port of the system's choice on this machine.
    pub(crate) fn node(&self, name: &str) -> Result<NodeBuilder> {
        Ok(Node::builder()
            .bind("127.0.0.1:0")
            .tls(self.ca.issue(name)?)
            .cluster_key(self.key.clone())
            .cluster_config(ClusterConfig::local()))
    }
}

/// Something on a runtime of its own, to be killed as a process is: in the middle of everything,
/// without a word.
pub(crate) struct Process<T> {
    it: Option<T>,
    runtime: Option<Runtime>,
}

impl<T: Send + 'static> Process<T> {
    /// Runs `start` there, which leaves its tasks behind.
    pub(crate) async fn start(
        start: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        let started = runtime.spawn(start);
        // From here on it ends with its process, also if it fails to start.
        let mut process = Self {
            it: None,
            runtime: Some(runtime),
        };
        process.it = Some(started.await??);
        Ok(process)
    }

    /// Back when nothing of it runs any more.
    pub(crate) async fn kill(mut self) -> Result {
        if let Some(runtime) = self.runtime.take() {
            let end = move || runtime.shutdown_timeout(PATIENCE);
            tokio::task::spawn_blocking(end).await?;
        }
        Ok(())
    }
}

impl<T> Drop for Process<T> {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl<T> Deref for Process<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.it.as_ref().expect("it has started")
    }
}

/// Waits until something holds that will, unless the example is wrong.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) -> Result {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        ensure(Instant::now() < deadline, what)?;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}

/// An example that does not show what it says fails.
pub(crate) fn ensure(holds: bool, what: &str) -> Result {
    if holds {
        Ok(())
    } else {
        Err(format!("does not hold: {what}").into())
    }
}

/// How many nodes with these tags this node would call.
pub(crate) fn count(node: &Node, filter: Option<&str>) -> usize {
    node.workers().select_all(filter).map_or(0, |all| all.len())
}

/// How long anything may take that is expected to happen. Only a failing example waits this long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
