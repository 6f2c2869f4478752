//! Figures: medians over the rounds, of ratios and differences within each.

use serde::Serialize;
use xtask_load::Report;
use xtask_report::median;

/// A row of the results.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub(crate) enum Row {
    Compared(Compared),
    Scaled(Scaled),
}

/// Calls of one worker that answers at once, through a cluster client and directly.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Compared {
    pub(crate) workers: usize,
    pub(crate) in_flight: usize,
    pub(crate) calls_per_s: f64,
    pub(crate) direct_calls_per_s: f64,
    /// Median ratio of the rates in one round.
    pub(crate) rate_ratio: f64,
    pub(crate) p50_us: f64,
    /// Median difference of the medians in one round.
    pub(crate) added_p50_us: f64,
    /// CPU time of both processes.
    pub(crate) cpu_us_per_call: f64,
    pub(crate) added_cpu_us_per_call: f64,
    pub(crate) rounds: usize,
}

/// Workers of a fixed service time.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Scaled {
    pub(crate) workers: usize,
    pub(crate) in_flight: usize,
    pub(crate) calls_per_s: f64,
    /// Ratio to as many times the rate of one worker in the same round.
    pub(crate) of_linear: f64,
    /// CPU time of both processes.
    pub(crate) cpu_us_per_call: f64,
    pub(crate) rounds: usize,
}

impl Compared {
    /// Medians of the rounds; `None` without any.
    pub(crate) fn new(in_flight: usize, direct: &[Report], through: &[Report]) -> Option<Self> {
        let of = |reports: &[Report], figure: fn(&Report) -> f64| {
            median(reports.iter().map(figure).collect())
        };
        let paired = |figure: fn(&Report, &Report) -> f64| {
            let pairs = through.iter().zip(direct);
            median(
                pairs
                    .map(|(through, direct)| figure(through, direct))
                    .collect(),
            )
        };
        Some(Self {
            workers: 1,
            in_flight,
            calls_per_s: of(through, Report::per_s)?,
            direct_calls_per_s: of(direct, Report::per_s)?,
            rate_ratio: paired(|through, direct| through.per_s() / direct.per_s())?,
            p50_us: of(through, |it| it.latency.p50_us)?,
            added_p50_us: paired(|through, direct| through.latency.p50_us - direct.latency.p50_us)?,
            cpu_us_per_call: of(through, Report::cpu_us_per_call)?,
            added_cpu_us_per_call: paired(|through, direct| {
                through.cpu_us_per_call() - direct.cpu_us_per_call()
            })?,
            rounds: through.len(),
        })
    }
}

impl Scaled {
    /// Medians of the rounds, beside those of a `single` worker; `None` without any.
    pub(crate) fn new(workers: usize, reports: &[Report], single: &[Report]) -> Option<Self> {
        let of = |figure: fn(&Report) -> f64| median(reports.iter().map(figure).collect());
        let linear = |single: &Report| single.per_s() * workers as f64;
        let shares = reports.iter().zip(single);
        Some(Self {
            workers,
            in_flight: workers * super::service::IN_FLIGHT_PER_WORKER,
            calls_per_s: of(Report::per_s)?,
            of_linear: median(
                shares
                    .map(|(it, single)| it.per_s() / linear(single))
                    .collect(),
            )?,
            cpu_us_per_call: of(Report::cpu_us_per_call)?,
            rounds: reports.len(),
        })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::bench::rows::tests::report;

    #[test]
    fn comparisons_are_made_within_a_round() {
        // The machine is slower in the second round, and in the third.
        let direct = [report(1000, 10.0), report(500, 20.0), report(100, 100.0)];
        let through = [report(900, 11.0), report(500, 22.0), report(90, 103.0)];
        let compared = Compared::new(64, &direct, &through).unwrap();
        assert_eq!((compared.rate_ratio, compared.added_p50_us), (0.9, 2.0));
        assert_eq!(
            (compared.calls_per_s, compared.direct_calls_per_s),
            (500.0, 500.0)
        );
        assert_eq!(Compared::new(64, &[], &[]), None);
    }

    #[test]
    fn a_fleet_is_compared_with_as_many_single_workers() {
        let single = [report(1000, 1.0), report(800, 1.0), report(1000, 1.0)];
        let four = [report(4000, 1.0), report(3040, 1.0), report(3600, 1.0)];
        let scaled = Scaled::new(4, &four, &single).unwrap();
        assert_eq!((scaled.of_linear, scaled.calls_per_s), (0.95, 3600.0));
        assert_eq!(Scaled::new(1, &single, &single).unwrap().of_linear, 1.0);
    }

    #[test]
    fn the_rows_have_the_agreed_fields() {
        let some = [report(1000, 10.0)];
        let compared = Row::Compared(Compared::new(1, &some, &some).unwrap());
        let row = serde_json::to_value(compared).unwrap();
        for field in [
            "calls_per_s",
            "direct_calls_per_s",
            "added_p50_us",
            "cpu_us_per_call",
        ] {
            assert!(row[field].is_f64(), "{row}");
        }
        assert_eq!((&row["workers"], &row["in_flight"]), (&1.into(), &1.into()));
        let scaled = Row::Scaled(Scaled::new(16, &some, &some).unwrap());
        let row = serde_json::to_value(scaled).unwrap();
        assert_eq!(
            (&row["workers"], &row["in_flight"]),
            (&16.into(), &1024.into())
        );
        assert!(row["calls_per_s"].is_f64() && row.get("added_p50_us").is_none());
    }
}
