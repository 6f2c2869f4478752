//! Measuring half of `cargo xtask bench pick`, the same for all subjects.
//!
//! A process takes orders as lines of JSON on standard input, one measurement each, and answers
//! each with a line. It ends with its input. A [`Subject`] chooses; threads, clocks and the count
//! of allocations are here. Rpcnet is the program of this package, peers are in the detached
//! workspace.

mod measure;
mod protocol;
pub mod rpcnet_subject;
mod scatter;
mod serve;

pub use rpcnet_testing::CountingAllocator;

pub use crate::{
    measure::Subject,
    protocol::{PickOrder, Reading, Work},
    scatter::{Padding, key, shuffle},
    serve::serve,
};
