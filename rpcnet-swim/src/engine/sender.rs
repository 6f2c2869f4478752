//! Sender of a message, as its envelope and its source address show it.

use std::net::SocketAddr;

use crate::id::instance_key;
use crate::wire::KeySlot;

/// Sender of a message.
#[derive(Clone, Copy, Debug)]
pub struct Sender {
    pub(super) addr: SocketAddr,
    pub(super) key: u64,
    pub(super) epoch: u64,
    pub(super) counter: u64,
    pub(super) sealed_with: Option<KeySlot>,
    /// Size of the datagram.
    pub(crate) bytes: usize,
}

impl Sender {
    pub(super) fn instance(&self) -> u64 {
        instance_key(self.key, self.epoch)
    }
}
