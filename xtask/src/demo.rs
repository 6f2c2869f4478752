//! `cargo xtask demo`: a cluster of processes that digests files, with trouble on the way.

mod corpus;
mod digest;
mod director;
pub(crate) mod latency;
mod live_view;
pub(crate) mod node;
pub(crate) mod protocol;
pub(crate) mod run;
mod summary;
