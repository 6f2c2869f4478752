//! Probe of a flagged worker: the call by whose outcome it comes back.

use std::sync::Arc;

use rpcnet_balance::{PickContext, health::Probe};

use super::health_tier::HealthTier;

/// Probe in progress of the worker at `index` of the tier. Dropping it releases the probe, unless
/// its outcome was recorded.
pub(super) struct ProbeGuard {
    pub(super) probe: Probe,
    tier: Arc<HealthTier>,
    pub(super) index: usize,
}

impl ProbeGuard {
    /// Claims a probe: a flagged worker whose time has come.
    pub(super) fn claim(tier: &Arc<HealthTier>, cx: &PickContext<'_>) -> Option<Self> {
        let (index, probe) = tier.health.detector.probe(&tier.view, cx)?;
        Some(Self {
            probe,
            tier: Arc::clone(tier),
            index,
        })
    }
}

impl Drop for ProbeGuard {
    fn drop(&mut self) {
        let (tier, health) = (&self.tier, &self.tier.health);
        health
            .detector
            .release_probe(&tier.view[self.index], &self.probe, health.now());
    }
}
