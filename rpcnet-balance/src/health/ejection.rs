//! Ejection: when an endpoint is ejected as an outlier, and for how long.

use std::{sync::atomic::Ordering::Relaxed, time::Duration};

use super::{EjectionReason, HealthChange, OutlierConfig, OutlierDetector, outlier_rules};
use crate::{Endpoint, ExclusionFlags, Time, View};

/// Ejection.
impl OutlierDetector {
    /// Whether a [`sweep`](Self::sweep) is due and the caller is the one to do it.
    #[must_use]
    pub fn claim_sweep(&self, now: Time) -> bool {
        let due = self.sweep_at.get();
        if due.is_some_and(|due| now < due) {
            return false;
        }
        let Some(config) = &self.config.outlier_detection else {
            return false;
        };
        let claimed = self.sweep_at.replace(due, Some(now + config.interval));
        // The first interval has only begun.
        claimed && due.is_some()
    }

    /// Compares the endpoints by their outcomes since the last sweep, and ejects the outliers.
    /// `view` is all of them.
    pub fn sweep(&self, now: Time, view: &View) -> Vec<HealthChange> {
        self.recount(view);
        let Some(config) = &self.config.outlier_detection else {
            return Vec::new();
        };
        let tallies: Vec<_> = view
            .endpoints()
            .iter()
            .map(|endpoint| endpoint.health_record().take_interval_counts())
            .collect();
        let mut changes = Vec::new();
        for (index, reason) in outlier_rules::find_outliers(config, &tallies) {
            changes.extend(self.eject(config, now, &view[index], reason));
        }
        for endpoint in view.endpoints() {
            if !endpoint.flags().contains(ExclusionFlags::EJECTED) {
                endpoint.health_record().on_quiet_interval();
            }
        }
        changes
    }

    /// Ejects the endpoint, unless it is ejected or the maximum is reached.
    pub(super) fn eject(
        &self,
        config: &OutlierConfig,
        now: Time,
        endpoint: &Endpoint,
        reason: EjectionReason,
    ) -> Option<HealthChange> {
        if endpoint.flags().contains(ExclusionFlags::EJECTED) {
            return None;
        }
        let limit = ejected_max(config, self.population.load(Relaxed));
        let room = |ejected: usize| (ejected < limit).then_some(ejected + 1);
        if self.ejected.fetch_update(Relaxed, Relaxed, room).is_err() {
            self.counters.ejections_overflow.add_one();
            // The count starts again, so that not every further failure is counted.
            endpoint.health_record().reset_consecutive_failures();
            return None;
        }
        let record = endpoint.health_record();
        let before = record.on_ejected();
        let probe_in = ejection_time(config, before);
        record.defer_probe(now + probe_in);
        if endpoint
            .set_flags(ExclusionFlags::EJECTED)
            .contains(ExclusionFlags::EJECTED)
        {
            self.count_one_less_ejected();
            return None;
        }
        record.reset_consecutive_failures();
        self.bump_version();
        self.counters.count_ejection(reason);
        Some(HealthChange::Ejected {
            endpoint: endpoint.id(),
            reason,
            ejection_count: before.saturating_add(1),
            probe_in,
        })
    }

    /// Counts the endpoints and the ejected ones: ejected endpoints may have gone, or recovered
    /// while the view changed. Where other threads eject meanwhile, the next count is right.
    pub(super) fn recount(&self, view: &View) {
        self.population.store(view.len(), Relaxed);
        let before = self.ejected.load(Relaxed);
        let ejected = view.endpoints().iter();
        let ejected = ejected.filter(|endpoint| endpoint.flags().contains(ExclusionFlags::EJECTED));
        let _ = self
            .ejected
            .compare_exchange(before, ejected.count(), Relaxed, Relaxed);
    }

    pub(super) fn count_one_less_ejected(&self) {
        let less = |ejected: usize| ejected.checked_sub(1);
        let _ = self.ejected.fetch_update(Relaxed, Relaxed, less);
    }
}

/// The maximum number of ejected endpoints.
fn ejected_max(config: &OutlierConfig, population: usize) -> usize {
    if population < 2 {
        return 0;
    }
    let percent = usize::try_from(config.ejected_percent_max.min(100)).unwrap_or(100);
    match percent {
        0 => 0,
        percent => (population * percent / 100).max(1),
    }
}

/// The duration of an ejection after `before` recent ones.
pub(super) fn ejection_time(config: &OutlierConfig, before: u32) -> Duration {
    let (base, max) = (config.ejection_time, config.ejection_time_max);
    base.saturating_mul(before.saturating_add(1))
        .min(max.max(base))
}
