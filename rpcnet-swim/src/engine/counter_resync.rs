//! Counters of datagrams that are out of step, and how a member puts that right.
//!
//! Whoever has the cluster's key can send a datagram in another's name with any counter; if that
//! alone moved the window, the member itself would be taken for a replay from then on. So a jump
//! is bounded, and a member whose counters are out of step is asked for its counter where it is
//! known to be: with a number that it has to send back, once.

use super::replay::ReplayWindow;
use super::{DetectorHooks, Engine, Sender};
use crate::time::Time;
use crate::wire::Payload;

/// The number that a member has to send back from its address.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CounterProof {
    nonce: u64,
    pub(super) asked_at: Time,
}

impl<D: DetectorHooks> Engine<D> {
    /// The datagram was not accepted. If its counter is far from those seen, asks the member at
    /// its address which one it is at, once in a probe interval.
    pub(super) fn request_counter_proof(&mut self, now: Time, sender: Sender) {
        let pause = self.config.probe_interval;
        let Some(entry) = self.table.get_mut(sender.key) else {
            return;
        };
        if entry.epoch != sender.epoch || !entry.replay_window.is_out_of_step(sender.counter) {
            return;
        }
        let asked = entry.faults().counter_proof.map(|proof| proof.asked_at);
        if asked.is_some_and(|at| now.since(at) < pause) {
            return;
        }
        let nonce = self.rng.u64(1..);
        let addr = entry.addr();
        entry.faults_mut().counter_proof = Some(CounterProof {
            nonce,
            asked_at: now,
        });
        self.stats.counter_checks += 1;
        let challenge = Payload::Challenge {
            cookie: nonce,
            echo: sender.counter,
            seen: None,
        };
        self.send(addr, sender.instance(), challenge);
    }

    /// Whether a hello brings back the number that its sender was asked for. It does so once, and
    /// then the sender's counters go on from this one.
    pub(super) fn accept_counter_proof(&mut self, sender: Sender, cookie: u64) -> bool {
        let Some(entry) = self.table.get_mut(sender.key) else {
            return false;
        };
        let proof = entry.faults().counter_proof;
        if entry.epoch != sender.epoch || proof.is_none_or(|proof| proof.nonce != cookie) {
            return false;
        }
        entry.faults_mut().counter_proof = None;
        entry.drop_clean_faults();
        // Itself it has yet to be accepted.
        entry.replay_window = ReplayWindow::starting_at(sender.counter.saturating_sub(1));
        true
    }
}

#[cfg(test)]
mod tests;
