//! Measures: values that the runs of a cell record, aggregated to the figures of a row.

use serde_json::Value;
use xtask_report::{median, quantile};

/// Values that one run recorded, by name.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Sample(Vec<(&'static str, Vec<f64>)>);

impl Sample {
    /// The same with a value under a name; infinite for what never happened.
    pub(crate) fn with(self, name: &'static str, value: f64) -> Self {
        self.with_all(name, [value])
    }

    /// The same with values under a name, which may be none.
    pub(crate) fn with_all(
        mut self,
        name: &'static str,
        values: impl IntoIterator<Item = f64>,
    ) -> Self {
        self.0.push((name, values.into_iter().collect()));
        self
    }

    /// # Panics
    ///
    /// If nothing was recorded under this name, not even no values.
    pub(crate) fn values(&self, name: &str) -> &[f64] {
        let found = self.0.iter().find(|(recorded, _)| *recorded == name);
        let (_, values) = found.unwrap_or_else(|| panic!("no run records {name}"));
        values
    }
}

/// Field of a row, and how its figure follows from the values of all runs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Measure {
    field: &'static str,
    aggregate: Aggregate,
    /// Name under which the runs record the values.
    values: &'static str,
}

/// Aggregation of values to a figure.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Aggregate {
    Median,
    /// 99th percentile.
    P99,
    Mean,
    Max,
    Sum,
    /// Sum of whole numbers, as one.
    WholeSum,
    /// The least of whole numbers, as one.
    WholeMin,
    /// Number of values.
    Count,
}

impl Measure {
    pub(crate) const fn new(
        field: &'static str,
        aggregate: Aggregate,
        values: &'static str,
    ) -> Self {
        Self {
            field,
            aggregate,
            values,
        }
    }

    /// Median of the values that are recorded under the field's own name.
    pub(crate) const fn median(field: &'static str) -> Self {
        Self::new(field, Aggregate::Median, field)
    }

    /// The field and its figure: null if there are no values, or if it never came to it.
    pub(crate) fn figure(&self, samples: &[Sample]) -> (&'static str, Value) {
        let recorded = samples.iter().flat_map(|it| it.values(self.values));
        let values: Vec<f64> = recorded.copied().collect();
        let sum: f64 = values.iter().sum();
        let figure = match self.aggregate {
            Aggregate::Median => median(values).into(),
            Aggregate::P99 => quantile(values, 0.99).into(),
            Aggregate::Mean => (sum / values.len().max(1) as f64).into(),
            Aggregate::Max => values.into_iter().fold(0.0, f64::max).into(),
            Aggregate::Sum => sum.into(),
            Aggregate::WholeSum => (sum as u64).into(),
            Aggregate::WholeMin => {
                let least = values.into_iter().reduce(f64::min);
                (least.unwrap_or_default() as u64).into()
            }
            Aggregate::Count => values.len().into(),
        };
        (self.field, figure)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn figures_are_of_the_values_of_all_runs() {
        let sample = |values: &[f64]| Sample::default().with_all("x", values.iter().copied());
        let samples = [sample(&[4.0, 1.0]), sample(&[]), sample(&[9.0])];
        for (aggregate, figure) in [
            (Aggregate::Median, json!(4.0)),
            (Aggregate::P99, json!(9.0)),
            (Aggregate::Mean, json!(14.0 / 3.0)),
            (Aggregate::Max, json!(9.0)),
            (Aggregate::Sum, json!(14.0)),
            (Aggregate::WholeSum, json!(14)),
            (Aggregate::WholeMin, json!(1)),
            (Aggregate::Count, json!(3)),
        ] {
            let measure = Measure::new("y", aggregate, "x");
            assert_eq!(measure.figure(&samples), ("y", figure), "{aggregate:?}");
        }
    }

    #[test]
    fn what_never_happened_or_was_not_seen_has_no_figure() {
        let sample = |value| Sample::default().with_all("x", value);
        let figure = |samples: &[Sample]| Measure::median("x").figure(samples).1;
        assert_eq!(figure(&[sample(Some(f64::INFINITY))]), Value::Null);
        let never = f64::INFINITY;
        for (others, median) in [([3.0, never], json!(3.0)), ([never; 2], Value::Null)] {
            let samples = [1.0, others[0], others[1]].map(|it| sample(Some(it)));
            assert_eq!(figure(&samples), median);
        }
        assert_eq!(figure(&[sample(None)]), Value::Null);
        assert_eq!(figure(&[sample(None), sample(Some(2.0))]), json!(2.0));
    }
}
