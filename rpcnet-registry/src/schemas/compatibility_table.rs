//! Table of what is known about the types of a method and those of a service with a certain hash.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use rpcnet_balance::Time;

use super::check::CheckSchedule;
use crate::NodeInfo;

/// Whether the types of a caller fit those of a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compatibility {
    /// Calls are served.
    Compatible,
    /// Calls are rejected unprocessed.
    Incompatible,
}

/// A method, the types of its caller, and the hash of the service that a worker announces.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct SchemaPair {
    pub(super) method: Arc<str>,
    pub(super) types: u64,
    pub(super) hash: u64,
}

/// Knowledge about a pair.
#[derive(Debug)]
enum Knowledge {
    /// Nothing yet.
    Unknown(Arc<CheckSchedule>),
    Known(Learned),
}

/// Knowledge about a pair that comes from one worker.
#[derive(Debug)]
pub(super) struct Learned {
    pub(super) compatibility: Compatibility,
    /// The worker that it was learned from, as it was known then.
    pub(super) node: Arc<NodeInfo>,
    at: Time,
    /// When it is checked again whether the types do not fit: a worker may announce the types of
    /// others and reject calls. Types that are known to fit are not checked again.
    pub(super) rechecks: Arc<CheckSchedule>,
}

/// Table of the pairs that callers have met.
#[derive(Debug, Default)]
pub(super) struct CompatibilityTable {
    pairs: HashMap<SchemaPair, Knowledge>,
    /// In the order in which they were met.
    order: VecDeque<SchemaPair>,
}

impl CompatibilityTable {
    /// Returns what is known about a pair.
    pub(super) fn known(&self, pair: &SchemaPair) -> Option<&Learned> {
        match self.pairs.get(pair)? {
            Knowledge::Known(learned) => Some(learned),
            Knowledge::Unknown(_) => None,
        }
    }

    /// When a pair of which nothing is known is checked.
    pub(super) fn schedule(&mut self, pair: SchemaPair) -> Arc<CheckSchedule> {
        if let Some(Knowledge::Unknown(schedule)) = self.pairs.get(&pair) {
            return Arc::clone(schedule);
        }
        let schedule = Arc::<CheckSchedule>::default();
        self.insert(pair, Knowledge::Unknown(Arc::clone(&schedule)));
        schedule
    }

    /// Records what was learned from a worker. Whether it is news; `None` if the worker rejects
    /// what another worker of the same hash serves: that says nothing about the hash.
    pub(super) fn learn(
        &mut self,
        pair: SchemaPair,
        compatibility: Compatibility,
        (node, at): (&Arc<NodeInfo>, Time),
    ) -> Option<bool> {
        if let Some(learned) = self.known(&pair) {
            match (learned.compatibility, compatibility) {
                (Compatibility::Compatible, Compatibility::Incompatible) => return None,
                (before, now) if before == now => return Some(false),
                _ => {}
            }
        }
        let learned = Learned {
            compatibility,
            node: Arc::clone(node),
            at,
            rechecks: Arc::new(CheckSchedule::of_rechecks(at)),
        };
        self.insert(pair, Knowledge::Known(learned));
        Some(true)
    }

    /// Forgets what was learned a moment ago from processes that are not current any more: the
    /// answer may have been that of their successors, which the source had not told of yet. Whether
    /// there was any.
    pub(super) fn retain_nodes(
        &mut self,
        now: Time,
        mut is_current: impl FnMut(&NodeInfo) -> bool,
    ) -> bool {
        let before = self.pairs.len();
        self.pairs.retain(|_, knowledge| match knowledge {
            Knowledge::Unknown(_) => true,
            Knowledge::Known(learned) => {
                learned.at + UNCONFIRMED_TIME <= now || is_current(&learned.node)
            }
        });
        if self.pairs.len() == before {
            return false;
        }
        let pairs = &self.pairs;
        self.order.retain(|pair| pairs.contains_key(pair));
        true
    }

    /// Whether all that is known is that types fit: then no call can teach anything.
    pub(super) fn is_all_compatible(&self) -> bool {
        self.pairs.values().all(|knowledge| match knowledge {
            Knowledge::Unknown(_) => false,
            Knowledge::Known(learned) => learned.compatibility == Compatibility::Compatible,
        })
    }

    fn insert(&mut self, pair: SchemaPair, knowledge: Knowledge) {
        if self.pairs.insert(pair.clone(), knowledge).is_some() {
            return;
        }
        self.order.push_back(pair);
        if self.order.len() <= PAIRS_MAX {
            return;
        }
        let is_idle = |pair: &SchemaPair| match self.pairs.get(pair) {
            Some(Knowledge::Unknown(schedule)) => !schedule.is_in_flight(),
            Some(Knowledge::Known(learned)) => !learned.rechecks.is_in_flight(),
            None => true,
        };
        // A check under way stays the only one of its pair.
        if let Some(oldest) = self.order.iter().position(is_idle)
            && let Some(pair) = self.order.remove(oldest)
        {
            self.pairs.remove(&pair);
        }
    }
}

/// Limit of the pairs that are remembered. Past it, the one that was met first is forgotten.
pub(super) const PAIRS_MAX: usize = 4_096;

/// Time for which what was learned from a worker depends on that the source still lists the process
/// that it was learned from.
const UNCONFIRMED_TIME: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::{super::check::SchemaCheck, *};
    use crate::NodeId;

    fn at(seconds: u64) -> Time {
        Time::ZERO + Duration::from_secs(seconds)
    }

    fn node(name: &str) -> Arc<NodeInfo> {
        let id = NodeId::new(name, 1);
        Arc::new(NodeInfo::new(id, ([127, 0, 0, 1], 7000).into()))
    }

    fn pair(hash: u64) -> SchemaPair {
        SchemaPair {
            method: "m".into(),
            types: 1,
            hash,
        }
    }

    use Compatibility::{Compatible, Incompatible};

    fn known(table: &CompatibilityTable, pair: &SchemaPair) -> Option<Compatibility> {
        Some(table.known(pair)?.compatibility)
    }

    #[test]
    fn a_rejection_does_not_outweigh_a_call_that_was_served_and_is_outweighed_by_it() {
        let mut table = CompatibilityTable::default();
        let (a, b) = (node("a"), node("b"));
        assert_eq!(table.learn(pair(1), Incompatible, (&a, at(0))), Some(true));
        assert_eq!(table.learn(pair(1), Compatible, (&b, at(1))), Some(true));
        assert_eq!(table.learn(pair(1), Incompatible, (&a, at(2))), None);
        assert_eq!(table.learn(pair(1), Compatible, (&a, at(3))), Some(false));
        assert_eq!(known(&table, &pair(1)), Some(Compatible));
    }

    #[test]
    fn what_was_learned_stays_unless_it_was_a_moment_ago_from_a_process_that_is_gone() {
        let mut table = CompatibilityTable::default();
        assert_eq!(known(&table, &pair(1)), None);
        table.schedule(pair(1));
        assert_eq!(known(&table, &pair(1)), None);
        assert!(!table.is_all_compatible());
        assert_eq!(
            table.learn(pair(1), Incompatible, (&node("a"), at(0))),
            Some(true)
        );
        assert_eq!(
            table.learn(pair(1), Incompatible, (&node("b"), at(0))),
            Some(false)
        );
        assert_eq!(
            table.learn(pair(2), Compatible, (&node("b"), at(0))),
            Some(true)
        );
        assert!(!table.is_all_compatible());
        assert!(!table.retain_nodes(at(1), |_| true));
        assert!(table.retain_nodes(at(29), |node| &*node.id.name == "b"));
        assert_eq!(known(&table, &pair(1)), None);
        assert_eq!(known(&table, &pair(2)), Some(Compatible));
        assert!(!table.retain_nodes(at(30), |_| false));
        assert_eq!(known(&table, &pair(2)), Some(Compatible));
        assert_eq!(
            table.learn(pair(1), Compatible, (&node("a"), at(40))),
            Some(true)
        );
        assert!(table.is_all_compatible());
    }

    #[test]
    fn the_oldest_pair_is_forgotten_unless_it_is_being_checked() {
        let mut table = CompatibilityTable::default();
        let schedule = table.schedule(pair(0));
        let in_flight = Arc::default();
        let check = SchemaCheck::claim(&[node("a")], &schedule, &in_flight, at(0));
        for hash in 1..=PAIRS_MAX as u64 {
            table.learn(pair(hash), Incompatible, (&node("a"), at(0)));
        }
        assert_eq!(table.pairs.len(), PAIRS_MAX);
        let same = table.schedule(pair(0));
        assert!(Arc::ptr_eq(&schedule, &same));
        assert!(!table.pairs.contains_key(&pair(1)));
        assert_eq!(known(&table, &pair(2)), Some(Incompatible));
        drop(check);
        table.learn(pair(u64::MAX), Incompatible, (&node("a"), at(0)));
        assert!(!table.pairs.contains_key(&pair(0)));
        assert_eq!(table.order.len(), table.pairs.len());
    }
}
