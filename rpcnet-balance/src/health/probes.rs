//! Probes: calls that are let through to find out whether a flagged endpoint has recovered.

use std::time::Duration;

use super::{NOT_COUNTED, OutlierDetector};
use crate::{BackoffRange, Endpoint, ExclusionFlags, PickContext, Time, View};

/// Probe: a call that is let through to a flagged endpoint to find out whether it has recovered;
/// see [`OutlierDetector::probe`].
#[derive(Debug, PartialEq, Eq)]
pub struct Probe {
    claim: u64,
}

/// Half-open state.
impl OutlierDetector {
    /// Claims a probe: the flagged endpoint that the next call shall go to, if the time of one is
    /// over. Other calls avoid it until the outcome of the probe is recorded, or for about the time
    /// of its backoff. Never an endpoint that drains, has no weight, is gone or is excluded, and
    /// none without the [time](PickContext::with_now) of the pick.
    pub fn probe(&self, view: &View, cx: &PickContext<'_>) -> Option<(usize, Probe)> {
        let now = cx.now()?;
        let probed = ExclusionFlags::UNREACHABLE | ExclusionFlags::EJECTED;
        let relaxed = cx.with_respected_flags(cx.respected_flags().without(probed));
        view.endpoints()
            .iter()
            .enumerate()
            .filter(|(_, endpoint)| !endpoint.flags().and(probed).is_empty())
            .filter(|(_, endpoint)| endpoint.flags().and(NOT_COUNTED).is_empty())
            .filter(|(_, endpoint)| relaxed.allows(endpoint))
            .find_map(|(index, endpoint)| {
                let lease = self.lease(endpoint);
                let claim = endpoint.health_record().claim_probe(now, lease)?;
                self.bump_version();
                self.counters.probes.add_one();
                Some((index, Probe { claim }))
            })
    }

    /// Requests a probe of a flagged endpoint by the next call: there is a reason to expect that it
    /// is healthy, and no proof. Its flags stay, and its consecutive failures are not reset.
    pub fn request_probe(&self, now: Time, endpoint: &Endpoint) {
        let probed = ExclusionFlags::UNREACHABLE | ExclusionFlags::EJECTED;
        if !endpoint.flags().and(probed).is_empty() {
            endpoint.health_record().set_probe_at(now);
            self.bump_version();
        }
    }

    /// Releases a probe that was given up without an outcome: another may be made from `at` on.
    pub fn release_probe(&self, endpoint: &Endpoint, probe: &Probe, at: Time) {
        if endpoint.health_record().release_probe(probe.claim, at) {
            self.bump_version();
        }
    }

    /// The longest time that a probe may keep others waiting.
    fn lease(&self, endpoint: &Endpoint) -> Duration {
        let base = self
            .config
            .outlier_detection
            .map(|config| config.ejection_time);
        match base {
            Some(base) if endpoint.flags().contains(ExclusionFlags::EJECTED) => base,
            _ => self
                .config
                .unreachable_backoff
                .map_or(LEASE_MIN, BackoffRange::longest)
                .max(LEASE_MIN),
        }
    }
}

/// Lower bound of a lease, however short the backoffs are.
const LEASE_MIN: Duration = Duration::from_secs(1);
