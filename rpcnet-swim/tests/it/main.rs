//! Integration tests of the engine in virtual time and of the driver on real sockets.

mod addresses;
mod departed;
mod first_datagram;
mod joining;
mod name_conflicts;
mod observer_panics;
mod observers;
mod outages;
mod own_address;
mod path_mtu;
mod properties;
mod rebind;
mod runtimes;
mod scenarios;
mod seeds;
mod sockets;
mod split_brain;
