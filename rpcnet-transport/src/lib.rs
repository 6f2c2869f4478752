#![doc = include_str!("../README.md")]

#[doc(hidden)]
pub mod __private;
mod accounts;
mod addr;
mod allow_table;
mod authorize;
mod busy_poll;
mod client;
mod close;
mod code;
mod codec;
mod config;
mod connections;
mod current_tls;
mod deadline;
mod dial;
mod endpoint;
mod error;
mod error_class;
mod gauge;
mod inherited;
mod lane_reader;
mod layers;
mod memory;
mod metadata;
mod method;
mod outbox;
mod peer;
pub mod pool;
mod printable;
mod priority;
mod quic;
mod runtime;
pub mod schema;
mod schema_lock;
mod send_priority;
mod server;
mod shards;
mod socket;
mod stats;
mod status;
mod stream;
mod tls;
mod tls_reload;
#[cfg(feature = "tower")]
pub mod tower;
mod warning_limiter;
#[cfg(feature = "unstable-wire")]
pub mod wire;
#[cfg(not(feature = "unstable-wire"))]
#[allow(
    dead_code,
    unreachable_pub,
    unused_imports,
    reason = "some of it is for the fuzz targets and tools alone, which turn the feature on"
)]
mod wire;

/// Bytes of requests and replies.
pub use bytes::Bytes;
pub use rpcnet_transport_macros::{Message, service};

#[cfg(feature = "dev-certs")]
pub use crate::tls::{CertificateOptions, DevCa, NodePem};
pub use crate::{
    allow_table::{Access, AllowTable, Callers, PatternError},
    authorize::PeerIdentity,
    busy_poll::BusyPollState,
    client::{
        CallOptions, CloseReason, ConnectionEvent, EncodedReply, EncodedRequest, IdempotencyKeys,
        OpenedStream, RpcClient, SentCall, SmallCall, SmallCallMethod, Upload, WeakRpcClient,
    },
    code::{Code, Processed},
    codec::{CodecError, CodecErrorKind, Decode, Encode, Encoding, Raw},
    config::{AckFrequency, ConfigError, TransportConfig},
    endpoint::{Endpoint, ShutdownReport},
    error::{BindError, ConnectError, RpcError},
    error_class::RetryScope,
    inherited::{Inherited, inherited},
    layers::{
        AsyncClientLayer, AsyncServerLayer, CallEnd, ClientLayer, IncomingCall, OutgoingCall,
        ServerLayer,
    },
    memory::{MemoryNetwork, MemoryStats},
    metadata::{
        CallMetadataExt, METADATA_BYTES_MAX, METADATA_KEY_BYTES_MAX, Metadata, MetadataError,
        TraceContext, TraceContextError, WithCallMetadata, WithReplyMetadata,
    },
    method::{
        CallError, Channel, ErrorType, IntegerRequest, LocalChannel, Method, MethodOptions,
        MethodType, Replies, ReplyType, RequestType, Requests, UntypedMethod,
    },
    peer::Peer,
    priority::Priority,
    schema::Message,
    schema_lock::{
        BreakingChange, BreakingCombination, SchemaLock, SchemaLockError, SchemaLockMode,
    },
    server::{
        Admission, AdmissionState, CallContext, Dispatch, IdempotencyCache, IntoReply, MethodReply,
        ResultReply, Router, RpcServer, ValueReply,
    },
    shards::Shards,
    socket::{SideChannel, SocketBuffers},
    stats::TransportStats,
    status::Status,
    stream::{Receiver, Sender},
    tls::{Identity, PemPaths, Tls, TlsError, TlsPart},
    tls_reload::TlsReloadError,
    wire::LoadReport,
};
