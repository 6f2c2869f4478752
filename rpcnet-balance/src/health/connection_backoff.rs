//! Connection backoff: when an unreachable endpoint is flagged, tried again, and cleared.

use std::time::Duration;

use super::{HealthChange, OutlierDetector};
use crate::{BackoffRange, Endpoint, ExclusionFlags, Time, rng::unit_f64};

/// Connection backoff.
impl OutlierDetector {
    /// Records that a connection to the endpoint failed. Changes no flag while it is flagged
    /// already.
    pub fn on_unreachable(&self, now: Time, endpoint: &Endpoint) -> Option<HealthChange> {
        endpoint.health_record().set_disconnected(false);
        self.flag_unreachable(now, endpoint)
    }

    /// Records that the last connection to the endpoint was lost: like
    /// [`on_unreachable`](Self::on_unreachable), except that the endpoint is
    /// [disconnected](Endpoint::is_disconnected).
    pub fn on_disconnected(&self, now: Time, endpoint: &Endpoint) -> Option<HealthChange> {
        endpoint.health_record().set_disconnected(true);
        self.flag_unreachable(now, endpoint)
    }

    /// Flags the endpoint as unreachable, whether a connection failed or was lost.
    pub(super) fn flag_unreachable(&self, now: Time, endpoint: &Endpoint) -> Option<HealthChange> {
        let range = self.config.unreachable_backoff?;
        if endpoint.flags().contains(ExclusionFlags::UNREACHABLE) {
            return None;
        }
        // The time is set first: a thread that sees the flag finds it.
        let record = endpoint.health_record();
        let before = record.on_unreachable();
        let probe_in = self.unreachable_backoff(range, before);
        record.defer_probe(now + probe_in);
        if endpoint
            .set_flags(ExclusionFlags::UNREACHABLE)
            .contains(ExclusionFlags::UNREACHABLE)
        {
            return None;
        }
        self.bump_version();
        self.counters.flagged_unreachable.add_one();
        Some(HealthChange::Unreachable {
            endpoint: endpoint.id(),
            failures: before.saturating_add(1),
            probe_in,
        })
    }

    /// Records that a probe did not reach the endpoint: the next one is due after a longer backoff.
    pub(super) fn on_probe_unreachable(
        &self,
        now: Time,
        endpoint: &Endpoint,
        range: BackoffRange,
    ) -> HealthChange {
        let record = endpoint.health_record();
        let before = record.on_unreachable();
        let probe_in = self.unreachable_backoff(range, before);
        record.set_probe_at(now + probe_in);
        let before_flags = endpoint.set_flags(ExclusionFlags::UNREACHABLE);
        self.bump_version();
        if !before_flags.contains(ExclusionFlags::UNREACHABLE) {
            self.counters.flagged_unreachable.add_one();
        }
        HealthChange::Unreachable {
            endpoint: endpoint.id(),
            failures: before.saturating_add(1),
            probe_in,
        }
    }

    /// Records that the endpoint can be reached or is known to be healthy. From now on it is
    /// [ready](Endpoint::set_ready).
    pub fn on_reachable(&self, now: Time, endpoint: &Endpoint) -> Option<HealthChange> {
        if !endpoint.flags().contains(ExclusionFlags::UNREACHABLE) {
            return None;
        }
        endpoint.health_record().on_reachable();
        let before = endpoint.clear_flags(ExclusionFlags::UNREACHABLE);
        if !before.contains(ExclusionFlags::UNREACHABLE) {
            return None;
        }
        if !before.contains(ExclusionFlags::EJECTED) {
            endpoint.health_record().cancel_probe();
        }
        endpoint.set_ready(now);
        self.bump_version();
        self.counters.cleared_unreachable.add_one();
        Some(HealthChange::Reachable {
            endpoint: endpoint.id(),
        })
    }

    /// The initial backoff doubled `before` times, with a jitter of a fifth.
    fn unreachable_backoff(&self, range: BackoffRange, before: u32) -> Duration {
        let full = range.after(before).min(UNREACHABLE_BACKOFF_MAX);
        let fraction = unit_f64(self.random.next());
        full.mul_f64(1.0 - JITTER + 2.0 * JITTER * fraction)
    }
}

const JITTER: f64 = 0.2;

/// A century, so that the jitter still fits into a duration.
const UNREACHABLE_BACKOFF_MAX: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
