//! Summary of a demo: its figures, and the checks that they must pass.

use std::time::Duration;

use serde::Serialize;

use crate::live_view::readable_micros;

/// The figures of a run; as JSON the one row of `demo`.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct DemoSummary {
    pub(crate) calls_ok: u64,
    pub(crate) calls_failed: u64,
    /// Answers that differ from what was computed locally.
    pub(crate) wrong_results: u64,
    pub(crate) workers_killed: u64,
    pub(crate) workers_added: u64,
    /// Time from the kill until the worker was out of selection; `None` if that was not seen.
    pub(crate) detect_ms: Option<u64>,
    pub(crate) p50_us: u64,
    pub(crate) p99_us: u64,
    /// Calls answered by the workers that were added.
    #[serde(skip)]
    pub(crate) calls_of_added: u64,
    /// Workers that were asked to leave and have ended well.
    #[serde(skip)]
    pub(crate) workers_drained: u64,
    #[serde(skip)]
    pub(crate) files: u64,
    #[serde(skip)]
    pub(crate) files_skipped: u64,
    #[serde(skip)]
    pub(crate) rounds: u64,
    #[serde(skip)]
    pub(crate) took: Duration,
}

impl DemoSummary {
    /// Failed checks, a sentence each. The demo passes if there is none.
    pub(crate) fn failed_checks(&self) -> Vec<String> {
        let mut complaints = Vec::new();
        let mut check = |holds: bool, complaint: &str| {
            if !holds {
                complaints.push(complaint.to_owned());
            }
        };
        check(self.calls_ok > 0, "no call was answered");
        check(
            self.calls_failed == 0,
            &format!("{} calls failed", self.calls_failed),
        );
        check(
            self.wrong_results == 0,
            &format!("{} results were wrong", self.wrong_results),
        );
        check(self.workers_killed > 0, "no worker was killed");
        check(
            self.detect_ms.is_some(),
            "the killed worker was not detected",
        );
        check(self.workers_added > 0, "no worker was added");
        check(self.calls_of_added > 0, "the added worker took no call");
        check(self.workers_drained > 0, "no worker was drained to its end");
        complaints
    }

    /// The last lines of the demo.
    pub(crate) fn lines(&self) -> Vec<String> {
        let complaints = self.failed_checks();
        let detected = match self.detect_ms {
            Some(millis) => format!("detected after {millis} ms"),
            None => "not detected".to_owned(),
        };
        let mut lines = vec![
            format!(
                "{} files in {} rounds, {:.1} s ({} skipped)",
                self.files,
                self.rounds,
                self.took.as_secs_f64(),
                self.files_skipped
            ),
            format!(
                "{} calls ok, {} failed, {} wrong results, p50 {}, p99 {}",
                self.calls_ok,
                self.calls_failed,
                self.wrong_results,
                readable_micros(self.p50_us),
                readable_micros(self.p99_us)
            ),
            format!(
                "{} worker killed ({detected}), {} added ({} calls), {} drained",
                self.workers_killed, self.workers_added, self.calls_of_added, self.workers_drained
            ),
        ];
        lines.push(if complaints.is_empty() {
            "demo: passed".to_owned()
        } else {
            format!("demo: FAILED: {}", complaints.join(", "))
        });
        lines
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn good() -> DemoSummary {
        DemoSummary {
            calls_ok: 100,
            workers_killed: 1,
            workers_added: 1,
            detect_ms: Some(1200),
            p50_us: 800,
            p99_us: 4000,
            calls_of_added: 10,
            workers_drained: 1,
            files: 50,
            files_skipped: 1,
            rounds: 2,
            took: Duration::from_secs(15),
            ..DemoSummary::default()
        }
    }

    #[test]
    fn a_good_run_passes_and_says_so() {
        assert!(good().failed_checks().is_empty());
        assert_eq!(
            good().lines(),
            [
                "50 files in 2 rounds, 15.0 s (1 skipped)",
                "100 calls ok, 0 failed, 0 wrong results, p50 800 us, p99 4.00 ms",
                "1 worker killed (detected after 1200 ms), 1 added (10 calls), 1 drained",
                "demo: passed",
            ]
        );
    }

    #[test]
    fn each_shortcoming_fails_the_run() {
        for (spoil, complaint) in [
            (
                (|it| it.calls_ok = 0) as fn(&mut DemoSummary),
                "no call was answered",
            ),
            (|it| it.calls_failed = 2, "2 calls failed"),
            (|it| it.wrong_results = 3, "3 results were wrong"),
            (|it| it.workers_killed = 0, "no worker was killed"),
            (
                |it| it.detect_ms = None,
                "the killed worker was not detected",
            ),
            (|it| it.workers_added = 0, "no worker was added"),
            (|it| it.calls_of_added = 0, "the added worker took no call"),
            (
                |it| it.workers_drained = 0,
                "no worker was drained to its end",
            ),
        ] {
            let mut outcome = good();
            spoil(&mut outcome);
            assert_eq!(outcome.failed_checks(), [complaint]);
            let last = outcome.lines().pop().unwrap();
            assert_eq!(last, format!("demo: FAILED: {complaint}"));
        }
    }

    #[test]
    fn the_row_has_the_agreed_fields() {
        let row = serde_json::to_value(good()).unwrap();
        let fields = [
            "calls_ok",
            "calls_failed",
            "wrong_results",
            "workers_killed",
            "workers_added",
            "detect_ms",
            "p50_us",
            "p99_us",
        ];
        assert!(fields.iter().all(|field| row[field].is_u64()), "{row}");
        assert_eq!(row.as_object().unwrap().len(), fields.len());
        let missed = DemoSummary {
            detect_ms: None,
            ..good()
        };
        assert_eq!(
            serde_json::to_value(missed).unwrap()["detect_ms"],
            Value::Null
        );
    }
}
