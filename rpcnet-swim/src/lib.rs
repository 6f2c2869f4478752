#![doc = include_str!("../README.md")]

mod cluster_mismatch;
mod config;
#[cfg(feature = "tokio")]
mod driver;
mod engine;
mod error;
mod event;
mod health;
#[cfg_attr(not(feature = "unstable"), allow(unreachable_pub))]
mod id;
mod key;
mod limits;
mod seed;
mod split_brain;
mod stats;
mod tags;
mod time;
mod unicast;
#[cfg(feature = "unstable")]
pub mod unstable;
// Its fields have the names of the wire format, which the text of each message explains.
#[cfg_attr(feature = "unstable", allow(missing_docs))]
#[cfg_attr(not(feature = "unstable"), allow(dead_code, unreachable_pub))]
mod wire;

pub use cluster_mismatch::ClusterMismatch;
pub use config::ClusterConfig;
#[cfg(feature = "tokio")]
pub use driver::{
    ClusterMembership, DatagramSocket, EventStream, JoinError, JoinOutcome, LeaveError,
    MembershipObserver, Observation, SeedFailure, StartError,
};
pub use engine::Engine;
pub use engine::engine_seed::EngineSeed;
pub use error::{ConfigError, JoinRefusal, KeyError, TagError};
pub use event::{AddressStatus, Event, Member, MemberState, MembershipState, PartitionStatus};
pub use health::{Health, HealthState};
pub use id::NodeId;
pub use key::{ClusterKey, KeyId, KeyRing, MAX_KEYS};
pub use limits::{MAX_NAME_BYTES, MAX_TAGS_BYTES};
pub use seed::SeedSyntaxError;
pub use split_brain::{ClusterView, Decision, DenyReason, SplitBrainPolicy, ViewMember};
pub use stats::{DropCounters, Stats};
pub use tags::Tags;
pub use time::Time;
