//! `cargo xtask demo`: a cluster of processes that digests files, with trouble on the way.

mod corpus;
mod digest;
mod latency;
mod link;
mod outcome;
mod process;
mod protocol;
mod report;
