//! Registry of nodes and workers: snapshots, tag filters, worker selection, calls in flight.
//!
//! A source knows the nodes of a cluster: gossip, a list, a discovery service. This crate turns the
//! source's events into two things that a program can use whatever the source is:
//!
//! - [`NodeRegistry`]: the nodes with their state and tags; a snapshot to read and events to
//!   follow.
//! - [`WorkerRegistry`]: the worker for the next call, by a tag filter such as
//!   `role=worker,zone=eu-1` and a [`Balancer`](rpcnet_balance::Balancer); guards count the calls
//!   in flight.
//!
//! ```
//! use rpcnet_registry::{
//!     LoadBalancingStrategy, NodeId, NodeInfo, StaticMembership, WorkerRegistry,
//! };
//!
//! # futures::executor::block_on(async {
//! // The source; with the feature `swim` it would be the `ClusterMembership` of rpcnet-swim.
//! let cluster = StaticMembership::new();
//! for (name, port) in [("red", 7001), ("blue", 7002)] {
//!     let id = NodeId::new(name, 1);
//!     cluster.insert(NodeInfo::new(id, ([127, 0, 0, 1], port).into()).with_tag("role", "worker"));
//! }
//!
//! let registry = WorkerRegistry::new(cluster.clone(), LoadBalancingStrategy::LeastConnections);
//! registry.start().await;
//!
//! let first = registry.select_worker(Some("role=worker")).await?;
//! let second = registry.select_worker(Some("role=worker")).await?;
//! assert_ne!(first.addr, second.addr); // the first is busy for as long as `first` lives
//!
//! cluster.fail("red");
//! let worker = registry.select_worker(Some("role=worker")).await?;
//! assert_eq!(worker.label.as_ref(), "blue");
//! # Ok::<(), rpcnet_registry::SelectError>(())
//! # }).unwrap();
//! ```
//!
//! # Rules
//!
//! - A reader never waits: snapshots and the tables of selection are immutable and swapped whole. A
//!   selection whose filter was seen before takes no lock and allocates nothing
//!   (`tests/allocation.rs` counts).
//! - An event is delivered after the snapshot and the selection include it.
//! - No channel is unbounded: a subscriber that falls behind receives [`ClusterEvent::Lagged`] with
//!   the number of missed events.
//! - A registry whose source has ended, or is superseded, reports it ([`SourceState`]) and selects
//!   no worker from its last state.
//! - A restarted node (same name, higher epoch) replaces its former process at once.
//!
//! # Your own source
//!
//! Implement [`Membership`], whose one method takes an [`Observer`]; [`StaticMembership`] is an
//! example, and sufficient for programs that observe their nodes themselves.
//!
//! # What it does not do
//!
//! It opens no socket, detects no failures, and neither connects nor calls: it knows addresses.
//!
//! # Features
//!
//! - `swim` (default): nodes discovered by gossip, with `rpcnet-swim` on tokio. Without it the
//!   crate depends on neither.

pub mod connected;
mod error;
mod event;
mod filter;
mod membership;
mod node;
mod node_registry;
pub mod rejections;
mod schema_tag;
pub mod schemas;
mod snapshot;
mod source;
mod static_membership;
#[cfg(feature = "swim")]
mod swim;
mod tags;
mod wait;
mod workers;

pub use error::{SelectError, UnselectableReason};
pub use event::{ClusterEvent, Events};
pub use filter::{Filter, FilterError};
pub use membership::{Membership, Observer, Watch};
pub use node::{NodeId, NodeInfo, NodeState, SERVES_NOTHING, SERVES_TAG};
pub use node_registry::NodeRegistry;
pub use schema_tag::{SCHEMA_TAG_PREFIX, schema_tag_key, schema_tag_value};
pub use snapshot::Snapshot;
pub use source::SourceState;
pub use static_membership::StaticMembership;
pub use tags::Tags;
pub use wait::WaitError;
pub use workers::{
    Candidate, HealthEvent, HealthEvents, InvalidTag, LoadBalancingStrategy, UnknownStrategy,
    Worker, WorkerAddress, WorkerGroup, WorkerRegistry, WorkerStatus,
};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
