//! RPC over QUIC: unary and streaming calls, deadlines, cancellation, mutual TLS.
#![allow(dead_code, unused_imports)]

mod code;
pub mod wire;
pub use crate::code::{Code, Processed};
