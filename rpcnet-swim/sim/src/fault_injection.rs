//! Fault injection: nodes that are stalled, blocked, half-blocked or slow for a while.
//!
//! | fault | inbound | outbound | timers | ended by |
//! |---|---|---|---|---|
//! | stalled | waits | waits | stand still | [`Cluster::resume`] |
//! | blocked | waits | waits | run | the same |
//! | half-blocked | waits, or passes | passes, or waits | run | the same |
//! | slow | one at a time, each takes long | in the same queue | run | the same |
//!
//! A node has one fault at a time; a new one first ends the one before.

use std::time::Duration;

use rpcnet_swim::Time;
use rpcnet_swim::unstable::DetectorHooks;

use super::Cluster;
use super::event_queue::SimEvent;
use super::process_fault::{OpenDirection, PendingDatagram, ProcessFault};

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
    /// remember an earlier fault of it.
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

#[cfg(test)]
mod tests;
