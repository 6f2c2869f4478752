//! Targets, and whether they are met.

use xtask_report::{format_table, number};

use crate::row::Row;

/// A figure that may not exceed a bound.
#[derive(Debug, Clone)]
pub(crate) struct Check {
    pub(crate) description: String,
    /// `None`: it never came to it.
    pub(crate) figure: Option<f64>,
    pub(crate) at_most: f64,
    pub(crate) unit: &'static str,
}

impl Check {
    pub(crate) fn new(
        what: impl Into<String>,
        figure: impl Into<Option<f64>>,
        at_most: f64,
        unit: &'static str,
    ) -> Self {
        Self {
            description: what.into(),
            figure: figure.into(),
            at_most,
            unit,
        }
    }

    pub(crate) fn is_met(&self) -> bool {
        self.is_within(1.0)
    }

    /// Whether the figure exceeds its bound by more than the noise of few seeds explains.
    pub(crate) fn is_missed_beyond_noise(&self) -> bool {
        !self.is_within(NOISE_FACTOR)
    }

    fn is_within(&self, factor: f64) -> bool {
        self.figure
            .is_some_and(|figure| figure <= factor * self.at_most)
    }
}

/// Bound of a figure of one row.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) description: String,
    pub(crate) at_most: f64,
    pub(crate) unit: &'static str,
    pub(crate) figure: fn(&Row) -> Option<f64>,
}

impl Target {
    pub(crate) fn check(&self, row: &Row) -> Check {
        let figure = (self.figure)(row);
        Check::new(&*self.description, figure, self.at_most, self.unit)
    }
}

/// A line for each, with a count. Empty without any.
pub(crate) fn report(checks: &[Check]) -> String {
    if checks.is_empty() {
        return String::new();
    }
    let mut lines = vec![
        ["target", "at most", "ours", ""]
            .map(str::to_owned)
            .to_vec(),
    ];
    for check in checks {
        let figure = check.figure.map_or_else(|| "never".to_owned(), number);
        lines.push(vec![
            check.description.clone(),
            format!("{} {}", number(check.at_most), check.unit),
            figure,
            if check.is_met() { "met" } else { "MISSED" }.to_owned(),
        ]);
    }
    let met = checks.iter().filter(|check| check.is_met()).count();
    format!(
        "{}{met} of {} targets met\n",
        format_table(&lines),
        checks.len()
    )
}

/// Factor by which a figure of few seeds may exceed its bound.
const NOISE_FACTOR: f64 = 1.5;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_is_met_up_to_itself_and_nothing_is_no_noise() {
        let check = |figure, at_most| Check::new("it", figure, at_most, "s");
        assert!(check(Some(3.5), 3.5).is_met());
        assert!(!check(Some(3.6), 3.5).is_met() && !check(Some(3.6), 3.5).is_missed_beyond_noise());
        assert!(check(Some(6.0), 3.5).is_missed_beyond_noise());
        assert!(check(Some(0.0), 0.0).is_met());
        assert!(check(Some(1.0), 0.0).is_missed_beyond_noise());
        assert!(check(None, 1e9).is_missed_beyond_noise());
    }

    #[test]
    fn the_report_counts_what_is_met() {
        let checks = [
            Check::new("first", 3.0, 3.5, "s"),
            Check::new("second", 4.0, 3.5, "s"),
            Check::new("third", None, 3.5, "s"),
        ];
        let text = report(&checks);
        assert!(text.contains("3.50 s   3.00     met"), "{text}");
        assert!(text.contains("4.00  MISSED"), "{text}");
        assert!(text.contains("never  MISSED"), "{text}");
        assert!(text.ends_with("1 of 3 targets met\n"), "{text}");
        assert_eq!(report(&[]), "");
    }
}
