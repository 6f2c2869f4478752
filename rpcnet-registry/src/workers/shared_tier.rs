//! Shared tier: a health tier whose users on different threads count their references apart.

use std::{
    ops::Deref,
    sync::{Arc, OnceLock},
};

use rpcnet_balance::Stripes;

use super::health_tier::HealthTier;

/// Health tier of a group, with a counted reference for each thread: each selected worker holds
/// one, and threads that select at once would wait for each other's writes of one count.
#[derive(Debug)]
pub(super) struct SharedTier {
    tier: Arc<HealthTier>,
    /// Made at the first selection of a thread.
    handles: Stripes<OnceLock<TierHandle>>,
}

/// Reference to a health tier.
#[derive(Debug, Clone)]
pub(super) struct TierHandle(Arc<CountedTier>);

/// Counted reference, so large that the counts of two are never on one cache line.
#[derive(Debug)]
struct CountedTier {
    tier: Arc<HealthTier>,
    _padding: [u64; 13],
}

impl SharedTier {
    pub(super) fn new(tier: Arc<HealthTier>) -> Self {
        Self {
            tier,
            handles: Stripes::new(OnceLock::new),
        }
    }

    pub(super) fn tier(&self) -> &Arc<HealthTier> {
        &self.tier
    }

    #[inline]
    pub(super) fn handle(&self) -> TierHandle {
        let handle = self.handles.local().get_or_init(|| {
            let counted = CountedTier {
                tier: Arc::clone(&self.tier),
                _padding: [0; 13],
            };
            TierHandle(Arc::new(counted))
        });
        handle.clone()
    }
}

impl Deref for SharedTier {
    type Target = HealthTier;

    #[inline]
    fn deref(&self) -> &HealthTier {
        &self.tier
    }
}

impl TierHandle {
    #[inline]
    pub(super) fn is_of(&self, tier: &SharedTier) -> bool {
        Arc::ptr_eq(&self.0.tier, &tier.tier)
    }
}

impl Deref for TierHandle {
    type Target = HealthTier;

    #[inline]
    fn deref(&self) -> &HealthTier {
        &self.0.tier
    }
}
