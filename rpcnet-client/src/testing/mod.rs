//! Test cluster: whole nodes in one process, in memory and in virtual time, with faults.
//!
//! The nodes of a [`TestCluster`] are built as in production, with real QUIC, TLS and gossip. They
//! are on a network in memory, and time is tokio's paused time, which jumps to the next timer
//! when all tasks wait: a minute of a cluster takes some milliseconds. Everything random comes
//! from a seed, so a failure can be repeated.
//!
//! ```
//! use rpcnet_client::{Method, Router, testing::TestCluster};
//!
//! const DOUBLE: Method<u32, u32> = Method::new("double");
//!
//! # fn router() -> Router { Router::new().method(DOUBLE, |n| async move { 2 * n }) }
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() { calls_survive().await }
//! # const _: &str = stringify!(
//! #[tokio::test(start_paused = true)]
//! # );
//! async fn calls_survive() {
//!     let cluster = TestCluster::seeded(7);
//!     let nodes = cluster.start_nodes(5, |node| node.serve(router())).await;
//!     nodes[4].kill();
//!     cluster.eventually(|| cluster.has_converged()).await;
//!     cluster.partition(&nodes[..2], &nodes[2..4]);
//!     cluster.eventually(|| nodes[0].alive() == 2 && nodes[3].alive() == 2).await;
//!     let workers = nodes[0].client().workers(None);
//!     assert_eq!(DOUBLE.call(&workers, &21).await.unwrap(), 42);
//!     cluster.heal();
//!     cluster.eventually(|| cluster.has_converged()).await;
//! }
//! ```
//!
//! # Faults
//!
//! - Of a node: [`kill`](TestNode::kill), [`restart`](TestNode::restart),
//!   [`stop`](TestNode::stop) and [`resume`](TestNode::resume), [`upgrade`](TestNode::upgrade),
//!   [`skew_ahead`](TestNode::skew_ahead) and [`skew_behind`](TestNode::skew_behind).
//! - Of the network: [`partition`](TestCluster::partition), [`one_way`](TestCluster::one_way) and
//!   [`heal`](TestCluster::heal), [`lose`](TestCluster::lose), [`delay`](TestCluster::delay).
//!
//! A datagram takes 1 to 3 ms unless the test says otherwise. A stopped node has its timers go on:
//! it is one that the network has lost, not one whose processor stands still.
//!
//! # When a test fails
//!
//! A test that panics prints the event log (what it did, and what each node saw when), what each
//! node sees at the end, and a command such as
//! `RPCNET_TEST_SEED=7 cargo test calls_survive -- --exact`, which runs it with the same
//! seed again. [`TestCluster::for_seeds`] runs a test with many seeds.
//!
//! # What can be repeated
//!
//! The same seed gives the same run, and the same [log](TestCluster::log), if the test and its
//! handlers do not bring in what comes from elsewhere: other threads, the clock of the system (use
//! [`tokio::time`], whose `Instant::into_std` is what deadlines are made of), random numbers,
//! the order of a `HashMap`, `tokio::select!` without `biased`. Keys and certificates are random
//! all the same; nothing depends on their bytes. A blocking task (`spawn_blocking`) holds virtual
//! time back until it has ended, and ends when it likes.
//!
//! Time passes only while tasks wait. Work takes no time, so no node is ever slow or overloaded by
//! itself; a handler that takes a second sleeps for one.

mod clock;
mod cluster;
mod event_log;
mod faults;
mod node;
mod seed;
mod seeds;

pub use self::{cluster::TestCluster, node::TestNode};
