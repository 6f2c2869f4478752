//! Random bytes against decoders, a server and a client.

mod caller;
mod decoders;
mod messages;
pub(crate) mod network;
mod open;
mod script;
mod server;

pub(crate) use self::{
    caller::hostile_caller,
    decoders::{frames, headers, lane_frames},
    messages::{named_values, schemas},
    server::hostile_server,
};
