//! What became of the calls.

use std::collections::BTreeMap;

use rpcnet_client::{ClusterError, Processed, client::Attempt};
use serde::{Deserialize, Serialize};

/// The director's account.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(crate) struct DirectorReport {
    /// Of calls that may run twice.
    pub(crate) idempotent: CallCounts,
    /// Of calls that may not.
    pub(crate) others: CallCounts,
    /// Calls that were due and not begun, as there were too many under way.
    pub(crate) not_begun: u64,
    /// Calls that were due until the director was told to finish.
    pub(crate) due: u64,
    /// Those of them that had been answered by then.
    pub(crate) answered_in_time: u64,
    /// Answers to another call than the one that was made.
    pub(crate) wrong: u64,
    /// Attempts beside the first of each call.
    pub(crate) extra_attempts: u64,
    /// Those of them that the budget has to grant.
    pub(crate) granted: u64,
    /// For how long calls flowed, in whole seconds, rounded up.
    pub(crate) seconds: u64,
    pub(crate) p50_us: u64,
    pub(crate) p99_us: u64,
    pub(crate) max_us: u64,
    /// Of calls that may run twice.
    pub(crate) idempotent_p99_us: u64,
    pub(crate) idempotent_max_us: u64,
    /// How calls failed.
    pub(crate) failures: Vec<FailureCount>,
    /// Calls of which the error says that no handler saw them; the first [`REFUSED_MAX`].
    pub(crate) refused: Vec<u64>,
    /// Answers by worker.
    pub(crate) answered_by: BTreeMap<String, u64>,
}

/// Ends of calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct CallCounts {
    pub(crate) ok: u64,
    pub(crate) failed: u64,
}

/// A way to fail, and when.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
pub(crate) struct Failure {
    pub(crate) idempotent: bool,
    /// Who had it: the worker that may have run it, else the one tried last.
    pub(crate) node: Option<String>,
    /// What it failed with.
    pub(crate) code: String,
    /// Whether a handler saw it.
    pub(crate) processed: Ran,
    /// The second of the run in which it began.
    pub(crate) second: u64,
}

/// [`Processed`], to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Ran {
    No,
    Maybe,
    Yes,
}

/// How often.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct FailureCount {
    #[serde(flatten)]
    pub(crate) failure: Failure,
    pub(crate) count: u64,
    /// One of the errors, in words.
    pub(crate) example: String,
}

impl Failure {
    pub(crate) fn from_error(error: &ClusterError, idempotent: bool, second: u64) -> Self {
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
            ClusterError::Select(_) => "nobody to call".to_owned(),
            other => other.to_string(),
        };
        Self {
            idempotent,
            node: node.map(|node| node.name.to_string()),
            code,
            processed: Ran::from(error.processed()),
            second,
        }
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

impl Ran {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::No => "no",
            Self::Maybe => "maybe",
            Self::Yes => "yes",
        }
    }
}

impl DirectorReport {
    /// Calls that failed, of both kinds.
    pub(crate) fn failed(&self) -> u64 {
        self.idempotent.failed + self.others.failed
    }

    /// Calls that were answered, of both kinds.
    pub(crate) fn ok(&self) -> u64 {
        self.idempotent.ok + self.others.ok
    }

    /// Failures of calls that may run twice, or of the others.
    pub(crate) fn failures_of(&self, idempotent: bool) -> impl Iterator<Item = &FailureCount> {
        let of_kind = move |it: &&FailureCount| it.failure.idempotent == idempotent;
        self.failures.iter().filter(of_kind)
    }
}

/// Whether the call of this number may run twice: every other one.
pub(crate) fn is_idempotent(call: u64) -> bool {
    call.is_multiple_of(2)
}

/// More would not fit a line, and say no more.
pub(crate) const REFUSED_MAX: usize = 1_000;
