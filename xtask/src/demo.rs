//! `cargo xtask demo`: a cluster of processes that digests files, with trouble on the way.

mod corpus;
mod digest;
mod director;
pub(crate) mod latency;
pub(crate) mod node;
mod outcome;
pub(crate) mod protocol;
mod report;
pub(crate) mod run;
