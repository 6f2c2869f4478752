//! Path MTU: largest datagram for each member.
//!
//! Datagrams of [`DATAGRAM_BYTES_MIN`] bytes pass every path, and every message fits them, so
//! nothing that matters depends on more. If the configuration allows larger ones, the first ping of
//! a round carries as many records as fit; an answer to the second, small ping alone shows that the
//! path does not carry the large one (packetization layer path MTU discovery, RFC 8899). An ack is
//! large only if the ping that it answers was. Everything else is small.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use super::{DetectorHooks, Engine, Sender};
use crate::config::DATAGRAM_BYTES_MIN;

/// Addresses whose path does not carry large datagrams.
#[derive(Debug, Default)]
pub(crate) struct SmallPaths(BTreeSet<SocketAddr>);

impl<D: DetectorHooks> Engine<D> {
    /// Records that the system refused to send a datagram to `to` because it is too large
    /// (EMSGSIZE). That datagram is lost; pings to that address are smaller from now on.
    pub fn handle_too_large(&mut self, to: SocketAddr) {
        self.stats.datagrams_too_large += 1;
        self.record_small_path(to);
    }

    /// Largest first ping of a round, in bytes.
    pub(super) fn ping_size(&self, key: u64) -> usize {
        let addr = self.table.get(key).map(|entry| entry.addr());
        match addr.is_some_and(|addr| self.send_queue.small_paths.0.contains(&addr)) {
            true => DATAGRAM_BYTES_MIN,
            false => self.config.datagram_bytes_max,
        }
    }

    /// Largest answer to a ping, in bytes.
    pub(super) fn ack_size(&self, sender: Sender) -> usize {
        match sender.bytes > DATAGRAM_BYTES_MIN {
            true => self.config.datagram_bytes_max.min(sender.bytes),
            false => DATAGRAM_BYTES_MIN,
        }
    }

    /// Records that of two pings only the small one was answered. Loss by chance looks the same,
    /// but smaller pings cost next to nothing.
    pub(super) fn record_lost_large_ping(&mut self, key: u64) {
        if let Some(addr) = self.table.get(key).map(|entry| entry.addr()) {
            self.record_small_path(addr);
        }
    }

    fn record_small_path(&mut self, addr: SocketAddr) {
        let paths = &mut self.send_queue.small_paths.0;
        if paths.len() >= SMALL_PATHS_MAX {
            // Whichever address it is, it is found again.
            paths.pop_first();
        }
        self.stats.path_mtu_reductions += u64::from(paths.insert(addr));
    }
}

/// Most addresses remembered.
const SMALL_PATHS_MAX: usize = 4_096;
