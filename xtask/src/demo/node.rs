//! A child process of the demo: one node of the cluster, director or worker.

use std::{
    error::Error,
    fs, io,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use clap::Args;
use rpcnet_client::{
    ClusterClientConfig, Endpoint, Node, NodeBuilder, Router, Tls,
    swim::{ClusterConfig, ClusterKey},
};
use serde::{Deserialize, Serialize};

use super::{
    digest::FileDigest,
    director,
    protocol::{NodeSetup, Notice, Order, Role},
};
use crate::child_process::parent_link::ParentLink;

/// The way to the parent.
pub(crate) type Link = ParentLink<Order, Notice>;

/// How a child is started.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// What it is in the cluster.
    #[arg(long)]
    role: Role,
}

/// A worker's answer.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct DigestReply {
    /// Who did it.
    pub(crate) by: String,
    pub(crate) digest: FileDigest,
}

/// Runs a child until its parent has it end, or is gone.
pub(crate) fn run(options: &Options) -> crate::project::Outcome {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut link = Link::open()?;
        let result = match options.role {
            Role::Director => director::run_director(&mut link).await,
            Role::Worker => run_worker(&mut link).await,
        };
        let code = match result {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                let message = error.to_string();
                link.notices().send(Notice::Failed { message }).await;
                ExitCode::FAILURE
            }
        };
        link.close().await;
        Ok(code)
    })
}

/// Digests what it is sent until it is told to leave.
async fn run_worker(link: &mut Link) -> Result<(), Box<dyn Error + Send + Sync>> {
    let setup = receive_setup(link).await?;
    let by = setup.name.clone();
    let router = Router::new().typed(DIGEST, move |file: Vec<u8>| {
        let by = by.clone();
        async move {
            // Off the threads that serve the network: a large file takes its time.
            let digest = tokio::task::spawn_blocking(move || FileDigest::of(&file)).await;
            DigestReply {
                by,
                digest: digest.expect("digesting does not panic"),
            }
        }
    });
    let node = node_builder(&setup)?
        .tag("role", "worker")
        .serve(router)
        .start()
        .await?;
    link.notices()
        .send(Notice::Ready { addr: node.addr() })
        .await;
    while let Some(order) = link.next_order().await {
        if order == Order::Drain {
            node.shutdown(DRAIN_TIMEOUT).await;
            break;
        }
    }
    Ok(())
}

/// What the parent says at first.
pub(crate) async fn receive_setup(link: &mut Link) -> io::Result<NodeSetup> {
    match link.next_order().await {
        Some(Order::Start(setup)) => Ok(setup),
        other => Err(io::Error::other(format!(
            "expected to be started, got {other:?}"
        ))),
    }
}

/// A node with the identity and the secrets of this run.
pub(crate) fn node_builder(setup: &NodeSetup) -> Result<NodeBuilder, Box<dyn Error + Send + Sync>> {
    let keys = KeyFolder {
        folder: setup.keys.clone(),
    };
    let [cert, key, ca] = keys.pem_paths(&setup.name);
    Ok(Node::builder()
        .bind("127.0.0.1:0")
        .cluster_name("demo")
        .cluster_config(ClusterConfig::local())
        .tls(Tls::from_pem_files(cert, key, ca)?)
        .cluster_key(keys.cluster_key()?)
        .seeds(setup.seeds.iter().map(ToString::to_string)))
}

/// The folder with the secrets of a run.
#[derive(Debug)]
pub(crate) struct KeyFolder {
    pub(crate) folder: PathBuf,
}

impl KeyFolder {
    /// Certificate, key and CA of a node, as `DevCa::write_pem` names them.
    pub(crate) fn pem_paths(&self, node: &str) -> [PathBuf; 3] {
        [
            format!("{node}.pem"),
            format!("{node}.key"),
            "ca.pem".to_owned(),
        ]
        .map(|name| self.folder.join(name))
    }

    /// Keeps the key that seals the gossip, for the owner's eyes alone.
    pub(crate) fn write_cluster_key(&self, key: &ClusterKey) -> io::Result<()> {
        let path = self.cluster_key_path();
        private_file(&path)?;
        fs::write(path, key.to_hex())
    }

    pub(crate) fn cluster_key(&self) -> Result<ClusterKey, Box<dyn Error + Send + Sync>> {
        Ok(ClusterKey::from_hex(&fs::read_to_string(
            self.cluster_key_path(),
        )?)?)
    }

    fn cluster_key_path(&self) -> PathBuf {
        self.folder.join("cluster.key")
    }
}

/// Makes an empty file that only its owner can read.
fn private_file(path: &Path) -> io::Result<()> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map(drop)
}

/// How the director calls: a digest may be asked for twice.
pub(crate) fn client_config(endpoint: Endpoint) -> ClusterClientConfig {
    ClusterClientConfig::new(endpoint).with_idempotent([DIGEST])
}

/// The hidden subcommand that a child runs.
pub(crate) const COMMAND: &str = "demo-node";
/// The method that workers serve.
pub(crate) const DIGEST: &str = "digest";
/// How long a leaving worker may take for what it has begun.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);
