//! Clusters of services that find each other, notice failures and call each other over QUIC.
//!
//! Services on several machines want to call one another. Which of them are there, and which have
//! failed? Which one takes the next call, and what if it fails? This crate is the whole answer, put
//! together of parts that can be had one by one: a [`Node`] gossips, serves and calls on one UDP
//! port, and its [`ClusterClient`] selects a worker for each call.
//!
//! # A node
//!
//! ```no_run
//! # use rpcnet_client::{ClusterKey, Node, Router, Tls};
//! # use serde::{Deserialize, Serialize};
//! # #[derive(Serialize, Deserialize)]
//! # struct Job;
//! # async fn run(job: Job) -> Job { job }
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let node = Node::builder()
//!     .bind("0.0.0.0:7946")
//!     .tls(Tls::from_pem_files("node.pem", "node.key", "ca.pem")?)
//!     .cluster_key(ClusterKey::from_env("RPCNET_CLUSTER_KEY")?)
//!     .seeds(["seed.internal:7946"])
//!     .tag("role", "worker")
//!     .serve(Router::new().typed("compute", |job: Job| async move { run(job).await }))
//!     .start().await?;
//! # Ok(())
//! # }
//! ```
//!
//! [`Node`] has the same as an example that runs, without files and fixed ports.
//!
//! # Membership
//!
//! ```
//! use std::sync::Arc;
//! use rpcnet_client::cluster::{ClusterEvent, ClusterMembership, NodeRegistry};
//!
//! # use rpcnet_client::ClusterConfig;
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let cluster = ClusterMembership::new(ClusterConfig::local().with_name("a")).await?;
//! # let address = cluster.local_addr().to_string();
//! # let observed = NodeRegistry::new(cluster.clone());
//! # observed.start().await;
//! # let mut seen = observed.subscribe();
//! # let example = async {
//! let registry = Arc::new(NodeRegistry::new(cluster));
//! registry.start().await;
//! let nodes = registry.nodes().await;
//! let mut events = registry.subscribe();
//! # assert_eq!(nodes.len(), 1);
//! while let Some(event) = events.recv().await {
//!     match event {
//!         ClusterEvent::NodeJoined(node) => println!("Node joined: {}", node.id),
//!         ClusterEvent::NodeLeft(node) => println!("Node left: {}", node.id),
//!         ClusterEvent::NodeFailed(node) => println!("Node failed: {}", node.id),
//!         _ => {}
//!     }
//! }
//! # };
//! # let others = async {
//! #     let other = ClusterMembership::new(ClusterConfig::local().with_name("b")).await?;
//! #     other.join([address]).await?;
//! #     other.leave().await?;
//! #     while !matches!(seen.recv().await, Some(ClusterEvent::NodeLeft(_))) {}
//! #     Ok::<(), Box<dyn std::error::Error>>(())
//! # };
//! # tokio::select! { () = example => unreachable!(), done = others => done }
//! # }
//! ```
//!
//! # Worker selection and calls
//!
//! ```
//! use std::sync::Arc;
//! use rpcnet_client::cluster::{
//!     ClusterClient, ClusterClientConfig, ClusterMembership, LoadBalancingStrategy,
//!     WorkerRegistry,
//! };
//!
//! # use rpcnet_client::{DevCa, Node, Router};
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let ca = DevCa::new("example");
//! # let echo = Router::new().raw("compute", |_, body| async move { Ok(body) });
//! # let served = Node::builder().tls(ca.issue("worker-1")?).tag("role", "worker").serve(echo);
//! # let served = served.start().await?;
//! # let seeds = [served.addr().to_string()];
//! # let caller = Node::builder().tls(ca.issue("caller")?).seeds(seeds).start().await?;
//! # caller.wait_for_workers(None, 1, std::time::Duration::from_secs(10)).await?;
//! # let cluster: ClusterMembership = caller.membership().clone();
//! # let config = ClusterClientConfig::new(caller.endpoint().clone());
//! # let request = "six times seven";
//! let registry = Arc::new(WorkerRegistry::new(cluster, LoadBalancingStrategy::LeastConnections));
//! registry.start().await;
//! let worker = registry.select_worker(Some("role=worker")).await?;
//! println!("Selected worker: {} at {}", worker.label, worker.addr);
//! # assert_eq!(worker.addr, served.addr());
//!
//! let client = Arc::new(ClusterClient::new(registry, config));
//! let result = client.call_worker("compute", request, Some("role=worker")).await?;
//! # assert_eq!(&result[..], request.as_bytes());
//! # Ok(())
//! # }
//! ```
//!
//! A [`Node`] has all of these made already: [`nodes`](Node::nodes), [`workers`](Node::workers),
//! [`client`](Node::client).
//!
//! # Typed methods
//!
//! A [`Method`] ties a name to the types of its messages; a [`service`] does so for a whole trait.
//! Its calls go over a [`Channel`]: the workers of a cluster, one connection, or a router in this
//! process. Callers and workers may have other versions of the types: compatible ones are served,
//! and a worker with incompatible ones is left for another before anything runs.
//!
//! ```
//! use rpcnet_client::{Message, Method};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Serialize, Deserialize, Message)]
//! struct Job {
//!     id: u64,
//!     #[serde(default)]
//!     quality: Option<u8>,
//! }
//!
//! const RENDER: Method<Job, String> = Method::new("render");
//!
//! # use rpcnet_client::{DevCa, Node, Router};
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let ca = DevCa::new("example");
//! let render = |job: Job| async move { format!("frame {}", job.id) };
//! let router = Router::new().method(RENDER, render);
//! # let served = Node::builder().tls(ca.issue("worker-1")?).tag("role", "worker").serve(router);
//! # let served = served.start().await?;
//! # let seeds = [served.addr().to_string()];
//! # let node = Node::builder().tls(ca.issue("caller")?).seeds(seeds).start().await?;
//! # node.wait_for_workers(None, 1, std::time::Duration::from_secs(10)).await?;
//! let workers = node.client().workers(Some("role=worker"));
//! let job = Job { id: 7, quality: None };
//! let frame = RENDER.call(&workers, &job).await?;
//! # assert_eq!(frame, "frame 7");
//! # Ok(())
//! # }
//! ```
//!
//! # The parts
//!
//! Each is a crate of its own, re-exported here; the names that most users need are at the top.
//!
//! | module | what it does |
//! |---|---|
//! | [`client`] | calls to selected workers: retries, hedging, streams, quorums |
//! | [`phi`] | accrual failure detection: how certain it is that a node has failed |
//! | [`swim`] | membership by gossip: which nodes there are, since when, with which tags |
//! | [`registry`] | nodes and workers: snapshots, tag filters, selection |
//! | [`balance`] | load balancing: the trait, the strategies, retry and hedging policy |
//! | [`transport`] | calls over QUIC: server, client, streams, TLS, connection pool |
//!
//! # What it does not do
//!
//! No consensus and no leader: gossip is about which nodes there are, and two halves of a split
//! cluster both go on, unless they ask before they serve which of them may: [`Node::may_serve`]. No
//! queue: a call that no worker takes fails, with an error that says so.
//!
//! # Features
//!
//! - `gossip` (default): [`Node`], and membership by gossip with `rpcnet-swim`. Without it a
//!   [`ClusterClient`] calls the workers of a [`StaticMembership`](registry::StaticMembership) or
//!   of a [`Membership`](registry::Membership) of the user's.
//! - `dev-certs`: `DevCa`, a certificate authority for development and tests.
//! - `testing`: `testing::TestCluster`, whole clusters in memory and in virtual time, for the tests
//!   of programs that use this crate.
//! - `tower`: `tower::WorkerService`, the workers of a cluster as a service of tower, and tower's
//!   layers and services in a [`Router`].

#![cfg_attr(
    not(feature = "gossip"),
    allow(
        rustdoc::broken_intra_doc_links,
        reason = "the overview names parts that are there with gossip alone"
    )
)]

mod callers_by_tags;
pub mod client;
#[cfg(feature = "gossip")]
mod node;
#[cfg(feature = "testing")]
pub mod testing;
#[cfg(feature = "tower")]
pub mod tower;

pub use callers_by_tags::callers_by_tags;
pub use client::{
    ClusterClient, ClusterClientConfig, ClusterError, MethodPolicy, QuorumError, WorkerCallOptions,
    WorkerChannel, WorkerRoute, WorkerStream,
};
#[cfg(feature = "gossip")]
pub use node::{DrainReport, Node, NodeBuilder, NodeError, NodeShutdownReport};
pub use rpcnet_balance::{BackoffRange, Hedging, RetryBudget};
pub use rpcnet_registry::{
    ClusterEvent, LoadBalancingStrategy, NodeId, NodeRegistry, NodeState, Worker, WorkerRegistry,
};
#[cfg(feature = "gossip")]
pub use rpcnet_swim::{ClusterConfig, ClusterKey, ClusterMembership, KeyRing};
#[cfg(feature = "dev-certs")]
pub use rpcnet_transport::DevCa;
pub use rpcnet_transport::schema::Message;
pub use rpcnet_transport::{
    Access, AllowTable, AsyncClientLayer, AsyncServerLayer, CallContext, CallEnd, CallError,
    CallMetadataExt, Callers, Channel, ClientLayer, Code, Endpoint, Identity, IncomingCall,
    LocalChannel, Metadata, MetadataError, Method, MethodOptions, OutgoingCall, Priority,
    Processed, Receiver, Replies, Requests, Router, RpcClient, RpcError, RpcServer, SchemaLock,
    Sender, ServerLayer, Status, Tls, TraceContext, TransportConfig,
};
pub use rpcnet_transport_macros::{ClientMessage as Message, client_service as service};
pub use {rpcnet_balance as balance, rpcnet_registry as registry, rpcnet_transport as transport};
#[cfg(feature = "gossip")]
pub use {rpcnet_phi as phi, rpcnet_swim as swim};

/// The names to begin with, in one place.
pub mod cluster {
    #[cfg(feature = "gossip")]
    pub use crate::ClusterMembership;
    pub use crate::{
        ClusterClient, ClusterClientConfig, ClusterEvent, LoadBalancingStrategy, NodeRegistry,
        WorkerRegistry,
    };
}

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// The examples of the workspace's README, which no published crate contains.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
pub struct WorkspaceReadme;
