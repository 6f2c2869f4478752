//! Tokio driver: feeds the engine from a socket and a clock, and hands on its events.

mod advertise;
mod event_log;
mod event_loop;
mod events;
mod join_failure;
mod lifecycle;
mod membership;
mod observation;
mod observer;
mod observer_list;
mod outbound;
mod outcome;
mod seed_list;
mod seed_resolver;
mod send_error;
mod shared;
mod socket;

pub use self::events::EventStream;
pub use self::membership::ClusterMembership;
pub use self::observation::Observation;
pub use self::observer::MembershipObserver;
pub use self::outcome::{JoinError, JoinOutcome, LeaveError, SeedFailure, StartError};
pub use self::socket::DatagramSocket;
