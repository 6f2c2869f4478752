//! The tokio driver: feeds the engine from a socket and a clock.

mod advertise;
mod event_log;
mod event_loop;
mod events;
mod force_leave;
mod membership;
mod outbound;
mod outcome;
mod seed_list;
mod seed_resolver;
mod send_error;
mod shared;
mod socket;

pub use self::events::EventStream;
pub use self::membership::ClusterMembership;
pub use self::outcome::{JoinError, JoinOutcome, LeaveError, SeedFailure, StartError};
pub use self::socket::DatagramSocket;
