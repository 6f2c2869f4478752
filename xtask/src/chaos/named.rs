//! Values of the command line that stand in a table, each with a name and a description.

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};

/// Row of a table whose names are values of the command line.
pub(crate) trait Named: Clone + Send + Sync + 'static {
    /// The table.
    const ALL: &'static [Self];

    /// Name on the command line.
    fn name(&self) -> &'static str;

    fn description(&self) -> &'static str;

    fn parser() -> impl TypedValueParser<Value = &'static Self> {
        let values = Self::ALL
            .iter()
            .map(|row| PossibleValue::new(row.name()).help(row.description()));
        PossibleValuesParser::new(values).map(|name| Self::named(&name))
    }

    /// The row of a name that the parser knows.
    fn named(name: &str) -> &'static Self {
        let row = Self::ALL.iter().find(|row| row.name() == name);
        row.expect("the parser knows the names of the table")
    }

    /// These rows, or all if none is chosen.
    fn chosen(rows: &[&'static Self]) -> Vec<&'static Self> {
        match rows {
            [] => Self::ALL.iter().collect(),
            some => some.to_vec(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chaos::{namespaces::situations::Situation, scenario::Scenario};

    fn names<T: Named>() -> Vec<&'static str> {
        let described = T::ALL.iter().filter(|row| !row.description().is_empty());
        described.map(Named::name).collect()
    }

    #[test]
    fn every_row_has_a_name_and_a_description() {
        let scenarios = [
            "kill",
            "stop",
            "rolling",
            "drain",
            "panic",
            "old",
            "slow",
            "greedy",
            "liar",
            "mixed-compatible",
            "mixed-incompatible",
        ];
        assert_eq!(names::<Scenario>(), scenarios);
        let situations = [
            "loss",
            "loss-inbound",
            "loss-outbound",
            "cut",
            "mtu",
            "address",
            "freeze",
            "clock",
            "seeds",
            "names",
        ];
        assert_eq!(names::<Situation>(), situations);
    }
}
