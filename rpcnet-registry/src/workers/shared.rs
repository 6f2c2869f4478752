//! What a registry of workers shares between the source that tells it of changes and the callers that select.
//!
//! An event changes the roster, marks the endpoints that are gone and flags the filters that it concerns; it builds nothing.
//! The first selection by a filter after a change builds its group, once for however many changes. Callers that come
//! meanwhile pick from the group before, in which whatever is gone is marked.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use rpcnet_balance::{Balancer, Time};

use super::{
    group::{Building, Group, Slot},
    health::Care,
    roster::{Roster, SharedRoster},
    weight,
};
use crate::{
    ClusterEvent, Filter, Node, NodeState, Observer, ParseError, SourceState,
    event::{EVENT_CAPACITY, Feed},
    snapshot::{Change, Table},
};

pub(super) struct Shared {
    /// Held while an event is taken in, and while a group is put in its place.
    writer: Mutex<Writer>,
    pub(super) roster: SharedRoster,
    pub(super) selection: ArcSwap<Selection>,
    balancer: Arc<dyn Balancer>,
    pub(super) feed: Feed,
}

/// All that a selection reads. Never changes.
#[derive(Debug, Clone)]
pub(super) struct Selection {
    /// Few, so that comparing them is quicker than hashing the one that is looked for.
    pub(super) groups: BTreeMap<Arc<str>, Arc<Group>>,
    pub(super) care: Arc<Care>,
    pub(super) source: SourceState,
    /// Rises when all groups are given up at once.
    epoch: u64,
}

struct Writer {
    table: Table,
    /// When the next invalid tag is worth a warning in the log.
    warn_at: Time,
}

impl Shared {
    pub(super) fn new(balancer: Arc<dyn Balancer>) -> Self {
        let roster = Arc::new(Mutex::new(Roster::new()));
        let selection = Selection {
            groups: BTreeMap::new(),
            care: Arc::new(Care::new(Arc::clone(&roster))),
            source: SourceState::Live,
            epoch: 0,
        };
        Self {
            writer: Mutex::new(Writer {
                table: Table::default(),
                warn_at: Time::ZERO,
            }),
            roster,
            selection: ArcSwap::from_pointee(selection),
            balancer,
            feed: Feed::new(EVENT_CAPACITY),
        }
    }

    /// The group of a filter with every change that is known by now. While another caller builds
    /// it, the one before, unless it `must` be the latest.
    #[cold]
    pub(super) fn group(&self, text: &str, must: bool) -> Result<Arc<Group>, ParseError> {
        loop {
            let group = self.group_in_place(text)?;
            let building = if must || !group.is_built {
                group.slot.begin_build()
            } else if let Some(building) = group.slot.try_begin_build() {
                building
            } else {
                return Ok(group);
            };
            if let Some(built) = self.build(text, building) {
                return Ok(built);
            }
        }
    }

    /// Those who match a filter, with every change that is known by now; not to be picked from.
    /// Waits for no other caller: while one builds the group, it is sorted here too.
    pub(super) fn matching(&self, text: &str) -> Result<Arc<Group>, ParseError> {
        loop {
            let known = self.group_in_place(text)?;
            if known.slot.is_current() {
                let selection = self.selection.load();
                let latest = selection.groups.get(text);
                match latest.filter(|latest| Arc::ptr_eq(&latest.slot, &known.slot)) {
                    Some(latest) => return Ok(Arc::clone(latest)),
                    None => continue,
                }
            }
            let Some(building) = known.slot.try_begin_build() else {
                let snapshot = self.roster.lock().snapshot();
                return Ok(Arc::new(known.preview(&snapshot)));
            };
            if let Some(built) = self.build(text, building) {
                return Ok(built);
            }
        }
    }

    fn group_in_place(&self, text: &str) -> Result<Arc<Group>, ParseError> {
        let known = self.selection.load().groups.get(text).cloned();
        known.map_or_else(|| self.add(text), Ok)
    }

    /// Builds the latest group, unless another caller was quicker. `None` if its place is gone.
    fn build(&self, text: &str, mut building: Building<'_>) -> Option<Arc<Group>> {
        let selection = self.selection.load_full();
        let latest = selection.groups.get(text);
        let latest = latest.filter(|latest| building.is_of(latest))?;
        if !building.take_stale() {
            return Some(Arc::clone(latest));
        }
        let snapshot = self.roster.lock().snapshot();
        let built = Arc::new(latest.successor(&snapshot));
        let is_installed = self.install(text, &built, selection.epoch);
        is_installed.then(|| {
            building.finish();
            built
        })
    }

    /// Makes a place for the group of a filter that is not known yet.
    fn add(&self, text: &str) -> Result<Arc<Group>, ParseError> {
        let filter: Filter = text.parse()?;
        let _writer = self.writer.lock();
        let current = self.selection.load();
        // Another caller may have made it while this one waited for the lock.
        if let Some(group) = current.groups.get(text) {
            return Ok(Arc::clone(group));
        }
        let text: Arc<str> = text.into();
        let group = Arc::new(Group::unbuilt(filter, &text, &self.balancer, &current.care));
        let mut next = Selection::clone(&current);
        make_room(&mut next.groups);
        next.groups.insert(text, Arc::clone(&group));
        self.selection.store(Arc::new(next));
        Ok(group)
    }

    /// Puts a group in the place of the one before. `false` if that place is gone: then it may be out of date.
    fn install(&self, text: &str, built: &Arc<Group>, epoch: u64) -> bool {
        let _writer = self.writer.lock();
        let current = self.selection.load();
        let is_mine = |before: &Arc<Group>| Arc::ptr_eq(&before.slot, &built.slot);
        if current.epoch != epoch || !current.groups.get(text).is_some_and(is_mine) {
            return false;
        }
        let mut next = Selection::clone(&current);
        if let Some(place) = next.groups.get_mut(text) {
            *place = Arc::clone(built);
        }
        self.selection.store(Arc::new(next));
        true
    }

    /// Gives up all groups, for a change that concerns every one.
    pub(super) fn begin_anew(&self, change: impl FnOnce(&mut Selection)) {
        let _writer = self.writer.lock();
        self.begin_anew_locked(change);
    }

    fn begin_anew_locked(&self, change: impl FnOnce(&mut Selection)) {
        let mut next = Selection::clone(&self.selection.load());
        next.groups.clear();
        next.epoch += 1;
        change(&mut next);
        next.care.note_change();
        self.selection.store(Arc::new(next));
    }

    /// Takes the changes over: the roster has them, and what concerns them is flagged. Returns what is to be told of tags.
    fn take_over(&self, writer: &mut Writer, changes: &[Change]) -> Vec<ClusterEvent> {
        let mut roster = self.roster.lock();
        changes.iter().for_each(|change| roster.update(change));
        drop(roster);
        let selection = self.selection.load();
        for group in selection.groups.values() {
            if !group.slot.is_stale() && concerns(&group.filter, changes) {
                group.slot.note_change();
            }
        }
        if !changes.is_empty() {
            selection.care.note_change();
        }
        let invalid: Vec<_> = changes.iter().filter_map(invalid_tag).collect();
        writer.warn(&invalid, selection.care.now());
        invalid
    }

    /// The cluster has reason to think that a node is well: it is tried again at once. That it refuted a suspicion is its
    /// own word, by way of others, and says nothing about the way there: what calls found out stays.
    fn on_news(&self, event: &ClusterEvent, changes: &[Change]) {
        use ClusterEvent::{NodeJoined, NodeReachable, NodeRecovered, NodeUpdated};
        let Some(node) = event.node() else {
            return;
        };
        let member = self.roster.lock().member(&node.id.name).cloned();
        let Some(member) = member.filter(|member| member.node.state == NodeState::Alive) else {
            return;
        };
        let care = Arc::clone(&self.selection.load().care);
        match event {
            NodeJoined(_) | NodeUpdated(_) => {
                care.note_reachable(&member.endpoint);
                care.note_draining(&member.endpoint, false);
            }
            NodeRecovered(_) | NodeReachable(_) => {
                let before = changes.iter().find_map(|change| change.before.as_ref());
                if before.is_none_or(|before| before.state != NodeState::Suspect) {
                    care.hasten_probe(&member.endpoint);
                }
            }
            _ => {}
        }
    }
}

impl Observer for Shared {
    fn on_snapshot(&self, nodes: Vec<Node>) {
        let mut writer = self.writer.lock();
        let (events, changes) = writer.table.replace(nodes);
        let invalid = self.take_over(&mut writer, &changes);
        let events = events.into_iter().chain(invalid);
        events.for_each(|event| self.feed.send(event));
    }

    fn on_event(&self, event: ClusterEvent) {
        let mut writer = self.writer.lock();
        match writer.table.note_source(&event) {
            Some(false) => return,
            Some(true) => {
                let source = writer.table.source().clone();
                self.roster.lock().set_live(source.is_live());
                self.begin_anew_locked(|selection| selection.source = source);
                return self.feed.send(event);
            }
            None => {}
        }
        let (event, changes) = writer.table.apply(event);
        let invalid = self.take_over(&mut writer, &changes);
        if !changes.is_empty() {
            self.on_news(&event, &changes);
        }
        self.feed.send(event);
        invalid.into_iter().for_each(|event| self.feed.send(event));
    }
}

impl Writer {
    /// Warns of invalid tags, at most once a second: tags may be changed by a program.
    fn warn(&mut self, invalid: &[ClusterEvent], now: Time) {
        for event in invalid {
            let ClusterEvent::InvalidTag {
                node,
                key,
                value,
                taken,
            } = event
            else {
                continue;
            };
            if now < self.warn_at {
                tracing::debug!(node = %node.id, %key, ?value, taken, "invalid tag");
                continue;
            }
            self.warn_at = now + WARNING_INTERVAL;
            tracing::warn!(node = %node.id, %key, ?value, taken, "invalid tag");
        }
    }
}

/// Whether the filter matches a node before or after a change.
fn concerns(filter: &Filter, changes: &[Change]) -> bool {
    let nodes = changes.iter().flat_map(|one| [&one.before, &one.after]);
    nodes.flatten().any(|node| filter.matches(&node.tags))
}

/// What is to be told of the tags of a node that has changed.
fn invalid_tag(change: &Change) -> Option<ClusterEvent> {
    let node = change.after.as_ref()?;
    let is_news = weight::is_news(change.before.as_deref(), node);
    let tag = weight::invalid(node).filter(|_| is_news)?;
    Some(ClusterEvent::InvalidTag {
        node: tag.node,
        key: tag.key,
        value: tag.value,
        taken: tag.taken,
    })
}

/// Second chance: who was not used since the last time goes; if all were, one goes.
fn make_room(groups: &mut BTreeMap<Arc<str>, Arc<Group>>) {
    if groups.len() < FILTERS_MAX {
        return;
    }
    groups.retain(|_, group| Slot::take_used(&group.slot));
    if groups.len() >= FILTERS_MAX {
        let any = groups.keys().next().cloned();
        any.and_then(|text| groups.remove(&text));
    }
}

/// How many filters are kept parsed and matched.
pub(super) const FILTERS_MAX: usize = 256;

const WARNING_INTERVAL: Duration = Duration::from_secs(1);
