//! Summary of a demo: its figures, and the checks that they must pass.

use std::time::Duration;

use serde::Serialize;

use crate::live_view::{CallFigures, readable_micros};

/// The figures of a run; as JSON the one row of `demo`.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct DemoSummary {
    #[serde(flatten)]
    pub(crate) calls: CallFigures,
    pub(crate) workers_killed: u64,
    pub(crate) workers_added: u64,
    /// Time from the kill until the worker was out of selection; `None` if that was not seen.
    pub(crate) detect_ms: Option<u64>,
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
        let CallFigures {
            calls_ok,
            calls_failed,
            wrong_results,
            ..
        } = self.calls;
        let checks = [
            (calls_ok > 0, "no call was answered"),
            (calls_failed == 0, &format!("{calls_failed} calls failed")),
            (
                wrong_results == 0,
                &format!("{wrong_results} results were wrong"),
            ),
            (self.workers_killed > 0, "no worker was killed"),
            (
                self.detect_ms.is_some(),
                "the killed worker was not detected",
            ),
            (self.workers_added > 0, "no worker was added"),
            (self.calls_of_added > 0, "the added worker took no call"),
            (self.workers_drained > 0, "no worker was drained to its end"),
        ];
        let failed = checks.into_iter().filter(|(holds, _)| !holds);
        failed.map(|(_, complaint)| complaint.to_owned()).collect()
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
                self.calls.calls_ok,
                self.calls.calls_failed,
                self.calls.wrong_results,
                readable_micros(self.calls.p50_us),
                readable_micros(self.calls.p99_us)
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
            calls: CallFigures {
                calls_ok: 100,
                p50_us: 800,
                p99_us: 4000,
                ..CallFigures::default()
            },
            workers_killed: 1,
            workers_added: 1,
            detect_ms: Some(1200),
            calls_of_added: 10,
            workers_drained: 1,
            files: 50,
            files_skipped: 1,
            rounds: 2,
            took: Duration::from_secs(15),
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
                (|it| it.calls.calls_ok = 0) as fn(&mut DemoSummary),
                "no call was answered",
            ),
            (|it| it.calls.calls_failed = 2, "2 calls failed"),
            (|it| it.calls.wrong_results = 3, "3 results were wrong"),
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
            let mut summary = good();
            spoil(&mut summary);
            assert_eq!(summary.failed_checks(), [complaint]);
            let last = summary.lines().pop().unwrap();
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
