#![doc = include_str!("../README.md")]

mod accounts;
mod authorize;
mod busy_poll;
mod client;
mod closing;
mod code;
mod codec;
mod config;
mod connections;
mod endpoint;
mod error;
mod gauge;
mod inherited;
mod memory;
mod outbox;
mod peer;
mod printable;
mod priority;
mod quic;
mod reload;
mod runtime;
mod send_priority;
mod server;
mod shards;
mod socket;
mod stats;
mod status;
mod stream;
mod tls;
pub mod wire;

#[cfg(feature = "dev-certs")]
pub use crate::tls::{DevCa, NodePem};
pub use crate::{
    authorize::PeerIdentity,
    client::{CallOptions, CloseReason, ConnectionNews, RpcClient, Upload},
    code::{Code, Processed},
    codec::{CodecError, Decode, Encode, Raw},
    config::{AckFrequency, ConfigError, TransportConfig},
    endpoint::{Endpoint, ShutdownReport},
    error::{BindError, ConnectError, RpcError},
    inherited::{Inherited, inherited},
    memory::{MemoryNetwork, MemoryStats},
    peer::Peer,
    priority::Priority,
    reload::TlsReloadError,
    server::{
        Admission, AdmissionState, CallContext, Dispatch, Fallible, IntoReply, KeyMemory, Plain,
        Router, RpcServer,
    },
    shards::Shards,
    socket::{SideChannel, SocketBuffers},
    stats::TransportStats,
    status::Status,
    stream::{Receiver, Sender},
    tls::{Part, PemPaths, Tls, TlsError},
    wire::LoadReport,
};
