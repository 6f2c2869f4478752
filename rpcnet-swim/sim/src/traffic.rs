//! Traffic of a simulated node: datagrams and bytes, with their headers.

use std::ops::{Add, Sub};

/// Datagrams and bytes that a node sent and received, former instances included.
///
/// Bytes are those of the datagrams and of their IPv4 and UDP headers, 28 to each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Datagrams that left the node, whether they arrived or not.
    pub sent: u64,
    /// Bytes of them.
    pub sent_bytes: u64,
    /// Datagrams that the process took in.
    pub received: u64,
    /// Bytes of them.
    pub received_bytes: u64,
}

impl Traffic {
    pub(super) fn count_sent(&mut self, datagram: &[u8]) {
        self.sent += 1;
        self.sent_bytes += wire_bytes(datagram);
    }

    pub(super) fn count_received(&mut self, datagram: &[u8]) {
        self.received += 1;
        self.received_bytes += wire_bytes(datagram);
    }
}

impl Add for Traffic {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            sent: self.sent + other.sent,
            sent_bytes: self.sent_bytes + other.sent_bytes,
            received: self.received + other.received,
            received_bytes: self.received_bytes + other.received_bytes,
        }
    }
}

impl Sub for Traffic {
    type Output = Self;

    /// Traffic since `earlier`.
    fn sub(self, earlier: Self) -> Self {
        Self {
            sent: self.sent - earlier.sent,
            sent_bytes: self.sent_bytes - earlier.sent_bytes,
            received: self.received - earlier.received,
            received_bytes: self.received_bytes - earlier.received_bytes,
        }
    }
}

/// Bytes that a datagram takes on the wire.
pub(super) fn wire_bytes(datagram: &[u8]) -> u64 {
    datagram.len() as u64 + HEADER_BYTES
}

/// An IPv4 header and a UDP header.
const HEADER_BYTES: u64 = 20 + 8;
