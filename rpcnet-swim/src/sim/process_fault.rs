//! Process faults: stalled, blocked, half-blocked and slow nodes, and the datagrams that wait.
//!
//! | fault | inbound | outbound | timers | ended by |
//! |---|---|---|---|---|
//! | stalled | waits | waits | stand still | [`Cluster::resume`] |
//! | blocked | waits | waits | run | the same |
//! | half-blocked | waits, or passes | passes, or waits | run | the same |
//! | slow | one at a time, each takes long | in the same queue | run | the same |
//!
//! A node has one fault at a time; a new one first ends the one before.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use super::Cluster;
use super::event_queue::SimEvent;
use crate::engine::hooks::DetectorHooks;
use crate::time::Time;

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
    inbound_count: usize,
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
    fn withholds(self, message: &PendingDatagram) -> bool {
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

impl<D: DetectorHooks> Cluster<D> {
    /// Stalls a process: datagrams wait, and its timers stand still.
    pub fn stall(&mut self, node: usize) {
        self.report.stalls += 1;
        self.set_fault(node, ProcessFault::Stalled);
    }

    /// Withholds a node's datagrams in both directions, while its timers run.
    pub fn block(&mut self, node: usize) {
        self.report.blocks += 1;
        self.set_fault(node, ProcessFault::Blocked);
    }

    /// Withholds one direction of a node's datagrams, while its timers run: a socket of which one
    /// direction hangs.
    pub fn half_block(&mut self, node: usize, half: OpenDirection) {
        self.report.half_blocks += 1;
        self.set_fault(node, ProcessFault::HalfBlocked(half));
    }

    /// Lets a process take `per_message` for each datagram, in or out, one after the other in the
    /// order of arrival. At most 1,024 of each direction wait, then more are lost. Its timers run.
    pub fn slow(&mut self, node: usize, per_message: Duration) {
        self.report.slow_nodes += 1;
        self.set_fault(node, ProcessFault::Slow(per_message));
    }

    /// Ends a node's fault: it first handles the datagrams that wait, all at this moment, then what
    /// is due.
    pub fn resume(&mut self, node: usize) {
        let now = self.now;
        let slot = &mut self.nodes[node];
        if std::mem::take(&mut slot.fault) == ProcessFault::None {
            return;
        }
        slot.impaired_at = Some(now);
        slot.busy_until = None;
        let mut inbound = Vec::new();
        let mut waiting = std::mem::take(&mut slot.pending);
        while let Some(message) = waiting.pop() {
            match message {
                PendingDatagram::Inbound { from, datagram } => inbound.push((from, datagram)),
                PendingDatagram::Outbound { to, datagram } => self.transmit(node, to, datagram),
            }
        }
        let Some(mut engine) = self.nodes[node].engine.take() else {
            return;
        };
        for (from, mut datagram) in inbound {
            let from = self.nodes[from].addr;
            self.report.delivered += 1;
            self.nodes[node].traffic.count_received(&datagram);
            engine.handle_datagram(now, from, &mut datagram);
            self.record_own_state(node, &engine);
        }
        engine.handle_timeout(now);
        self.nodes[node].engine = Some(engine);
        self.after_input(node);
    }

    /// Whether a node is up and healthy at this moment: it is not stalled, blocked, half-blocked or
    /// slow, not isolated, not at an end of a cut, and has no loss of its own. Others may still
    /// hold an earlier fault against it.
    #[must_use]
    pub fn is_healthy(&self, node: usize) -> bool {
        self.is_up(node) && self.is_unimpaired(node)
    }

    /// Whether a node has no fault of its process or its network, be it up or not.
    pub(super) fn is_unimpaired(&self, node: usize) -> bool {
        self.nodes[node].fault == ProcessFault::None && !self.network.is_impaired(node)
    }

    /// Lets a datagram pass, or holds it back.
    pub(super) fn pass_or_hold(&mut self, node: usize, message: PendingDatagram) {
        let slot = &mut self.nodes[node];
        if !slot.fault.withholds(&message) {
            return self.process(node, message);
        }
        if !slot.pending.push(message) {
            self.report.overflowed += 1;
            return;
        }
        self.start_next_message(node);
    }

    /// Lets a slow process finish the datagram in hand.
    pub(super) fn finish_message(&mut self, node: usize, at: Time) {
        let slot = &mut self.nodes[node];
        // A datagram that was in hand when the fault ended is handled already.
        if slot.busy_until != Some(at) {
            return;
        }
        slot.busy_until = None;
        if let Some(message) = slot.pending.pop() {
            self.process(node, message);
        }
        self.start_next_message(node);
    }

    fn set_fault(&mut self, node: usize, fault: ProcessFault) {
        self.resume(node);
        self.nodes[node].fault = fault;
    }

    /// Lets a slow process start its next datagram, if it has none in hand.
    fn start_next_message(&mut self, node: usize) {
        let slot = &mut self.nodes[node];
        if let ProcessFault::Slow(per_message) = slot.fault
            && slot.busy_until.is_none()
            && slot.pending.len() > 0
        {
            let done = self.now + per_message;
            slot.busy_until = Some(done);
            self.push(done, SimEvent::MessageDone(node as u32));
        }
    }

    fn process(&mut self, node: usize, message: PendingDatagram) {
        match message {
            PendingDatagram::Inbound { from, datagram } => self.deliver(from, node, datagram),
            PendingDatagram::Outbound { to, datagram } => self.transmit(node, to, datagram),
        }
    }
}

/// Most datagrams of one direction that wait for a process that does not read or write them.
pub(super) const PENDING_MAX: usize = 1_024;

#[cfg(test)]
mod tests;
