//! Endpoint: one UDP port that serves calls, opens connections and carries a side channel.

mod bind;
mod connect;
mod handle;
mod lifecycle;
mod serve;
mod served_calls;
mod shared;
mod shutdown;

pub use self::{handle::Endpoint, shutdown::ShutdownReport};
pub(crate) use self::{handle::EndpointHandle, served_calls::ServedCalls, shared::EndpointShared};
