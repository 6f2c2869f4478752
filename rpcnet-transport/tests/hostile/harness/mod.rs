//! Random bytes against decoders, a server and a client.

mod caller;
mod decoders;
pub(crate) mod network;
mod open;
mod script;
mod server;

pub(crate) use self::{
    caller::hostile_caller,
    decoders::{frames, lane_frames},
    server::hostile_server,
};
