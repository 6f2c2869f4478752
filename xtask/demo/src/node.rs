//! Child process of the demo: one node of the cluster, director or worker.

use std::{error::Error, time::Duration};

use clap::Args;
use rpcnet_client::Router;
use serde::{Deserialize, Serialize};
use xtask_harness::{NodeSetup, Outcome, ParentLink, node_builder, run_child};

use crate::{
    digest::FileDigest,
    director,
    protocol::{Notice, Order, Role},
};

pub(crate) type Link = ParentLink<Order, Notice>;

/// Command line of a child.
#[derive(Debug, Args)]
pub struct Options {
    /// Role in the cluster.
    #[arg(long)]
    role: Role,
}

/// A worker's answer.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct DigestReply {
    /// Name of the worker.
    pub(crate) by: String,
    pub(crate) digest: FileDigest,
}

/// Runs a child until its parent has it end, or is gone.
pub fn run(options: &Options) -> Outcome {
    run_child(async |link: &mut Link| {
        let Some(Order::Start(setup)) = link.next_order().await else {
            return Err("the first order of the parent is no setup".into());
        };
        match options.role {
            Role::Director => director::run_director(link, &setup).await,
            Role::Worker => run_worker(link, &setup).await,
        }
    })
}

/// Digests what it is sent until it is told to leave.
async fn run_worker(
    link: &mut Link,
    setup: &NodeSetup,
) -> Result<(), Box<dyn Error + Send + Sync>> {
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
    let node = node_builder("demo", setup)?
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

/// The hidden subcommand that a child runs.
pub const COMMAND: &str = "demo-node";
/// The method that workers serve.
pub(crate) const DIGEST: &str = "digest";
/// Longest drain of a worker that leaves.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);
