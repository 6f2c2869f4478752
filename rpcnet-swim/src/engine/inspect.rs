//! What the simulation's checkers look at: how full everything is, and the hash made anew.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use super::gossip::{GossipQueue, MAX_QUEUED};
use super::health::{OVERDUE_MAX, WATCHED_MAX};
use super::merge::Source;
use super::probe::{RELAYS_MAX, ROUNDS_MAX};
pub(crate) use super::shared::Shared;
pub(crate) use super::suspicion::Evidence;
use super::timers::Single;
use super::{Engine, Entry};
use crate::config::ClusterConfig;
use crate::event::MemberState;
use crate::tags::Tags;
use crate::time::Time;
use crate::wire::{Record, Suspectors};

/// One thing that has a bound, and how full it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fill {
    pub(crate) what: &'static str,
    pub(crate) count: usize,
    pub(crate) bound: usize,
}

/// A member as the view has it, without a copy.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sight<'a> {
    pub(crate) key: u64,
    pub(crate) name: &'a str,
    pub(crate) standing: Standing,
    pub(crate) addr: SocketAddr,
    pub(crate) draining: bool,
    pub(crate) tags: &'a Tags,
}

/// What the order of claims is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) epoch: u64,
    pub(crate) incarnation: u32,
    pub(crate) state: MemberState,
}

/// A member's standing changed in a view.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Change {
    pub(crate) key: u64,
    /// None if it was not known.
    pub(crate) before: Option<Standing>,
    pub(crate) after: Standing,
}

/// What there was against a member when this node declared it failed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Verdict {
    pub(crate) key: u64,
    /// Live members, the judge and the accused included.
    pub(crate) live: usize,
    /// The judge's own evidence.
    pub(crate) own: Evidence,
    pub(crate) suspectors: Suspectors,
    /// For how long it was under suspicion.
    pub(crate) age: Duration,
}

/// What one datagram took.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DatagramWork {
    /// Table look-ups and visited index entries.
    pub(crate) steps: u64,
    /// Records, keys and versions in it.
    pub(crate) items: usize,
}

impl Standing {
    pub(crate) fn of(entry: &Entry) -> Self {
        Self {
            epoch: entry.epoch,
            incarnation: entry.incarnation,
            state: entry.state,
        }
    }
}

impl Engine {
    /// What stands for this node in every table.
    pub(crate) fn key(&self) -> u64 {
        self.me.key
    }

    /// What this node says of itself.
    pub(crate) fn record(&self) -> Record {
        self.own_record()
    }

    /// Keeps names and tags where other engines of this process keep them too.
    pub(crate) fn share_with(&mut self, shared: Shared) {
        self.shared = Some(shared);
    }

    pub(super) fn share(&self, record: Record) -> Record {
        match &self.shared {
            Some(shared) => shared.record(record),
            None => record,
        }
    }

    /// Takes members in as from a sync, with nothing to pass on and nothing to tell: as if it
    /// had known them for long. A record of this node itself is no news to it.
    pub(crate) fn know<'a>(&mut self, now: Time, records: impl Iterator<Item = &'a Record>) {
        // They are what is shared already.
        let shared = self.shared.take();
        for (nth, record) in records.enumerate() {
            self.merge(now, record.clone(), Source::Sync);
            if nth % 256 == 255 {
                // A short queue is a cheap one.
                self.queue = GossipQueue::default();
                self.events.clear();
            }
        }
        self.shared = shared;
        self.queue = GossipQueue::default();
        self.timers.clear(Single::Gossip);
        self.events = VecDeque::new();
        self.join.joined = true;
    }

    /// Everything that could grow.
    pub(crate) fn fills(&self) -> [Fill; 13] {
        let members = self.table.len();
        let fill = |what, count, bound| Fill { what, count, bound };
        [
            fill("members", members, self.config.members_max),
            fill("rounds", self.rounds.len(), ROUNDS_MAX),
            fill("relays", self.relays.len(), RELAYS_MAX),
            fill(
                "gossip queue",
                self.queue.len(),
                MAX_QUEUED.min(members + 1),
            ),
            // Each round has one and leaves one behind, each suspicion likewise.
            fill("timers", self.timers.len(), 8 * ROUNDS_MAX + 4 * members),
            fill(
                "transmits",
                self.transmits.len(),
                super::send::TRANSMITS_MAX,
            ),
            fill("events", self.events.len(), super::EVENTS_MAX),
            fill("trials", self.rival.trials.len(), members),
            fill("watched", self.trips.watched(), WATCHED_MAX),
            fill("overdue", self.trips.overdue(), OVERDUE_MAX),
            fill("asked", self.reach.asked(), super::reach::ASKED_MAX),
            fill("hellos", self.join.hellos(), super::join::HELLOS_MAX),
            fill(
                "refusals",
                self.refusals.len(),
                super::refusal::REFUSALS_MAX,
            ),
        ]
    }

    pub(crate) fn sights(&self) -> impl Iterator<Item = Sight<'_>> {
        self.table.iter().map(|(key, entry)| sight(key, entry))
    }

    pub(crate) fn sight(&self, key: u64) -> Option<Sight<'_>> {
        self.table.get(key).map(|entry| sight(key, entry))
    }

    /// This node as it should be seen.
    pub(crate) fn own_sight(&self) -> Sight<'_> {
        Sight {
            key: self.me.key,
            name: &self.me.name,
            standing: Standing {
                epoch: self.me.epoch,
                incarnation: self.me.incarnation,
                state: MemberState::Alive,
            },
            addr: self.me.addr,
            draining: self.me.draining,
            tags: &self.me.tags,
        }
    }

    /// Keeps changes and verdicts from now on, for whoever takes them out after each input.
    pub(crate) fn keep_trail(&mut self) {
        self.table.trail = Some(Vec::new());
        self.verdicts = Some(Vec::new());
    }

    /// The changes since the last call, in their order.
    pub(crate) fn take_changes(&mut self) -> Vec<Change> {
        let trail = self.table.trail.as_mut();
        trail.map(std::mem::take).unwrap_or_default()
    }

    /// The verdicts since the last call.
    pub(crate) fn take_verdicts(&mut self) -> Vec<Verdict> {
        let verdicts = self.verdicts.as_mut();
        verdicts.map(std::mem::take).unwrap_or_default()
    }

    /// What the last datagram took, if one was read since the last call.
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

    pub(super) fn note_verdict(&mut self, now: Time, key: u64) {
        let live = self.live_count();
        let (Some(verdicts), Some(entry)) = (&mut self.verdicts, self.table.get(key)) else {
            return;
        };
        let suspicion = entry.case().suspicion.as_deref();
        verdicts.push(Verdict {
            key,
            live,
            own: entry.case().evidence,
            suspectors: suspicion.map(|s| s.suspectors).unwrap_or_default(),
            age: suspicion.map(|s| now.since(s.since)).unwrap_or_default(),
        });
    }

    /// The hash of the view from the members alone.
    pub(crate) fn recomputed_view(&self) -> u64 {
        self.table.recomputed_view()
    }

    /// When the last member that is held down for flapping may come back.
    pub(crate) fn held_until(&self) -> Time {
        let failed = self
            .table
            .iter()
            .filter(|(_, e)| e.state == MemberState::Failed);
        let held = failed.map(|(_, e)| e.case().hold_until).max();
        held.unwrap_or_default() + self.stalled
    }
}

fn sight(key: u64, entry: &Entry) -> Sight<'_> {
    Sight {
        key,
        name: &entry.name,
        standing: Standing::of(entry),
        addr: entry.addr(),
        draining: entry.draining,
        tags: &entry.tags,
    }
}

#[cfg(test)]
impl Engine {
    /// Mean round trip of answered pings, in seconds.
    pub(crate) fn rtt(&self) -> f64 {
        self.rtt.normal().mean()
    }

    /// Changes a member behind the engine's back, to see a checker notice.
    pub(crate) fn plant(&mut self, name: &str, change: impl FnOnce(&mut Entry)) {
        let entry = self.table.get_mut(crate::id::name_key(name));
        change(entry.expect("there is such a member"));
    }

    /// Changes a member and what is derived from it.
    pub(crate) fn plant_update(&mut self, now: Time, name: &str, change: impl FnOnce(&mut Entry)) {
        self.table.update(now, crate::id::name_key(name), change);
    }

    /// Sends somebody this many bytes.
    pub(crate) fn plant_datagram(&mut self, bytes: usize) {
        self.transmits.push_back((self.me.addr, vec![0; bytes]));
    }

    /// Forgets members, be they missing or not.
    pub(crate) fn plant_forgetting(&mut self, names: &[String]) {
        for name in names {
            self.table.remove(crate::id::name_key(name));
        }
    }

    /// Says of a member that it failed, as if that had been judged.
    pub(crate) fn plant_failure(&mut self, now: Time, name: &str) {
        let now = self.inner_time(now);
        self.fail(now, crate::id::name_key(name));
    }

    /// Declares a member failed whatever there is against it.
    pub(crate) fn plant_verdict(&mut self, now: Time, name: &str) {
        let now = self.inner_time(now);
        let key = crate::id::name_key(name);
        self.stats.failures_declared += 1;
        self.note_verdict(now, key);
        self.fail(now, key);
    }

    /// Takes in more members than there are.
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

    /// Has many failed members at one address, past what makes room there.
    pub(crate) fn plant_crowd(&mut self, name: &str, count: u64) {
        let record = self.table.get(crate::id::name_key(name)).map(Entry::record);
        let record = record.expect("there is such a member");
        for key in 1..=count {
            let mut entry = Entry::new(&record, Tags::new(), self.last_now);
            entry.state = MemberState::Failed;
            entry.key = key;
            self.table.plant_resident(entry);
        }
    }

    /// Lowers what this node says of itself.
    pub(crate) fn plant_own_incarnation(&mut self, incarnation: u32) {
        self.me.incarnation = incarnation;
    }

    /// Stops all probing and gossip.
    pub(crate) fn plant_deafness(&mut self) {
        self.timers = Default::default();
    }

    /// The same without a word about it.
    pub(crate) fn plant_secret_verdict(&mut self, now: Time, name: &str) {
        self.stats.failures_declared += 1;
        self.plant_failure(now, name);
    }

    /// Fills the gossip queue with news of nobody.
    pub(crate) fn plant_news(&mut self, count: u64) {
        (0..count).for_each(|key| self.queue.push(key));
    }
}
