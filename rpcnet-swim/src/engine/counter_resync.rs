//! Counter resynchronisation: proof of a member's counter after a jump.
//!
//! A holder of the cluster key can send a datagram in another member's name with any counter. If
//! that alone moved the replay window, the member itself would count as a replay from then on. So a
//! jump is bounded, and a member whose counter is out of step is asked for it at its known address,
//! with a number that it has to send back, once.

use super::fault_history::CounterProof;
use super::replay::ReplayWindow;
use super::{DetectorHooks, Engine, Sender};
use crate::time::Time;
use crate::wire::Payload;

impl<D: DetectorHooks> Engine<D> {
    /// Asks the member at its address for its counter, if that of a datagram that was not accepted
    /// is far from those seen. At most once in a probe interval.
    pub(super) fn request_counter_proof(&mut self, now: Time, sender: Sender) {
        let pause = self.config.probe_interval;
        let Some(entry) = self.table.get_mut(sender.key) else {
            return;
        };
        if entry.epoch != sender.epoch || !entry.replay_window().is_out_of_step(sender.counter) {
            return;
        }
        let asked = entry.faults().counter_proof.map(|proof| proof.asked_at);
        if asked.is_some_and(|at| now.since(at) < pause) {
            return;
        }
        // Its own datagram counter makes each number another one.
        let nonce = self.join.nonce(self.send_queue.counter + 1, sender.key);
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
        // This counter itself has yet to be accepted.
        entry.contact_mut().replay_window =
            ReplayWindow::starting_at(sender.counter.saturating_sub(1));
        true
    }
}

#[cfg(test)]
mod tests;
