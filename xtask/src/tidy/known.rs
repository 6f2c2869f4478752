//! Problems that are tolerated for now: a list with a number for each key that may only become
//! smaller.

use std::{collections::BTreeMap, fmt};

use super::Problem;

/// The tolerated number of problems for each [key](Problem::key).
#[derive(Debug, Default)]
pub(super) struct Known(BTreeMap<String, usize>);

impl Known {
    /// Reads the lines of the list: a number and a key each. Lines that begin with `#` are
    /// comments.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let lines = text
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with('#'));
        let entries = lines.map(|line| {
            let entry = line.split_once(' ');
            let entry = entry.and_then(|(count, key)| Some((key.to_owned(), count.parse().ok()?)));
            entry.ok_or_else(|| format!("{LIST}: not an entry: {line:?}"))
        });
        entries.collect::<Result<_, _>>().map(Self)
    }

    /// The problems that are not tolerated. All of a key are problems if there are more of them
    /// than tolerated, as the new one is not known; an entry is one if there are fewer.
    pub(super) fn check(&self, problems: Vec<Problem>) -> Vec<Problem> {
        let found = count(&problems);
        let mut remaining = Vec::new();
        for mut problem in problems {
            if let Some(key) = &problem.key {
                let tolerated = self.0.get(key).copied().unwrap_or_default();
                if found[key] <= tolerated {
                    continue;
                }
                let found = found[key];
                problem.message += &format!(" (`{key}`: found {found}, tolerated {tolerated})");
            }
            remaining.push(problem);
        }
        for (key, tolerated) in &self.0 {
            let found = found.get(key).copied().unwrap_or_default();
            if found < *tolerated {
                let what = format!(
                    "tolerates {tolerated} of `{key}`, found {found}: run `cargo xtask tidy --shrink`"
                );
                remaining.push(Problem::new(LIST, what));
            }
        }
        remaining
    }

    /// The list without what no longer occurs. No number becomes larger.
    pub(super) fn shrunk(&self, problems: &[Problem]) -> Self {
        let found = count(problems);
        let entries = self.0.iter();
        let entries = entries
            .filter_map(|(key, tolerated)| Some((key.clone(), *found.get(key)?.min(tolerated))));
        Self(entries.collect())
    }
}

/// Writes the list.
impl fmt::Display for Known {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(HEADER)?;
        self.0
            .iter()
            .try_for_each(|(key, count)| writeln!(formatter, "{count} {key}"))
    }
}

/// Number of problems of each key.
fn count(problems: &[Problem]) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for key in problems.iter().filter_map(|problem| problem.key.clone()) {
        *counts.entry(key).or_default() += 1;
    }
    counts
}

/// Path of the list, from the root of the workspace.
pub(super) const LIST: &str = "xtask/src/tidy/known.txt";

const HEADER: &str = "# Findings of `cargo xtask tidy` that are tolerated for now. Numbers may only \
                      become smaller: `cargo xtask tidy --shrink`.\n";

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(key: &str, line: usize) -> Problem {
        Problem::new(format!("a/src/b.rs:{line}"), "is odd").with_key(key.to_owned())
    }

    fn check(list: &str, findings: &[Problem]) -> Vec<String> {
        let problems = Known::parse(list).unwrap().check(findings.to_vec());
        problems.iter().map(Problem::to_string).collect()
    }

    #[test]
    fn as_many_findings_as_tolerated_pass() {
        let findings = [finding("width a", 1), finding("width a", 7)];
        assert_eq!(check("# a comment\n2 width a\n", &findings), [""; 0]);
    }

    #[test]
    fn one_more_than_tolerated_is_a_problem_with_all_locations() {
        let findings = [finding("width a", 1), finding("width a", 7)];
        assert_eq!(
            check("1 width a\n", &findings),
            [
                "a/src/b.rs:1: is odd (`width a`: found 2, tolerated 1)",
                "a/src/b.rs:7: is odd (`width a`: found 2, tolerated 1)",
            ]
        );
        assert_eq!(check("", &findings[..1]).len(), 1);
    }

    #[test]
    fn an_entry_that_no_longer_occurs_is_a_problem() {
        let found = check("2 width a\n1 type B\n", &[finding("width a", 1)]);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(
            found[0].contains("tolerates 1 of `type B`, found 0"),
            "{found:?}"
        );
        assert!(
            found[1].contains("tolerates 2 of `width a`, found 1"),
            "{found:?}"
        );
    }

    #[test]
    fn the_list_shrinks_and_never_grows() {
        let known = Known::parse("2 width a\n1 width b\n1 type C\n").unwrap();
        let findings = [
            finding("width a", 1),
            finding("width b", 1),
            finding("width b", 2),
            finding("width d", 1),
        ];
        assert_eq!(
            known.shrunk(&findings).to_string(),
            format!("{HEADER}1 width a\n1 width b\n")
        );
    }

    #[test]
    fn a_line_without_a_number_is_an_error() {
        assert!(Known::parse("width a\n").is_err());
    }
}
