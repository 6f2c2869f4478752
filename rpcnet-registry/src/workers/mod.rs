//! Who takes the next call.

mod group;
mod health;
mod select;
mod strategy;
mod worker;

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, atomic::Ordering},
};

use arc_swap::ArcSwap;
use group::Group;
use health::Care;
pub use health::{HealthEvent, HealthEvents};
use parking_lot::Mutex;
use rpcnet_balance::{Balancer, Time};
pub use strategy::{LoadBalancingStrategy, UnknownStrategy};
use worker::Member;
pub use worker::{Candidate, Worker, WorkerStatus};

use crate::{
    ClusterEvent, Events, Filter, Membership, Node, NodeState, Observer, ParseError, SelectError,
    SourceState, Watch,
    event::{EVENT_CAPACITY, Feed},
    snapshot::{Change, Table},
};

/// The nodes of a cluster as workers: one is selected by tags and load for every call.
///
/// Who is selected:
/// - Only nodes whose tags match the [filter](Filter). Without a filter, any node.
/// - Nodes that are alive. A suspect one, or one that is alive and [out of reach](NodeState::Unreachable), only if no alive one matches or is left after exclusions: it may well be alive,
///   and then a call to it is better than none; see [`without_suspicion`](Self::without_suspicion).
/// - Never one that is leaving, left or failed, from the moment the source says so.
/// - One that is marked, because it cannot be reached, fails more often than others or drains, only if nobody else is left;
///   see [`with_health`](Self::with_health). A marked one that may be well again gets a call now and then to find out.
/// - Nobody at all once the source has ended or is superseded: see [`SourceState`].
/// - Never one that [serves no methods](crate::SERVES_TAG), by its own word.
/// - Not the node that this process is, unless [`with_local`](Self::with_local) says otherwise.
///
/// Among those the balancer picks. Every filter has its own order of turns, while the calls in flight are counted per
/// node, whatever filter it was selected by and however the cluster changes meanwhile; a restarted node starts from zero.
/// A node's tag `weight`, a number above 0, says how much it can take in relation to others; default 1.
///
/// Filters are parsed once: up to 256 texts are kept together with everything a selection needs, so that selecting with
/// one of them takes no lock. Beyond that, those not used lately make room.
pub struct WorkerRegistry {
    source: Box<dyn Membership>,
    watch: Mutex<Option<Watch>>,
    shared: Arc<Shared>,
}

impl WorkerRegistry {
    /// A registry of the workers in `cluster`, with one of the strategies at hand. Empty until it is
    /// [started](Self::start).
    pub fn new(cluster: impl Membership, strategy: LoadBalancingStrategy) -> Self {
        Self::with_balancer(cluster, strategy.balancer())
    }

    /// A registry with a balancer of your own. Endpoints are given to it with a hash of the node's name as their id,
    /// the same in every process.
    pub fn with_balancer(cluster: impl Membership, balancer: Arc<dyn Balancer>) -> Self {
        let care = Arc::new(Care::new());
        let selection = Selection {
            members: Arc::default(),
            groups: BTreeMap::new(),
            care: Arc::clone(&care),
            source: SourceState::Live,
        };
        let shared = Shared {
            writer: Mutex::new(Writer {
                table: Table::default(),
                members: BTreeMap::new(),
                balancer,
                local: false,
                generation: 0,
                care,
            }),
            selection: ArcSwap::from_pointee(selection),
            feed: Feed::new(EVENT_CAPACITY),
        };
        Self {
            source: Box::new(cluster),
            watch: Mutex::default(),
            shared: Arc::new(shared),
        }
    }

    /// Whether the node that this process is may be selected. Default `false`.
    #[must_use]
    pub fn with_local(self, local: bool) -> Self {
        let mut writer = self.shared.writer.lock();
        if writer.local != local {
            writer.local = local;
            self.shared.renew(&mut writer, |_| true);
        }
        drop(writer);
        self
    }

    /// Begins to follow the source. When it returns, the workers known by then can be selected. A second call does
    /// nothing.
    pub async fn start(&self) {
        let mut watch = self.watch.lock();
        if watch.is_none() {
            *watch = Some(
                self.source
                    .watch(Arc::clone(&self.shared) as Arc<dyn Observer>),
            );
        }
    }

    /// Every worker that can be reached and matches, alive ones first: for a call to all. Counts one call in flight for
    /// each.
    ///
    /// # Errors
    ///
    /// As [`select_worker`](Self::select_worker).
    pub fn select_all(&self, filter: Option<&str>) -> Result<Vec<Worker>, SelectError> {
        let all = self.candidates(filter)?;
        // Whether calls follow at once is the caller's affair.
        let begun = all.iter().map(|one| one.begin_at(Time::ZERO));
        Ok(begun.collect())
    }

    /// Like [`select_all`](Self::select_all), without counting calls: for a call to all that begins with some of them.
    ///
    /// # Errors
    ///
    /// As [`select_worker`](Self::select_worker).
    pub fn candidates(&self, filter: Option<&str>) -> Result<Vec<Candidate>, SelectError> {
        let text = filter.unwrap_or("");
        let group = self.shared.group(text)?;
        group.touch();
        let all: Vec<Candidate> = group.tiers.iter().flat_map(Candidate::all).collect();
        if all.is_empty() {
            Err(self.nobody(&group, text))
        } else {
            Ok(all)
        }
    }

    /// The workers that match, whatever their state, with their calls in flight: for people to look at. The local node
    /// is among them only if it can be selected; nodes that [serve no methods](crate::SERVES_TAG) are not.
    ///
    /// # Errors
    ///
    /// When the filter cannot be read.
    pub fn workers(&self, filter: Option<&str>) -> Result<Vec<WorkerStatus>, ParseError> {
        let filter: Filter = filter.unwrap_or("").parse()?;
        let selection = self.shared.selection.load();
        let matching = selection
            .members
            .iter()
            .filter(|one| filter.matches(&one.node.tags));
        let now = selection.care.now();
        Ok(matching.map(|member| member.status(now)).collect())
    }

    /// The worker of this name as selection knows it, whatever its state. The local node only if it can be selected, and no
    /// node that [serves no methods](crate::SERVES_TAG).
    #[must_use]
    pub fn node(&self, name: &str) -> Option<Arc<Node>> {
        let selection = self.shared.selection.load();
        // They come out of a map in the order of their names.
        let found = selection
            .members
            .binary_search_by(|one| one.node.id.name.as_ref().cmp(name));
        found
            .ok()
            .map(|index| Arc::clone(&selection.members[index].node))
    }

    /// Whether the source still tells what happens. If not, selection fails with [`SelectError::SourceEnded`].
    #[must_use]
    pub fn source(&self) -> SourceState {
        self.shared.selection.load().source.clone()
    }

    /// What happens in the cluster from now on. When an event arrives, selection already goes by it. It says nothing about
    /// other registries of the same source: the snapshot of a [`NodeRegistry`](crate::NodeRegistry) may be from before it.
    #[must_use]
    pub fn subscribe(&self) -> Events {
        self.shared.feed.subscribe()
    }
}

impl fmt::Debug for WorkerRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkerRegistry")
            .field("workers", &self.shared.selection.load().members)
            .finish_non_exhaustive()
    }
}

struct Shared {
    writer: Mutex<Writer>,
    selection: ArcSwap<Selection>,
    feed: Feed,
}

/// All that a selection reads. Never changes.
#[derive(Debug, Clone)]
struct Selection {
    members: Arc<[Arc<Member>]>,
    /// Few, so that comparing them is quicker than hashing the one that is looked for.
    groups: BTreeMap<Box<str>, Arc<Group>>,
    care: Arc<Care>,
    source: SourceState,
}

struct Writer {
    table: Table,
    members: BTreeMap<Arc<str>, Arc<Member>>,
    balancer: Arc<dyn Balancer>,
    local: bool,
    generation: u64,
    care: Arc<Care>,
}

impl Shared {
    /// The group of a filter, made and kept if need be.
    fn group(&self, text: &str) -> Result<Arc<Group>, ParseError> {
        if let Some(group) = self.selection.load().groups.get(text) {
            return Ok(Arc::clone(group));
        }
        let filter: Filter = text.parse()?;
        let writer = self.writer.lock();
        let current = self.selection.load_full();
        // Somebody else may have made it while we waited for the lock.
        if let Some(group) = current.groups.get(text) {
            return Ok(Arc::clone(group));
        }
        let group = Arc::new(writer.group(filter, text, None));
        let mut next = Selection::clone(&current);
        make_room(&mut next.groups);
        next.groups.insert(text.into(), Arc::clone(&group));
        self.selection.store(Arc::new(next));
        Ok(group)
    }

    /// Takes the changes over into the selection. Only groups that one of them concerns are made anew.
    fn take_over(&self, writer: &mut Writer, changes: &[Change]) {
        for change in changes {
            writer.update(change);
        }
        let concerned = |filter: &Filter| {
            changes.iter().any(|change| {
                let nodes = [&change.before, &change.after];
                nodes
                    .into_iter()
                    .flatten()
                    .any(|node| filter.matches(&node.tags))
            })
        };
        self.renew(writer, concerned);
    }

    fn renew(&self, writer: &mut Writer, concerned: impl Fn(&Filter) -> bool) {
        writer.generation += 1;
        let current = self.selection.load_full();
        let groups = current.groups.iter().map(|(text, group)| {
            let group = if concerned(&group.filter) {
                Arc::new(writer.group(group.filter.clone(), text, Some(group)))
            } else {
                Arc::clone(group)
            };
            (text.clone(), group)
        });
        let members: Arc<[_]> = writer.selectable().cloned().collect();
        writer.care.watch(&members, writer.generation);
        let selection = Selection {
            members,
            groups: groups.collect(),
            care: Arc::clone(&writer.care),
            source: writer.table.source().clone(),
        };
        self.selection.store(Arc::new(selection));
    }
}

impl Observer for Shared {
    fn on_snapshot(&self, nodes: Vec<Node>) {
        let mut writer = self.writer.lock();
        let (events, changes) = writer.table.replace(nodes);
        self.take_over(&mut writer, &changes);
        events.into_iter().for_each(|event| self.feed.send(event));
    }

    fn on_event(&self, event: ClusterEvent) {
        let mut writer = self.writer.lock();
        match writer.table.note_source(&event) {
            Some(false) => return,
            Some(true) => {
                self.renew(&mut writer, |_| true);
                return self.feed.send(event);
            }
            None => {}
        }
        let (event, changes) = writer.table.apply(event);
        if !changes.is_empty() {
            self.take_over(&mut writer, &changes);
            writer.on_news(&event, &changes);
        }
        self.feed.send(event);
    }
}

impl Writer {
    fn update(&mut self, change: &Change) {
        match (&change.before, &change.after) {
            (_, Some(after)) => {
                let name = &after.id.name;
                let member = Member::successor(self.members.get(name), after);
                self.members.insert(Arc::clone(name), Arc::new(member));
            }
            (Some(before), None) => {
                self.members.remove(&before.id.name);
            }
            (None, None) => {}
        }
    }

    fn group(&self, filter: Filter, text: &str, before: Option<&Arc<Group>>) -> Group {
        // By what a source knew that has ended nobody is selected.
        let is_live = self.table.source().is_live();
        Group::new(
            filter,
            text,
            self.selectable().filter(|_| is_live),
            self.generation,
            before,
            &self.balancer,
            &self.care,
        )
    }

    /// The cluster has reason to think that a node is well: it is tried again at once. That it refuted a suspicion is its
    /// own word, by way of others, and says nothing about the way there: what calls found out stays.
    fn on_news(&self, event: &ClusterEvent, changes: &[Change]) {
        use ClusterEvent::{NodeJoined, NodeReachable, NodeRecovered, NodeUpdated};
        let Some(node) = event.node() else {
            return;
        };
        let member = self.members.get(&node.id.name);
        let Some(member) = member.filter(|member| member.node.state == NodeState::Alive) else {
            return;
        };
        match event {
            NodeJoined(_) | NodeUpdated(_) => {
                self.care.note_reachable(&member.endpoint);
                self.care.note_draining(&member.endpoint, false);
            }
            NodeRecovered(_) | NodeReachable(_) => {
                let before = changes.iter().find_map(|change| change.before.as_ref());
                if before.is_none_or(|before| before.state != NodeState::Suspect) {
                    self.care.hasten_probe(&member.endpoint);
                }
            }
            _ => {}
        }
    }

    fn selectable(&self) -> impl Iterator<Item = &Arc<Member>> {
        self.members
            .values()
            .filter(|member| self.local || !member.node.is_local)
            .filter(|member| !member.node.serves_nothing())
    }
}

/// Second chance: who was not used since the last time goes; if all were, one goes.
fn make_room(groups: &mut BTreeMap<Box<str>, Arc<Group>>) {
    if groups.len() < FILTERS_MAX {
        return;
    }
    groups.retain(|_, group| group.used.swap(false, Ordering::Relaxed));
    if groups.len() >= FILTERS_MAX {
        let any = groups.keys().next().cloned();
        any.and_then(|text| groups.remove(&text));
    }
}

/// How many filters are kept parsed and matched.
const FILTERS_MAX: usize = 256;

#[cfg(test)]
mod tests;
