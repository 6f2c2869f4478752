//! Tampering: faults that tests plant in an engine, to see a checker notice.

use std::net::SocketAddr;

use crate::engine::sent_by_kind::SentByKind;
use crate::engine::{DetectorHooks, Engine, Entry};
use crate::event::MemberState;
use crate::tags::Tags;
use crate::time::Time;
use crate::wire::Record;

impl<D: DetectorHooks> Engine<D> {
    /// Mean round trip of answered pings, in seconds.
    pub(crate) fn rtt(&self) -> f64 {
        self.probes.network.mean_rtt()
    }

    /// Changes a member but not what is derived from it, to see a checker notice.
    pub(crate) fn plant(&mut self, name: &str, change: impl FnOnce(&mut Entry)) {
        let entry = self.table.get_mut(crate::id::name_key(name));
        change(entry.expect("there is such a member"));
    }

    /// Changes a member and what is derived from it.
    pub(crate) fn plant_update(&mut self, now: Time, name: &str, change: impl FnOnce(&mut Entry)) {
        self.table.update(now, crate::id::name_key(name), change);
    }

    /// Queues a datagram of so many bytes.
    pub(crate) fn plant_datagram(&mut self, bytes: usize) {
        self.send_queue
            .transmits
            .push((self.local.addr, vec![0; bytes]));
    }

    /// Removes members, missing or not.
    pub(crate) fn plant_forgetting(&mut self, names: &[String]) {
        for name in names {
            self.table.remove(crate::id::name_key(name));
        }
    }

    /// Makes a member failed, as if that had been decided.
    pub(crate) fn plant_failure(&mut self, now: Time, name: &str) {
        let now = self.running_time(now);
        self.mark_failed(now, crate::id::name_key(name));
    }

    /// Declares a member failed without evidence.
    pub(crate) fn plant_failure_decision(&mut self, now: Time, name: &str) {
        let now = self.running_time(now);
        let key = crate::id::name_key(name);
        self.stats.failures_declared += 1;
        self.record_failure_decision(now, key);
        self.mark_failed(now, key);
    }

    /// Adds more members than there are.
    pub(crate) fn plant_members(&mut self, now: Time, count: u64) {
        for key in 1..=count {
            let name = format!("planted-{key}").into();
            let [_, .., a, b, c] = key.to_be_bytes();
            let record = Record {
                name,
                addr: SocketAddr::from(([11, a, b, c], 1)),
                ..self.own_record()
            };
            let entry = Entry::new(&record, Tags::new(), now);
            self.table.insert(now, key, entry, &mut self.rng);
        }
    }

    /// Puts many failed members at one address, beyond its bound.
    pub(crate) fn plant_members_at_address(&mut self, name: &str, count: u64) {
        let record = self.table.get(crate::id::name_key(name)).map(Entry::record);
        let record = record.expect("there is such a member");
        for key in 1..=count {
            let mut entry = Entry::new(&record, Tags::new(), self.clocks.running.last());
            entry.state = MemberState::Failed;
            entry.key = key;
            self.table.plant_member_at_address(entry);
        }
    }

    /// Lowers the incarnation of this node.
    pub(crate) fn plant_own_incarnation(&mut self, incarnation: u32) {
        self.local.incarnation = incarnation;
    }

    /// Stops all probing and gossip.
    pub(crate) fn plant_silence(&mut self) {
        self.timers = Default::default();
    }

    /// Declares a member failed without recording the decision.
    pub(crate) fn plant_unrecorded_failure(&mut self, now: Time, name: &str) {
        self.stats.failures_declared += 1;
        self.plant_failure(now, name);
    }

    /// Fills the gossip queue with unknown members.
    pub(crate) fn plant_gossip(&mut self, count: u64) {
        (0..count).for_each(|key| self.gossip_queue.push(key));
    }

    /// Counts more of one kind than there is a reason for.
    pub(crate) fn plant_sent(&mut self, kind: impl FnOnce(&mut SentByKind) -> &mut u64) {
        *kind(&mut self.instruments.sent_by_kind) += 1_000;
    }
}
