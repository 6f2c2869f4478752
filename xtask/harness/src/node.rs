//! Child processes that are nodes of a cluster: their setup, and how they run.

use std::{error::Error, fs, path::PathBuf, process::ExitCode};

use rpcnet_client::{
    Node, NodeBuilder,
    swim::{ClusterConfig, ClusterKey},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::runtime::Builder;

use crate::{
    Outcome, ParentLink,
    keys::{CLUSTER_KEY, tls},
};

/// Name of a node, and where it finds the others.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct NodeSetup {
    /// The node's name, which its certificate bears.
    pub name: String,
    /// The folder with the run's certificates and keys, which never pass through a command line.
    pub keys: PathBuf,
    /// Addresses to join, as an operator would write them; the first node has none.
    pub seeds: Vec<String>,
}

/// Runs a child until its parent has it end, or is gone. An error is sent to the parent, to which
/// it is a [`ProcessError::Failed`](crate::ProcessError::Failed).
pub fn run_child<O, N>(
    work: impl AsyncFnOnce(&mut ParentLink<O, N>) -> Result<(), Box<dyn Error + Send + Sync>>,
) -> Outcome
where
    O: DeserializeOwned + Send + 'static,
    N: Serialize + Send + 'static,
{
    let mut runtime = Builder::new_multi_thread();
    runtime.worker_threads(THREADS);
    run_child_on(runtime, work)
}

/// [`run_child`] on the runtime that `runtime` builds.
pub fn run_child_on<O, N>(
    mut runtime: Builder,
    work: impl AsyncFnOnce(&mut ParentLink<O, N>) -> Result<(), Box<dyn Error + Send + Sync>>,
) -> Outcome
where
    O: DeserializeOwned + Send + 'static,
    N: Serialize + Send + 'static,
{
    // A stopped process would not see its input end.
    #[cfg(target_os = "linux")]
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    runtime.enable_all().build()?.block_on(async {
        let mut link = ParentLink::open()?;
        match work(&mut link).await {
            Ok(()) => {
                link.close().await;
                Ok(ExitCode::SUCCESS)
            }
            Err(error) => {
                link.fail(&*error).await;
                Ok(ExitCode::FAILURE)
            }
        }
    })
}

/// Builder of a node with the identity and the secrets of a run.
pub fn node_builder(
    cluster: &str,
    setup: &NodeSetup,
) -> Result<NodeBuilder, Box<dyn Error + Send + Sync>> {
    let cluster_key = fs::read_to_string(setup.keys.join(CLUSTER_KEY))?;
    Ok(Node::builder()
        .bind("127.0.0.1:0")
        .cluster_name(cluster)
        .cluster_config(ClusterConfig::local())
        .tls(tls(&setup.keys, &setup.name)?)
        .cluster_key(ClusterKey::from_hex(&cluster_key)?)
        .seeds(setup.seeds.clone()))
}

/// Worker threads of a child's runtime: there are many processes and few cores.
const THREADS: usize = 2;
