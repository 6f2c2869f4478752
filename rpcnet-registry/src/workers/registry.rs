//! Worker registry: its construction, its lists and its subscription.

use std::{
    fmt,
    future::Future,
    sync::{Arc, atomic::Ordering::Acquire},
};

use parking_lot::Mutex;
use rpcnet_balance::Balancer;

use super::{
    LoadBalancingStrategy,
    selection_state::SelectionState,
    weight::{self, InvalidTag},
    worker::{Candidate, Worker},
    worker_entry::WorkerStatus,
};
use crate::{
    Events, Filter, FilterError, Membership, NodeInfo, SelectError, SourceState, WaitError, Watch,
    wait::{self, Wanted},
};

/// Registry of the workers of a cluster: selects one by tags and load for every call.
///
/// Selection follows these rules:
/// - Only nodes whose tags match the [filter](Filter) are selected. Without a filter, all nodes
///   match.
/// - Nodes that are alive come first. A suspect one, or one that is alive and
///   [unreachable](crate::NodeState::Unreachable), is selected only if no alive one matches or is
///   left after exclusions: it may well be alive, and then a call to it is better than none; see
///   [`without_suspicion`](Self::without_suspicion).
/// - A node that drains, has left or has failed is never selected, from the moment the source says
///   so.
/// - A flagged node, because it cannot be reached, fails more often than others or drains, is
///   selected only if no other one is left; see [`with_health`](Self::with_health). A flagged one
///   that may have recovered gets a call now and then as a probe.
/// - No node is selected once the source has ended or is superseded: see [`SourceState`].
/// - A node that [serves no methods](crate::SERVES_TAG) is never selected.
/// - The local node is not selected, unless [`with_local`](Self::with_local) allows it.
///
/// The balancer picks among those. Every filter has its own round-robin order, while the calls in
/// flight are counted per node, whatever filter it was selected by and however the cluster changes
/// meanwhile; a restarted node starts from zero. A node's tag `weight` is its capacity relative to
/// others; default 1. It is a number, white space around it does not matter; 0.001 to 1,000 count
/// as they are, more as 1,000, values between zero and 0.001 as 0.001. Zero and less means no
/// weight: the node gets no calls while another one that matches can take them, even one that
/// cannot be reached; where all have none, they are equal. A text that is no number counts as 1. A
/// tag whose value is replaced is reported once for each change
/// ([`ClusterEvent::InvalidTag`](crate::ClusterEvent::InvalidTag)) and logged as a warning at most
/// once a second; [`invalid_tags`](Self::invalid_tags) lists the present ones. A call [to
/// all](Self::select_all) ignores weights.
///
/// Filters are parsed once: up to 256 texts are kept together with everything a selection needs, so
/// that selecting with one of them takes no lock. Beyond that, those not used recently are evicted.
///
/// A change of the cluster only marks the filters that it affects. The first selection by such a
/// filter rebuilds what it needs, once for any number of changes, and the balancer's tables only if
/// endpoints or tags have changed. Other callers that select meanwhile use the previous view: a
/// node that has failed, left or restarted since is not picked from it, while a new node is seen
/// once the new view is built. A caller that finds no worker in the previous view waits for the new
/// one.
pub struct WorkerRegistry {
    source: Box<dyn Membership>,
    pub(super) watch: Mutex<Option<Watch>>,
    pub(super) selection_state: Arc<SelectionState>,
}

impl WorkerRegistry {
    /// A registry of the workers of `cluster`, with one of the provided strategies. Empty until it
    /// is [started](Self::start).
    pub fn new(cluster: impl Membership, strategy: LoadBalancingStrategy) -> Self {
        Self::with_balancer(cluster, strategy.balancer())
    }

    /// A registry with a custom balancer. The id of an endpoint is a hash of the node's name, the
    /// same in every process.
    pub fn with_balancer(cluster: impl Membership, balancer: Arc<dyn Balancer>) -> Self {
        Self {
            source: Box::new(cluster),
            watch: Mutex::default(),
            selection_state: Arc::new(SelectionState::new(balancer)),
        }
    }

    /// Sets whether the local node may be selected. Default `false`.
    #[must_use]
    pub fn with_local(self, local: bool) -> Self {
        self.selection_state
            .table
            .lock()
            .set_local_selectable(local);
        self.selection_state.reset_groups(|_| ());
        self
    }

    /// Starts to follow the source. When it returns, the workers known by then can be selected. A
    /// second call does nothing.
    pub async fn start(&self) {
        let observer = Arc::clone(&self.selection_state);
        let watch = || self.source.watch(observer);
        self.watch.lock().get_or_insert_with(watch);
    }

    /// Selects every reachable worker that matches, alive ones first: for a call to all. Counts one
    /// call in flight for each.
    ///
    /// # Errors
    ///
    /// As [`select_worker`](Self::select_worker).
    pub fn select_all(&self, filter: Option<&str>) -> Result<Vec<Worker>, SelectError> {
        let all = self.candidates(filter)?;
        // Whether calls follow at once is the caller's decision.
        let begun = all.iter().map(|one| one.begin_at(None));
        Ok(begun.collect())
    }

    /// Lists every worker that matches and can be selected, without counting calls: for a call to
    /// all that begins with some of them.
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

    /// Waits until the source lists at least `count` workers that match `filter` and can be
    /// selected (alive, suspect or unreachable), and returns all of them.
    ///
    /// No connection is tried, so a call to one of them may still fail.
    ///
    /// The deadline is a future, such as `tokio::time::sleep(Duration::from_secs(10))`: the crate
    /// has no timer, so that it needs no runtime. Workers are counted as for
    /// [`candidates`](Self::candidates).
    ///
    /// ```
    /// use std::time::Duration;
    /// # use rpcnet_registry::{LoadBalancingStrategy, NodeId, NodeInfo, StaticMembership};
    /// # use rpcnet_registry::{WaitError, WorkerRegistry};
    ///
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), WaitError> {
    /// # let (cluster, id) = (StaticMembership::new(), NodeId::new("red", 1));
    /// # let node = NodeInfo::new(id, ([127, 0, 0, 1], 7001).into());
    /// # cluster.insert(node.with_tag("role", "worker"));
    /// # let registry = WorkerRegistry::new(cluster, LoadBalancingStrategy::default());
    /// # registry.start().await;
    /// let deadline = tokio::time::sleep(Duration::from_secs(10));
    /// let workers = registry.wait_for(Some("role=worker"), 1, deadline).await?;
    /// assert_eq!(workers.len(), 1);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// When the deadline is exceeded; at once when the filter cannot be parsed, the registry was
    /// not started or its source has ended.
    pub async fn wait_for(
        &self,
        filter: Option<&str>,
        count: usize,
        deadline: impl Future,
    ) -> Result<Vec<Candidate>, WaitError> {
        let wanted = Wanted {
            filter,
            count,
            is_started: self.watch.lock().is_some(),
        };
        let look = |parsed: &Filter| {
            let state = self.source();
            if state.is_terminal() {
                return Err(WaitError::SourceEnded { state });
            }
            // Counted in the table first: the group is not rebuilt for every event.
            let snapshot = self.selection_state.table.lock().snapshot();
            let present = snapshot.candidate_count(parsed);
            if present < count {
                return Ok((present, None));
            }
            let all = self.candidates(filter).unwrap_or_default();
            Ok((all.len(), (all.len() >= count).then_some(all)))
        };
        wait::until(wanted, self.subscribe(), deadline, look).await
    }

    /// The status of the workers that match, in any state, with their calls in flight: for people
    /// to look at. The local node is included only if it can be selected; nodes that [serve no
    /// methods](crate::SERVES_TAG) are not.
    ///
    /// # Errors
    ///
    /// When the filter cannot be parsed.
    pub fn workers(&self, filter: Option<&str>) -> Result<Vec<WorkerStatus>, FilterError> {
        let filter: Filter = filter.unwrap_or("").parse()?;
        let snapshot = self.selection_state.table.lock().snapshot();
        let matching = snapshot
            .entries
            .iter()
            .filter(|one| filter.matches(&one.node.tags));
        let now = self.now();
        Ok(matching.map(|entry| entry.status(now)).collect())
    }

    /// The invalid tags that selection uses, of all nodes that have not left or failed: those that
    /// [`ClusterEvent::InvalidTag`](crate::ClusterEvent::InvalidTag) reported to earlier
    /// subscribers. Usually empty. Looks at every node.
    #[must_use]
    pub fn invalid_tags(&self) -> Vec<InvalidTag> {
        let table = self.selection_state.table.lock();
        let nodes = table.all().map(|entry| &entry.node);
        let present = nodes.filter(|node| !node.state.is_gone());
        present.filter_map(weight::invalid_tag).collect()
    }

    /// The worker of this name, in any state. The local node only if it can be selected, and no
    /// node that [serves no methods](crate::SERVES_TAG).
    #[must_use]
    pub fn node(&self, name: &str) -> Option<Arc<NodeInfo>> {
        let table = self.selection_state.table.lock();
        table.entry(name).map(|entry| Arc::clone(&entry.node))
    }

    /// Number that rises with each change of the schemas that workers announce; 0 as long as none
    /// has announced any.
    pub(crate) fn schema_version(&self) -> u64 {
        self.selection_state.schema_version.load(Acquire)
    }

    /// The workers that have not left or failed, in the order of their names.
    pub(crate) fn selectable_nodes(&self) -> impl Iterator<Item = Arc<NodeInfo>> + use<> {
        let entries = self.selection_state.table.lock().snapshot().entries;
        (0..entries.len())
            .map(move |index| Arc::clone(&entries[index].node))
            .filter(|node| !node.state.is_gone())
    }

    /// The state of the source. If it is not live, selection fails with
    /// [`SelectError::SourceEnded`].
    #[must_use]
    pub fn source(&self) -> SourceState {
        self.selection_state.selection.load().source.clone()
    }

    /// Subscribes to cluster events from now on. When an event arrives, selection already includes
    /// it, except for a moment in which another caller builds the view with it: see
    /// [`WorkerRegistry`]. Other registries of the same source, such as a
    /// [`NodeRegistry`](crate::NodeRegistry), may receive it later.
    #[must_use]
    pub fn subscribe(&self) -> Events {
        self.selection_state.events.subscribe()
    }
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
