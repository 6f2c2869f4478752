//! Why no worker was selected.

use crate::{ParseError, SourceState};

/// No worker was selected. Nothing has changed and no call was made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SelectError {
    /// The filter cannot be read. The caller's fault; the same text will fail again.
    #[error(transparent)]
    InvalidFilter(#[from] ParseError),
    /// Nobody's tags match the filter: it asks for something that is not there, or not yet. Worth another try when a
    /// node has joined or changed its tags.
    #[error("there is no worker{}", that_match(.filter))]
    NoMatch {
        /// The filter.
        filter: String,
    },
    /// There are workers whose tags match, but all have failed or are leaving. Worth another try when one recovers.
    #[error("of {matching} workers{} none is reachable", that_match(.filter))]
    NoneReachable {
        /// The filter.
        filter: String,
        /// How many match.
        matching: usize,
    },
    /// There are workers to be reached, and all of them are excluded for this call (or the balancer, one of your own,
    /// declined). The caller decides whether to try one of them again.
    #[error("all of {reachable} reachable workers{} are excluded", that_match(.filter))]
    AllExcluded {
        /// The filter.
        filter: String,
        /// How many could be reached.
        reachable: usize,
    },
    /// The source of the registry does not tell any more who is there: the node whose view it is has left, is superseded by a
    /// newer node of its name, or its runtime is gone. Worth another try only if it is superseded, when that is over.
    #[error("the source of the worker registry is not live: {state}")]
    SourceEnded {
        /// What became of it.
        state: SourceState,
    },
    /// The registry was never started, so it knows nobody. The caller's fault.
    #[error("the worker registry was not started")]
    NotStarted,
}

impl SelectError {
    /// Whether the same selection may succeed later without the caller changing anything.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        match self {
            Self::NoMatch { .. } | Self::NoneReachable { .. } | Self::AllExcluded { .. } => true,
            Self::SourceEnded { state } => !state.is_over(),
            Self::InvalidFilter(_) | Self::NotStarted => false,
        }
    }
}

fn that_match(filter: &str) -> String {
    if filter.is_empty() {
        String::new()
    } else {
        format!(" matching `{filter}`")
    }
}
