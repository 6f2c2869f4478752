//! Tampering: faults that tests plant in an engine, for a checker to detect.

use std::net::SocketAddr;

use super::inspect::MemberVersion;
use super::sent_by_kind::SentByKind;
use super::{DetectorHooks, Engine, Entry};
use crate::event::MemberState;
use crate::id::name_key;
use crate::tags::Tags;
use crate::time::Time;
use crate::wire::Record;

/// Faults to plant in an engine. Not covered by semantic versioning.
#[derive(Debug)]
pub struct Tampering<'a, D: DetectorHooks>(&'a mut Engine<D>);

impl<D: DetectorHooks> Engine<D> {
    /// Access to its state for faults that a checker has to notice.
    pub fn tampering(&mut self) -> Tampering<'_, D> {
        Tampering(self)
    }
}

impl<D: DetectorHooks> Tampering<'_, D> {
    /// Changes a member but not what is derived from it.
    ///
    /// # Panics
    /// If there is no such member.
    pub fn change(&mut self, name: &str, change: impl FnOnce(&mut MemberVersion, &mut Tags)) {
        let entry = self.0.table.get_mut(name_key(name));
        apply(change, entry.expect("there is such a member"));
    }

    /// Changes a member and what is derived from it.
    pub fn update(&mut self, now: Time, name: &str, change: impl FnOnce(&mut MemberVersion)) {
        let change = |entry: &mut Entry| apply(|version, _| change(version), entry);
        self.0.table.update(now, name_key(name), change);
    }

    /// Makes a member failed, as if that had been decided.
    pub fn fail(&mut self, now: Time, name: &str) {
        let now = self.0.running_time(now);
        self.0.mark_failed(now, name_key(name));
    }

    /// Declares a member failed without evidence; `is_recorded`: as a decision.
    pub fn declare_failed(&mut self, now: Time, name: &str, is_recorded: bool) {
        let (now, key) = (self.0.running_time(now), name_key(name));
        self.0.stats.failures_declared += 1;
        if is_recorded {
            self.0.record_failure_decision(now, key);
        }
        self.0.mark_failed(now, key);
    }

    /// Removes members, missing or not.
    pub fn forget(&mut self, names: &[String]) {
        for name in names {
            self.0.table.remove(name_key(name));
        }
    }

    /// Adds so many members.
    pub fn add_members(&mut self, now: Time, count: u64) {
        for key in 1..=count {
            let [_, .., a, b, c] = key.to_be_bytes();
            let record = Record {
                name: format!("planted-{key}").into(),
                addr: SocketAddr::from(([11, a, b, c], 1)),
                ..self.0.own_record()
            };
            let entry = Entry::new(&record, Tags::new(), now);
            self.0.table.insert(now, key, entry, &mut self.0.rng);
        }
    }

    /// Adds failed members at the address of `name`, beyond the bound of an address.
    ///
    /// # Panics
    /// If there is no such member.
    pub fn add_members_at_address(&mut self, name: &str, count: u64) {
        let record = self.0.table.get(name_key(name)).map(Entry::record);
        let record = record.expect("there is such a member");
        for key in 1..=count {
            let mut entry = Entry::new(&record, Tags::new(), self.0.clocks.running.last());
            entry.state = MemberState::Failed;
            entry.info_mut().key = key;
            self.0.table.insert_beyond_bound(entry);
        }
    }

    /// Sets the incarnation of this node.
    pub fn set_own_incarnation(&mut self, incarnation: u32) {
        self.0.local.incarnation = incarnation;
    }

    /// Stops all probing and gossip.
    pub fn silence(&mut self) {
        self.0.timers = Default::default();
    }

    /// Queues gossip about so many unknown members.
    pub fn queue_gossip(&mut self, count: u64) {
        (0..count).for_each(|key| self.0.gossip_queue.push(key));
    }

    /// Queues a datagram of so many bytes.
    pub fn queue_datagram(&mut self, bytes: usize) {
        let datagram = (self.0.local.addr, vec![0; bytes]);
        self.0.send_queue.transmits.push(datagram);
    }

    /// The counts of sent datagrams.
    pub fn sent_by_kind(&mut self) -> &mut SentByKind {
        &mut self.0.instruments.sent_by_kind
    }

    /// Lets this node, as a helper, send a nack for whatever it is asked about.
    pub fn always_nack(&mut self) {
        self.0.instruments.always_nacks = true;
    }

    /// Lets each lookup of the seeds cause the next one.
    pub fn loop_lookups(&mut self) {
        self.0.instruments.lookup_loops = true;
    }
}

fn apply(change: impl FnOnce(&mut MemberVersion, &mut Tags), entry: &mut Entry) {
    let mut version = MemberVersion::of_entry(entry);
    let info = entry.info_mut();
    change(&mut version, &mut info.tags);
    info.epoch = version.epoch;
    info.incarnation = version.incarnation;
    entry.state = version.state;
}
