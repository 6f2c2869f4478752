//! Inspection: what the checkers of the simulation read from an engine.

use std::net::SocketAddr;
use std::time::Duration;

use super::bounded_queue::{EVENTS_MAX, PendingEvents};
use super::cluster_mismatch::MISMATCH_NOTICES_MAX;
use super::evidence::Evidence;
use super::gossip::QUEUE_LEN_MAX;
use super::indirect_probe::INDIRECT_PROBES_MAX;
use super::interner::Interner;
use super::join_state::HELLOS_MAX;
use super::merge::RecordSource;
use super::probe_round::PROBE_ROUNDS_MAX;
use super::reach_check::SAMPLE_MAX;
use super::send::TRANSMITS_MAX;
use super::sent_by_kind::SentByKind;
use super::slowness::{EXPIRED_ROUNDS_MAX, WATCHED_MAX};
use super::timers::NamedTimer;
use super::{DetectorHooks, Engine, Entry};
use crate::config::ClusterConfig;
use crate::event::MemberState;
use crate::tags::Tags;
use crate::time::Time;
use crate::wire::{Record, Suspectors};

/// State that checkers and faults of the simulation keep in an engine.
#[derive(Debug, Default)]
pub(super) struct Instruments {
    /// Whether this node, as a helper, sends a nack for whatever it is asked about.
    pub(super) always_nacks: bool,
    /// Counts of sent datagrams by kind.
    pub(super) sent_by_kind: SentByKind,
    /// Evidence of each failure that was declared, if it is recorded.
    failure_decisions: Option<Vec<FailureDecision>>,
    /// Whether each lookup of the seeds causes the next one.
    pub(super) lookup_loops: bool,
}

/// Fill level of something that is bounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Occupancy {
    /// Name of the queue or table.
    pub name: &'static str,
    /// Entries in it.
    pub count: usize,
    /// Most entries.
    pub bound: usize,
}

/// Member as a view has it, without a copy.
#[derive(Clone, Copy, Debug)]
pub struct MemberView<'a> {
    /// Hash of its name.
    pub key: u64,
    /// Its name.
    pub name: &'a str,
    /// Its version.
    pub version: MemberVersion,
    /// Its address.
    pub addr: SocketAddr,
    /// Whether it drains.
    pub draining: bool,
    /// Its tags.
    pub tags: &'a Tags,
}

/// Version of a member: what the order of claims compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemberVersion {
    /// Start of its instance.
    pub epoch: u64,
    /// Incarnation of that instance.
    pub incarnation: u32,
    /// State in that incarnation.
    pub state: MemberState,
}

/// Change of a member's version in a view.
#[derive(Clone, Copy, Debug)]
pub struct MemberChange {
    /// The member.
    pub key: u64,
    /// Version before; none if the member was not known.
    pub before: Option<MemberVersion>,
    /// Version after.
    pub after: MemberVersion,
}

/// Evidence on which this node declared a member failed.
#[derive(Clone, Copy, Debug)]
pub struct FailureDecision {
    /// The member.
    pub key: u64,
    /// Live members, the observer and the member included.
    pub live: usize,
    /// Evidence of the observer's own probes.
    pub own: Evidence,
    /// Suspectors, each with its evidence.
    pub suspectors: Suspectors,
    /// Age of the suspicion.
    pub age: Duration,
}

/// Work that one datagram caused.
#[derive(Clone, Copy, Debug)]
pub struct DatagramWork {
    /// Table lookups and visited index entries.
    pub steps: u64,
    /// Records, keys and versions in it.
    pub items: usize,
}

impl MemberVersion {
    pub(super) fn of_entry(entry: &Entry) -> Self {
        Self {
            epoch: entry.epoch,
            incarnation: entry.incarnation,
            state: entry.state,
        }
    }
}

impl<D: DetectorHooks> Engine<D> {
    /// Record of this node.
    pub fn record(&self) -> Record {
        self.own_record()
    }

    /// Shares what is claimed of members with other engines of this process.
    pub fn set_interner(&mut self, shared: Interner) {
        self.table.interner = Some(shared);
    }

    /// Adds members as from a sync that happened long ago, with no gossip and no events. A record
    /// of this node itself is ignored.
    pub fn preload_members<'a>(&mut self, now: Time, records: impl Iterator<Item = &'a Record>) {
        for (nth, record) in records.enumerate() {
            self.merge(now, record.clone(), RecordSource::Sync);
            if nth % 256 == 255 {
                // A short queue is a cheap one.
                self.gossip_queue.clear();
                self.events = PendingEvents::default();
            }
        }
        self.gossip_queue.clear();
        self.timers.clear(NamedTimer::Gossip);
        self.events = PendingEvents::default();
        self.join.enter();
    }

    /// Fill levels of everything that could grow.
    pub fn occupancies(&self) -> [Occupancy; 13] {
        let members = self.table.len();
        let (probes, join) = (&self.probes, &self.join);
        [
            ("members", members, self.config.members_max),
            ("rounds", probes.rounds.as_slice().len(), PROBE_ROUNDS_MAX),
            (
                "indirect probes",
                probes.indirect.len(),
                INDIRECT_PROBES_MAX,
            ),
            (
                "gossip queue",
                self.gossip_queue.len(),
                QUEUE_LEN_MAX.min(members + 1),
            ),
            // Each round has one timer and leaves one behind; each suspicion likewise.
            (
                "timers",
                self.timers.len(),
                8 * PROBE_ROUNDS_MAX + 4 * members,
            ),
            ("transmits", self.send_queue.transmits.len(), TRANSMITS_MAX),
            ("events", self.events.len(), EVENTS_MAX),
            ("detector", self.detector.tracked_members(), members),
            ("watched", probes.rtt_tracker.watched(), WATCHED_MAX),
            (
                "overdue",
                probes.rtt_tracker.expired_rounds(),
                EXPIRED_ROUNDS_MAX,
            ),
            ("asked", self.reach.sample_len(), SAMPLE_MAX),
            ("hellos", join.pending_hellos_len(), HELLOS_MAX),
            (
                "refusals",
                self.mismatch_notices.len(),
                MISMATCH_NOTICES_MAX,
            ),
        ]
        .map(|(name, count, bound)| Occupancy { name, count, bound })
    }

    /// All members, without a copy.
    pub fn member_views(&self) -> impl Iterator<Item = MemberView<'_>> {
        self.table
            .iter()
            .map(|(key, entry)| member_view(key, entry))
    }

    /// The member of this key.
    pub fn member_view(&self, key: u64) -> Option<MemberView<'_>> {
        self.table.get(key).map(|entry| member_view(key, entry))
    }

    /// View of this node that others should have.
    pub fn local_view(&self) -> MemberView<'_> {
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
    pub fn record_history(&mut self) {
        self.table.change_log = Some(Vec::new());
        self.instruments.failure_decisions = Some(Vec::new());
    }

    /// Changes since the last call, in their order.
    pub fn take_changes(&mut self) -> Vec<MemberChange> {
        let changes = self.table.change_log.as_mut();
        changes.map(std::mem::take).unwrap_or_default()
    }

    /// Failure decisions since the last call.
    pub fn take_failure_decisions(&mut self) -> Vec<FailureDecision> {
        let decisions = self.instruments.failure_decisions.as_mut();
        decisions.map(std::mem::take).unwrap_or_default()
    }

    /// Work of the last datagram, if one was read since the last call.
    pub fn take_datagram_work(&mut self) -> Option<DatagramWork> {
        let (items, steps) = self.table.work.take();
        Some(DatagramWork {
            steps,
            items: items?,
        })
    }

    /// Configuration of this node.
    pub fn config(&self) -> &ClusterConfig {
        &self.config
    }

    pub(super) fn record_failure_decision(&mut self, now: Time, key: u64) {
        let live = self.live_count();
        let (Some(decisions), Some(entry)) =
            (&mut self.instruments.failure_decisions, self.table.get(key))
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
    pub fn recomputed_view(&self) -> u64 {
        self.table.recomputed_view()
    }

    /// Mean round trip of answered pings, in seconds.
    pub fn mean_rtt(&self) -> f64 {
        self.probes.network.mean_rtt()
    }

    /// Time at which the last member that is held down for flapping may recover.
    pub fn held_until(&self) -> Time {
        let failed = self
            .table
            .iter()
            .filter(|(_, e)| e.state == MemberState::Failed);
        let held = failed.filter_map(|(_, e)| e.faults().held_until).max();
        self.clocks.running.caller_time(held.unwrap_or_default())
    }
}

fn member_view(key: u64, entry: &Entry) -> MemberView<'_> {
    MemberView {
        key,
        name: &entry.name,
        version: MemberVersion::of_entry(entry),
        addr: entry.addr(),
        draining: entry.is_draining(),
        tags: &entry.tags,
    }
}
