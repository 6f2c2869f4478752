//! Nodes and workers: immutable snapshots, tag filters, selection and in-flight counts.
//!
//! Some source knows which nodes there are: gossip, a list, a discovery service. This crate turns what the source tells
//! into two things that a program can use without thinking about the source:
//!
//! - [`NodeRegistry`]: who is there, in which state, with which tags; a snapshot to read and events to follow.
//! - [`WorkerRegistry`]: who takes the next call, by a tag expression such as `role=worker,zone=eu-1` and a
//!   [`Balancer`](rpcnet_balance::Balancer); the calls in flight are counted by guards.
//!
//! ```
//! use rpcnet_registry::{LoadBalancingStrategy, NodeInfo, NodeId, StaticMembership, WorkerRegistry};
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
//! - A reader never waits: snapshots and the tables of selection are immutable and swapped whole. A selection whose filter
//!   was seen before takes no lock and allocates nothing (`tests/allocation.rs` counts).
//! - An event is delivered after the snapshot or the selection it led to is in place.
//! - No channel is unbounded: a subscriber that falls behind gets [`ClusterEvent::Lagged`] with the number it missed.
//! - A registry whose source has ended, or is superseded, says so ([`SourceState`]) and selects no
//!   worker by what it knew last.
//! - A restarted node (same name, higher epoch) takes the place of its former self at once.
//!
//! # Your own source
//!
//! Implement [`Membership`], whose one method takes an [`Observer`]; [`StaticMembership`] is an example and is enough for
//! programs that do the watching themselves.
//!
//! # What it does not do
//!
//! It opens no socket, detects no failures, and neither connects nor calls: it knows addresses.
//!
//! # Features
//!
//! - `swim` (default): nodes discovered by gossip, with `rpcnet-swim` on tokio. Without it the crate depends on neither.

mod error;
mod event;
mod filter;
mod membership;
mod node;
mod node_registry;
pub mod refusals;
mod snapshot;
mod source;
mod static_membership;
#[cfg(feature = "swim")]
mod swim;
mod tags;
mod workers;

pub use error::{SelectError, UnselectableReason};
pub use event::{ClusterEvent, Events};
pub use filter::{Filter, FilterError};
pub use membership::{Membership, Observer, Watch};
pub use node::{NodeId, NodeInfo, NodeState, SERVES_NOTHING, SERVES_TAG};
pub use node_registry::NodeRegistry;
pub use snapshot::Snapshot;
pub use source::SourceState;
pub use static_membership::StaticMembership;
pub use tags::Tags;
pub use workers::{
    Candidate, HealthEvent, HealthEvents, InvalidTag, LoadBalancingStrategy, UnknownStrategy,
    Worker, WorkerRegistry, WorkerStatus,
};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
