//! Report on the outcomes of calls.

use std::collections::BTreeMap;

use rpcnet_client::{ClusterError, Processed, RpcError, client::Attempt};
use serde::{Deserialize, Serialize};

/// Outcomes of calls.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct CallReport {
    pub(crate) idempotent: CallCounts,
    pub(crate) others: CallCounts,
    /// Calls that were due and not begun, as there were too many under way.
    pub(crate) not_begun: u64,
    /// Calls that were due until the director was told to finish.
    pub(crate) due: u64,
    /// Calls that had been answered by then.
    pub(crate) answered_in_time: u64,
    /// Answers to another call than the one that was made.
    pub(crate) wrong: u64,
    /// Attempts beside the first of each call.
    pub(crate) extra_attempts: u64,
    /// Extra attempts that the budget has to grant.
    pub(crate) granted: u64,
    /// Duration of the load in whole seconds, rounded up.
    pub(crate) seconds: u64,
    pub(crate) latencies: LatencyFigures,
    /// Kinds of failures with their counts.
    pub(crate) failures: Vec<FailureCount>,
    /// Calls of which the error says that no handler saw them; the first [`UNPROCESSED_MAX`].
    pub(crate) unprocessed: Vec<u64>,
    /// Answers by worker.
    pub(crate) answered_by: BTreeMap<String, u64>,
    /// Answers of a typed service by the version of the worker.
    pub(crate) answered_by_version: VersionCounts,
}

/// Latencies of all calls, and of those that are idempotent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct LatencyFigures {
    pub(crate) p50_us: u64,
    pub(crate) p99_us: u64,
    pub(crate) max_us: u64,
    pub(crate) idempotent_p99_us: u64,
    pub(crate) idempotent_max_us: u64,
}

/// Numbers of answers of a typed service by the version of the worker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct VersionCounts {
    pub(crate) first: u64,
    pub(crate) second: u64,
}

/// Numbers of answered and failed calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct CallCounts {
    pub(crate) ok: u64,
    pub(crate) failed: u64,
}

/// Kind of failure with its time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
pub(crate) struct Failure {
    pub(crate) idempotent: bool,
    /// Worker that may have run the call, else the one tried last.
    pub(crate) node: Option<String>,
    pub(crate) code: String,
    /// Whether a handler ran.
    pub(crate) processed: Ran,
    /// The second of the run in which it began.
    pub(crate) second: u64,
}

/// [`Processed`] as a message carries it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Ran {
    No,
    Maybe,
    Yes,
}

/// A call that failed, however it was made.
#[derive(Clone, Debug)]
pub(crate) struct FailedCall {
    node: Option<String>,
    code: String,
    pub(crate) processed: Ran,
    /// Text of the error.
    pub(crate) text: String,
}

/// Number of calls that failed in one way.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct FailureCount {
    #[serde(flatten)]
    pub(crate) failure: Failure,
    pub(crate) count: u64,
    /// Text of one of the errors.
    pub(crate) example: String,
}

impl From<&ClusterError> for FailedCall {
    fn from(error: &ClusterError) -> Self {
        let attempts = error.attempts().iter();
        let unsure = |attempt: &&Attempt| attempt.error.processed() != Processed::No;
        let node = attempts
            .clone()
            .find(unsure)
            .map(|attempt| &attempt.node)
            .or_else(|| error.node());
        let code = match error {
            ClusterError::Rpc { error, .. } => error.code().to_string(),
            ClusterError::Connect { .. } => "no connection".to_owned(),
            ClusterError::DeadlineExceeded { .. } => "deadline exceeded".to_owned(),
            ClusterError::Select(_) => "no worker selected".to_owned(),
            other => other.to_string(),
        };
        Self {
            node: node.map(|node| node.name.to_string()),
            code,
            processed: Ran::from(error.processed()),
            text: error.to_string(),
        }
    }
}

/// Failure of a typed call: of the cluster, or of a stream that was opened.
impl From<RpcError> for FailedCall {
    fn from(error: RpcError) -> Self {
        match ClusterError::of(&error) {
            Some(behind) => Self::from(behind),
            None => Self {
                node: error.peer().map(|peer| peer.name().to_owned()),
                code: error.code().to_string(),
                processed: Ran::from(error.processed()),
                text: error.to_string(),
            },
        }
    }
}

impl FailedCall {
    /// The kind of the failure, of a call that began in this second.
    pub(crate) fn failure(&self, idempotent: bool, second: u64) -> Failure {
        Failure {
            idempotent,
            node: self.node.clone(),
            code: self.code.clone(),
            processed: self.processed,
            second,
        }
    }
}

impl VersionCounts {
    /// Counts an answer of a worker of this version.
    pub(crate) fn add_one(&mut self, version: u32) {
        match version {
            1 => self.first += 1,
            _ => self.second += 1,
        }
    }
}

impl LatencyFigures {
    fn max(self, other: Self) -> Self {
        Self {
            p50_us: self.p50_us.max(other.p50_us),
            p99_us: self.p99_us.max(other.p99_us),
            max_us: self.max_us.max(other.max_us),
            idempotent_p99_us: self.idempotent_p99_us.max(other.idempotent_p99_us),
            idempotent_max_us: self.idempotent_max_us.max(other.idempotent_max_us),
        }
    }
}

impl CallCounts {
    fn add(&mut self, other: Self) {
        self.ok += other.ok;
        self.failed += other.failed;
    }
}

impl From<Processed> for Ran {
    fn from(processed: Processed) -> Self {
        match processed {
            Processed::No => Self::No,
            Processed::Maybe => Self::Maybe,
            Processed::Yes => Self::Yes,
        }
    }
}

impl CallReport {
    /// Calls that failed, of both kinds.
    pub(crate) fn failed(&self) -> u64 {
        self.idempotent.failed + self.others.failed
    }

    /// Calls that were answered, of both kinds.
    pub(crate) fn ok(&self) -> u64 {
        self.idempotent.ok + self.others.ok
    }

    /// Adds the outcomes of other calls, but few of their failures.
    pub(crate) fn add(&mut self, other: &Self) {
        self.idempotent.add(other.idempotent);
        self.others.add(other.others);
        for (worker, answers) in &other.answered_by {
            *self.answered_by.entry(worker.clone()).or_default() += answers;
        }
        let room = FAILURES_MAX.saturating_sub(self.failures.len());
        let failures = other.failures.iter().take(room);
        self.failures.extend(failures.cloned());
    }

    /// Adds the outcomes of the calls of another process; of latencies the larger ones.
    pub(crate) fn merge(&mut self, other: Self) {
        self.idempotent.add(other.idempotent);
        self.others.add(other.others);
        self.not_begun += other.not_begun;
        self.due += other.due;
        self.answered_in_time += other.answered_in_time;
        self.wrong += other.wrong;
        self.extra_attempts += other.extra_attempts;
        self.granted += other.granted;
        self.seconds = self.seconds.max(other.seconds);
        self.latencies = self.latencies.max(other.latencies);
        self.failures.extend(other.failures);
        self.unprocessed.extend(other.unprocessed);
        for (worker, answers) in other.answered_by {
            *self.answered_by.entry(worker).or_default() += answers;
        }
        self.answered_by_version.first += other.answered_by_version.first;
        self.answered_by_version.second += other.answered_by_version.second;
    }

    /// Counts of calls of the kind of this one.
    pub(crate) fn counts(&mut self, call: u64) -> &mut CallCounts {
        match is_idempotent(call) {
            true => &mut self.idempotent,
            false => &mut self.others,
        }
    }
}

/// Whether the call of this number may run twice: every other one.
pub(crate) fn is_idempotent(call: u64) -> bool {
    call.is_multiple_of(2)
}

/// Bound so that the report fits into a line.
pub(crate) const UNPROCESSED_MAX: usize = 1_000;
/// Kinds of failures kept of a sum of calls.
const FAILURES_MAX: usize = 5;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_of_calls_keep_few_errors() {
        let failure = FailureCount {
            failure: Failure {
                idempotent: true,
                node: None,
                code: "no connection".into(),
                processed: Ran::No,
                second: 0,
            },
            count: 1,
            example: "no connection".into(),
        };
        let failed = CallReport {
            answered_by: [("h02".to_owned(), 3)].into(),
            idempotent: CallCounts { ok: 3, failed: 4 },
            failures: vec![failure; 4],
            ..CallReport::default()
        };
        let mut sum = CallReport::default();
        sum.add(&failed);
        sum.add(&failed);
        assert_eq!((sum.ok(), sum.failed()), (6, 8));
        assert_eq!(sum.answered_by["h02"], 6);
        assert_eq!(sum.failures.len(), FAILURES_MAX);
    }

    #[test]
    fn reports_of_two_processes_are_merged_with_all_failures() {
        let report = |ok, p99_us| CallReport {
            others: CallCounts { ok, failed: 1 },
            due: ok + 1,
            extra_attempts: 3,
            latencies: LatencyFigures {
                p99_us,
                ..LatencyFigures::default()
            },
            unprocessed: vec![ok],
            answered_by_version: VersionCounts {
                first: ok,
                second: 1,
            },
            ..CallReport::default()
        };
        let mut merged = report(5, 70);
        merged.merge(report(7, 60));
        assert_eq!((merged.ok(), merged.failed()), (12, 2));
        assert_eq!((merged.due, merged.extra_attempts), (14, 6));
        assert_eq!(merged.latencies.p99_us, 70);
        assert_eq!(merged.unprocessed, [5, 7]);
        let answers = merged.answered_by_version;
        assert_eq!((answers.first, answers.second), (12, 2));
    }
}
