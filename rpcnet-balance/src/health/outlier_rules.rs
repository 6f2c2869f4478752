//! Outlier rules of gRPC A50: success rate and failure percentage.

use super::{EjectionReason, FailurePercentage, OutlierConfig, SuccessRate, record::AttemptCounts};

/// The outliers by the attempts of an interval: index and reason. An endpoint may occur twice.
pub(super) fn find_outliers(
    config: &OutlierConfig,
    tallies: &[AttemptCounts],
) -> Vec<(usize, EjectionReason)> {
    let by_rate = config
        .success_rate
        .iter()
        .flat_map(|rule| by_success_rate(rule, tallies));
    let by_share = config
        .failure_percentage
        .iter()
        .flat_map(|rule| by_failure_percentage(rule, tallies));
    by_rate.chain(by_share).collect()
}

/// A50, "success rate algorithm".
fn by_success_rate(rule: &SuccessRate, tallies: &[AttemptCounts]) -> Vec<(usize, EjectionReason)> {
    let rates: Vec<(usize, f64)> = with_enough_requests(tallies, rule.requests_min)
        .map(|(index, tally)| {
            (
                index,
                f64::from(tally.successes) / f64::from(tally.requests()),
            )
        })
        .collect();
    if rates.len() < rule.hosts_min.max(1) {
        return Vec::new();
    }
    let count = rates.len() as f64;
    let mean = rates.iter().map(|(_, rate)| rate).sum::<f64>() / count;
    let variance = rates
        .iter()
        .map(|(_, rate)| (rate - mean).powi(2))
        .sum::<f64>()
        / count;
    let threshold = mean - rule.deviations * variance.sqrt();
    rates
        .into_iter()
        .filter(|(_, rate)| *rate < threshold)
        .map(|(index, rate)| {
            let reason = EjectionReason::SuccessRate {
                rate,
                mean,
                threshold,
            };
            (index, reason)
        })
        .collect()
}

/// A50, "failure percentage algorithm".
fn by_failure_percentage(
    rule: &FailurePercentage,
    tallies: &[AttemptCounts],
) -> Vec<(usize, EjectionReason)> {
    if with_enough_requests(tallies, rule.requests_min).count() < rule.hosts_min.max(1) {
        return Vec::new();
    }
    with_enough_requests(tallies, rule.requests_min)
        .filter_map(|(index, tally)| {
            let (failures, requests) = (u64::from(tally.failures), u64::from(tally.requests()));
            let is_outlier = failures * 100 > u64::from(rule.percent) * requests;
            let percent = u32::try_from(failures * 100 / requests).unwrap_or(100);
            is_outlier.then_some((index, EjectionReason::FailurePercentage { percent }))
        })
        .collect()
}

/// Endpoints with at least the minimum number of requests; never those without any.
fn with_enough_requests(
    tallies: &[AttemptCounts],
    requests_min: u32,
) -> impl Iterator<Item = (usize, AttemptCounts)> {
    let tallies = tallies.iter().copied().enumerate();
    tallies.filter(move |(_, tally)| tally.requests() >= requests_min.max(1))
}
