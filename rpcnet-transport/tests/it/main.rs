//! Integration tests over real QUIC on the loopback interface and in memory.

mod bulk;
mod contract;
mod loopback;
mod replies;
mod shares;
mod unpolled;
mod windows;
