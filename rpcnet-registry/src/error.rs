//! Why no worker was selected.

use crate::{FilterError, NodeState, SourceState};

/// No worker was selected. Nothing has changed and no call was made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SelectError {
    /// The filter cannot be read. The caller's fault; the same text will fail again.
    #[error(transparent)]
    InvalidFilter(#[from] FilterError),
    /// The tags of no worker match the filter. Worth another try when a node has joined or changed
    /// its tags.
    #[error("there is no worker{}", matching_suffix(.filter))]
    NoMatch {
        /// The filter.
        filter: String,
    },
    /// There are workers whose tags match, but all have failed or are leaving. Worth another try when one recovers.
    #[error("none of {matching} workers{} is reachable", matching_suffix(.filter))]
    NoneReachable {
        /// The filter.
        filter: String,
        /// How many match.
        matching: usize,
    },
    /// There are workers to be reached, and all of them are excluded for this call (or the balancer, one of your own,
    /// declined). The caller decides whether to try one of them again.
    #[error("all {reachable} reachable workers{} are excluded from this selection", matching_suffix(.filter))]
    AllExcluded {
        /// The filter.
        filter: String,
        /// How many could be reached.
        reachable: usize,
    },
    /// The worker that was asked for by its name cannot be selected.
    #[error("the worker {name:?} cannot be selected: {reason}")]
    NamedWorker {
        /// The name that was asked for.
        name: String,
        /// Why it cannot be selected.
        reason: UnselectableReason,
    },
    /// The source of the registry does not tell any more who is there: the node whose view it is has left, is superseded by a
    /// newer node of its name, or its runtime is gone. Worth another try only if it is superseded, when that is over.
    #[error("the membership source of the worker registry is not live: {state}")]
    SourceEnded {
        /// What became of it.
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

/// Why a worker cannot be selected by its name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UnselectableReason {
    /// The registry knows no node of this name. Worth another try when one has joined, unless the
    /// name is spelled in another way than that of a node that is there: then the caller's fault.
    #[error("no node has this name{}", similar_name_hint(.similar))]
    Unknown {
        /// The name of a node that differs from this one only by upper and lower case, white space
        /// around it or a dot at its end.
        similar: Option<String>,
    },
    /// The tags of the node do not match the filter. Worth another try when they have changed.
    #[error("its tags do not match `{filter}`")]
    NoMatch {
        /// The filter.
        filter: String,
    },
    /// The node has failed, has left or is leaving. Worth another try when it has recovered.
    #[error("it is not reachable (state: {state})")]
    NotReachable {
        /// The state of the node.
        state: NodeState,
    },
    /// It is the node of this process, which is selected only
    /// [with](crate::WorkerRegistry::with_local) a setting. The caller's fault.
    #[error("it is the local node, which the settings of the registry exclude")]
    LocalNode,
    /// The node says that it [serves no methods](crate::SERVES_TAG). Worth another try when it
    /// does.
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
        Some(similar) => format!(", names are compared as they are, and there is {similar:?}"),
        None => String::new(),
    }
}

fn matching_suffix(filter: &str) -> String {
    if filter.is_empty() {
        String::new()
    } else {
        format!(" matching `{filter}`")
    }
}
