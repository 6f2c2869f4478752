//! `cargo xtask demo`: a cluster of processes that digests files while workers are killed, added
//! and drained.
//!
//! A package of its own with few dependencies, so that it is built before a newcomer loses
//! patience.

mod corpus;
mod digest;
mod director;
mod live_view;
mod node;
mod protocol;
mod run;
mod summary;

pub use node::{COMMAND as NODE_COMMAND, Options as NodeOptions, run as run_node};
pub use run::{Options, run};
