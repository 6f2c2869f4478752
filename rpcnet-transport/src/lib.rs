//! RPC over QUIC: unary and streaming calls, deadlines, cancellation, mutual TLS.
#![allow(dead_code, unused_imports)]

mod code;
pub mod wire;
pub use crate::code::{Code, Processed};
mod codec;
mod config;
mod error;
mod peer;
mod stats;
mod status;
pub use crate::{codec::{CodecError, Decode, Encode, Raw}, config::{ConfigError, TransportConfig}, error::{BindError, ConnectError, RpcError}, peer::Peer, stats::TransportStats, status::Status};
mod tls;
pub use crate::tls::{Part, Tls, TlsError};
#[cfg(feature = "dev-certs")]
pub use crate::tls::{DevCa, NodePem, PemPaths};
mod socket;
pub use crate::socket::SideChannel;
