//! The tokio driver: feeds the engine from a socket and a clock.

mod advertise;
mod events;
mod membership;
mod remove;
mod run;
mod socket;

pub use self::events::EventStream;
pub use self::membership::{ClusterMembership, JoinError, LeaveError, SeedFailure, StartError};
pub use self::socket::DatagramSocket;
