//! Errors of worker selection.

use crate::{FilterError, NodeState, SourceState};

/// Error of the selection of a worker. Nothing has changed and no call was made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SelectError {
    /// The filter cannot be parsed. The caller's fault; the same text will fail again.
    #[error(transparent)]
    InvalidFilter(#[from] FilterError),
    /// The tags of no worker match the filter. Retry when a node has joined or changed its tags.
    #[error("there is no worker{}", matching_suffix(.filter))]
    NoMatch {
        /// The filter.
        filter: String,
    },
    /// There are workers whose tags match, but all have failed or drain. Retry when one
    /// recovers.
    #[error("none of {matching} workers{} is reachable", matching_suffix(.filter))]
    NoneReachable {
        /// The filter.
        filter: String,
        /// The number of workers that match.
        matching: usize,
    },
    /// There are reachable workers, and all of them are excluded for this call (or a custom
    /// balancer picked none). The caller decides whether to try one of them again.
    #[error(
        "all {reachable} reachable workers{} are excluded from this selection",
        matching_suffix(.filter)
    )]
    AllExcluded {
        /// The filter.
        filter: String,
        /// The number of reachable workers.
        reachable: usize,
    },
    /// The worker that was requested by name cannot be selected.
    #[error("the worker {name:?} cannot be selected: {reason}")]
    NamedWorker {
        /// The name that was requested.
        name: String,
        /// The reason.
        reason: UnselectableReason,
    },
    /// The source of the registry is no longer live: the node whose view it is has left, is
    /// superseded by a newer node of its name, or its runtime has ended. Retry only if it is
    /// superseded, when that is over.
    #[error("the membership source of the worker registry is not live: {state}")]
    SourceEnded {
        /// The state of the source.
        state: SourceState,
    },
    /// The registry was never started, so it knows no node. The caller's fault.
    #[error("the worker registry was not started")]
    NotStarted,
}

impl SelectError {
    /// Whether the same selection may succeed later without the caller changing anything.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        match self {
            Self::NoMatch { .. } | Self::NoneReachable { .. } | Self::AllExcluded { .. } => true,
            Self::NamedWorker { reason, .. } => reason.is_retryable(),
            Self::SourceEnded { state } => !state.is_terminal(),
            Self::InvalidFilter(_) | Self::NotStarted => false,
        }
    }
}

/// Reason why a worker cannot be selected by its name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UnselectableReason {
    /// The registry knows no node of this name. Retry when one has joined, unless the name is a
    /// misspelling of a known node: then it is the caller's fault.
    #[error("no node has this name{}", similar_name_hint(.similar))]
    Unknown {
        /// The name of a node that differs from this one only by case, surrounding white space or a
        /// final dot.
        similar: Option<String>,
    },
    /// The tags of the node do not match the filter. Retry when they have changed.
    #[error("its tags do not match `{filter}`")]
    NoMatch {
        /// The filter.
        filter: String,
    },
    /// The node has failed, has left or drains. Retry when it has recovered.
    #[error("it is not reachable (state: {state})")]
    NotReachable {
        /// The state of the node.
        state: NodeState,
    },
    /// The worker is the local node, which is selected only
    /// [with](crate::WorkerRegistry::with_local) a setting. The caller's fault.
    #[error("it is the local node, which the settings of the registry exclude")]
    LocalNode,
    /// The node [serves no methods](crate::SERVES_TAG). Retry when it does.
    #[error("it serves no methods")]
    ServesNothing,
}

impl UnselectableReason {
    const fn is_retryable(&self) -> bool {
        match self {
            Self::Unknown { similar } => similar.is_none(),
            Self::NoMatch { .. } | Self::NotReachable { .. } | Self::ServesNothing => true,
            Self::LocalNode => false,
        }
    }
}

fn similar_name_hint(similar: &Option<String>) -> String {
    match similar {
        Some(similar) => format!("; a similar name exists: {similar:?}"),
        None => String::new(),
    }
}

pub(crate) fn matching_suffix(filter: &str) -> String {
    if filter.is_empty() {
        String::new()
    } else {
        format!(" matching `{filter}`")
    }
}
