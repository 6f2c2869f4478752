//! Process faults: states of a running process, and the queue of datagrams that wait meanwhile.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

/// Fault of a running process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum ProcessFault {
    #[default]
    None,
    /// Neither datagrams nor timers: the process is stopped.
    Stalled,
    /// Timers but no datagrams: they wait, in and out.
    Blocked,
    /// Timers, and datagrams in one direction.
    HalfBlocked(OpenDirection),
    /// Timers, and one datagram at a time.
    Slow(Duration),
}

/// The direction that a half-blocked node has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OpenDirection {
    /// Outbound datagrams pass; inbound ones wait.
    SendOnly,
    /// Inbound datagrams pass; outbound ones wait.
    ReceiveOnly,
}

/// A datagram that waits for its node.
#[derive(Debug)]
pub(super) enum PendingDatagram {
    Inbound { from: usize, datagram: Vec<u8> },
    Outbound { to: SocketAddr, datagram: Vec<u8> },
}

/// Datagrams that wait for a node, in the order of arrival, bounded as the buffers of a socket are:
/// one that does not fit is lost.
#[derive(Debug, Default)]
pub(super) struct PendingQueue {
    queue: VecDeque<PendingDatagram>,
    /// Number of inbound ones among them.
    pub(super) inbound_count: usize,
}

impl PendingQueue {
    /// Appends a datagram. Returns whether there was room for it.
    pub(super) fn push(&mut self, message: PendingDatagram) -> bool {
        let is_in = matches!(message, PendingDatagram::Inbound { .. });
        let there = match is_in {
            true => self.inbound_count,
            false => self.queue.len() - self.inbound_count,
        };
        if there >= PENDING_MAX {
            return false;
        }
        self.inbound_count += usize::from(is_in);
        self.queue.push_back(message);
        true
    }

    pub(super) fn pop(&mut self) -> Option<PendingDatagram> {
        let message = self.queue.pop_front()?;
        self.inbound_count -= usize::from(matches!(message, PendingDatagram::Inbound { .. }));
        Some(message)
    }

    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }
}

impl ProcessFault {
    pub(super) fn withholds(self, message: &PendingDatagram) -> bool {
        let passes = match self {
            Self::None => true,
            Self::HalfBlocked(OpenDirection::SendOnly) => {
                matches!(message, PendingDatagram::Outbound { .. })
            }
            Self::HalfBlocked(OpenDirection::ReceiveOnly) => {
                matches!(message, PendingDatagram::Inbound { .. })
            }
            Self::Stalled | Self::Blocked | Self::Slow(_) => false,
        };
        !passes
    }
}

/// Most datagrams of one direction that wait for a process that does not read or write them.
pub(super) const PENDING_MAX: usize = 1_024;
