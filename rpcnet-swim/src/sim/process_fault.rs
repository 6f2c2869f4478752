//! What may keep a running process from its work, and what waits meanwhile.
//!
//! | plight | comes in | goes out | timers | ended by |
//! |---|---|---|---|---|
//! | stalled | waits | waits | stand still | [`Cluster::resume`] |
//! | blocked | waits | waits | run | the same |
//! | half-blocked | waits, or passes | passes, or waits | run | the same |
//! | slow | one at a time, each takes its time | in the same queue | run | the same |
//!
//! A node is in one plight at a time; a new one first ends the one before.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use super::Cluster;
use super::event_queue::SimEvent;
use crate::engine::hooks::DetectorHooks;
use crate::time::Time;

/// What keeps a running process from doing its work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum ProcessFault {
    #[default]
    None,
    /// Neither messages nor timers: the process is stopped.
    Stalled,
    /// Timers but no messages: they wait, in and out.
    Blocked,
    /// Timers, and messages in one direction.
    HalfBlocked(OpenDirection),
    /// Timers, and one message at a time.
    Slow(Duration),
}

/// Which direction a half-blocked node has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OpenDirection {
    /// What it sends goes out; what is sent to it waits.
    SendOnly,
    /// What is sent to it comes in; what it sends waits.
    ReceiveOnly,
}

/// One datagram that waits for its node.
#[derive(Debug)]
pub(super) enum PendingDatagram {
    Inbound { from: usize, datagram: Vec<u8> },
    Outbound { to: SocketAddr, datagram: Vec<u8> },
}

/// All that waits for a node, in the order in which it came, bounded as the buffers of a socket
/// are: what does not fit is lost.
#[derive(Debug, Default)]
pub(super) struct PendingQueue {
    queue: VecDeque<PendingDatagram>,
    /// How many of them come in.
    inbound_count: usize,
}

impl PendingQueue {
    /// Whether there was room for it.
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
    /// Stops a process: messages wait, and nothing happens in it.
    pub fn stall(&mut self, node: usize) {
        self.report.stalls += 1;
        self.set_fault(node, ProcessFault::Stalled);
    }

    /// Withholds what a node sends and what is sent to it, while its timers run.
    pub fn block(&mut self, node: usize) {
        self.report.blocks += 1;
        self.set_fault(node, ProcessFault::Blocked);
    }

    /// Withholds what a node sends, or what is sent to it, while its timers run: a socket of
    /// which one direction hangs.
    pub fn half_block(&mut self, node: usize, half: OpenDirection) {
        self.report.half_blocks += 1;
        self.set_fault(node, ProcessFault::HalfBlocked(half));
    }

    /// Lets a process take `per_message` for each message, in or out, one after the other in the
    /// order in which they came up. At most 1,024 of each direction wait, then more are lost.
    /// Its timers run.
    pub fn slow(&mut self, node: usize, per_message: Duration) {
        self.report.slow_nodes += 1;
        self.set_fault(node, ProcessFault::Slow(per_message));
    }

    /// Ends a node's plight: first it does what waits, all at this moment, then what is due.
    pub fn resume(&mut self, node: usize) {
        let now = self.now;
        let place = &mut self.nodes[node];
        if std::mem::take(&mut place.fault) == ProcessFault::None {
            return;
        }
        place.impaired_at = Some(now);
        place.busy_until = None;
        let mut ins = Vec::new();
        let mut waiting = std::mem::take(&mut place.pending);
        while let Some(message) = waiting.pop() {
            match message {
                PendingDatagram::Inbound { from, datagram } => ins.push((from, datagram)),
                PendingDatagram::Outbound { to, datagram } => self.transmit(node, to, datagram),
            }
        }
        let Some(mut engine) = self.nodes[node].engine.take() else {
            return;
        };
        for (from, mut datagram) in ins {
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

    /// Whether a node is up and nothing keeps it from its work at this moment: it is not stalled,
    /// blocked, half-blocked or slow, not isolated, not at an end of a cut, and has no loss of its
    /// own. What it suffered before may still be believed of it.
    pub fn is_healthy(&self, node: usize) -> bool {
        self.is_up(node) && self.is_unimpaired(node)
    }

    /// Whether nothing keeps a node from its work, if it is up.
    pub(super) fn is_unimpaired(&self, node: usize) -> bool {
        self.nodes[node].fault == ProcessFault::None && !self.network.is_impaired(node)
    }

    /// Lets a message pass, or keeps it back.
    pub(super) fn pass_or_hold(&mut self, node: usize, message: PendingDatagram) {
        let place = &mut self.nodes[node];
        if !place.fault.withholds(&message) {
            return self.process(node, message);
        }
        if !place.pending.push(message) {
            self.report.overflowed += 1;
            return;
        }
        self.start_next_message(node);
    }

    /// A slow process is done with a message.
    pub(super) fn finish_message(&mut self, node: usize, at: Time) {
        let place = &mut self.nodes[node];
        // What was in hand when its plight ended is done already.
        if place.busy_until != Some(at) {
            return;
        }
        place.busy_until = None;
        if let Some(message) = place.pending.pop() {
            self.process(node, message);
        }
        self.start_next_message(node);
    }

    fn set_fault(&mut self, node: usize, plight: ProcessFault) {
        self.resume(node);
        self.nodes[node].fault = plight;
    }

    /// A slow process takes up its next message, if it has none in hand.
    fn start_next_message(&mut self, node: usize) {
        let place = &mut self.nodes[node];
        if let ProcessFault::Slow(per_message) = place.fault
            && place.busy_until.is_none()
            && place.pending.len() > 0
        {
            let done = self.now + per_message;
            place.busy_until = Some(done);
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
