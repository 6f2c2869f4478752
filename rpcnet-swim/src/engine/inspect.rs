//! Inspection: what the checkers of the simulation read from an engine.

use std::net::SocketAddr;
use std::time::Duration;

use super::bounded_queue::{EVENTS_MAX, PendingEvents};
use super::gossip::{GossipQueue, QUEUE_LEN_MAX};
use super::indirect_probe::INDIRECT_PROBES_MAX;
pub(crate) use super::interner::Interner;
use super::merge::RecordSource;
use super::probe_round::PROBE_ROUNDS_MAX;
use super::sent_by_kind::SentByKind;
use super::slowness::{EXPIRED_ROUNDS_MAX, WATCHED_MAX};
pub(crate) use super::suspicion::Evidence;
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
    interner: Option<Interner>,
}

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
        self.instruments.interner = Some(shared);
    }

    pub(super) fn interned(&self, record: Record) -> Record {
        match &self.instruments.interner {
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
        let shared = self.instruments.interner.take();
        for (nth, record) in records.enumerate() {
            self.merge(now, record.clone(), RecordSource::Sync);
            if nth % 256 == 255 {
                // A short queue is a cheap one.
                self.gossip_queue = GossipQueue::default();
                self.events = PendingEvents::default();
            }
        }
        self.instruments.interner = shared;
        self.gossip_queue = GossipQueue::default();
        self.timers.clear(NamedTimer::Gossip);
        self.events = PendingEvents::default();
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
                self.probes.rounds.as_slice().len(),
                PROBE_ROUNDS_MAX,
            ),
            fill(
                "indirect probes",
                self.probes.indirect.len(),
                INDIRECT_PROBES_MAX,
            ),
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
                self.send_queue.transmits.len(),
                super::send::TRANSMITS_MAX,
            ),
            fill("events", self.events.len(), EVENTS_MAX),
            fill("detector", self.detector.tracked_members(), members),
            fill("watched", self.probes.rtt_tracker.watched(), WATCHED_MAX),
            fill(
                "overdue",
                self.probes.rtt_tracker.expired_rounds(),
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
                super::join_state::HELLOS_MAX,
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
        self.instruments.failure_decisions = Some(Vec::new());
    }

    /// Changes since the last call, in their order.
    pub(crate) fn take_changes(&mut self) -> Vec<MemberChange> {
        let changes = self.table.change_log.as_mut();
        changes.map(std::mem::take).unwrap_or_default()
    }

    /// Failure decisions since the last call.
    pub(crate) fn take_failure_decisions(&mut self) -> Vec<FailureDecision> {
        let decisions = self.instruments.failure_decisions.as_mut();
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
        self.clocks.running.caller_time(held.unwrap_or_default())
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
