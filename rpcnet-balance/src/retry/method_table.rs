//! Methods of a client: the policy of each, and the recent latencies of those that hedge.

use std::collections::HashMap;

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
}

/// Policy of a method, and what is known of its calls.
#[derive(Debug)]
#[non_exhaustive]
pub struct MethodEntry {
    /// Its policy, with the defaults for what it does not say.
    pub policy: MethodPolicy,
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
            latencies: policy.hedging().map(|_| HedgeLatencies::new()),
        };
        let methods = methods.into_iter();
        Self {
            methods: methods
                .map(|(name, policy)| (name.into(), entry(policy)))
                .collect(),
            others: entry(&MethodPolicy::new()),
        }
    }

    /// The entry of a method, or that of all methods without a policy of their own.
    #[must_use]
    #[inline]
    pub fn get(&self, method: &str) -> &MethodEntry {
        self.methods.get(method).unwrap_or(&self.others)
    }
}
