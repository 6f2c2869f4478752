//! Output of libFuzzer.

use serde::Serialize;

/// The figures of a run.
#[derive(Debug, Default, Eq, PartialEq, Serialize)]
pub(super) struct Log {
    /// Seed that libFuzzer used.
    pub(super) seed: u64,
    pub(super) runs: u64,
    pub(super) runs_per_s: u64,
    pub(super) coverage_edges: u64,
    pub(super) corpus_inputs: u64,
    pub(super) peak_rss_mib: u64,
    /// Path of the input that broke a rule, in the crate's folder.
    #[serde(skip)]
    pub(super) artifact: Option<String>,
}

impl Log {
    /// Reads what is there; a figure that is missing is zero.
    pub(super) fn parse(text: &str) -> Self {
        let mut log = Self::default();
        for line in text.lines() {
            let words: Vec<_> = line.split_whitespace().collect();
            let after = |key: &str| {
                let at = words.iter().position(|word| *word == key)?;
                let digits = words.get(at + 1)?.split('/').next()?;
                digits.parse::<u64>().ok()
            };
            if line.starts_with('#') {
                log.coverage_edges = after("cov:").unwrap_or(log.coverage_edges);
                log.corpus_inputs = after("corp:").unwrap_or(log.corpus_inputs);
            }
            log.seed = after("Seed:").unwrap_or(log.seed);
            log.runs = after("stat::number_of_executed_units:").unwrap_or(log.runs);
            log.runs_per_s = after("stat::average_exec_per_sec:").unwrap_or(log.runs_per_s);
            log.peak_rss_mib = after("stat::peak_rss_mb:").unwrap_or(log.peak_rss_mib);
            if let Some((_, path)) = line.split_once("Test unit written to ") {
                let path = path.trim();
                let from = path.find("fuzz/artifacts/").unwrap_or_default();
                log.artifact = Some(path[from..].to_owned());
            }
        }
        log
    }
}

/// The last lines, which say what broke.
pub(super) fn tail(text: &str) -> String {
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(40)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_went_well_has_its_figures() {
        let text = "INFO: Seed: 4107286012\n\
            #2\tINITED cov: 1070 ft: 1071 corp: 1/1b exec/s: 0 rss: 28Mb\n\
            #5609\tDONE   cov: 1769 ft: 3981 corp: 110/1134b lim: 14 exec/s: 623 rss: 29Mb\n\
            Done 5609 runs in 9 second(s)\n\
            stat::number_of_executed_units: 5609\n\
            stat::average_exec_per_sec:     623\n\
            stat::new_units_added:          118\n\
            stat::peak_rss_mb:              29\n";
        let expected = Log {
            seed: 4_107_286_012,
            runs: 5_609,
            runs_per_s: 623,
            coverage_edges: 1_769,
            corpus_inputs: 110,
            peak_rss_mib: 29,
            artifact: None,
        };
        assert_eq!(Log::parse(text), expected);
    }

    #[test]
    fn a_crash_has_its_input() {
        let text = "thread '<unnamed>' panicked at src/fuzzing/mod.rs:31:9:\n\
            artifact_prefix='x'; Test unit written to /somewhere/fuzz/artifacts/tags/crash-0a1b\n";
        let artifact = Log::parse(text).artifact;
        assert_eq!(artifact.as_deref(), Some("fuzz/artifacts/tags/crash-0a1b"));
        assert!(tail(text).contains("panicked"));
    }
}
