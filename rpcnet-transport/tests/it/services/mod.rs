//! Services of the macro: server, client and mock, on a connection and without a network.

mod calls;
mod hygiene;
mod render;
