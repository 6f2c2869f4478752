//! Findings that are tolerated for now: a list with a number for each that may only become smaller.

use std::{collections::BTreeMap, fmt::Write as _};

use super::Problem;

/// A place where a rule with a tolerated remainder is broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    /// Rule, crate and subject: findings of one key are counted together, so that moving a file
    /// changes no count.
    pub(crate) key: String,
    /// File and line.
    pub(crate) location: String,
    /// Description, with what to do instead.
    pub(crate) message: String,
}

/// The tolerated number of findings for each key.
#[derive(Debug, Default)]
pub(crate) struct Known(BTreeMap<String, usize>);

impl Known {
    /// Reads the lines of the list: a number and a key each. Lines that begin with `#` are
    /// comments.
    ///
    /// # Errors
    ///
    /// The first line that has no number.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut known = BTreeMap::new();
        for line in text
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
        {
            let entry = line.split_once(' ').and_then(|(count, key)| {
                let count: usize = count.parse().ok()?;
                Some((key.to_owned(), count))
            });
            let (key, count) = entry.ok_or_else(|| format!("{LIST}: not an entry: {line:?}"))?;
            known.insert(key, count);
        }
        Ok(Self(known))
    }

    /// Compares the list with the findings. All findings of a key are problems if there are more of
    /// them than tolerated, as the new one is not known; an entry is one if there are fewer.
    pub(crate) fn check(&self, findings: &[Finding]) -> Vec<Problem> {
        let counts = count(findings);
        let tolerated = |key: &str| self.0.get(key).copied().unwrap_or_default();
        let mut problems = Vec::new();
        for finding in findings {
            let (found, tolerated) = (counts[finding.key.as_str()], tolerated(&finding.key));
            if found > tolerated {
                let Finding {
                    key,
                    location,
                    message,
                } = finding;
                let what = format!("{message} (`{key}`: found {found}, tolerated {tolerated})");
                problems.push(Problem::new(location, what));
            }
        }
        for (key, tolerated) in &self.0 {
            let found = counts.get(key.as_str()).copied().unwrap_or_default();
            if found < *tolerated {
                let what = format!(
                    "tolerates {tolerated} of `{key}`, found {found}: run `cargo xtask tidy --shrink`"
                );
                problems.push(Problem::new(LIST, what));
            }
        }
        problems
    }

    /// The list without what no longer occurs. No number becomes larger.
    pub(crate) fn shrunk(&self, findings: &[Finding]) -> String {
        let counts = count(findings);
        let mut text = HEADER.to_owned();
        for (key, tolerated) in &self.0 {
            let found = counts.get(key.as_str()).copied().unwrap_or_default();
            if found > 0 {
                let _ = writeln!(text, "{} {key}", found.min(*tolerated));
            }
        }
        text
    }
}

fn count(findings: &[Finding]) -> BTreeMap<&str, usize> {
    let mut counts = BTreeMap::new();
    for finding in findings {
        *counts.entry(finding.key.as_str()).or_default() += 1;
    }
    counts
}

/// Path of the list, from the root of the workspace.
pub(crate) const LIST: &str = "xtask/src/tidy/known.txt";

const HEADER: &str = "# Findings of `cargo xtask tidy` that are tolerated for now. Numbers may only \
                      become smaller: `cargo xtask tidy --shrink`.\n";

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(key: &str, line: usize) -> Finding {
        Finding {
            key: key.to_owned(),
            location: format!("a/src/b.rs:{line}"),
            message: "is odd".to_owned(),
        }
    }

    fn check(list: &str, findings: &[Finding]) -> Vec<String> {
        let problems = Known::parse(list).unwrap().check(findings);
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
            known.shrunk(&findings),
            format!("{HEADER}1 width a\n1 width b\n")
        );
    }

    #[test]
    fn a_line_without_a_number_is_an_error() {
        assert!(Known::parse("width a\n").is_err());
    }
}
