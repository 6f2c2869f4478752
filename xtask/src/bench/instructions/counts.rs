//! Counts of instructions: the file of those that are accepted, and the comparison with it.

use std::{collections::BTreeMap, env, fs, io, path::Path};

use serde::{Deserialize, Serialize};
use xtask_report::{format_table, number};

/// Instructions of a call by the workload's name, by architecture.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Counts(BTreeMap<String, BTreeMap<String, f64>>);

impl Counts {
    /// Reads the file. Where there is none, nothing has been accepted yet.
    pub(crate) fn read(file: &Path) -> io::Result<Self> {
        match fs::read(file) {
            Ok(text) => Ok(serde_json::from_slice(&text)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error),
        }
    }

    pub(crate) fn write(&self, file: &Path) -> io::Result<()> {
        let mut text = serde_json::to_vec_pretty(self)?;
        text.push(b'\n');
        fs::write(file, text)
    }

    /// Adds the count of a workload on this architecture, in whole instructions from 100 on.
    pub(crate) fn insert(&mut self, workload: &str, count: f64) {
        let unit = if count < 100.0 { 10.0 } else { 1.0 };
        let counts = self.0.entry(env::consts::ARCH.to_owned()).or_default();
        counts.insert(workload.to_owned(), (count * unit).round() / unit);
    }

    fn here(&self) -> impl Iterator<Item = (&str, f64)> {
        let counts = self.0.get(env::consts::ARCH).into_iter().flatten();
        counts.map(|(workload, count)| (workload.as_str(), *count))
    }

    fn of(&self, workload: &str) -> Option<f64> {
        self.here()
            .find(|(it, _)| *it == workload)
            .map(|(_, count)| count)
    }

    /// The accepted counts with these in the place of those of this architecture.
    pub(crate) fn merged_into(self, mut accepted: Self) -> Self {
        accepted.0.extend(self.0);
        accepted
    }

    /// Table beside the accepted counts.
    pub(crate) fn compared_with(&self, accepted: &Self) -> String {
        let heading = [
            "instructions of a call",
            "counted",
            "accepted",
            "change",
            "",
        ];
        let mut lines = vec![heading.map(str::to_owned).to_vec()];
        for (workload, count) in self.here() {
            let mut line = vec![workload.to_owned(), number(count)];
            line.extend(match accepted.of(workload) {
                Some(accepted) => [
                    number(accepted),
                    format!("{:+.1} %", 100.0 * (count / accepted - 1.0)),
                    CountChange::of(count, accepted).text().to_owned(),
                ],
                None => [String::new(), String::new(), "new".to_owned()],
            });
            lines.push(line);
        }
        format_table(&lines)
    }

    /// Number of counts that are too high.
    pub(crate) fn regressions(&self, accepted: &Self) -> usize {
        let changes = self
            .here()
            .filter_map(|(workload, count)| Some(CountChange::of(count, accepted.of(workload)?)));
        changes.filter(|it| *it == CountChange::Regression).count()
    }

    /// Whether there are no counts of this architecture.
    pub(crate) fn is_empty_here(&self) -> bool {
        self.here().next().is_none()
    }

    /// Accepted workloads that were not counted.
    pub(crate) fn missing<'a>(&self, accepted: &'a Self) -> Vec<&'a str> {
        let workloads = accepted.here().map(|(workload, _)| workload);
        workloads.filter(|it| self.of(it).is_none()).collect()
    }
}

/// Change of a count from the accepted one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CountChange {
    Same,
    /// Less: to be accepted, so that it is not lost again.
    Improvement,
    Regression,
}

impl CountChange {
    fn of(count: f64, accepted: f64) -> Self {
        match count / accepted {
            ratio if ratio > 1.0 + TOLERANCE => Self::Regression,
            ratio if ratio < 1.0 - TOLERANCE => Self::Improvement,
            _ => Self::Same,
        }
    }

    fn text(self) -> &'static str {
        match self {
            Self::Same => "ok",
            Self::Improvement => "fewer: --accept",
            Self::Regression => "REGRESSION",
        }
    }
}

/// Largest change that counts as none: the order of tasks and the places of hash tables differ
/// from run to run.
const TOLERANCE: f64 = 0.02;

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(raw: f64, pick: f64) -> Counts {
        let mut counts = Counts::default();
        counts.insert("raw call", raw);
        counts.insert("pick", pick);
        counts
    }

    #[test]
    fn more_than_two_percent_more_is_a_regression() {
        let accepted = counts(10_000.0, 50.0);
        assert_eq!(counts(10_200.0, 50.0).regressions(&accepted), 0);
        assert_eq!(counts(10_201.0, 50.0).regressions(&accepted), 1);
        let fewer = counts(9_000.0, 51.1);
        assert_eq!(fewer.regressions(&accepted), 1);
        let text = fewer.compared_with(&accepted);
        for part in ["9,000", "-10.0 %  fewer: --accept", "51.1", "REGRESSION"] {
            assert!(text.contains(part), "{text}");
        }
    }

    #[test]
    fn what_was_never_accepted_is_new() {
        let text = counts(10_000.0, 50.0).compared_with(&Counts::default());
        assert_eq!(text.matches("new").count(), 2);
        assert_eq!(counts(1.0, 1.0).regressions(&Counts::default()), 0);
        assert!(Counts::default().is_empty_here() && !counts(1.0, 1.0).is_empty_here());
    }

    #[test]
    fn an_accepted_workload_that_was_not_counted_is_missing() {
        let accepted = counts(10_000.0, 50.0);
        let mut counted = Counts::default();
        counted.insert("pick", 50.0);
        assert_eq!(counted.missing(&accepted), ["raw call"]);
        assert_eq!(accepted.missing(&counted), [""; 0]);
    }

    #[test]
    fn the_file_keeps_other_architectures() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("instructions.json");
        assert_eq!(Counts::read(&file).unwrap(), Counts::default());
        fs::write(&file, r#"{ "none": { "pick": 7 } }"#).unwrap();
        let counted = counts(10_000.0, 50.0);
        let merged = counted.clone().merged_into(Counts::read(&file).unwrap());
        merged.write(&file).unwrap();
        let read = Counts::read(&file).unwrap();
        assert_eq!((read.0["none"]["pick"], read.of("pick")), (7.0, Some(50.0)));
        assert_eq!(read.regressions(&counted), 0);
    }
}
