//! Inspection: what the checkers of the simulation read from an engine.

use std::net::SocketAddr;
use std::time::Duration;

use super::bounded_queue::BoundedQueue;
use super::gossip::{GossipQueue, QUEUE_LEN_MAX};
use super::indirect_probe::INDIRECT_PROBES_MAX;
pub(crate) use super::interner::Interner;
use super::merge::RecordSource;
use super::probe_round::PROBE_ROUNDS_MAX;
use super::slowness::{EXPIRED_ROUNDS_MAX, WATCHED_MAX};
pub(crate) use super::suspicion::Evidence;
use super::timers::NamedTimer;
use super::{DetectorHooks, Engine, Entry};
use crate::config::ClusterConfig;
use crate::event::MemberState;
use crate::tags::Tags;
use crate::time::Time;
use crate::wire::{Record, Suspectors};

/// Fill level of something that is bounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Occupancy {
    pub(crate) name: &'static str,
    pub(crate) count: usize,
    pub(crate) bound: usize,
}

/// Member as a view has it, without a copy.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MemberView<'a> {
    pub(crate) key: u64,
    pub(crate) name: &'a str,
    pub(crate) version: MemberVersion,
    pub(crate) addr: SocketAddr,
    pub(crate) draining: bool,
    pub(crate) tags: &'a Tags,
}

/// Version of a member: what the order of claims compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MemberVersion {
    pub(crate) epoch: u64,
    pub(crate) incarnation: u32,
    pub(crate) state: MemberState,
}

/// Change of a member's version in a view.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MemberChange {
    pub(crate) key: u64,
    /// Version before; none if the member was not known.
    pub(crate) before: Option<MemberVersion>,
    pub(crate) after: MemberVersion,
}

/// Evidence on which this node declared a member failed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FailureDecision {
    pub(crate) key: u64,
    /// Live members, the observer and the member included.
    pub(crate) live: usize,
    /// Evidence of the observer's own probes.
    pub(crate) own: Evidence,
    pub(crate) suspectors: Suspectors,
    /// Age of the suspicion.
    pub(crate) age: Duration,
}

/// Work that one datagram caused.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DatagramWork {
    /// Table look-ups and visited index entries.
    pub(crate) steps: u64,
    /// Records, keys and versions in it.
    pub(crate) items: usize,
}

impl MemberVersion {
    pub(crate) fn of_entry(entry: &Entry) -> Self {
        Self {
            epoch: entry.epoch,
            incarnation: entry.incarnation,
            state: entry.state,
        }
    }
}

impl<D: DetectorHooks> Engine<D> {
    /// Key of this node in every table.
    pub(crate) fn key(&self) -> u64 {
        self.local.key
    }

    /// Record of this node.
    pub(crate) fn record(&self) -> Record {
        self.own_record()
    }

    /// Shares names and tags with other engines of this process.
    pub(crate) fn set_interner(&mut self, shared: Interner) {
        self.interner = Some(shared);
    }

    pub(super) fn interned(&self, record: Record) -> Record {
        match &self.interner {
            Some(shared) => shared.record(record),
            None => record,
        }
    }

    /// Adds members as from a sync that happened long ago, with no gossip and no events. A record
    /// of this node itself is ignored.
    pub(crate) fn preload_members<'a>(
        &mut self,
        now: Time,
        records: impl Iterator<Item = &'a Record>,
    ) {
        // The records are made of shared values already.
        let shared = self.interner.take();
        for (nth, record) in records.enumerate() {
            self.merge(now, record.clone(), RecordSource::Sync);
            if nth % 256 == 255 {
                // A short queue is a cheap one.
                self.gossip_queue = GossipQueue::default();
                self.events = BoundedQueue::new();
            }
        }
        self.interner = shared;
        self.gossip_queue = GossipQueue::default();
        self.timers.clear(NamedTimer::Gossip);
        self.events = BoundedQueue::new();
        self.join.enter();
    }

    /// Fill levels of everything that could grow.
    pub(crate) fn occupancies(&self) -> [Occupancy; 13] {
        let members = self.table.len();
        let fill = |what, count, bound| Occupancy {
            name: what,
            count,
            bound,
        };
        [
            fill("members", members, self.config.members_max),
            fill(
                "rounds",
                self.probe_rounds.as_slice().len(),
                PROBE_ROUNDS_MAX,
            ),
            fill("relays", self.indirect_probes.len(), INDIRECT_PROBES_MAX),
            fill(
                "gossip queue",
                self.gossip_queue.len(),
                QUEUE_LEN_MAX.min(members + 1),
            ),
            // Each round has one timer and leaves one behind; each suspicion likewise.
            fill(
                "timers",
                self.timers.len(),
                8 * PROBE_ROUNDS_MAX + 4 * members,
            ),
            fill(
                "transmits",
                self.transmits.len(),
                super::send::TRANSMITS_MAX,
            ),
            fill("events", self.events.len(), super::EVENTS_MAX),
            fill("detector", self.detector.tracked_members(), members),
            fill("watched", self.rtt_tracker.watched(), WATCHED_MAX),
            fill(
                "overdue",
                self.rtt_tracker.expired_rounds(),
                EXPIRED_ROUNDS_MAX,
            ),
            fill(
                "asked",
                self.reach.sample_len(),
                super::reach_check::SAMPLE_MAX,
            ),
            fill(
                "hellos",
                self.join.pending_hellos_len(),
                super::join::HELLOS_MAX,
            ),
            fill(
                "refusals",
                self.mismatch_notices.len(),
                super::mismatch_notices::MISMATCH_NOTICES_MAX,
            ),
        ]
    }

    pub(crate) fn member_views(&self) -> impl Iterator<Item = MemberView<'_>> {
        self.table
            .iter()
            .map(|(key, entry)| member_view(key, entry))
    }

    pub(crate) fn member_view(&self, key: u64) -> Option<MemberView<'_>> {
        self.table.get(key).map(|entry| member_view(key, entry))
    }

    /// View of this node that others should have.
    pub(crate) fn local_view(&self) -> MemberView<'_> {
        MemberView {
            key: self.local.key,
            name: &self.local.name,
            version: MemberVersion {
                epoch: self.local.epoch,
                incarnation: self.local.incarnation,
                state: MemberState::Alive,
            },
            addr: self.local.addr,
            draining: self.local.draining,
            tags: &self.local.tags,
        }
    }

    /// Records changes and failure decisions from now on; the simulation takes them out after each
    /// input.
    pub(crate) fn record_history(&mut self) {
        self.table.change_log = Some(Vec::new());
        self.failure_decisions = Some(Vec::new());
    }

    /// Changes since the last call, in their order.
    pub(crate) fn take_changes(&mut self) -> Vec<MemberChange> {
        let trail = self.table.change_log.as_mut();
        trail.map(std::mem::take).unwrap_or_default()
    }

    /// Failure decisions since the last call.
    pub(crate) fn take_failure_decisions(&mut self) -> Vec<FailureDecision> {
        let decisions = self.failure_decisions.as_mut();
        decisions.map(std::mem::take).unwrap_or_default()
    }

    /// Work of the last datagram, if one was read since the last call.
    pub(crate) fn take_datagram_work(&mut self) -> Option<DatagramWork> {
        let (items, steps) = self.table.work.take();
        Some(DatagramWork {
            steps,
            items: items?,
        })
    }

    pub(crate) fn config(&self) -> &ClusterConfig {
        &self.config
    }

    pub(super) fn record_failure_decision(&mut self, now: Time, key: u64) {
        let live = self.live_count();
        let (Some(decisions), Some(entry)) = (&mut self.failure_decisions, self.table.get(key))
        else {
            return;
        };
        let suspicion = entry.faults().suspicion.as_deref();
        decisions.push(FailureDecision {
            key,
            live,
            own: entry.faults().evidence,
            suspectors: suspicion.map(|s| s.suspectors).unwrap_or_default(),
            age: suspicion.map(|s| now.since(s.since)).unwrap_or_default(),
        });
    }

    /// Hash of the view, computed from the members alone.
    pub(crate) fn recomputed_view(&self) -> u64 {
        self.table.recomputed_view()
    }

    /// Time at which the last member that is held down for flapping may recover.
    pub(crate) fn held_until(&self) -> Time {
        let failed = self
            .table
            .iter()
            .filter(|(_, e)| e.state == MemberState::Failed);
        let held = failed.map(|(_, e)| e.faults().held_until).max();
        self.running_clock.caller_time(held.unwrap_or_default())
    }
}

fn member_view(key: u64, entry: &Entry) -> MemberView<'_> {
    MemberView {
        key,
        name: &entry.name,
        version: MemberVersion::of_entry(entry),
        addr: entry.addr(),
        draining: entry.draining,
        tags: &entry.tags,
    }
}

#[cfg(test)]
impl<D: DetectorHooks> Engine<D> {
    /// Mean round trip of answered pings, in seconds.
    pub(crate) fn rtt(&self) -> f64 {
        self.network.mean_rtt()
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
        self.transmits.push((self.local.addr, vec![0; bytes]));
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
            let mut entry = Entry::new(&record, Tags::new(), self.running_clock.last());
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
}
