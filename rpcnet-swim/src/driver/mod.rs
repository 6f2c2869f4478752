//! The tokio driver: feeds the engine from a socket and a clock.

mod advertise;
mod events;
mod lookup;
mod membership;
mod outbound;
mod outcome;
mod remove;
mod report;
mod run;
mod seeds;
mod socket;
mod too_large;

pub use self::events::EventStream;
pub use self::membership::ClusterMembership;
pub use self::outcome::{JoinError, Joined, LeaveError, SeedFailure, StartError};
pub use self::socket::DatagramSocket;
