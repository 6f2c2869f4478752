//! Parts that tests and benches of the workspace share: a counting allocator, waiting, captured log
//! lines, planned panics.
//!
//! It depends on no crate of the workspace, so that the unit tests of each can use it.

mod allocations;
mod log;
mod panic_in;
mod wait;

use std::net::{Ipv4Addr, SocketAddr};

pub use self::{
    allocations::CountingAllocator,
    log::{LogCapture, LogLine},
    panic_in::PanicIn,
    wait::{TEST_TIMEOUT, block_on, until, until_some, within},
};

/// Address of the loopback interface to bind to, with a port that the system chooses.
pub fn loopback() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}
