//! Clusters of services that find each other, notice failures and call each other over QUIC.

mod client;
mod node;

pub use client::{
    Attempt, ClusterClient, ClusterClientConfig, ClusterError, OnWorker, WorkerCallOptions,
};
pub use node::{DrainReport, Node, NodeBuilder, NodeError, NodeShutdownReport};
pub use rpcnet_balance::{Balancer, PickContext, View};
pub use rpcnet_registry::{
    ClusterEvent, Filter, LoadBalancingStrategy, NodeId, NodeRegistry, NodeState, SelectError,
    Worker, WorkerRegistry,
};
pub use rpcnet_swim::{
    ClusterConfig, ClusterKey, ClusterMembership, JoinError, KeyRing, PartitionStatus,
};
#[cfg(feature = "dev-certs")]
pub use rpcnet_transport::DevCa;
pub use rpcnet_transport::{
    CallContext, CallOptions, Code, ConnectError, Endpoint, Processed, Raw, Receiver, Router,
    RpcClient, RpcError, RpcServer, Sender, Status, Tls, TransportConfig, Upload,
};
pub use {
    rpcnet_balance as balance, rpcnet_phi as phi, rpcnet_registry as registry, rpcnet_swim as swim,
    rpcnet_transport as transport,
};

/// The names to begin with, at one place.
pub mod cluster {
    pub use crate::{
        ClusterClient, ClusterClientConfig, ClusterEvent, ClusterMembership, LoadBalancingStrategy,
        NodeRegistry, WorkerRegistry,
    };
}
