//! Worker selection: tag filter, health tiers, balancer.

mod group;
mod health;
mod select;
mod selection_state;
mod strategy;
mod weight;
mod worker;
mod worker_table;

use std::{fmt, sync::Arc};

pub use health::{HealthEvent, HealthEvents};
use parking_lot::Mutex;
use rpcnet_balance::{Balancer, Time};
use selection_state::SelectionState;
pub use strategy::{LoadBalancingStrategy, UnknownStrategy};
pub use worker::{Candidate, Worker, WorkerStatus};

use crate::{
    Events, Filter, FilterError, Membership, NodeInfo, Observer, SelectError, SourceState, Watch,
};

/// The nodes of a cluster as workers: one is selected by tags and load for every call.
///
/// Who is selected:
/// - Only nodes whose tags match the [filter](Filter). Without a filter, any node.
/// - Nodes that are alive. A suspect one, or one that is alive and [out of reach](crate::NodeState::Unreachable), only if no alive one matches or is left after exclusions: it may well be alive,
///   and then a call to it is better than none; see [`without_suspicion`](Self::without_suspicion).
/// - Never one that is leaving, left or failed, from the moment the source says so.
/// - One that is marked, because it cannot be reached, fails more often than others or drains, only
///   if no other one is left; see [`with_health`](Self::with_health). A marked one that may be well
///   again gets a call now and then to find out.
/// - None at all once the source has ended or is superseded: see [`SourceState`].
/// - Never one that [serves no methods](crate::SERVES_TAG), by its own word.
/// - Not the node that this process is, unless [`with_local`](Self::with_local) says otherwise.
///
/// Among those the balancer picks. Every filter has its own order of turns, while the calls in
/// flight are counted per node, whatever filter it was selected by and however the cluster changes
/// meanwhile; a restarted node starts from zero. A node's tag `weight` says how much it can take in
/// relation to others; default 1. It is a number, white space around it does not matter; 0.001 to
/// 1,000 count as they are, more as 1,000, what is between zero and 0.001 as 0.001. Zero and less
/// is none: the node gets no calls while another one that matches can take them, even one that
/// cannot be reached; where all have none, they are equal. What is no number counts as 1. A tag
/// that is taken for something else than it says is told once for each change
/// ([`ClusterEvent::InvalidTag`](crate::ClusterEvent::InvalidTag)) and warned of in the log, at
/// most once a second;
/// [`invalid_tags`](Self::invalid_tags) lists those that there are. A call
/// [to all](Self::select_all) goes by no weight.
///
/// Filters are parsed once: up to 256 texts are kept together with everything a selection needs, so that selecting with
/// one of them takes no lock. Beyond that, those not used lately make room.
///
/// A change of the cluster only flags the filters that it concerns. The first selection by such a filter builds what it
/// needs anew, once for however many changes, and the balancer's tables only if endpoints or tags have changed. Other callers
/// that select meanwhile go by the view before: who has failed, left or started anew since is not picked from it, while who
/// has come is seen when the new one is built. A caller that finds no worker in the view before waits for the new one.
pub struct WorkerRegistry {
    source: Box<dyn Membership>,
    watch: Mutex<Option<Watch>>,
    selection_state: Arc<SelectionState>,
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
        Self {
            source: Box::new(cluster),
            watch: Mutex::default(),
            selection_state: Arc::new(SelectionState::new(balancer)),
        }
    }

    /// Whether the node that this process is may be selected. Default `false`.
    #[must_use]
    pub fn with_local(self, local: bool) -> Self {
        self.selection_state
            .table
            .lock()
            .set_local_selectable(local);
        self.selection_state.reset_groups(|_| ());
        self
    }

    /// Begins to follow the source. When it returns, the workers known by then can be selected. A second call does
    /// nothing.
    pub async fn start(&self) {
        let mut watch = self.watch.lock();
        if watch.is_none() {
            *watch = Some(
                self.source
                    .watch(Arc::clone(&self.selection_state) as Arc<dyn Observer>),
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
        let group = self.selection_state.group_for_listing(text)?;
        group.build_state.mark_used();
        let all: Vec<Candidate> = group.tiers.iter().flat_map(Candidate::all).collect();
        if all.is_empty() {
            Err(self.no_worker_error(&group, text))
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
    pub fn workers(&self, filter: Option<&str>) -> Result<Vec<WorkerStatus>, FilterError> {
        let filter: Filter = filter.unwrap_or("").parse()?;
        let snapshot = self.selection_state.table.lock().snapshot();
        let matching = snapshot
            .entries
            .iter()
            .filter(|one| filter.matches(&one.node.tags));
        let now = self.now();
        Ok(matching.map(|member| member.status(now)).collect())
    }

    /// The tags that selection goes by and that do not say what they should, of all nodes that have
    /// not left or failed: what [`ClusterEvent::InvalidTag`](crate::ClusterEvent::InvalidTag) told
    /// subscribers of, also before there was one. Empty as a rule. Looks at every node.
    #[must_use]
    pub fn invalid_tags(&self) -> Vec<InvalidTag> {
        let roster = self.selection_state.table.lock();
        let nodes = roster.all().map(|member| &member.node);
        let present = nodes.filter(|node| !node.state.is_gone());
        present.filter_map(weight::invalid_tag).collect()
    }

    /// The worker of this name as selection knows it, whatever its state. The local node only if it can be selected, and no
    /// node that [serves no methods](crate::SERVES_TAG).
    #[must_use]
    pub fn node(&self, name: &str) -> Option<Arc<NodeInfo>> {
        let roster = self.selection_state.table.lock();
        roster.entry(name).map(|member| Arc::clone(&member.node))
    }

    /// Whether the source still tells what happens. If not, selection fails with [`SelectError::SourceEnded`].
    #[must_use]
    pub fn source(&self) -> SourceState {
        self.selection_state.selection.load().source.clone()
    }

    /// What happens in the cluster from now on. When an event arrives, selection already goes by it, but for a moment in which
    /// another caller builds the view with it: see [`WorkerRegistry`]. It says nothing about
    /// other registries of the same source: the snapshot of a [`NodeRegistry`](crate::NodeRegistry) may be from before it.
    #[must_use]
    pub fn subscribe(&self) -> Events {
        self.selection_state.events.subscribe()
    }
}

/// A tag that selection goes by and that does not say what it should.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct InvalidTag {
    /// The node whose tag it is.
    pub node: Arc<NodeInfo>,
    /// The key of the tag.
    pub key: Arc<str>,
    /// The value of the tag.
    pub value: Arc<str>,
    /// What selection takes it for.
    pub effective: f32,
}

impl fmt::Debug for WorkerRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkerRegistry")
            .field(
                "workers",
                &self.selection_state.table.lock().snapshot().entries,
            )
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
