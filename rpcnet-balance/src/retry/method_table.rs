//! Methods of a client: the policy of each, and the recent latencies of those that hedge.

use std::{collections::HashMap, hash::BuildHasher, sync::OnceLock};

use super::MethodPolicy;
use crate::HedgeLatencies;

/// Methods of a client by their names: the policy of each, and the recent latencies of those that
/// hedge.
///
/// ```
/// use std::time::Duration;
/// use rpcnet_balance::{
///     Hedging,
///     retry::{MethodPolicy, MethodTable},
/// };
///
/// let hedged = MethodPolicy::new().with_hedging(Hedging::at_quantile(0.95));
/// let defaults = MethodPolicy::new().with_timeout(Duration::from_secs(10));
/// let methods = MethodTable::new([("lookup", &hedged)], &defaults);
/// assert!(methods.get("lookup").latencies.is_some());
/// assert_eq!(methods.get("lookup").policy, hedged.or(&defaults));
/// assert_eq!(methods.get("any other").policy, defaults);
/// ```
#[derive(Debug)]
pub struct MethodTable {
    methods: HashMap<Box<str>, MethodEntry>,
    others: MethodEntry,
    /// Recent latencies of methods whose policies do not hedge, and whose calls do.
    latencies: OnceLock<Box<[LatencySlot]>>,
}

/// Slot of a hash table that only grows, so that what it holds can be borrowed without a lock.
type LatencySlot = OnceLock<Box<(Box<str>, HedgeLatencies)>>;

/// Policy of a method, and what is known of its calls.
#[derive(Debug)]
#[non_exhaustive]
pub struct MethodEntry {
    /// Its policy, with the defaults for what it does not say.
    pub policy: MethodPolicy,
    /// Its policy, without the defaults.
    pub own_policy: MethodPolicy,
    /// Recent latencies, if the method hedges.
    pub latencies: Option<HedgeLatencies>,
}

impl MethodTable {
    /// Methods with policies of their own, and the defaults of all policies.
    #[must_use]
    pub fn new<'a>(
        methods: impl IntoIterator<Item = (&'a str, &'a MethodPolicy)>,
        defaults: &MethodPolicy,
    ) -> Self {
        let entry = |policy: &MethodPolicy| MethodEntry {
            policy: policy.or(defaults),
            own_policy: *policy,
            latencies: policy.hedging().map(|_| HedgeLatencies::new()),
        };
        let methods = methods.into_iter();
        Self {
            methods: methods
                .map(|(name, policy)| (name.into(), entry(policy)))
                .collect(),
            others: entry(&MethodPolicy::new()),
            latencies: OnceLock::new(),
        }
    }

    /// The entry of a method, or that of all methods without a policy of their own.
    #[must_use]
    #[inline]
    pub fn get(&self, method: &str) -> &MethodEntry {
        self.methods.get(method).unwrap_or(&self.others)
    }

    /// Recent latencies of a method whose calls hedge by a quantile: those of its
    /// [entry](MethodEntry::latencies), or a record of its own from its first call on. `None` if
    /// there are 256 such records.
    #[must_use]
    pub fn latencies(&self, method: &str) -> Option<&HedgeLatencies> {
        if let Some(latencies) = &self.get(method).latencies {
            return Some(latencies);
        }
        let empty = || (0..LATENCIES_MAX).map(|_| OnceLock::new()).collect();
        let slots = self.latencies.get_or_init(empty);
        let hash = self.methods.hasher().hash_one(method) as usize;
        // Linear probing.
        (0..LATENCIES_MAX).find_map(|step| {
            let slot = &slots[hash.wrapping_add(step) % LATENCIES_MAX];
            let (name, latencies) =
                &**slot.get_or_init(|| Box::new((method.into(), HedgeLatencies::new())));
            (**name == *method).then_some(latencies)
        })
    }
}

/// Limit of the methods whose latencies are recorded because their calls hedge.
const LATENCIES_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use std::ptr;

    use super::*;
    use crate::Hedging;

    #[test]
    fn each_method_has_one_record_of_latencies_until_there_are_too_many() {
        let hedged = MethodPolicy::new().with_hedging(Hedging::at_quantile(0.9));
        let methods = MethodTable::new([("hedged", &hedged)], &MethodPolicy::new());
        let of_entry = methods.get("hedged").latencies.as_ref().unwrap();
        assert!(ptr::eq(methods.latencies("hedged").unwrap(), of_entry));
        let records: Vec<_> = (0..LATENCIES_MAX)
            .map(|n| methods.latencies(&n.to_string()).unwrap())
            .collect();
        for (n, record) in records.iter().enumerate() {
            assert!(ptr::eq(methods.latencies(&n.to_string()).unwrap(), *record));
            assert!(records[..n].iter().all(|other| !ptr::eq(*other, *record)));
        }
        assert!(methods.latencies("one more").is_none());
        assert!(methods.latencies("hedged").is_some());
    }

    #[test]
    fn an_entry_has_the_policy_of_its_method_with_and_without_the_defaults() {
        let own = MethodPolicy::new().with_idempotent(true);
        let defaults = MethodPolicy::new().with_attempts_max(3);
        let methods = MethodTable::new([("own", &own)], &defaults);
        assert_eq!(methods.get("own").own_policy, own);
        assert_eq!(methods.get("own").policy, own.or(&defaults));
        assert_eq!(methods.get("any").own_policy, MethodPolicy::new());
    }
}
