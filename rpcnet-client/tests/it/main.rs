//! Integration tests of calls to workers and of whole nodes.

mod calls;
mod cluster;
mod layers;
mod schemas;
mod testing;
mod typed;
