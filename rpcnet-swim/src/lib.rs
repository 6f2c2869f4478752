#![doc = include_str!("../README.md")]

mod config;
#[cfg(feature = "tokio")]
mod driver;
mod engine;
mod error;
mod event;
#[cfg(any(test, all(fuzzing, feature = "sim")))]
#[doc(hidden)]
pub mod fuzzing;
mod health;
mod id;
mod key;
mod policy;
mod refusal;
mod seed;
#[cfg(feature = "sim")]
pub mod sim;
mod stats;
mod tags;
mod time;
mod usable;
mod wire;

pub use config::ClusterConfig;
#[cfg(feature = "tokio")]
pub use driver::{
    ClusterMembership, DatagramSocket, EventStream, JoinError, Joined, LeaveError, SeedFailure,
    StartError,
};
pub use engine::Engine;
pub use error::{ConfigError, JoinRefusal, KeyError, TagError};
pub use event::{AddressStatus, Event, Member, MemberState, MembershipState, PartitionStatus};
pub use health::{Health, HealthState};
pub use id::{MAX_NAME_BYTES, NodeId};
pub use key::{ClusterKey, KeyId, KeyRing, MAX_KEYS};
pub use policy::{ClusterView, Policy, Refusal, Verdict, Voter};
pub use refusal::DatagramRefusal;
pub use seed::SeedSyntaxError;
pub use stats::{Dropped, Stats};
pub use tags::{MAX_TAGS_BYTES, Tags};
pub use time::Time;
