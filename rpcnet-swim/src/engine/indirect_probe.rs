//! Indirect probes: pings that this node sends on behalf of others (SWIM section 3.1).

use std::net::SocketAddr;

use super::timers::Timer;
use super::{DetectorHooks, Engine, Sender};
use crate::config::DATAGRAM_BYTES_MIN;
use crate::id::instance_key;
use crate::time::Time;
use crate::unicast::is_usable_from;
use crate::wire::{Payload, ProbeTarget};

/// Ping on behalf of another member, the requester.
#[derive(Debug)]
struct IndirectProbe {
    seq: u32,
    target: ProbeTarget,
    requester: SocketAddr,
    requester_instance: u64,
    requester_seq: u32,
}

/// Indirect probes that wait for an answer.
#[derive(Debug, Default)]
pub(super) struct IndirectProbes(Vec<IndirectProbe>);

impl IndirectProbes {
    pub(super) fn contains(&self, seq: u32) -> bool {
        self.0.iter().any(|probe| probe.seq == seq)
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    fn take(&mut self, wanted: impl Fn(&IndirectProbe) -> bool) -> Option<IndirectProbe> {
        let at = self.0.iter().position(wanted)?;
        Some(self.0.swap_remove(at))
    }
}

impl<D: DetectorHooks> Engine<D> {
    /// Handles a ping-req: pings the target, unless that is this node itself.
    pub(super) fn on_ping_req(&mut self, now: Time, sender: Sender, seq: u32, target: ProbeTarget) {
        if target.key == self.local.key && target.epoch == self.local.epoch {
            let target = target.key;
            return self.reply(sender, Payload::RelayedAck { seq, target });
        }
        #[cfg(feature = "unstable")]
        if self.instruments.always_nacks {
            let target = target.key;
            return self.reply(sender, Payload::Nack { seq, target });
        }
        if !is_usable_from(target.addr, sender.addr) {
            self.stats.unusable_addresses += 1;
            return;
        }
        if self.probes.indirect.len() >= INDIRECT_PROBES_MAX {
            return;
        }
        let own_seq = self.probes.next_seq();
        self.probes.indirect.0.push(IndirectProbe {
            seq: own_seq,
            target,
            requester: sender.addr,
            requester_instance: sender.instance(),
            requester_seq: seq,
        });
        // A target that is not known here gets no gossip: the requester may have made it up.
        let is_known = self
            .table
            .get(target.key)
            .is_some_and(|entry| entry.addr() == target.addr);
        let updates = match is_known || !self.detector.extends_swim() {
            true => self.ping_updates(target.key, DATAGRAM_BYTES_MIN),
            false => Vec::new(),
        };
        let ping = Payload::Ping {
            seq: own_seq,
            view: self.table.view(),
            updates,
        };
        let (timeout, interval) = (
            self.config.effective_probe_timeout(),
            self.config.probe_interval,
        );
        let nack_delay = self.detector.nack_delay(timeout, interval);
        self.send(target.addr, instance_key(target.key, target.epoch), ping);
        let timer = Timer::IndirectProbe(own_seq);
        self.timers.push(now + nack_delay, timer);
    }

    /// Forwards an ack to the requester, if the sender is the target of an indirect probe.
    pub(super) fn forward_ack(&mut self, sender: Sender, seq: u32) {
        let answered = self.probes.indirect.take(|probe| {
            let target = &probe.target;
            probe.seq == seq && (target.key, target.epoch) == (sender.key, sender.epoch)
        });
        if let Some(probe) = answered {
            self.prune_timers();
            let ack = Payload::RelayedAck {
                seq: probe.requester_seq,
                target: probe.target.key,
            };
            self.send(probe.requester, probe.requester_instance, ack);
        }
    }

    /// Handles the end of the wait for a target: the requester gets a nack.
    pub(super) fn on_indirect_probe_timer(&mut self, seq: u32) {
        let ended = self.probes.indirect.take(|probe| probe.seq == seq);
        if let Some(probe) = ended.filter(|_| self.detector.sends_nacks()) {
            let nack = Payload::Nack {
                seq: probe.requester_seq,
                target: probe.target.key,
            };
            self.send(probe.requester, probe.requester_instance, nack);
        }
    }
}

/// Most indirect probes at once; a ping-req beyond goes unanswered.
pub(super) const INDIRECT_PROBES_MAX: usize = 256;
