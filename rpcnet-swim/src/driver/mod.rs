//! The tokio driver: feeds the engine from a socket and a clock.

mod advertise;
mod error;
mod events;
mod membership;
mod report;
mod run;
mod socket;

pub use self::error::{JoinError, LeaveError, SeedFailure, StartError};
pub use self::events::EventStream;
pub use self::membership::ClusterMembership;
pub use self::socket::DatagramSocket;
