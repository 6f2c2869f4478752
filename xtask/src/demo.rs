//! `cargo xtask demo`: a cluster of processes that digests files, with trouble on the way.

mod corpus;
mod digest;
mod director;
mod latency;
mod link;
pub(crate) mod node;
mod outcome;
mod process;
mod protocol;
mod report;
pub(crate) mod run;
