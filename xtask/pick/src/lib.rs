//! The measuring half of `cargo xtask bench pick`, the same for all that is measured.
//!
//! A process takes orders as lines of JSON on standard input, one measurement each, and answers each with a line. It ends
//! with its input. What is measured, a [`Subject`], says how to choose; threads, clocks and the count of allocations are
//! here. Ours is the program of this package, peers are in the detached workspace.

mod allocations;
mod measure;
mod order;
pub mod ours;
mod serve;
mod spread;

pub use crate::{
    allocations::Counting,
    measure::Subject,
    order::{Order, Reading, Work},
    serve::serve,
    spread::{Padding, key, shuffle},
};
