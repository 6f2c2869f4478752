//! Integration tests of the registries, with static lists and with gossip.

#[cfg(feature = "swim")]
mod log;
mod nodes;
mod properties;
#[cfg(feature = "swim")]
mod source;
mod static_membership;
#[cfg(feature = "swim")]
mod swim;
mod wait;
