//! Selection of a worker: health tiers, exclusions, balancer.

use std::sync::Arc;

use rpcnet_balance::{ExclusionFlags, PickContext};

use super::{group::Group, registry::WorkerRegistry, worker::Worker};
use crate::{NodeState, SelectError, UnselectableReason};

impl WorkerRegistry {
    /// Selects the worker for the next call, among those that match `filter`; among all without
    /// one.
    ///
    /// # Errors
    ///
    /// When the filter cannot be parsed, no worker matches, no worker that matches can be reached,
    /// or the source has ended.
    pub async fn select_worker(&self, filter: Option<&str>) -> Result<Worker, SelectError> {
        self.select(filter, &PickContext::new())
    }

    /// Selects the worker for the next attempt of a call, with a context for the balancer: the
    /// workers to exclude ([`Worker::endpoint_id`] of those tried before), the key, the time
    /// ([`now`](Self::now); read from the clock if it is not given). Never waits, except for
    /// another caller that is building the group that this one needs.
    ///
    /// As long as a worker matches that is not excluded and has not failed or announced to leave,
    /// one is selected, if necessary a flagged one. Ejected workers come before unreachable ones,
    /// these before workers without weight, and those before workers that drain.
    ///
    /// # Errors
    ///
    /// As [`select_worker`](Self::select_worker), and when every reachable worker is excluded.
    pub fn select(
        &self,
        filter: Option<&str>,
        cx: &PickContext<'_>,
    ) -> Result<Worker, SelectError> {
        self.select_from(filter, cx, true)
    }

    /// Like [`select`](Self::select), but never selects a worker as a probe: for a call that must
    /// not be the one that finds out whether a worker has recovered.
    ///
    /// # Errors
    ///
    /// As [`select`](Self::select).
    pub fn select_without_probe(
        &self,
        filter: Option<&str>,
        cx: &PickContext<'_>,
    ) -> Result<Worker, SelectError> {
        self.select_from(filter, cx, false)
    }

    /// Selects the worker of this name, if it matches `filter` and can be reached, flagged or not:
    /// for a call that must go to a specific worker. Names are compared as they are; those of nodes
    /// found by gossip are in lower case. Waits for no other caller.
    ///
    /// # Errors
    ///
    /// [`SelectError::NamedWorker`] says why that worker cannot be selected; otherwise as
    /// [`select`](Self::select).
    pub fn select_named(&self, filter: Option<&str>, name: &str) -> Result<Worker, SelectError> {
        let text = filter.unwrap_or("");
        let group = self.selection_state.group_for_listing(text)?;
        group.build_state.mark_used();
        let mut tiers = group.tiers.iter();
        let found = tiers.find_map(|tier| Worker::by_name(tier, name, self.now()));
        found.ok_or_else(|| self.unselectable_error(&group, text, name))
    }

    /// The workers that match `filter` now, to select from several times without a look-up.
    ///
    /// # Errors
    ///
    /// When the filter cannot be parsed.
    pub fn group(&self, filter: Option<&str>) -> Result<WorkerGroup, SelectError> {
        let text = filter.unwrap_or("");
        let group = self.selection_state.latest_group(text, false)?;
        Ok(WorkerGroup(group))
    }

    fn select_from(
        &self,
        filter: Option<&str>,
        cx: &PickContext<'_>,
        may_probe: bool,
    ) -> Result<Worker, SelectError> {
        let text = filter.unwrap_or("");
        let selection = self.selection_state.selection.load();
        let cx = match cx.now() {
            Some(_) => *cx,
            None => cx.with_now(selection.health.now()),
        };
        // A worker that is gone is never picked, whatever flags the caller ignores.
        let cx = cx.with_respected_flags(cx.respected_flags() | ExclusionFlags::GONE);
        let mut tried = None;
        if let Some(group) = selection
            .groups
            .get(text)
            .filter(|one| !one.build_state.is_stale())
        {
            if let Some(worker) = pick(group, &cx, may_probe) {
                return Ok(worker);
            }
            tried = Some(Arc::clone(group));
        }
        drop(selection);
        self.select_from_latest(text, &cx, may_probe, tried)
    }

    /// Selects from a group that does not exist yet or is out of date, or after `tried` had no
    /// worker.
    #[cold]
    fn select_from_latest(
        &self,
        text: &str,
        cx: &PickContext<'_>,
        may_probe: bool,
        tried: Option<Arc<Group>>,
    ) -> Result<Worker, SelectError> {
        let tried = match tried {
            Some(tried) => tried,
            None => {
                let group = self.selection_state.latest_group(text, false)?;
                if let Some(worker) = pick(&group, cx, may_probe) {
                    return Ok(worker);
                }
                group
            }
        };
        // Another caller may have been building the next group.
        let latest = self.selection_state.latest_group(text, true)?;
        let picked = if Arc::ptr_eq(&latest, &tried) {
            None
        } else {
            pick(&latest, cx, may_probe)
        };
        picked.ok_or_else(|| self.no_worker_error(&latest, text))
    }

    #[cold]
    fn unselectable_error(&self, group: &Group, text: &str, name: &str) -> SelectError {
        let state = self.source();
        if !state.is_live() {
            return SelectError::SourceEnded { state };
        }
        if self.watch.lock().is_none() {
            return SelectError::NotStarted;
        }
        let reason = match self.selection_state.table.lock().find_any(name) {
            Err(similar) => UnselectableReason::Unknown {
                similar: similar.map(|name| name.to_string()),
            },
            Ok(entry) if !group.filter.matches(&entry.node.tags) => UnselectableReason::NoMatch {
                filter: text.to_owned(),
            },
            Ok(entry) if !entry.serves_methods => UnselectableReason::ServesNothing,
            Ok(entry) if entry.is_local && entry.node.state == NodeState::Alive => {
                UnselectableReason::LocalNode
            }
            Ok(entry) => UnselectableReason::NotReachable {
                state: entry.node.state,
            },
        };
        SelectError::NamedWorker {
            name: name.to_owned(),
            reason,
        }
    }

    pub(super) fn no_worker_error(&self, group: &Group, text: &str) -> SelectError {
        let state = self.source();
        if !state.is_live() {
            return SelectError::SourceEnded { state };
        }
        let filter = text.to_owned();
        let reachable = group.reachable();
        if reachable > 0 {
            SelectError::AllExcluded { filter, reachable }
        } else if group.unselectable_count > 0 {
            SelectError::NoneReachable {
                filter,
                matching: group.unselectable_count,
            }
        } else if self.watch.lock().is_none() {
            SelectError::NotStarted
        } else {
            SelectError::NoMatch { filter }
        }
    }
}

/// Workers that match one filter, as they were when it was [made](WorkerRegistry::group): for
/// callers that select from them as long as they [are current](Self::is_current). Cheap to clone.
#[derive(Debug, Clone)]
pub struct WorkerGroup(Arc<Group>);

impl WorkerGroup {
    /// Whether every change of the cluster that is known by now is in the group, except while
    /// another caller makes the group that replaces it. Two atomic reads.
    #[must_use]
    #[inline]
    pub fn is_current(&self) -> bool {
        self.0.is_latest()
    }

    /// Selects a worker as [`WorkerRegistry::select`] does, of a group that is current; `None` if
    /// it has none, of which the registry says the reason. The context has to have a time.
    #[must_use]
    #[inline]
    pub fn select(&self, cx: &PickContext<'_>) -> Option<Worker> {
        let cx = cx.with_respected_flags(cx.respected_flags() | ExclusionFlags::GONE);
        pick(&self.0, &cx, true)
    }

    /// Number of workers in each health tier, the best one first; see [`position`](Self::position).
    #[must_use]
    pub fn tier_sizes(&self) -> [usize; 2] {
        [0, 1].map(|tier| self.0.tiers[tier].entries.len())
    }

    /// Health tier of a worker that was selected from this group, and its index there.
    #[must_use]
    #[inline]
    pub fn position(&self, worker: &Worker) -> Option<(usize, usize)> {
        let mut tiers = self.0.tiers.iter();
        let tier = tiers.position(|tier| worker.is_of(tier))?;
        Some((tier, worker.index()))
    }
}

fn pick(group: &Group, cx: &PickContext<'_>, may_probe: bool) -> Option<Worker> {
    group.build_state.mark_used();
    for tier in &group.tiers {
        if tier.view.is_empty() {
            continue;
        }
        if tier.group_health.is_settled(&tier.health.detector) {
            if let Some(worker) = Worker::pick(tier, cx) {
                return Some(worker);
            }
            continue;
        }
        let (cx, is_probe_due) = tier.apply_health(cx);
        if may_probe
            && is_probe_due
            && let Some(worker) = Worker::probe(tier, &cx)
        {
            return Some(worker);
        }
        if let Some(worker) = Worker::pick(tier, &cx) {
            return Some(worker);
        }
    }
    FALLBACK_FLAGS.iter().find_map(|flags| {
        let cx = cx.with_respected_flags(cx.respected_flags().and(*flags));
        let mut tiers = group.tiers.iter();
        tiers.find_map(|tier| Worker::pick(tier, &cx))
    })
}

/// The flags that are still respected when no other worker is left.
const FALLBACK_FLAGS: [ExclusionFlags; 4] = [
    ExclusionFlags::ALL.without(ExclusionFlags::EJECTED),
    ExclusionFlags::DRAINING
        .or(ExclusionFlags::ZERO_WEIGHT)
        .or(ExclusionFlags::GONE),
    ExclusionFlags::DRAINING.or(ExclusionFlags::GONE),
    ExclusionFlags::GONE,
];
